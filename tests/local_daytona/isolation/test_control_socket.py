"""The server's end of the control socket against an agent that code inside took over."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from local_daytona.errors import FileProblem, SandboxGone
from local_daytona.isolation import control_socket as control_module
from local_daytona.isolation.control_socket import Control
from local_daytona.isolation.loop_guard import Received

Talk = Callable[[Control, socket.socket], Awaitable[Any]]


def converse(talk: Talk) -> Any:
    """Run `talk` with our end and the raw other end of a control socket."""

    async def run() -> Any:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        received = Received(lambda reason: None)
        control = Control(
            ours, received=received, on_exit=lambda key, code: None, on_close=lambda: None
        )
        try:
            return await talk(control, theirs)
        finally:
            control.close()
            theirs.close()

    return asyncio.run(run())


async def answered(
    control: Control, theirs: socket.socket, reply: bytes, fds: tuple[int, ...] = ()
) -> Any:
    """Ask, let the other side say `reply`, return the outcome."""
    asking = asyncio.create_task(control.request("stats"))
    await asyncio.sleep(0)
    theirs.sendmsg(
        [reply], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    )
    return await asking


@pytest.mark.parametrize(
    "reply",
    [
        b"not json",
        b"[]",
        b"5",
        b'{"event": "exit"}',
        b'{"event": "exit", "key": 1, "code": "x"}',
        b"\xff\xfe",
        b'{"id": 1, "error": "x"}',
        b"[" * 100_000,
    ],
    ids=["text", "list", "number", "no key", "bad code", "bytes", "bad error", "deep"],
)
def test_any_breach_of_the_protocol_ends_the_sandbox(reply: bytes) -> None:
    """The server neither crashes nor waits."""

    async def talk(control: Control, theirs: socket.socket) -> bool:
        with pytest.raises(SandboxGone):
            await answered(control, theirs, reply)
        return control.is_open

    assert converse(talk) is False


NOBODY_WAITS = {
    "another number": [b'{"id": 999}'],
    "a number that is none": [b'{"id": 1.0}', b'{"id": true}'],
    "twice": [b'{"id": 1, "pid": 7}', b'{"id": 1, "pid": 8}'],
    "ready again": [b'{"event": "ready"}', b'{"event": "ready"}'],
    "an exit of nothing": [b'{"event": "exit", "key": "k", "code": 0}'],
    "something else": [b'{"event": "news"}'],
}


@pytest.mark.parametrize("messages", NOBODY_WAITS.values(), ids=NOBODY_WAITS)
def test_what_nobody_waits_for_ends_the_sandbox(messages: list[bytes]) -> None:
    """A flood of it would cost the server time, and an honest agent says none."""

    async def talk(control: Control, theirs: socket.socket) -> bool:
        asking = asyncio.create_task(control.request("stats"))
        await asyncio.sleep(0)
        for message in messages:
            theirs.send(message)
        await asyncio.sleep(0.05)
        await asyncio.gather(asking, return_exceptions=True)
        return control.is_open

    assert converse(talk) is False


@pytest.mark.parametrize("message", [b'{"id": 999}', b'{"event": "ready"}'])
def test_descriptors_that_nobody_asked_for_are_closed(message: bytes) -> None:
    """They come once, for that ends the sandbox, and none stays open here."""

    async def talk(control: Control, theirs: socket.socket) -> tuple[int, int, bool]:
        before = len(os.listdir("/proc/self/fd"))
        theirs.sendmsg(
            [message],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()] * 4))],
        )
        await asyncio.sleep(0.05)
        return before, len(os.listdir("/proc/self/fd")), control.is_open

    before, after, is_open = converse(talk)

    assert (after, is_open) == (before - 1, False)  # the control socket itself is closed


def test_an_answer_that_comes_too_late_is_no_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked has given up; what came with it is closed, and the sandbox lives on."""
    monkeypatch.setattr(control_module, "ANSWER_TIMEOUT_S", 0.05)

    async def talk(control: Control, theirs: socket.socket) -> tuple[int, int, bool]:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(SandboxGone):
            await control.request("stats")
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))
        theirs.sendmsg([b'{"id": 1}'], [rights])
        await asyncio.sleep(0.05)
        return before, len(os.listdir("/proc/self/fd")), control.is_open

    before, after, is_open = converse(talk)

    assert (after, is_open) == (before, True)


def test_an_oversized_message_ends_the_sandbox() -> None:
    """What does not fit is not half understood."""

    async def talk(control: Control, theirs: socket.socket) -> None:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        with pytest.raises(SandboxGone):
            await answered(
                control,
                theirs,
                b'{"id": 1, "x": "' + b"x" * (control_module.MAX_MESSAGE + 10) + b'"}',
            )

    converse(talk)


def test_silence_ends_in_an_error_not_in_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that answers nothing holds nobody for ever."""
    monkeypatch.setattr(control_module, "ANSWER_TIMEOUT_S", 0.05)

    async def talk(control: Control, theirs: socket.socket) -> None:
        with pytest.raises(SandboxGone, match="does not answer"):
            await control.request("stats")

    converse(talk)


def test_an_errno_from_inside_is_raised_as_one() -> None:
    """File operations carry the kernel's own reason."""

    async def talk(control: Control, theirs: socket.socket) -> int | None:
        with pytest.raises(FileProblem) as caught:
            await answered(control, theirs, b'{"id": 1, "error": 2, "message": "No such file"}')
        return caught.value.errno

    assert converse(talk) == 2


def test_a_request_beyond_the_bound_is_refused_before_it_is_sent() -> None:
    """The caller's fault ends in an answer, and the sandbox lives on."""

    async def talk(control: Control, theirs: socket.socket) -> bool:
        with pytest.raises(ValueError, match="a sandbox takes"):
            await control.request("exec", env={"A": "x" * control_module.MAX_MESSAGE})
        return control.is_open

    assert converse(talk) is True
