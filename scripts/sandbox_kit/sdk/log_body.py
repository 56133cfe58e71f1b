"""The JSON of a whole log, read as it comes: what is held is a chunk, never the log.

A log may have hundreds of megabytes, and one emoji makes four bytes of each of its characters.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping

from ..errors import Failure

QUOTED = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB]")
STRUCTURE = re.compile(r'["{}\[\],:]')
ESCAPE_SIZE = 6  # of \uXXXX
LONGEST_KEY = 100


class LogBody:
    """An object of strings; gives `receivers` the text of their fields, by name, part by part."""

    def __init__(self, receivers: Mapping[str, Callable[[str], None]]) -> None:
        self._receivers = receivers
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""  # what is not read yet
        self._depth = 0
        self._is_value = False
        self._in_string = False
        self._key = ""
        self._began = False

    def feed(self, data: bytes) -> None:
        """Raises Failure server_error for what is no JSON."""
        self._text += self._decoder.decode(data)
        place: int | None = 0
        while place is not None:
            self._text = self._text[place:]
            place = self._read_string() if self._in_string else self._read_structure()

    def finish(self) -> None:
        """No more comes; raises Failure server_error for half an object."""
        if self._depth or self._in_string or not self._began:
            raise Failure("server_error", "the server's log is no whole JSON object")

    def _read_structure(self) -> int | None:
        """To the next sign of JSON's; numbers and names between them are nobody's."""
        sign = STRUCTURE.search(self._text)
        if sign is None:
            self._text = ""
            return None
        if sign[0] == '"':
            self._in_string = True
            self._key = self._key if self._is_value or self._depth > 1 else ""
        elif sign[0] in "{[":
            self._depth, self._began = self._depth + 1, True
        elif sign[0] in "}]":
            self._depth -= 1
        elif self._depth == 1:
            self._is_value = sign[0] == ":"
        return sign.end()

    def _read_string(self) -> int | None:
        found = QUOTED.match(self._text)
        end = found.end() if found else 0
        is_whole = self._text[end : end + 1] == '"'
        cut = end if is_whole else last_boundary(self._text, end)
        if cut:
            self._take(self._text[:cut])
        if is_whole:
            self._in_string = False
            return cut + 1
        self._text = self._text[cut:]
        return None

    def _take(self, quoted: str) -> None:
        if self._depth != 1:
            return
        if not self._is_value:
            self._key = (self._key + quoted)[:LONGEST_KEY]
        elif self._key in self._receivers:
            try:
                self._receivers[self._key](json.loads(f'"{quoted}"', strict=False))
            except json.JSONDecodeError:
                raise Failure("server_error", "the server's log is no JSON") from None


def last_boundary(text: str, end: int) -> int:
    """The last place up to `end` where no escape is cut, nor a pair of them that is one character.

    `end` itself is not behind a lone backslash.
    """
    for size in range(2, ESCAPE_SIZE):
        if begins_escape(text, end - size) and text[end - size + 1] == "u":
            end -= size
            break
    before = end - ESCAPE_SIZE
    if begins_escape(text, before) and HIGH_SURROGATE.match(text, before):
        return before
    return end


def begins_escape(text: str, place: int) -> bool:
    """Whether there is a backslash that no other one escapes."""
    if place < 0 or text[place] != "\\":
        return False
    first = place
    while first > 0 and text[first - 1] == "\\":
        first -= 1
    return (place - first) % 2 == 0
