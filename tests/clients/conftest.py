"""What every client test is given: the server, which tests/worlds.sh has started, and an account on it."""

import os
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import pytest


@dataclass
class Account:
    """An account on the running server."""

    url: str
    user: str
    password: str

    def curl(self, path, *arguments, status=None):
        """Asks with curl; returns the body. `path` may be a whole URL."""
        url = path if "://" in path else self.url + path
        command = ["curl", "-sk", "--max-time", "60", "-u", f"{self.user}:{self.password}", *arguments]
        if status is not None:
            command += ["-w", "%{stderr}%{http_code}"]
        done = subprocess.run([*command, url], capture_output=True, check=True)
        if status is not None:
            assert done.stderr.decode().strip()[-3:] == str(status), (done.stderr, done.stdout)
        return done.stdout

    def home(self, kind):
        """The path of the calendar or address book home, found as a client finds it (RFC 6764, RFC 5397)."""
        principal = self._href("/.well-known/" + ("caldav" if kind == "calendar" else "carddav"),
                               "current-user-principal", "DAV:")
        if kind == "calendar":
            return self._href(principal, "calendar-home-set", "urn:ietf:params:xml:ns:caldav")
        return self._href(principal, "addressbook-home-set", "urn:ietf:params:xml:ns:carddav")

    def _href(self, path, name, namespace):
        body = f'<propfind xmlns="DAV:"><prop><x:{name} xmlns:x="{namespace}"/></prop></propfind>'
        answer = self.curl(path, "-L", "-X", "PROPFIND", "-H", "Depth: 0", "--data-binary", body)
        found = ElementTree.fromstring(answer).find(f".//{{{namespace}}}{name}/{{DAV:}}href")
        assert found is not None, answer
        return found.text

    def collection(self, kind, name):
        """Makes an empty collection and returns its path."""
        path = f"{self.home(kind)}{name}/"
        self.curl(path, "-X", "DELETE")
        if kind == "calendar":
            self.curl(path, "-X", "MKCALENDAR", status=201)
        else:
            body = (
                '<mkcol xmlns="DAV:"><set><prop><resourcetype><collection/>'
                '<addressbook xmlns="urn:ietf:params:xml:ns:carddav"/></resourcetype></prop></set></mkcol>'
            )
            self.curl(path, "-X", "MKCOL", "-H", "Content-Type: application/xml", "--data-binary", body, status=201)
        return path


@pytest.fixture(scope="session")
def account():
    return Account(os.environ["SKERRY_URL"], os.environ["SKERRY_USER"], os.environ["SKERRY_PASSWORD"])
