"""A headless Chromium for tests of pages, spoken to over a pipe in its DevTools protocol; nothing else is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
]
PATIENCE_SECONDS = 90

Message = dict[str, Any]
"""A message of the browser's protocol."""


def found_browser() -> str | None:
    """The program named in TUNECTL_CHROMIUM, or a Chromium or Chrome on the path; None where there is none."""
    named = os.environ.get("TUNECTL_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A page in the browser: what it runs, what it asked the network for, what it wrote on the console."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._number, self._rest = 0, b""
        self._session: str | None = None
        self.requests: list[str] = []
        self.console: list[str] = []

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command; raises where the browser refuses it."""
        self._number += 1
        message: Message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._until(lambda reply: reply.get("id") == self._number)["result"]

    def _until(self, wanted: Callable[[Message], bool]) -> Message:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            while b"\0" in self._rest:
                text, self._rest = self._rest.split(b"\0", 1)
                message: Message = json.loads(text)
                self._note(message)
                if wanted(message):
                    assert "error" not in message, message["error"]
                    return message
            assert select.select([self._from], [], [], max(0.0, end - time.monotonic()))[0], "the browser is silent"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part

    def _note(self, message: Message) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.consoleAPICalled":
                self.console.append(" ".join(str(item.get("value", item)) for item in parameters["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(str(parameters["exceptionDetails"]))
            case "Log.entryAdded":
                self.console.append(parameters["entry"]["text"])

    def start(self) -> None:
        """Attach to an empty page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def open(self, path: Path | str, width: int = 1280, height: int = 900) -> None:
        """Load a file and wait until it is loaded."""
        self.requests.clear()
        self.console.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=Path(path).as_uri())
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript condition holds; it is looked at before each frame."""
        self.run(
            "new Promise((done) => { const look = () => "
            f"({condition}) ? done(true) : requestAnimationFrame(look); look(); }})"
        )

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A mouse event as from the hardware."""
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        """Move there, press and let go."""
        self.mouse("Moved", x, y)
        for kind in ("Pressed", "Released"):
            self.mouse(kind, x, y, button="left", clickCount=1, buttons=1)

    def screenshot(self, path: Path | str, whole: bool = False) -> None:
        """A picture of the window, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """A page in a browser of its own, which ends with the context."""
    from_us, to_browser = os.pipe()
    from_browser, to_us = os.pipe()
    # The browser reads from descriptor 3 and writes to 4.
    wiring = f'exec "$@" 3<&{from_us} 4>&{to_us}'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            ["bash", "-c", wiring, "bash", *command],
            pass_fds=(from_us, to_us),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)
        try:
            page = Page(to_browser, from_browser)
            page.start()
            yield page
        finally:
            os.close(to_browser)
            os.close(from_browser)
            process.kill()
            process.wait()
