"""An image's build log on its way to the user: whole lines, a bounded number of bounded ones.

Whoever wrote the image writes it.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

LONGEST_LINE = 500  # characters
MOST_LINES = 400
CUT = f"the build's log goes on; only its first {MOST_LINES} lines are shown"


class BuildLog:
    """Tells `tell` a line at a time."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""
        self._lines = 0

    def feed(self, data: bytes) -> bool:
        """What came; False when no more of it will be shown."""
        *whole, rest = (self._begun + self._decoder.decode(data)).replace("\r", "\n").split("\n")
        self._begun = rest[: LONGEST_LINE + 1]
        return all(self._show(line) for line in whole if line.strip())

    def finish(self) -> None:
        """What had no newline at its end."""
        if self._begun.strip():
            self._show(self._begun)

    def _show(self, line: str) -> bool:
        self._lines += 1
        if self._lines > MOST_LINES:
            if self._lines == MOST_LINES + 1:
                self._tell(CUT)
            return False
        self._tell(line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…")
        return True
