"""Anybody's text without what moves a cursor, rings, reorders or hides: what a sandbox prints and a server says is hostile."""

from __future__ import annotations

import re

# CSI, OSC/DCS/PM/APC with their terminators, and two-character escapes (ECMA-48), 7-bit and 8-bit forms.
ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b(?:[ -/]+[0-~]|[0-OQ-WYZ\\`-~])"
)
UNFINISHED = re.compile(r"(?:\x1b|\x9b|[\x90\x98\x9d-\x9f])[^\x07\x9c]*\Z")
# Everything that moves a cursor, rings, reorders text or hides in it; tags and variation selectors carry a text that only a model reads.
CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)

ASCII_CONTROLS = bytes(number for number in range(128) if CONTROL.match(chr(number)))


def is_plain(text: str) -> bool:
    """Most output is: looking first makes 100 MB of it 7 s cheaper. Every escape begins with a control character."""
    if text.isascii():
        return len(text.encode().translate(None, ASCII_CONTROLS)) == len(text)
    return CONTROL.search(text) is None


def plain(text: str) -> str:
    return CONTROL.sub("", without_escapes(text).replace("\r\n", "\n").replace("\r", "\n"))


def without_escapes(text: str) -> str:
    """Without whole escape sequences; control characters outside of them stay."""
    return ESCAPE.sub("", text)
