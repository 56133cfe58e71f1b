"""What a program prints, on its way out: bounded, redacted, without escapes. It is hostile."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .console import MARK, silence_stream, write_bounded
from .errors import TOOL_FAILED, Failure, output_lost
from .plain_text import ESCAPE, find_unfinished_escape, is_plain_text, strip_controls
from .redaction import Redactor
from .request import Display
from .run_log import RunLog

LONGEST_ESCAPE = 4096
LONGEST_LINE_HELD = 65536  # of one of many runs, until its newline comes
LONGEST_UPDATE = 4096  # characters of a line that is written again and again


class EscapeFilter:
    """Takes terminal escapes and control characters out of a stream.

    Newlines and tabs stay, a lone CR becomes what `updates` is.
    """

    def __init__(self, updates: str = "\n") -> None:
        self._held = ""
        self._updates = updates

    def feed(self, text: str) -> str:
        if not self._held and is_plain_text(text):
            return text
        text = ESCAPE.sub("", self._held + text)
        begun = find_unfinished_escape(text)
        cut = begun if len(text) - begun < LONGEST_ESCAPE else len(text)
        if cut and text[cut - 1] == "\r":  # its newline may be in the next chunk
            cut -= 1
        self._held = text[cut:]
        return strip_controls(text[:cut], updates=self._updates)

    def finish(self) -> str:
        held, self._held = self._held, ""
        return strip_controls(held, updates=self._updates)


class LastStates:
    """Of a line that is written again after each CR, as a progress bar is: the first and the last.

    The first is shown at once; what comes in between is dropped, as a terminal overwrites it.
    """

    def __init__(self) -> None:
        self._updating = False
        self._last = ""  # what was written last, to the CR behind it
        self._next = ""  # what is being written

    def feed(self, text: str) -> str:
        if not self._updating and "\r" not in text:
            return text
        shown = []
        for part in re.split("([\r\n])", text):
            if part == "\r":
                self._updating = True
                self._last, self._next = (self._next if self._next.strip() else self._last), ""
            elif part == "\n":
                shown += [self.finish(), part]
            elif self._updating:
                self._next += part
                if len(self._next) > LONGEST_UPDATE:  # no bar: it is text, and is not held back
                    shown.append(self.finish())
            else:
                shown.append(part)
        return "".join(shown)

    def finish(self) -> str:
        """The last state, on a line of its own."""
        last = self._next if self._next.strip() else self._last
        self._updating, self._last, self._next = False, "", ""
        return f"\n{last}" if last else ""


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
    """One stream of the program on its way out: escapes, secrets, log, budget, and then `write`.

    A server's own log has no other log behind it.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        limit: int,
        secrets: Iterable[str],
        log: RunLog | None = None,
    ) -> None:
        self._plain = EscapeFilter(updates="\r") if limit else None  # --max-output 0 means raw
        self._states = LastStates()
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
        self._show(self._states.finish())
        if self._log is not None:
            self._log.flush()  # a full disk is known before the notice names the log
        self._out.finish()

    def _pass(self, text: str) -> None:
        """The log has every state of a line, what is shown the last."""
        if self._log is not None:
            self._log.write(text.replace("\r", "\n") if self._plain else text)
        self._show(self._states.feed(text) if self._plain else text)

    def _show(self, text: str) -> None:
        if text:
            self._out.feed(text)

    def _notice(self, left_out: int) -> str:
        where = "--max-output 0 shows all"
        if self._log is not None:
            where = self._log.problem or f"all of it: {self._log.path}"
        return f"\n{MARK} {left_out} characters left out; {where}\n"


class ProgramOutput:
    """Where the program's two streams go: to our own as they come, or into the JSON."""

    def __init__(
        self, display: Display, *, run_id: str, secrets: Sequence[str], label: str = ""
    ) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self._log = RunLog(run_id)
        self._lines: list[LabelledLines] = []
        writers: tuple[Callable[[str], None], ...] = (self.out.append, self.err.append)
        if not display.json:
            writers = tuple(StandardStream(one).write for one in (sys.stdout, sys.stderr))
            if label:
                self._lines = [LabelledLines(label, write) for write in writers]
                writers = tuple(lines.write for lines in self._lines)
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
        """None also for one that is cut: it is not all of the output."""
        whole = self._log.path.exists() and not self._log.problem
        return str(self._log.path) if whole else None

    @property
    def log_problem(self) -> str | None:
        return self._log.problem

    def finish(self) -> None:
        """Write what was held back; called before the sandbox's deletion is sent."""
        if not self._finished:
            self._finished = True
            for stream in (self.stdout, self.stderr):
                stream.finish()
            for lines in self._lines:
                lines.finish()
            self._log.close()


class LabelledLines:
    """Whole lines, each with what it belongs to before it: several runs write at the same time."""

    def __init__(self, label: str, write: Callable[[str], None]) -> None:
        self._label = label
        self._write = write
        self._held = ""

    def write(self, text: str) -> None:
        whole, mark, self._held = (self._held + text).rpartition("\n")
        lines = whole.split("\n") if mark else []
        if len(self._held) > LONGEST_LINE_HELD:
            lines, self._held = [*lines, self._held], ""
        if lines:
            self._write("".join(f"{self._label}: {line}\n" for line in lines))

    def finish(self) -> None:
        if self._held:
            self.write("\n")


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
            if not isinstance(error, BrokenPipeError):
                raise output_lost(error.strerror) from None
            raise Failure(
                "interrupted", "nobody reads the output any more", exit_code=TOOL_FAILED
            ) from None
