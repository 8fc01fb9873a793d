"""A headless Chromium that opens pages, spoken to over its debugging pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Any

SECONDS = 120.0  # for an answer


def find() -> str | None:
    """Where it lies; None where there is none on the path."""
    return next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)


class Page:
    """A tab. ``errors``: what its script threw, and what its policy refused; ``asked``: addresses that it wanted."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.errors: list[str] = []
        self.asked: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def go(self, uri: str) -> None:
        """Opens it, and waits until it is loaded and drawn."""
        self.call("Page.navigate", url=uri)
        self.evaluate(
            "new Promise(done => { const after = () => requestAnimationFrame(() => requestAnimationFrame(done)); "
            f"const look = () => location.href.startsWith({json.dumps(uri)}) && document.readyState === 'complete' ? after() "
            ": setTimeout(look, 10); look(); })"
        )

    def evaluate(self, expression: str) -> Any:
        """What it comes to as JSON; promises are waited for."""
        until = time.monotonic() + SECONDS
        while True:
            try:
                told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
            except RuntimeError as error:  # the page went while it ran
                if "context" not in str(error) or time.monotonic() > until:
                    raise
                continue
            if "exceptionDetails" in told:
                raise RuntimeError(json.dumps(told["exceptionDetails"])[:2000])
            return told["result"].get("value")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mousePressed", *start, clicks=1)
        self.mouse("mouseMoved", (start[0] + end[0]) / 2, end[1], buttons=1)
        self.mouse("mouseMoved", *end, buttons=1)
        self.mouse("mouseReleased", *end, clicks=1)

    def double_click(self, x: float, y: float) -> None:
        for clicks in (1, 2):
            self.mouse("mousePressed", x, y, clicks=clicks)
            self.mouse("mouseReleased", x, y, clicks=clicks)

    def mouse(self, kind: str, x: float, y: float, clicks: int = 0, buttons: int = 0) -> None:
        button = {"button": "left", "clickCount": clicks} if clicks else {"buttons": buttons}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **(text if kind == "keyDown" else {}))

    def look(self, width: int, height: int, dark: bool = False, scale: float = 1) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: pathlib.Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def first_paint(self) -> float:
        """Seconds from the navigation's start to the first contents on the screen (PerformancePaintTiming)."""
        observed = (
            "new Promise(done => new PerformanceObserver(list => { for (const one of list.getEntries()) "
            "if (one.name === 'first-contentful-paint') done(one.startTime / 1000); }).observe({type: 'paint', buffered: true}))"
        )
        return float(self.evaluate(observed))


class Browser:
    """One process, with a folder of its own for what it keeps; both are gone at the end."""

    def __enter__(self) -> Browser:
        program = find()
        if program is None:
            raise FileNotFoundError("no Chromium is on the path")
        self._folder = tempfile.mkdtemp(prefix="headrace-browser-")
        # It reads descriptor 3 and writes 4.
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for fd in (theirs_in, theirs_out)]
        words = [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
                 "--no-first-run", f"--user-data-dir={self._folder}", "about:blank"]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{high[0]} 4>&{high[1]}', "bash", *words],
            pass_fds=high, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for fd in (theirs_in, theirs_out, *high):
            os.close(fd)
        self._number, self._rest = 0, b""
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, uri: str = "", *, width: int = 1200, height: int = 900, dark: bool = False) -> Page:
        """A new tab with this page, loaded and drawn."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(domain + ".enable")
        page.look(width, height, dark)
        if uri:
            page.go(uri)
        return page

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        until = time.monotonic() + SECONDS
        while number not in self._answers:
            self._read(until - time.monotonic())
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self, seconds: float) -> None:
        if seconds <= 0 or not select.select([self._in], [], [], seconds)[0]:
            raise TimeoutError("the browser does not answer")
        data = os.read(self._in, 1 << 20)
        if not data:
            raise RuntimeError("the browser is gone")
        *messages, self._rest = (self._rest + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            elif page := self._pages.get(message.get("sessionId", "")):
                self._note(page, message["method"], message["params"])

    @staticmethod
    def _note(page: Page, method: str, told: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            page.errors.append(json.dumps(told["exceptionDetails"])[:2000])
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            page.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            page.asked.append(told["request"]["url"][:200])
