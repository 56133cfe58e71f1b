"""SIGINT, SIGTERM and SIGHUP as one cancellation of what runs, with a line and an end in time.

A second signal does not cut the cleanup short.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from .console import Interrupted
from .errors import SIGNAL_BASE, Failure

Answer = TypeVar("Answer")
# Seconds from the first signal to the end. The longest way out: a sandbox that stays is tidied in
# four steps of 10, or one that goes is looked for and deleted in 65.
LIMIT_S = 120.0
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # not every system has them all


async def run_interruptibly(
    work: Coroutine[Any, Any, Answer],
    *,
    tell: Callable[[str], None],
    on_overdue: Callable[[Failure], object],
) -> Answer:
    """What `work` comes to; raises Failure interrupted after a signal, when it has cleaned up.

    If that takes longer than the line says, `on_overdue` tells what is left, and the process ends.
    """
    interrupts = Interrupts(tell=tell, on_overdue=on_overdue)
    task = asyncio.ensure_future(work)
    with interrupts.cancel(task):
        try:
            return await task
        except asyncio.CancelledError:
            raise interrupts.failure() from None


class Interrupts:
    """Which signal came first, if any."""

    def __init__(
        self, *, tell: Callable[[str], None], on_overdue: Callable[[Failure], object]
    ) -> None:
        self.number: int | None = None
        self._tell = tell
        self._on_overdue = on_overdue
        self._watchdog: threading.Timer | None = None

    def failure(self) -> Failure:
        """What the run ends with after `number`."""
        return interruption(self.number or signal.SIGINT)

    @contextlib.contextmanager
    def cancel(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """While the block runs, the first signal cancels `task`.

        By plain handlers: taking away one of asyncio's puts the default back for a moment, and a
        signal just then is a traceback.
        """
        loop = asyncio.get_running_loop()
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        undo = [
            self._install(loop, number, task) for number in numbers if not is_under_nohup(number)
        ]
        try:
            yield
        finally:
            if self._watchdog is not None:
                self._watchdog.cancel()
            for restore in undo:
                restore()

    def _install(
        self, loop: asyncio.AbstractEventLoop, number: int, task: asyncio.Task[Any]
    ) -> Callable[[], object]:
        def restore() -> None:
            # After a signal the process is about to end; one more Ctrl-C must not make a traceback.
            signal.signal(number, before if self.number is None else signal.SIG_IGN)

        def receive(got: int, _frame: object) -> None:
            Interrupted.seen = True
            loop.call_soon_threadsafe(self._receive, got, task)

        try:
            before = signal.signal(number, receive)
        except ValueError:  # not the main thread: a test, or somebody else's program
            return lambda: None
        return restore

    def _receive(self, number: int, task: asyncio.Task[Any]) -> None:
        if self.number is not None:
            self._tell("still cleaning up, please wait")
            return
        self.number = number
        self._tell(f"{self.failure().message}: cleaning up, which ends within {LIMIT_S:.0f} s")
        self._watchdog = threading.Timer(LIMIT_S, self._give_up)
        self._watchdog.daemon = True
        self._watchdog.start()
        task.cancel()

    def _give_up(self) -> None:
        """In a thread of its own: the loop may be what does not end."""
        failure = self.failure()
        try:
            self._on_overdue(failure)
        finally:
            os._exit(failure.exit_code)


def interruption(number: int) -> Failure:
    return Failure(
        "interrupted",
        f"interrupted by {signal.Signals(number).name}",
        exit_code=SIGNAL_BASE + number,
    )


def is_under_nohup(number: int) -> bool:
    """Whoever started us said that this shall not end us."""
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN
