"""What a program prints, on its way out: bounded, redacted, without escapes. It is hostile."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .console import MARK, silence_stream, write_bounded
from .errors import TOOL_FAILED, Failure
from .plain_text import ESCAPE, find_unfinished_escape, is_plain_text, strip_controls
from .request import Display
from .run_log import RunLog

REDACTED = "[redacted]"
SHORTEST_SECRET = 8
LONGEST_ESCAPE = 4096


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
        return max((overlap_length(text, secret) for secret in self.secrets), default=0)


def overlap_length(text: str, secret: str) -> int:
    """Length of the longest end of `text` that begins `secret` and is not the whole of it."""
    for size in range(min(len(secret) - 1, len(text)), 0, -1):
        if text.endswith(secret[:size]):
            return size
    return 0


class EscapeFilter:
    """Takes terminal escapes and control characters out of a stream.

    Newlines and tabs stay, a lone CR becomes a newline.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        if not self._held and is_plain_text(text):
            return text
        text = ESCAPE.sub("", self._held + text)
        begun = find_unfinished_escape(text)
        cut = begun if len(text) - begun < LONGEST_ESCAPE else len(text)
        if cut and text[cut - 1] == "\r":  # its newline may be in the next chunk
            cut -= 1
        self._held = text[cut:]
        return strip_controls(text[:cut])

    def finish(self) -> str:
        held, self._held = self._held, ""
        return strip_controls(held)


class HeadAndTail:
    """Passes the first half of a budget on and keeps the last half.

    Between them it says how much is left out.
    """

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


class OutputStream:
    """One stream of the program on its way out: escapes, secrets, log, budget, and then `write`."""

    def __init__(
        self, write: Callable[[str], None], *, limit: int, secrets: Iterable[str], log: RunLog
    ) -> None:
        self._plain = EscapeFilter() if limit else None  # --max-output 0 means raw
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


class ProgramOutput:
    """Where the program's two streams go: to our own as they come, or into the JSON."""

    def __init__(self, display: Display, *, run_id: str, secrets: Sequence[str]) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self._log = RunLog(run_id)
        writers = (
            (self.out.append, self.err.append)
            if display.json
            else (StandardStream(sys.stdout).write, StandardStream(sys.stderr).write)
        )
        self.stdout, self.stderr = (
            OutputStream(write, limit=display.max_output, secrets=secrets, log=self._log)
            for write in writers
        )
        self._finished = False

    @property
    def truncated(self) -> bool:
        return self.stdout.truncated or self.stderr.truncated

    @property
    def log_path(self) -> str | None:
        return str(self._log.path) if self._log.path.exists() else None

    @property
    def log_problem(self) -> str | None:
        return self._log.problem

    def finish(self) -> None:
        """Write what was held back; called before the sandbox's deletion is sent."""
        if not self._finished:
            self._finished = True
            for stream in (self.stdout, self.stderr):
                stream.finish()
            self._log.close()


class StandardStream:
    """One of our own streams; a reader that goes away ends the run, as nobody is left to read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._broken = False

    def write(self, text: str) -> None:
        if self._broken or self._stream is None:
            return
        try:
            write_bounded(self._stream, text)
        except OSError as error:
            self._broken = True
            silence_stream(self._stream)
            why = (
                "nobody reads the output any more"
                if isinstance(error, BrokenPipeError)
                else f"the output cannot be written: {error.strerror or error}"
            )
            raise Failure("interrupted", why, exit_code=TOOL_FAILED) from None
