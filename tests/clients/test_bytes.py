"""What comes back is byte for byte what went in."""

import subprocess

import pytest
from samples import CARDS, EVENTS


def put(account, path, content, content_type, *more, status):
    command = ["-X", "PUT", "-H", f"Content-Type: {content_type}", "--data-binary", "@-", *more]
    url = account.url + path
    done = subprocess.run(
        ["curl", "-sk", "--max-time", "60", "-u", f"{account.user}:{account.password}", "-o", "/dev/null",
         "-w", "%{http_code} %header{etag}", *command, url],
        input=content, capture_output=True, check=True,
    )
    code, _, etag = done.stdout.decode().partition(" ")
    assert code == str(status), done.stdout
    return etag


@pytest.mark.parametrize("name", EVENTS)
def test_events(account, name):
    calendar = account.collection("calendar", f"bytes-{name}")
    etag = put(account, f"{calendar}{name}.ics", EVENTS[name], "text/calendar; charset=utf-8", status=201)
    assert account.curl(f"{calendar}{name}.ics", status=200) == EVENTS[name]
    assert etag.startswith('"') and etag.endswith('"'), "a strong ETag"
    put(account, f"{calendar}{name}.ics", EVENTS[name], "text/calendar", "-H", "If-None-Match: *", status=412)
    put(account, f"{calendar}{name}.ics", EVENTS[name], "text/calendar", "-H", 'If-Match: "other"', status=412)
    again = EVENTS[name].replace(b"\nDTSTAMP", b"\nLOCATION:here\r\nDTSTAMP", 1).replace(
        b"\ndtstamp", b"\nlocation:here\r\ndtstamp", 1)
    assert again != EVENTS[name]
    put(account, f"{calendar}{name}.ics", again, "text/calendar", "-H", f"If-Match: {etag}", status=204)
    account.curl(f"{calendar}{name}.ics", "-H", f"If-None-Match: {etag}", status=200)
    assert account.curl(f"{calendar}{name}.ics") == again


@pytest.mark.parametrize("name", CARDS)
def test_cards(account, name):
    book = account.collection("addressbook", f"bytes-{name}")
    put(account, f"{book}{name}.vcf", CARDS[name], "text/vcard; charset=utf-8", status=201)
    assert account.curl(f"{book}{name}.vcf", status=200) == CARDS[name]


def test_what_is_no_calendar_is_refused(account):
    calendar = account.collection("calendar", "refused")
    for content in [b"", b"hello", EVENTS["plain"][:-20], CARDS["three"], EVENTS["plain"] * 2]:
        put(account, f"{calendar}bad.ics", content, "text/calendar", status=403)
    # The same UID a second time, under another name (RFC 4791, 5.3.2.1 no-uid-conflict).
    put(account, f"{calendar}one.ics", EVENTS["plain"], "text/calendar", status=201)
    put(account, f"{calendar}two.ics", EVENTS["plain"], "text/calendar", status=403)
