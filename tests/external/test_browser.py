"""A real browser, headless, at a signed preview: WebSocket, cookies, the end of the link."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.local_daytona.api.previewing import PORT, start_app
from tests.local_server import LocalServer, new_state_dir, running_server

from . import tools

WAIT_S = 60.0
SHORT_LINK_S = 20
ECHO = "echo: hello over a socket"
# Nothing but loopback can be named, and what Chromium does for itself is off.
FLAGS = (
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.*",
)


class Page:
    """One tab, driven over the DevTools protocol."""

    def __init__(self, channel: aiohttp.ClientWebSocketResponse) -> None:
        self._channel = channel
        self._numbers = itertools.count()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._channel.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._channel.receive_json(timeout=WAIT_S)
            if message.get("id") == number:
                result: dict[str, Any] = message["result"]
                return result

    async def value_of(self, expression: str) -> Any:
        """What JavaScript says in the page, promises waited for."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        return result["result"].get("value")

    async def until(self, expression: str, wanted: Any) -> None:
        """Poll until the page says so; fails with what it said last."""
        deadline = time.monotonic() + WAIT_S
        while (said := await self.value_of(expression)) != wanted:
            if time.monotonic() > deadline:
                pytest.fail(
                    f"{expression} is {said!r}; the page: "
                    f"{await self.value_of('document.documentElement.outerHTML')}"
                )
            await asyncio.sleep(0.1)

    async def open(self, url: str) -> None:
        """Go there, and be there."""
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState", "complete")


@pytest.fixture(scope="module")
def debugger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A browser with a profile of its own; the address of its debugging port."""
    home = tmp_path_factory.mktemp("chromium")
    command = [
        tools.chromium(),
        *FLAGS,
        f"--user-data-dir={home / 'profile'}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{debugging_port(process, home)}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def debugging_port(process: subprocess.Popen[bytes], home: Path) -> int:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int((home / "profile" / "DevToolsActivePort").read_text().splitlines()[0])
        time.sleep(0.1)
    pytest.fail(f"Chromium did not start: {(home / 'log').read_text(errors='replace')}")


@contextlib.asynccontextmanager
async def new_page(debugger: str) -> AsyncIterator[Page]:
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{debugger}/json/new?about:blank") as answer:
            address = (await answer.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(address, max_msg_size=0) as channel:
            yield Page(channel)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with running_server(new_state_dir()) as running:
        yield running


@pytest.fixture
def sandboxes(server: LocalServer) -> Iterator[tuple[str, str]]:
    """Two sandboxes that serve the same application."""
    created = server.create()["id"], server.create()["id"]
    for sandbox_id in created:
        start_app(server, sandbox_id)
    yield created
    for sandbox_id in created:
        server.request("DELETE", f"/api/sandbox/{sandbox_id}")


def sign(server: LocalServer, sandbox_id: str, seconds: int) -> str:
    """A signed link to the page that opens a WebSocket to its own origin."""
    path = f"/api/sandbox/{sandbox_id}/ports/{PORT}/signed-preview-url?expiresInSeconds={seconds}"
    url = urlsplit(server.request("GET", path).json()["url"])
    return f"http://{url.netloc}/page?{url.query}"


def test_a_signed_link_opens_in_a_browser_and_dies_when_it_expires(
    server: LocalServer, sandboxes: tuple[str, str], debugger: str
) -> None:
    """The page loads, its WebSocket talks, the token is out of sight; at the end both are shut."""

    async def visit() -> None:
        async with new_page(debugger) as page:
            await page.open(sign(server, sandboxes[0], SHORT_LINK_S))
            await page.until("document.getElementById('said')?.textContent", ECHO)
            assert await page.value_of("location.search") == ""
            assert await page.value_of("document.cookie") == ""

            await page.until("document.title", "closed")
            await page.open(await page.value_of("location.href"))
            await page.until("JSON.parse(document.body.innerText).statusCode", 401)

    asyncio.run(visit())


def test_a_page_reaches_neither_the_api_nor_another_sandboxs_cookies(
    server: LocalServer, sandboxes: tuple[str, str], debugger: str
) -> None:
    """A hostile page gets nowhere even with the key, and browsers keep the sandboxes apart."""

    async def visit() -> None:
        async with new_page(debugger) as page:
            await page.open(sign(server, sandboxes[0], 600))
            call = (
                f"fetch('{server.url}/api/sandbox', "
                f"{{headers: {{Authorization: 'Bearer {server.api_key}'}}}})"
            )
            assert await page.value_of(f"{call}.then(() => 'read', () => 'refused')") == "refused"
            assert await page.value_of("fetch('/tell').then(answer => answer.status)") == 200

            await page.value_of("document.cookie = 'mine=1'")
            assert await page.value_of("document.cookie") == "mine=1"
            await page.open(sign(server, sandboxes[1], 600))
            await page.until("document.getElementById('said')?.textContent", ECHO)
            assert await page.value_of("document.cookie") == ""

    asyncio.run(visit())
