"""Our own stdout and stderr: written quietly, in UTF-8, each line of ours with its mark.

Imported by --help too, so it stays light.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from typing import TextIO

MARK = "[sandbox]"
PIECE = 512  # bytes: POSIX promises that a pipe which takes any takes so many
LOOK_S, LONGEST_STALL_S = 0.2, 300.0  # seconds of a reader that stands still
CUT = "…"  # where a text of somebody else's goes on
LONGEST_LINE = 2000  # characters of one line of ours, whoever gave us the words


class OpenLine:
    """Whether the last line that anybody wrote still has to end: a program's must not join ours."""

    open = False  # of both streams, which mostly are one terminal
    open_on_stderr = False  # of stderr alone, which may be a file

    @classmethod
    def after(cls, stream: TextIO, text: str) -> None:
        """Called with whatever was written to stdout or stderr."""
        if text:
            cls.open = not text.endswith("\n")
            if stream is sys.stderr:
                cls.open_on_stderr = cls.open

    @classmethod
    def close(cls) -> str:
        """What ends it."""
        return "\n" if cls.open or cls.open_on_stderr else ""


class LostOutput:
    """Why stdout took nothing any more, a reader that went away apart; None while it does."""

    why: str | None = None


def print_status(text: str) -> None:
    """A line of ours, on a line of its own."""
    write_quietly(sys.stderr, f"{OpenLine.close()}{text}\n")


def print_failure(message: str, fix: str) -> None:
    """The last two lines of a failed run."""
    print_status(f"{MARK} {one_line(message)}\nfix: {one_line(fix)}")


def one_line(text: str, limit: int = LONGEST_LINE) -> str:
    """Anybody's words as one bounded line that a terminal shows as it is.

    It holds no escape, no control character, nothing invisible.
    """
    line = " ".join(text[:limit].split()) + (CUT if len(text) > limit else "")
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
        write_bounded(stream, text)
    except ValueError:  # it is closed already
        pass
    except OSError as error:  # its reader went away, the disk is full
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            LostOutput.why = error.strerror
        silence_stream(stream)


class Interrupted:
    """Whether a signal has come: a reader that stands still is not waited for any more."""

    seen = False


def write_bounded(stream: TextIO, text: str) -> None:
    """Write and flush; raises OSError for a reader that is gone or stands still.

    A full pipe would hold the whole run, its deadline and its signals with it.
    """
    descriptor = pipe_of(stream)
    if descriptor is None:
        stream.write(text)
        stream.flush()
    else:
        stream.flush()
        write_to_pipe(descriptor, text.encode("utf-8", "replace"))
    OpenLine.after(stream, text)


def pipe_of(stream: TextIO) -> int | None:
    """The descriptor of a pipe or a terminal; None for whatever takes all that is written to it."""
    import os
    import stat

    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):
        return None
    waits = stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and os.isatty(descriptor))
    return descriptor if waits and os.name == "posix" else None


def write_to_pipe(descriptor: int, data: bytes) -> None:
    """In pieces that a pipe takes whole when it takes any."""
    import os
    import select

    place, waited = 0, 0.0
    while place < len(data):
        if select.select([], [descriptor], [], LOOK_S)[1]:
            place += os.write(descriptor, data[place : place + PIECE])
            waited = 0.0
            continue
        waited += LOOK_S
        if Interrupted.seen or waited >= LONGEST_STALL_S:
            raise TimeoutError("nobody reads it")


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
    OpenLine.open = OpenLine.open_on_stderr = Interrupted.seen = False
    LostOutput.why = None
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
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + CUT
