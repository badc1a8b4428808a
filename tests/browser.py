"""A headless Chromium that a test steers: it opens pages, asks them questions, and notes all they complain about."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.waiting import DEADLINE_S, until

CANDIDATES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --mute-audio "
    "--disable-background-networking --disable-component-update --disable-sync --remote-debugging-port=0"
)
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


@contextmanager
def chromium(profile: Path) -> Iterator[str]:
    """Run one; give the address of its DevTools. Skips where none is installed."""
    program = next(filter(None, map(shutil.which, CANDIDATES)), None)
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    command = [program, *OPTIONS.split(), f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if line.startswith("DevTools listening on "))
        yield said.removeprefix("DevTools listening on ").strip()
    finally:
        process.terminate()
        process.communicate()


class Page:
    """One page in a browser context of its own."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session: dict[str, str] = {}
        self._loading: set[str] = set()
        self.complaints: list[str] = []

    async def open(self, url: str, *, width: int = 1280, scheme: str = "light") -> None:
        """Go there, on a screen this wide, for somebody who prefers light or dark."""
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **screen)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await self.call("Page.navigate", url=url)

    async def ask(self, expression: str) -> Any:
        """Evaluate a JavaScript expression in the page; its value as JSON."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def shows(self, expression: str) -> Any:
        """Wait until the expression is true, and give its value."""
        try:
            return await until(lambda: self._try(expression), expression, every=0.05)
        except AssertionError as error:
            text = await self._try("document.body.innerText")
            raise AssertionError(f"{error}\ncomplaints: {self.complaints}\nthe page shows:\n{text}") from None

    async def _try(self, expression: str) -> Any:
        """Ask; nothing while the page is being replaced by the next."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer.get("result", {}).get("value")

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Speak DevTools."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **self._session})
        return await asyncio.wait_for(answer, DEADLINE_S)

    async def listen(self) -> None:
        """Hand out answers, keep complaints, until the socket closes."""
        async for message in self._socket:
            said = message.json()
            if said.get("id") in self._answers:
                self._answers.pop(said["id"]).set_result(said.get("result", said))
            else:
                self._note(said.get("method", ""), said.get("params", {}))

    def _note(self, event: str, about: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(str(about["exceptionDetails"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif event == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(about["args"]))
        elif event == "Network.requestWillBeSent" and about.get("type") != "EventSource":
            before = (
                set() if about.get("type") == "Document" else self._loading
            )  # a new page ends what the old one asked
            self._loading = before | {about["requestId"]}
        elif event in ("Network.loadingFinished", "Network.loadingFailed"):
            self._loading.discard(about["requestId"])

    async def attach(self) -> str:
        """Make the context and its page, and begin to watch; the context's name."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        made = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        return str(context)

    async def detach(self, context: str) -> None:
        """Throw the context away, once it has what it asked for: a server's half-sent file is no test's business."""
        await until(lambda: not self._loading, "the page has all it asked for")
        self._session = {}
        await self.call("Target.disposeBrowserContext", browserContextId=context)


@asynccontextmanager
async def new_page(devtools: str) -> AsyncIterator[Page]:
    """A fresh page, without cookies of any other."""
    async with aiohttp.ClientSession() as session, session.ws_connect(devtools, max_msg_size=0) as socket:
        page = Page(socket)
        listening = asyncio.create_task(page.listen(), name="devtools")
        context = await page.attach()
        try:
            yield page
        finally:
            await page.detach(context)
            await socket.close()
            await listening
