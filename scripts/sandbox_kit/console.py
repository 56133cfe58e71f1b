"""Our own stdout and stderr: written quietly, in UTF-8, each line of ours with its mark. Imported by --help too, so it stays light."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from typing import TextIO

MARK = "[sandbox]"
LONGEST_LINE = 2000  # characters of one line of ours, whoever gave us the words


def fail(message: str, fix: str) -> None:
    """The last two lines of a failed run."""
    write_quietly(sys.stderr, f"{MARK} {one_line(message)}\nfix: {one_line(fix)}\n")


def one_line(text: str, limit: int = LONGEST_LINE) -> str:
    """Anybody's words as one bounded line that a terminal shows as it is: no escape, no control, nothing invisible."""
    line = " ".join(text[:limit].split()) + ("…" if len(text) > limit else "")
    if line.isprintable():
        return line
    from .plain_text import without_escapes

    return " ".join("".join(char if char.isprintable() else " " for char in without_escapes(line)).split())


def write_quietly(stream: TextIO, text: str) -> None:
    """Write and flush; a reader that went away is no reason to stop cleaning up."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        silence(stream)
    except ValueError:  # it is closed already
        pass


def silence(stream: TextIO) -> None:
    """Point a stream whose reader went away at nothing; otherwise Python's own flush at the end fails, with exit code 120."""
    import os

    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError):
        pass


def use_utf8() -> None:
    """A Windows console of another code page must not end a run by a character it does not have."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="replace")
