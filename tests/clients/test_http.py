"""The server as curl sees it: protocols, certificates, redirects, sizes."""

import subprocess

import pytest


def curl(account, *arguments):
    done = subprocess.run(
        ["curl", "-sk", "--max-time", "60", "-u", f"{account.user}:{account.password}", "-o", "/dev/null",
         "-w", "%{http_code} %{http_version} %{ssl_verify_result} %{num_connects}\n", *arguments],
        capture_output=True, check=False, text=True,
    )
    # An answer may come before all of a refused request has gone out: curl then complains, and has the answer.
    assert done.returncode in (0, 55, 56), done
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("protocol, version", [("--http1.1", "1.1"), ("--http2", "2")])
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_protocols(account, protocol, version, tls):
    url = account.url + account.home("calendar")
    answers = curl(account, protocol, f"--tlsv{tls}", "--tls-max", tls, "-X", "PROPFIND", "-H", "Depth: 1", url, "-o",
                   "/dev/null", url)
    assert [answer[:2] for answer in answers] == [["207", version]] * 2
    assert answers[1][3] == "0", "the second request used the connection of the first"


def test_old_tls_is_refused(account):
    done = subprocess.run(["curl", "-sk", "--tls-max", "1.1", account.url], capture_output=True, check=False)
    assert done.returncode != 0


def test_no_one_gets_in_without_the_password(account):
    home = account.url + account.home("calendar")
    for user in ["", f"{account.user}:wrong", "nobody:nothing", f"{account.user}:"]:
        done = subprocess.run(
            ["curl", "-sk", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", "-u", user, home],
            capture_output=True, check=True, text=True,
        )
        assert done.stdout == "401", user


def test_too_much_is_refused(account):
    home = account.url + account.home("calendar")
    big = "x" * 100_000
    answers = curl(account, "--http1.1", "-H", f"X-Big: {big}", home)
    assert answers[0][0] in ("431", "400"), answers
    # Over HTTP/2 a header list beyond the announced limit ends the connection (RFC 9113, 10.5.1), not the server.
    subprocess.run(["curl", "-sk", "--http2", "--max-time", "20", "-H", f"X-Big: {big}", home], capture_output=True, check=False)
    assert curl(account, "--http2", "-X", "PROPFIND", "-H", "Depth: 0", home)[0][0] == "207"
    deep = "<a>" * 5000 + "</a>" * 5000
    assert curl(account, "-X", "PROPFIND", "-H", "Depth: 0", "--data-binary", deep, home)[0][0] in ("400", "413")
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cc">]><propfind xmlns="DAV:"><prop>&b;</prop></propfind>'
    assert curl(account, "-X", "PROPFIND", "-H", "Depth: 0", "--data-binary", bomb, home)[0][0] == "400"
    calendar = account.url + account.collection("calendar", "sizes")
    with subprocess.Popen(["head", "-c", "30000000", "/dev/zero"], stdout=subprocess.PIPE) as zeros:
        done = subprocess.run(
            # Over HTTP/2 this curl takes an answer before the end of the upload, and the RST_STREAM(NO_ERROR) that follows
            # it by RFC 9113, 8.1, for a failure.
            ["curl", "-sk", "--http1.1", "--max-time", "60", "-u", f"{account.user}:{account.password}", "-o", "/dev/null",
             "-w", "%{http_code}", "-X", "PUT", "-H", "Content-Type: text/calendar", "--data-binary", "@-", calendar + "a.ics"],
            stdin=zeros.stdout, capture_output=True, check=False, text=True,
        )
        zeros.kill()
    assert done.stdout in ("413", "403"), done.stdout
