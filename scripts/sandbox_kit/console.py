"""Our own stdout and stderr: written quietly, in UTF-8, each line of ours with its mark.

Imported by --help too, so it stays light.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from typing import TextIO

MARK = "[sandbox]"
LONGEST_LINE = 2000  # characters of one line of ours, whoever gave us the words


class OpenLine:
    """Whether the last line that anybody wrote still has to end: a program's must not join ours."""

    open = False

    @classmethod
    def after(cls, text: str) -> None:
        """Called with whatever was written to stdout or stderr, which mostly are one terminal."""
        if text:
            cls.open = not text.endswith("\n")


class LostOutput:
    """Why stdout took nothing any more, a reader that went away apart; None while it does."""

    why: str | None = None


def print_status(text: str) -> None:
    """A line of ours, on a line of its own."""
    write_quietly(sys.stderr, "\n" * OpenLine.open + f"{text}\n")


def print_failure(message: str, fix: str) -> None:
    """The last two lines of a failed run."""
    print_status(f"{MARK} {one_line(message)}\nfix: {one_line(fix)}")


def one_line(text: str, limit: int = LONGEST_LINE) -> str:
    """Anybody's words as one bounded line that a terminal shows as it is.

    It holds no escape, no control character, nothing invisible.
    """
    line = " ".join(text[:limit].split()) + ("…" if len(text) > limit else "")
    if line.isascii() and line.isprintable():
        return line
    from .plain_text import without_escapes, without_invisible

    return " ".join(
        "".join(
            char if char.isprintable() else " " for char in without_invisible(without_escapes(line))
        ).split()
    )


def write_quietly(stream: TextIO | None, text: str) -> None:
    """Write and flush; raises nothing.

    A stream that nobody reads, or that takes nothing, is no reason to stop cleaning up.
    """
    if stream is None:  # closed before we began: `2>&-`
        return
    try:
        stream.write(text)
        stream.flush()
        OpenLine.after(text)
    except ValueError:  # it is closed already
        pass
    except OSError as error:  # its reader went away, the disk is full
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            LostOutput.why = error.strerror
        silence_stream(stream)


def silence_stream(stream: TextIO) -> None:
    """Point a stream whose reader went away at nothing.

    Otherwise Python's own flush at the end fails, with exit code 120.
    """
    import os

    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError):
        pass


def prepare_streams() -> None:
    """Make both streams take any text: UTF-8, and blocking.

    Otherwise a character that a Windows console's code page does not have ends a run, and so does
    a pipe that is full for a moment.
    """
    OpenLine.open, LostOutput.why = False, None
    for stream in (sys.stdout, sys.stderr):
        make_blocking(stream)
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="replace")


def make_blocking(stream: TextIO | None) -> None:
    """Whoever made the pipe may have set it to refuse what does not fit."""
    import os

    try:
        if stream is not None and hasattr(os, "set_blocking"):
            os.set_blocking(stream.fileno(), True)
    except (OSError, ValueError):
        pass


LONGEST_SHOWN = 200


def quote_path(given: str) -> str:
    """A path in a message: bounded, quoted when it holds more than plain characters."""
    text = given if given.isascii() and given.isprintable() and " " not in given else ascii(given)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"
