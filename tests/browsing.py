"""A page in headless Chromium or Firefox (Debian's chromium and firefox-esr), opened by its file, without a network."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]

# Only outside of CI, which installs it: who has no browser can still run the other tests.
needs_browser = pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="Chromium is not installed")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
IS_EXPECTED = "CI" in os.environ and sys.platform == "linux"  # elsewhere it is not on the path
needs_firefox = pytest.mark.skipif(FIREFOX is None and not IS_EXPECTED, reason="Firefox is not installed")
PREFERENCES = {
    "marionette.port": 0,  # any that is free
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
}


@contextmanager
def chromium(*flags):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield browser
        browser.close()


def opens(page, file):
    """Goes to a file. `page.said` has what the page writes, what goes wrong in it, and what it asks the network for."""
    page.set_default_timeout(120_000)  # a busy machine is slow
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda asked: page.said.append(asked.url) if asked.url.startswith("http") else None)
    page.goto(file.as_uri())
    return page


class Firefox:
    """A page in Firefox, driven by Marionette: Playwright needs a Firefox of its own, WebDriver another program."""

    def __init__(self, profile: Path) -> None:
        self.profile, self.asked = profile, 0

    def __enter__(self) -> "Firefox":
        words = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
        (self.profile / "user.js").write_text("\n".join(words))
        command = [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", str(self.profile)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = self.profile / "MarionetteActivePort"
        until(lambda: port.is_file() and port.read_text())
        self.connection = socket.create_connection(("127.0.0.1", int(port.read_text())), timeout=120)
        self.stream = self.connection.makefile("rwb")
        self._answer()  # its name and version
        self.do("WebDriver:NewSession", capabilities={})
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()
        self.connection.close()
        self.process.kill()
        self.process.wait()

    def do(self, command: str, **parameters: object) -> Any:
        self.asked += 1
        message = json.dumps([0, self.asked, command, parameters]).encode()
        self.stream.write(f"{len(message)}:".encode() + message)
        self.stream.flush()
        _, _, error, result = self._answer()
        assert error is None, error
        return result

    def opens(self, file: Path) -> None:
        self.do("WebDriver:Navigate", url=file.as_uri())

    def says(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        return self.do("WebDriver:ExecuteScript", script=f"return {script}")["value"]

    def _answer(self) -> Any:
        length = b"".join(iter(lambda: self.stream.read(1), b":"))
        return json.loads(self.stream.read(int(length)))


def until(condition, seconds=120):
    """Waits until it is true, and gives it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.1)
    return found
