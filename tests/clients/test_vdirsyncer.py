"""vdirsyncer, and khal and khard on what it synchronises: how people use these on a desktop."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from samples import CARDS, EVENTS

BIN = Path(os.environ["SKERRY_VENV"]) / "bin"


@pytest.fixture
def desk(account, tmp_path):
    """A home directory with vdirsyncer configured for the account."""
    (tmp_path / "status").mkdir()
    pairs = ""
    for name, kind, suffix in [("calendars", "caldav", ".ics"), ("contacts", "carddav", ".vcf")]:
        home = account.home("calendar" if kind == "caldav" else "addressbook")
        pairs += f"""
[pair {name}]
a = "{name}_here"
b = "{name}_there"
collections = ["desk-{name}"]
[storage {name}_here]
type = "filesystem"
path = "{tmp_path}/{name}/"
fileext = "{suffix}"
[storage {name}_there]
type = "{kind}"
url = "{account.url}{home}"
username = "{account.user}"
password = "{account.password}"
verify = "{os.environ['SKERRY_CERTIFICATE']}"
"""
    (tmp_path / "config").write_text(f'[general]\nstatus_path = "{tmp_path}/status/"\n{pairs}')
    account.collection("calendar", "desk-calendars")
    account.collection("addressbook", "desk-contacts")
    for name in ("calendars", "contacts"):
        (tmp_path / name / f"desk-{name}").mkdir(parents=True)
    run(tmp_path, "vdirsyncer", "-c", "config", "discover", "--no-list")
    return tmp_path


def run(directory, program, *arguments, text=None):
    environment = os.environ | {"HOME": str(directory), "XDG_CONFIG_HOME": str(directory), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [str(BIN / program), *arguments], cwd=directory, env=environment, capture_output=True, text=True, input=text,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def synchronise(desk):
    run(desk, "vdirsyncer", "-c", "config", "sync")


def test_files_arrive_byte_for_byte_and_come_back(account, desk):
    calendar, contacts = desk / "calendars" / "desk-calendars", desk / "contacts" / "desk-contacts"
    for name, event in EVENTS.items():
        if name not in ("split", "lower"):  # vdirsyncer itself cannot read these
            (calendar / f"{name}.ics").write_bytes(event)
    for name, card in CARDS.items():
        (contacts / f"{name}.vcf").write_bytes(card)
    for number in range(100):
        (calendar / f"many-{number}.ics").write_bytes(EVENTS["plain"].replace(b"plain@", b"many-%d@" % number))
    synchronise(desk)
    home = account.home("calendar") + "desk-calendars/"
    listing = account.curl(home, "-X", "PROPFIND", "-H", "Depth: 1").decode()
    assert listing.count(".ics</") == len(EVENTS) - 2 + 100
    # vdirsyncer chooses the names of what it uploads.
    hrefs = re.findall(r"<D:href>([^<]*\.ics)</D:href>", listing)
    by_uid = {}
    for href in hrefs:
        body = account.curl(href, status=200)
        by_uid[re.search(rb"(?im)^uid:(\S+)", body)[1].decode()] = (href, body)
    for name, event in EVENTS.items():
        if name not in ("split", "lower"):
            stored = by_uid[f"{name}@skerry"][1]
            assert stored.replace(b"\r\n", b"\n").strip() == event.replace(b"\r\n", b"\n").strip(), name
    account.curl(by_uid["many-7@skerry"][0], "-X", "DELETE", status=204)
    synchronise(desk)
    assert not (calendar / "many-7.ics").exists()
    (calendar / "many-8.ics").unlink()
    synchronise(desk)
    account.curl(by_uid["many-8@skerry"][0], status=404)


def test_khal_writes_and_reads(account, desk):
    calendar = desk / "calendars" / "desk-calendars"
    (desk / "khal").mkdir()
    (desk / "khal" / "config").write_text(
        f"[calendars]\n[[desk]]\npath = {calendar}\n[locale]\nlocal_timezone = Europe/Berlin\n"
        "default_timezone = Europe/Berlin\ndateformat = %Y-%m-%d\nlongdateformat = %Y-%m-%d\n"
        "datetimeformat = %Y-%m-%d %H:%M\nlongdatetimeformat = %Y-%m-%d %H:%M\ntimeformat = %H:%M\n"
        f"[sqlite]\npath = {desk}/khal.db\n"
    )
    run(desk, "khal", "new", "-a", "desk", "2026-05-04 10:00", "2026-05-04 11:00", "Übergabe")
    synchronise(desk)
    for local in calendar.iterdir():
        local.unlink()
    (desk / "khal.db").unlink()
    for status in (desk / "status").rglob("*.items"):
        status.unlink()
    synchronise(desk)
    assert "Übergabe" in run(desk, "khal", "list", "2026-05-04", "2026-05-05")


def test_khard_writes_and_reads(account, desk):
    contacts = desk / "contacts" / "desk-contacts"
    (desk / "khard").mkdir()
    (desk / "khard" / "khard.conf").write_text(
        f"[addressbooks]\n[[desk]]\npath = {contacts}\n[general]\ndefault_action = list\neditor = /bin/true\n"
    )
    run(desk, "khard", "new", "-a", "desk", "-i", "/dev/stdin", text="First name: Zoë\nLast name: Müller\n")
    synchronise(desk)
    home = account.home("addressbook") + "desk-contacts/"
    assert account.curl(home, "-X", "PROPFIND", "-H", "Depth: 1").decode().count(".vcf</") == 1
    for local in contacts.iterdir():
        local.unlink()
    for status in (desk / "status").rglob("*.items"):
        status.unlink()
    synchronise(desk)
    assert "Zoë Müller" in run(desk, "khard", "list")
