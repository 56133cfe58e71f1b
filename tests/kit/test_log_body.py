"""A whole log's JSON, read as it comes: the same text as json.loads gives, in bounded memory."""

from __future__ import annotations

import asyncio
import json
import random
import tracemalloc
import zlib
from typing import Any

import pytest
from aiohttp import web

from sandbox_kit.errors import Failure
from sandbox_kit.sdk import Client
from sandbox_kit.sdk import transport as transport_module
from sandbox_kit.sdk.log_body import LogBody
from sandbox_kit.settings import Settings
from tests.benchmarks.instant import Instant
from tests.serving import serving

MB = 1 << 20


def read(data: bytes, size: int) -> dict[str, str]:
    found: dict[str, list[str]] = {"stdout": [], "stderr": []}
    body = LogBody({name: parts.append for name, parts in found.items()})
    for start in range(0, len(data), size):
        body.feed(data[start : start + size])
    body.finish()
    return {name: "".join(parts) for name, parts in found.items()}


TEXTS = [
    "",
    "plain\n",
    'quotes " and \\ and \\\\" both\\',
    "\\u0041 is no escape, \\\\u0041 neither",
    "😀 emoji 😀\u0000\u001b[0m",
    "größe\t\r\n",
    "\ud83d alone",
    '{"stdout": "x"}',
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize("spelt", [True, False], ids=["escaped", "UTF-8"])
def test_any_cut_of_the_body_gives_the_same_text(text: str, spelt: bool) -> None:
    """An escape, a pair of them or a character may be spread over two chunks."""
    answer = {"output": text, "stdout": text, "more": {"stdout": "not this", "n": 1}, "stderr": "e"}
    data = json.dumps(answer, ensure_ascii=spelt).encode("utf-8", "replace")
    expected = json.loads(data)["stdout"]
    for size in (1, 2, 3, 5, 7, 1000):
        assert read(data, size) == {"stdout": expected, "stderr": "e"}


def test_any_text_survives() -> None:
    """Drawn from what JSON escapes."""
    draw = random.Random(7)
    for _ in range(300):
        text = "".join(draw.choice('\\\\"u0d8😀\n\x01a{}:,') for _ in range(draw.randrange(60)))
        data = json.dumps({"stderr": text, "stdout": text[::-1]}).encode()
        expected = {"stdout": text[::-1], "stderr": text}
        assert read(data, draw.randrange(1, 20)) == expected


@pytest.mark.parametrize("data", [b"", b"<html>", b'{"stdout": "a', b'{"stdout": "\\uZZZZ"}', b"{"])
def test_what_is_no_json_is_the_servers_failure(data: bytes) -> None:
    """Half a log must not pass for all of it."""
    with pytest.raises(Failure) as caught:
        read(data, 4)

    assert caught.value.kind == "server_error"


class Talkative(Instant):
    """Its programs print megabytes, which travel packed."""

    size = 64 * MB

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/logs"):
            return await super().handle(request)
        answer = web.StreamResponse(
            headers={"Content-Type": "application/json", "Content-Encoding": "deflate"}
        )
        await answer.prepare(request)
        packer = zlib.compressobj()
        await answer.write(packer.compress('{"output": "", "stdout": "😀'.encode()))
        for _ in range(self.size // MB):
            await answer.write(packer.compress(b"x" * MB))
        await answer.write(packer.compress(b'", "stderr": "end"}') + packer.flush())
        return answer


async def read_logs(instant: Instant, counts: dict[str, int]) -> None:
    def count(name: str) -> Any:
        def take(text: str) -> None:
            counts[name] = counts.get(name, 0) + len(text)

        return take

    used = Settings(engine="cloud", endpoint=f"{instant.url}/api", key_source="x", api_key="k")
    async with Client.open(used) as client:
        sandbox = await client.get("x")
        await sandbox.logs("s", "c", count("out"), count("err"))


def test_a_log_is_not_held_however_long_it_is() -> None:
    """400 MB with one emoji once took 3.6 GB: the body, its text and its JSON, all of it."""
    talkative, counts = Talkative(), dict[str, int]()
    with serving(talkative.handle) as talkative.url:
        asyncio.run(read_logs(talkative, {}))  # what is imported is not counted
        tracemalloc.start()
        asyncio.run(read_logs(talkative, counts))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert counts == {"out": Talkative.size + 1, "err": 3}
    assert most < 24 * MB


def test_a_log_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a bound; other answers have a smaller one."""
    monkeypatch.setattr(transport_module, "LARGEST_LOG", 2 * MB)
    talkative = Talkative()
    with serving(talkative.handle) as talkative.url, pytest.raises(Failure) as caught:
        asyncio.run(read_logs(talkative, {}))

    assert caught.value.kind == "server_error"
    assert "longer than 2 MB" in caught.value.message
    assert "--download" in caught.value.fix
