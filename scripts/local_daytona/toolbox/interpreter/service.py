"""Interpreter contexts: one long-lived Python inside each, whose variables outlive a run.

PROTOCOL.md, "Interpreter contexts", has the real daemon's ways.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import signal
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import ApiError, FileProblem, SandboxGone, iso, now
from ...http_json import DAEMON
from ...isolation.agent_client import RunningProgram
from ...isolation.bubblewrap import AGENT_INSIDE
from ...isolation.spawning import APART, spawn
from ...isolation.streams import readable

if TYPE_CHECKING:
    from ..toolbox import Toolbox

ANSWERS = 2  # the pipe of its answers, beside those of stdout and stderr
WORKER = ("python3", "-u", f"{AGENT_INSIDE}/interpreter.py")
DEFAULT = "default"
STOPPED = "the sandbox was stopped"
LANGUAGE = "python"
INTERRUPT_GRACE_S = 2.0  # the real daemon's, from SIGINT to SIGKILL
KILL_TIMEOUT_S = 10.0
LAST_ANSWER_S = 1.0  # between a worker's end and the news of it, or of what it wrote just before
LONGEST_ANSWER = 1024 * 1024  # bytes of the worker's one line, which code inside may forge
FRAME = 16 * 1024  # characters of output that one message carries
LARGEST_PIPE = 1024 * 1024  # what can be in a pipe at once: Linux's limit for ordinary users

Sink = Callable[[str, str], Awaitable[None]]  # stream name, text


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `error` is what the code raised, `lost` why there is no answer.

    `interrupted`: at its timeout, or by an interrupt of its own. `ends`: and its context with it.
    """

    error: Mapping[str, str] | None = None
    interrupted: bool = False
    ends: bool = False
    lost: str = ""


class OutputPump:
    """What the worker and its children print to one descriptor.

    It is read always, and passed on while a run has a sink.
    """

    def __init__(self, name: str, fd: int) -> None:
        self.sink: Sink | None = None
        self._name = name
        self._fd = fd
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._reading = asyncio.Lock()

    async def pump(self) -> None:
        """Until every program has closed it."""
        os.set_blocking(self._fd, False)
        try:
            open_ = True
            while open_:
                await readable(self._fd)
                async with self._reading:
                    open_ = await self._take()
        finally:
            os.close(self._fd)
            self._fd = -1

    async def settle(self) -> None:
        """Pass on what was printed until now, the last half of a character included."""
        async with self._reading:
            await self._take()
            await self._pass_on(self._decoder.decode(b"", True))

    async def _take(self) -> bool:
        """Pass on what is in the pipe; False when its end was read.

        No more than fits into a pipe: a program may print without end.
        """
        left = LARGEST_PIPE
        while left > 0 and self._fd >= 0:
            try:
                chunk = os.read(self._fd, FRAME)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            left -= len(chunk)
            await self._pass_on(self._decoder.decode(chunk))
        return self._fd >= 0

    async def _pass_on(self, text: str) -> None:
        if text and self.sink is not None:
            await self.sink(self._name, text)


@dataclass
class Lines:
    """A line each way over two pipes.

    Over a socket code inside could send a descriptor, which whoever receives it has to close; and a
    close may block.
    """

    reader: asyncio.StreamReader
    reading: asyncio.ReadTransport
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, read_end: int, write_end: int) -> Lines:
        """Both are its to close from now on."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LONGEST_ANSWER)
        reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
        )
        writing, flow = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(write_end, "wb", buffering=0)
        )
        return cls(reader, reading, asyncio.StreamWriter(writing, flow, None, loop))

    async def tell(self, message: Mapping[str, Any]) -> None:
        """Until most of it is taken; raises ConnectionError when there is nobody."""
        self.writer.write(json.dumps(message).encode() + b"\n")
        await self.writer.drain()

    async def hear(self) -> bytes:
        """The next line, empty at the end; raises ValueError for one that is too long."""
        return await self.reader.readline()

    def abandon(self) -> None:
        if not self.writer.transport.is_closing():  # as it is when nobody reads any more
            self.writer.transport.abort()
        self.reading.close()


class Worker:
    """One Python process inside, and what connects it to the server; what it says is checked."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._running: RunningProgram
        self._lines: Lines | None = None
        self._outlets: tuple[OutputPump, ...] = ()
        self._pumps: list[asyncio.Task[None]] = []
        self._count = 0
        self._over = False

    async def start(self, cwd: str) -> None:
        """Raises the 500 when no Python can start there, SandboxGone."""
        try:
            program = await spawn(
                self._toolbox.agent,
                WORKER,
                environment=self._toolbox.environment({}),
                cwd=cwd,
                stdin=True,
                outputs=(*APART, ANSWERS),
            )
        except FileProblem as error:
            message = f"no interpreter can start in {cwd}: {error.strerror}"
            raise ApiError(500, message, source=DAEMON) from None
        self._running = program.running
        out, err, answers = program.outputs
        self._outlets = OutputPump("stdout", out), OutputPump("stderr", err)
        self._pumps = [asyncio.create_task(outlet.pump()) for outlet in self._outlets]
        self._lines = await Lines.connect(answers, program.stdin)

    @property
    def is_alive(self) -> bool:
        return not self._over and not self._running.exited.done()

    async def run(
        self, code: str, envs: Mapping[str, str], *, sink: Sink, timeout_s: int
    ) -> Outcome:
        """To its end, or for `timeout_s` (0: for ever): then SIGINT, a grace, the worker's end."""
        self._count += 1
        for outlet in self._outlets:
            outlet.sink = sink
        request = {"id": self._count, "code": code, "envs": dict(envs)}
        answer = asyncio.create_task(self._ask(request))
        exited = asyncio.ensure_future(asyncio.shield(self._running.exited))
        try:
            done, _ = await asyncio.wait(
                (answer, exited), timeout=timeout_s or None, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                await self._interrupt(answer, exited)
            elif not answer.done() or answer.exception():
                await asyncio.wait((answer, exited), timeout=LAST_ANSWER_S)
            for outlet in self._outlets:
                await outlet.settle()
            return await self._outcome(answer, timed_out=not done)
        finally:
            for outlet in self._outlets:
                outlet.sink = None
            answer.cancel()
            exited.cancel()
            await asyncio.gather(answer, exited, return_exceptions=True)

    async def _interrupt(self, answer: asyncio.Future[Any], exited: asyncio.Future[Any]) -> None:
        await self._toolbox.agent.kill(self._running, signal.SIGINT)
        done, _ = await asyncio.wait(
            (answer, exited), timeout=INTERRUPT_GRACE_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            await self._kill()
            await asyncio.wait((exited,), timeout=KILL_TIMEOUT_S)

    async def _kill(self) -> None:
        self._over = True
        await self._toolbox.agent.kill(self._running, signal.SIGKILL)

    async def _outcome(self, answer: asyncio.Task[Outcome], *, timed_out: bool) -> Outcome:
        """Code that catches the interrupt of its timeout and goes on has an end of its own."""
        if answer.done() and not answer.exception():
            outcome = answer.result()
            if outcome.ends:
                await self.close()
            return outcome
        if timed_out:
            return Outcome(interrupted=True)
        if self._toolbox.closing.is_set() or not self._toolbox.sandbox.is_running:
            return Outcome(lost=self._toolbox.sandbox.ended_because or STOPPED)
        if self._over:
            return Outcome(lost="the context was deleted")
        reason = how(self._running)  # before close(), which is an end too
        await self.close()
        return Outcome(lost=f"the interpreter ended ({reason}) and its variables are gone")

    async def _ask(self, request: Mapping[str, Any]) -> Outcome:
        """As the worker tells it.

        Raises ValueError or ConnectionError when the worker gives no answer.
        """
        if self._lines is None:
            raise ConnectionError("the worker was let go")
        await self._lines.tell(request)
        while line := await self._lines.hear():
            reply = json.loads(line)
            if isinstance(reply, dict) and reply.get("id") == request["id"]:
                return Outcome(
                    checked(reply.get("error")),
                    interrupted=reply.get("interrupted") is True,
                    ends=reply.get("ends") is True,
                )
        raise ConnectionError("the worker hung up")

    async def close(self) -> None:
        """End the process and all that it started."""
        await self._kill()
        await self.abandon()

    async def abandon(self) -> None:
        """Let go of everything on the server's side; the caller ends the processes."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        if self._lines is not None:
            self._lines.abandon()
            self._lines = None


class Context:
    """A namespace of its own; runs wait for one another in the order in which they came."""

    def __init__(self, toolbox: Toolbox, context_id: str, *, cwd: str) -> None:
        self.id = context_id
        self.cwd = cwd  # as it was given
        self.created_at = now()
        self.deleted = False
        self._toolbox = toolbox
        self._worker: Worker | None = None
        self._turn = asyncio.Lock()

    def as_json(self) -> dict[str, Any]:
        active = self._worker is not None and self._worker.is_alive
        return {
            "id": self.id,
            "cwd": self.cwd,
            "createdAt": iso(self.created_at),
            "active": active,
            "language": LANGUAGE,
        }

    async def start(self) -> Worker:
        """Its worker, a new one with an empty namespace where none is alive; raises the 500."""
        if self._worker is None or not self._worker.is_alive:
            if self._worker is not None:
                await self._worker.abandon()
            worker = Worker(self._toolbox)
            await worker.start(self._toolbox.absolute(self.cwd))
            self._worker = worker
            if self.deleted:
                await worker.close()
                raise unknown(self.id)
        return self._worker

    async def run(
        self, code: str, envs: Mapping[str, str], *, sink: Sink, timeout_s: int
    ) -> Outcome:
        """When its turn has come; raises the 404 when the context was deleted meanwhile."""
        async with self._turn:
            if self._toolbox.closing.is_set():
                raise SandboxGone(STOPPED)
            if self.deleted:
                raise unknown(self.id)
            worker = await self.start()
            return await worker.run(code, envs, sink=sink, timeout_s=timeout_s)

    async def delete(self) -> None:
        self.deleted = True
        if self._worker is not None:
            await self._worker.close()

    async def abandon(self) -> None:
        self.deleted = True
        if self._worker is not None:
            await self._worker.abandon()


class Contexts:
    """The contexts of one toolbox by id; the default one comes with its first run."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._contexts: dict[str, Context] = {}

    def listed(self) -> list[Context]:
        """All that someone created: the default one is left out."""
        return [context for context in self._contexts.values() if context.id != DEFAULT]

    async def create(self, cwd: str) -> Context:
        """A context whose interpreter runs; raises the 500."""
        context = Context(self._toolbox, str(uuid.uuid4()), cwd=cwd)
        await context.start()
        if self._toolbox.closing.is_set():
            await context.abandon()
            raise SandboxGone(STOPPED)
        self._contexts[context.id] = context
        return context

    def find(self, context_id: str) -> Context:
        """Raises the 404."""
        if context_id == DEFAULT and DEFAULT not in self._contexts:
            self._contexts[DEFAULT] = Context(self._toolbox, DEFAULT, cwd=self._toolbox.work_dir)
        context = self._contexts.get(context_id)
        if context is None:
            raise unknown(context_id)
        return context

    async def delete(self, context_id: str) -> None:
        """Raises the 404, or the 400 for the default context."""
        if context_id == DEFAULT:
            raise ApiError(400, "the default context cannot be deleted", source=DAEMON)
        context = self.find(context_id)
        del self._contexts[context_id]
        await context.delete()

    async def close(self) -> None:
        contexts, self._contexts = list(self._contexts.values()), {}
        await asyncio.gather(*(context.abandon() for context in contexts))


def unknown(context_id: str) -> ApiError:
    return ApiError(404, f"context {context_id[:100]} not found", source=DAEMON)


def checked(error: Any) -> Mapping[str, str] | None:
    """The three texts of an error, whatever the worker sent."""
    if not isinstance(error, dict):
        return None
    return {name: str(error.get(name, "")) for name in ("name", "value", "traceback")}


def how(running: RunningProgram) -> str:
    """Its exit code or signal, for a sentence."""
    if not running.exited.done():
        return "its answers made no sense"
    code = running.exited.result()
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
