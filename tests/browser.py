"""A headless browser, driven through its WebDriver: a page's log, requests, screenshots and prints."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]
_KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Left": "\ue012", "Right": "\ue014", "Down": "\ue015"}


class Browser:
    """A window with one page."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, path: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Load a file, in a window of a size in CSS pixels. scheme: light or dark."""
        self.log(), self.requests()  # another page's log
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        _call("POST", f"{self._session}/url", {"url": path.as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a JavaScript function and return its result."""
        return _call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return _call("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def move_to(self, x: float, y: float) -> None:
        """Move the pointer to a place in the window."""
        self._act(
            {"type": "pointer", "id": "mouse", "actions": [{"type": "pointerMove", "x": round(x), "y": round(y)}]}
        )

    def press(self, *keys: str) -> None:
        """Press keys, such as `Tab` and `Right`."""
        typed = [{"type": kind, "value": _KEYS[key]} for key in keys for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keyboard", "actions": typed})

    def log(self) -> list[str]:
        """Return the console's lines since the last call: errors, warnings, exceptions."""
        return [entry["message"] for entry in _call("POST", f"{self._session}/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the last call."""
        entries = _call("POST", f"{self._session}/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in entries]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write the page as a picture."""
        found = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        found = self.devtools("Page.printToPDF", preferCSSPageSize=True, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(found["data"])

    def _act(self, device: dict[str, Any]) -> None:
        _call("POST", f"{self._session}/actions", {"actions": [device]})


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """Start a browser; skip the test, with the reason, where there is none."""
    driver, browser = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or browser is None:
        pytest.skip("no browser: install chromium and chromedriver (Debian: chromium chromium-driver)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        session = ""
        try:
            session = _session(process, browser, profile)
            _call("POST", f"{session}/url", {"url": "about:blank"})  # in place of the page of a new window
            yield Browser(session)
        finally:
            if session:
                _call("DELETE", session)  # ends the browser's processes
            process.kill()
            process.wait()


def _session(process: subprocess.Popen[str], browser: str, profile: str) -> str:
    assert process.stdout is not None
    port = next(found[1] for line in process.stdout if (found := re.search(r"successfully on port (\d+)", line)))
    options = {"binary": browser, "args": [*_FLAGS, f"--user-data-dir={profile}"]}
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
    made = _call("POST", f"http://127.0.0.1:{port}/session", {"capabilities": {"alwaysMatch": wanted}})
    return f"http://127.0.0.1:{port}/session/{made['sessionId']}"


def _call(method: str, address: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(address, json.dumps(body or {}).encode(), method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None
