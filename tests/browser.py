"""A page in a headless Chromium without a network, driven by its own protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-allow-origins=*",
    "--remote-debugging-port=0",
]
SECONDS = 60


class Page:
    """One page; ``messages`` are the console's complaints, ``requests`` what it fetched."""

    def __init__(self, address: str) -> None:
        self.socket = websocket.create_connection(address, timeout=SECONDS)
        self.numbers = itertools.count(1)
        self.messages: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=0,
            uploadThroughput=0,
        )

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command's result."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._notice(answer)

    def _notice(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(params["exceptionDetails"])[:500])
        elif event.get("method") == "Runtime.consoleAPICalled":
            if params["type"] in {"error", "warning", "assert"}:
                self.messages.append(json.dumps(params["args"])[:500])
        elif event.get("method") == "Log.entryAdded":
            if params["entry"]["level"] in {"error", "warning"}:
                self.messages.append(params["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event.get("method") == "Page.loadEventFired":
            self.loaded = True

    def open(self, path: Path, width: int = 1280, height: int = 900) -> None:
        """Load a file from disk and wait until it is there."""
        self.resize(width, height)
        self.loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + SECONDS
        while not self.loaded and time.monotonic() < end:
            self._notice(json.loads(self.socket.recv()))
        assert self.loaded, f"{path} did not load"

    def resize(self, width: int, height: int = 900) -> None:
        """The window's size in CSS pixels."""
        narrow = width < 600
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": narrow}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def run(self, script: str) -> Any:
        """The value of an expression."""
        made = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in made, made["exceptionDetails"]
        return made["result"].get("value")

    def picture(self, whole: bool = False) -> bytes:
        """A screenshot as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def printed(self) -> bytes:
        """The page as PDF on A4."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
        return base64.b64decode(self.call("Page.printToPDF", **paper)["data"])


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A page of a browser that keeps all it writes in ``folder``; skips where there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    command = [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        page = Page(_address(folder, browser))
        yield page
        page.socket.close()
    finally:
        browser.terminate()
        browser.wait(SECONDS)


def _address(folder: Path, browser: subprocess.Popen[bytes]) -> str:
    """Where the browser's first page listens."""
    import urllib.request

    port = folder / "DevToolsActivePort"
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and browser.poll() is None:
        if port.is_file() and (lines := port.read_text().splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                pages = [one for one in json.load(answer) if one["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not start (exit status {browser.poll()})")
