"""stdout, stderr and the log: bounded, redacted, free of terminal escapes; narration with its mark. What a program prints is hostile."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

import skill_env

from .console import MARK, fail, one_line, tell, write_quietly
from .plain_text import ESCAPE, is_plain, plain, unfinished_from
from .state_files import prune

REDACTED = "[redacted]"
SHORTEST_SECRET = 8
LOG_LIMIT = 256 * 1024 * 1024
LONGEST_ESCAPE = 4096
LOG_CUT = "\n[the log ends here: it reached 256 MB]\n"


class Redactor:
    """Replaces secrets in a stream of text, also where one is split over chunks."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = sorted(
            {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True
        )
        self._held = ""

    def feed(self, text: str) -> str:
        """The text so far without secrets; a possible beginning of one is held back."""
        text = self.clean(self._held + text)
        keep = self._possible_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held

    def clean(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, REDACTED)
        return text

    def _possible_beginning(self, text: str) -> int:
        """How many characters at the end may begin a secret."""
        return max((overlap(text, secret) for secret in self.secrets), default=0)


def overlap(text: str, secret: str) -> int:
    """Length of the longest end of `text` that is a beginning of `secret`, the whole secret left out."""
    for size in range(min(len(secret) - 1, len(text)), 0, -1):
        if text.endswith(secret[:size]):
            return size
    return 0


class Plain:
    """Takes terminal escapes and control characters out of a stream; newlines and tabs stay, a lone CR becomes a newline."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        if not self._held and is_plain(text):
            return text
        text = ESCAPE.sub("", self._held + text)
        begun = unfinished_from(text)
        cut = begun if len(text) - begun < LONGEST_ESCAPE else len(text)
        if cut and text[cut - 1] == "\r":  # its newline may be in the next chunk
            cut -= 1
        self._held = text[cut:]
        return plain(text[:cut])

    def finish(self) -> str:
        held, self._held = self._held, ""
        return plain(held)


class HeadAndTail:
    """Passes the first half of a budget on, keeps the last half, and says between them how much is left out."""

    def __init__(
        self, limit: int, write: Callable[[str], None], *, notice: Callable[[int], str]
    ) -> None:
        self._head = limit // 2 if limit else None
        self._room = limit - limit // 2
        self._write = write
        self._notice = notice
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self.left_out = 0

    def feed(self, text: str) -> None:
        if self._head is None:
            self._write(text)
            return
        if self._head:
            self._write(text[: self._head])
            text, self._head = text[self._head :], max(0, self._head - len(text))
        if text:
            self._keep(text)

    def _keep(self, text: str) -> None:
        self._tail.append(text)
        self._tail_size += len(text)
        while self._tail_size - len(self._tail[0]) >= self._room:
            dropped = self._tail.popleft()
            self._tail_size -= len(dropped)
            self.left_out += len(dropped)

    def finish(self) -> None:
        tail = "".join(self._tail)
        surplus = max(0, len(tail) - self._room) if self._head is not None else 0
        self.left_out += surplus
        if self.left_out:
            self._write(self._notice(self.left_out))
        if tail:
            self._write(tail[surplus:])
        self._tail.clear()


class Log:
    """The whole output of a run in a file of its own, 0600, capped; made when the first text comes."""

    def __init__(self, run_id: str) -> None:
        self.path = logs_dir() / f"{run_id}.log"
        self.problem: str | None = None  # why there is no log; a run goes on without one
        self._file: TextIO | None = None
        self._size = 0

    def write(self, text: str) -> None:
        if not text or self._size >= LOG_LIMIT or self.problem:
            return
        try:
            self._file = self._file or self._open()
            self._size += len(text)
            self._file.write(text if self._size < LOG_LIMIT else text + LOG_CUT)
        except OSError as error:
            self.problem = f"no full log: {error.filename or self.path}: {error.strerror or error}"

    def _open(self) -> TextIO:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        prune(self.path.parent, "*.log")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        return os.fdopen(
            os.open(self.path, flags, 0o600), "w", encoding="utf-8", errors="replace", newline="\n"
        )

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:  # a disk that is full says so when the last buffer is written
                self.problem = f"the full log {self.path} is incomplete: {error.strerror}"
            self._file = None


def logs_dir() -> Path:
    return skill_env.client_state_dir() / "logs"


class Stream:
    """One stream of the program on its way out: escapes, secrets, log, budget, and then `write`."""

    def __init__(
        self, write: Callable[[str], None], *, limit: int, secrets: Iterable[str], log: Log
    ) -> None:
        self._plain = Plain() if limit else None  # --max-output 0 means raw
        self._redactor = Redactor(secrets)
        self._log = log
        self._out = HeadAndTail(limit, write, notice=self._notice)

    @property
    def truncated(self) -> bool:
        return self._out.left_out > 0

    def feed(self, text: str) -> None:
        self._pass(self._redactor.feed(self._plain.feed(text) if self._plain else text))

    def finish(self) -> None:
        """What was held back, the notice and the tail; the stream may not be fed afterwards."""
        if self._plain:
            self._pass(self._redactor.feed(self._plain.finish()))
        self._pass(self._redactor.finish())
        self._out.finish()

    def _pass(self, text: str) -> None:
        if text:
            self._log.write(text)
            self._out.feed(text)

    def _notice(self, left_out: int) -> str:
        where = self._log.problem or f"all of it: {self._log.path}"
        return f"\n{MARK} {left_out} characters left out; {where}\n"


class Narrator:
    """Our own lines on stderr, each with the mark; secrets are taken out here too."""

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, secrets: Iterable[str] = ()
    ) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._redactor = Redactor(secrets)

    def hide(self, secrets: Iterable[str]) -> None:
        """Secrets that became known later."""
        self._redactor = Redactor([*self._redactor.secrets, *secrets])

    def clean(self, text: str) -> str:
        return self._redactor.clean(text)

    def say(self, text: str) -> None:
        """Progress, dropped with --quiet."""
        if not self._quiet:
            self.tell(text)

    def pass_on(self, text: str) -> None:
        """Somebody else's words, such as a build's: every line marked, none with an escape."""
        for line in plain(text).splitlines():
            self.say(line)

    def detail(self, text: str) -> None:
        """What only --verbose shows."""
        if self._verbose:
            self.tell(text)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """On a terminal, the seconds that the block takes, in one line that is gone afterwards; elsewhere nothing."""
        if self._quiet or not sys.stderr.isatty():
            yield
            return
        import asyncio  # not at the top: usage errors stop before anything that costs a tenth of a second

        clock = asyncio.get_running_loop().create_task(count_seconds(what))
        try:
            yield
        finally:
            clock.cancel()
            write_quietly(sys.stderr, "\r\x1b[K")

    def tell(self, text: str) -> None:
        """What the user must know also with --quiet."""
        tell(f"{MARK} {one_line(self.clean(text))}")

    def end(self, text: str) -> None:
        """Words of ours alone, that no secret can be part of: a secret may be chosen to take them out."""
        tell(f"{MARK} {one_line(text)}")

    def trace(self, error: BaseException) -> None:
        """--debug: where it came from, a line each; what a server said of it is in there too."""
        for line in "".join(traceback.format_exception(error)).splitlines():
            tell(f"{MARK}   {one_line(self.clean(line))}")

    def fail(self, message: str, fix: str, *, whose: str = "") -> None:
        """The last two lines of a failed run; `whose` are words of ours alone, before the message."""
        fail(whose + self.clean(message), self.clean(fix))


async def count_seconds(what: str) -> None:
    import asyncio

    began = time.monotonic()
    while True:
        await asyncio.sleep(1)
        write_quietly(sys.stderr, f"\r\x1b[K{MARK} {what} {time.monotonic() - began:.0f} s")
