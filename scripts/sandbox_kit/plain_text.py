"""Anybody's text without what moves a cursor, rings, reorders or hides.

What a sandbox prints and a server says is hostile.
"""

from __future__ import annotations

import re

# CSI, OSC/DCS/PM/APC with their terminators, and two-character escapes (ECMA-48), 7-bit and 8-bit
# forms. No body holds a beginning, or a million of them would each be followed to the text's end.
ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\x90\x98\x9d-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b(?:[ -/]+[0-~]|[0-OQ-WYZ\\`-~])"
)
BEGINNING = re.compile(r"[\x1b\x9b\x90\x98\x9d-\x9f]")
# What moves a cursor, rings or reorders text; what is invisible or blank, by which a text hides
# from people and not from a model (Unicode's Default_Ignorable_Code_Point, format characters, and
# blanks that are no space). Joiners and variation selectors have a use in scripts and emoji; more
# than two in a row have none but to carry a message.
INVISIBLE = (
    "\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800"
    "\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U00016fe4\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
JOINERS = "\u200c\u200d\ufe0e\ufe0f"
CONTROL = re.compile(
    rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{INVISIBLE}]|(?<=[{JOINERS}][{JOINERS}])[{JOINERS}]+"
)
UNSEEN = re.compile(rf"[{INVISIBLE}{JOINERS}]")

ASCII_CONTROLS = bytes(number for number in range(128) if CONTROL.match(chr(number)))


def is_plain_text(text: str) -> bool:
    """Whether there is nothing to take out; every escape begins with a control character.

    Most output is plain: looking first makes 100 MB of it 7 s cheaper.
    """
    if text.isascii():
        return len(text.encode().translate(None, ASCII_CONTROLS)) == len(text)
    return CONTROL.search(text) is None


def strip_controls(text: str, *, updates: str = "\n") -> str:
    """Without escapes and control characters; `updates` stands for a carriage return alone."""
    parts = without_escapes(text).replace("\r\n", "\n").split("\r")
    return updates.join([CONTROL.sub("", part) for part in parts])


def without_escapes(text: str) -> str:
    """Without whole escape sequences; control characters outside of them stay."""
    return ESCAPE.sub("", text)


def find_unfinished_escape(text: str) -> int:
    """Where an escape begins that the text does not end; its length when there is none."""
    ended = max(text.rfind("\x07"), text.rfind("\x9c")) + 1
    match = BEGINNING.search(text, ended)
    return match.start() if match else len(text)


def without_invisible(text: str) -> str:
    """For a line of ours: not even what has a use elsewhere."""
    return UNSEEN.sub("", text)
