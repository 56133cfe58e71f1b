"""Our own stdout and stderr: written quietly, in UTF-8, each line of ours with its mark. Imported by --help too, so it stays light."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from typing import TextIO

MARK = "[sandbox]"


def fail(message: str, fix: str) -> None:
    """The last two lines of a failed run."""
    write_quietly(sys.stderr, f"{MARK} {message}\nfix: {fix}\n")


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
