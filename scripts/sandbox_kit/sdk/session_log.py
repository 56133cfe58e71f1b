"""A command's output as the toolbox streams it: both streams in one, with marks between them.

Three bytes 01 stand before text of stdout, three bytes 02 before text of stderr
(local_daytona/PROTOCOL.md).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

MARK = re.compile(rb"\x01\x01\x01|\x02\x02\x02")


class Demultiplexer:
    """Gives `out` and `err` their text as it comes.

    A mark or a character may be spread over two messages.
    """

    def __init__(self, out: Callable[[str], None], err: Callable[[str], None]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._streams = {
            b"\x01"[0]: (decoder("replace"), out),
            b"\x02"[0]: (decoder("replace"), err),
        }
        self._current: int | None = None  # what comes before the first mark belongs to no stream
        self._held = b""

    def feed(self, data: bytes) -> None:
        """One message."""
        data, place = self._held + data, 0
        for mark in MARK.finditer(data):
            self._emit(data[place : mark.start()])
            self._current, place = data[mark.start()], mark.end()
        end = len(data) - begun_mark(data[max(place, len(data) - 2) :])
        self._emit(data[place:end])
        self._held = data[end:]

    def close(self) -> None:
        """No more comes: what looked like the beginning of a mark or of a character was none."""
        self._emit(self._held)
        for decoder, tell in self._streams.values():
            if text := decoder.decode(b"", final=True):
                tell(text)

    def _emit(self, data: bytes) -> None:
        if data and self._current is not None:
            decoder, tell = self._streams[self._current]
            if text := decoder.decode(data):
                tell(text)


def begun_mark(last: bytes) -> int:
    """How many of the last two bytes may begin a mark."""
    if last[-1:] not in (b"\x01", b"\x02"):
        return 0
    return 2 if last == last[-1:] * 2 else 1
