"""The server's end of a sandbox's control socket: requests, answers with descriptors, exits.

Everything received is taken for hostile.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FileProblem, SandboxGone
from .loop_guard import Received

MAX_MESSAGE = 128 * 1024  # the agent's own bound
MAX_FDS = 4
ANSWER_TIMEOUT_S = 20.0
SEND_RETRY_S = 0.005


@dataclass(frozen=True)
class Answer:
    """What the agent replied: its values, unchecked, and descriptors that the caller closes."""

    values: dict[str, Any]
    fds: tuple[int, ...]


STARTING = ("exec", "terminal", "files")  # what starts a process, whose exit is told once


class Control:
    """One control socket. Any breach of the protocol ends it, and with it the sandbox.

    A breach is an answer to what was not asked, a second one, an exit of nothing that was started,
    and a descriptor in anything but an answer: each would cost this server time for nothing.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        received: Received,
        on_exit: Callable[[str, int], None],
        on_close: Callable[[], None],
    ) -> None:
        self._socket = sock
        self._received = received
        self._on_exit = on_exit
        self._on_close = on_close
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._next_id = 0
        self._unanswered: set[int] = set()
        self._exits_owed = 0
        self._open = True
        self._reason = "the sandbox does not answer"
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._receive)

    @property
    def is_open(self) -> bool:
        return self._open

    async def request(self, op: str, fds: Sequence[int] = (), **values: Any) -> Answer:
        """Ask the agent.

        Raises FileProblem with the errno from inside, SandboxGone, or ValueError for a request that
        is too long.
        """
        self._next_id += 1
        number = self._next_id
        data = json.dumps({"id": number, "op": op, **values}).encode()
        if len(data) > MAX_MESSAGE:
            raise ValueError(
                f"the request is {len(data)} bytes long, a sandbox takes {MAX_MESSAGE}"
            )
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[number] = future
        self._unanswered.add(number)
        self._exits_owed += op in STARTING
        try:
            await self._send(data, fds)
            return await asyncio.wait_for(future, ANSWER_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise SandboxGone("the sandbox does not answer") from None
        finally:
            self._waiting.pop(number, None)

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        deadline = self._loop.time() + ANSWER_TIMEOUT_S
        while self._open and self._loop.time() < deadline:
            try:
                self._socket.sendmsg([data], rights)
                return
            except BlockingIOError:
                await asyncio.sleep(SEND_RETRY_S)
            except OSError:
                self.close()
        raise SandboxGone(self._reason)

    def _receive(self) -> None:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                MAX_MESSAGE, socket.CMSG_LEN(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        fds, taken = _descriptors(ancillary), False
        self._received.note(fds)
        try:
            if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("end of the conversation")
            taken = self._dispatch(json.loads(data), fds)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            self.close()
        finally:
            if not taken and fds:  # once: a number closed twice may be another file's by then
                # In a thread: the last close of a socket may wait for as long as who sent it says.
                threading.Thread(target=close_all, args=(fds,), daemon=True).start()

    def _dispatch(self, message: Any, fds: tuple[int, ...]) -> bool:
        """Whether somebody has the descriptors now; raises ValueError for a breach."""
        if not isinstance(message, dict):
            raise TypeError("a message is a JSON object")
        event = message.get("event")
        if event is None:
            return self._resolve(message, fds)
        if fds:
            raise ValueError("descriptors came with what is no answer")
        if event == "ready" and not self.ready.done():
            self.ready.set_result(None)
        elif event == "exit" and self._exits_owed > 0:
            self._exits_owed -= 1
            self._on_exit(str(message["key"]), int(message["code"]))
        else:
            raise ValueError("nobody waits for that")
        return False

    def _resolve(self, message: dict[str, Any], fds: tuple[int, ...]) -> bool:
        number = message["id"]
        if type(number) is not int or number not in self._unanswered:
            raise ValueError("an answer to what was not asked")
        self._unanswered.remove(number)
        future = self._waiting.get(number)
        if future is None or future.done():  # who asked has given up
            return False
        if "error" in message:
            future.set_exception(FileProblem(int(message["error"]), str(message["message"])[:500]))
            return False
        future.set_result(Answer(values=message, fds=fds))
        return True

    def close(self, reason: str = "the sandbox was stopped") -> None:
        """End the conversation; the agent sees EOF and the kernel ends the sandbox with it."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._reason = reason
        gone = SandboxGone(reason)
        futures: list[asyncio.Future[Any]] = [*self._waiting.values(), self.ready]
        for future in futures:
            if not future.done():
                future.set_exception(gone)
                future.exception()
        self._on_close()


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, ...]:
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return tuple(fds)


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
