"""SIGINT, SIGTERM and SIGHUP as one cancellation of the run.

A second signal does not cut the cleanup short.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from .console import Interrupted
from .errors import SIGNAL_BASE, Failure

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # not every system has them all


class Interrupts:
    """Which signal came first, if any."""

    def __init__(self, *, on_repeat: Callable[[], None]) -> None:
        self.number: int | None = None
        self._on_repeat = on_repeat

    def failure(self) -> Failure:
        """What the run ends with after `number`."""
        number = self.number or signal.SIGINT
        return Failure(
            "interrupted",
            f"interrupted by {signal.Signals(number).name}",
            exit_code=SIGNAL_BASE + number,
        )

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
        if self.number is None:
            self.number = number
            task.cancel()
        else:
            self._on_repeat()


def is_under_nohup(number: int) -> bool:
    """Whoever started us said that this shall not end us."""
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN
