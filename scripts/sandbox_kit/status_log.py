"""Our own lines on stderr: each with the mark, on one line, without secrets."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterable, Iterator

from .console import MARK, one_line, print_failure, print_status, write_quietly
from .plain_text import strip_controls
from .redaction import Redactor


class StatusLog:
    """Our own lines on stderr, each with the mark; secrets are taken out here too."""

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, secrets: Iterable[str] = ()
    ) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._label = ""
        self._redactor = Redactor(secrets)

    def labelled(self, label: str) -> StatusLog:
        """The voice of one of many runs: its progress is told with --verbose only."""
        made = StatusLog(quiet=not self._verbose, verbose=self._verbose)
        made._redactor, made._label = self._redactor, f"{label}: "
        return made

    def hide(self, secrets: Iterable[str]) -> None:
        """Secrets that became known later."""
        self._redactor = Redactor([*self._redactor.secrets, *secrets])

    def clean(self, text: str) -> str:
        """As a value of the JSON, or a part of a line."""
        return self._redactor.clean_line(text)

    def say(self, text: str) -> None:
        """Progress, dropped with --quiet."""
        if not self._quiet:
            self.tell(text)

    def pass_on(self, text: str) -> None:
        """Somebody else's words, such as a build's: every line marked, none with an escape."""
        for line in self._redactor.clean(strip_controls(text)).splitlines():
            self.say(line)

    def detail(self, text: str) -> None:
        """What only --verbose shows."""
        if self._verbose:
            self.tell(text)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """On a terminal, the seconds that the block takes, in one line that is gone afterwards.

        Elsewhere nothing.
        """
        if self._quiet or not sys.stderr.isatty():
            yield
            return
        # Not at the top: it costs a tenth of a second, and usage errors stop before.
        import asyncio

        clock = asyncio.get_running_loop().create_task(count_seconds(what))
        try:
            yield
        finally:
            clock.cancel()
            write_quietly(sys.stderr, "\r\x1b[K")

    def tell(self, text: str) -> None:
        """What the user must know also with --quiet."""
        print_status(f"{MARK} {self._label}{self.show(text)}")

    def show(self, text: str) -> str:
        """What `tell` makes of it."""
        return self.clean(one_line(self.clean(text)))

    def tell_own(self, text: str) -> None:
        """Words of ours alone: a secret may be chosen to take them out."""
        print_status(f"{MARK} {self._label}{one_line(text)}")

    def trace(self, error: BaseException) -> None:
        """--debug: where it came from, a line each; what a server said of it is in there too."""
        text = "".join(traceback.format_exception(error))
        for line in self._redactor.clean(strip_controls(text)).splitlines():
            print_status(f"{MARK}   {self.show(line)}")

    def fail(self, message: str, fix: str, *, whose: str = "") -> None:
        """The last two lines of a failed run; `whose` and `fix` are words of ours alone.

        A secret may be chosen to take them out.
        """
        print_failure(whose + self.show(message), fix)


async def count_seconds(what: str) -> None:
    import asyncio

    began = time.monotonic()
    while True:
        await asyncio.sleep(1)
        write_quietly(sys.stderr, f"\r\x1b[K{MARK} {what} {time.monotonic() - began:.0f} s")
