"""Whether a file that came back is what its ending says, and holds nothing that a tool would obey.

It is a stranger's, so this runs where it can be killed (`archive.worker`), and every pattern here
is linear in what it reads.
"""

from __future__ import annotations

import codecs
import json
import re
import struct
import zipfile
from collections.abc import Collection, Iterator
from typing import IO, Any

from .results import DATA, LINES_OF_JSON, TABLE, ZIP, ResultKind, kind_of

CHUNK = 1 << 20
BEGINNING = 512  # bytes by which a kind is told
LOOK = 64 << 10  # bytes in which what is no text shows that
# Marks of templates, directives and tests in a table, which engines find in files of any ending.
# Whatever ends a line for some reader but LF and CRLF, or is no text at all, is a mark as well: the
# lines after it would be seen by a tool and not by this. So are long blanks, which hide the rest.
MARKS = re.compile(
    rb"\{\{|\{%|<%|<\?|#\{|<!--|\\x7[bB]|\\u007[bB]|\[\[\[cog|>>>"
    rb"|(?<![`~:])[`~:]{3,}[ \t]{0,64}\{"
    rb"|^[ \t]{0,64}(\.\.[ \t]|---[ \t]*\r?$)"
    rb"|(?:^|[^\w.])\.\.[ \t]{1,64}(?:\|[^|\n]{1,80}\|[ \t]{1,64})?[\w:+.-]{1,80}[ \t]{0,64}::"
    rb"|^[^\w\n]{0,80}\*[* \t]{0,80}"
    rb"(?i:settings?|variables?|test cases?|tasks?|keywords?|comments?)\b"
    rb"|[ \t]{65}|[\x00\x0b\x0c\x1c-\x1e]|\r(?=[^\n])|\xc2\x85|\xe2\x80[\xa8\xa9]",
    re.MULTILINE,
)
LONGEST_MARK = 512  # bytes that two chunks share
ODD_BEGINNINGS = (b"#!", b"***", b"---", b"%YAML")  # how no table begins
TEMPLATE = re.compile(r"\{\{|\{%|<%|<\?|#\{|\[\[\[cog|\\x7[bB]|\\u007[bB]")  # in a string of JSON
LARGEST_JSON = 16 << 20  # bytes that are parsed
KEYS_OF_TOOLS = {"apiVersion", "AWSTemplateFormatVersion", "$schema", "scripts", "plugins"}
WORDS_OF_TOOLS = ("permalink", "eleventyComputed", "templateEngineOverride")  # of any object
ZIP64 = (b"PK\x06\x06", b"PK\x06\x07")  # a second end, that not every reader looks at
ZIP_END, LONGEST_ZIP_END = b"PK\x05\x06", 66_000  # where it may stand, in bytes from a file's end
ZIP_MEMBER, ZIP_MEMBER_SIZE, ZIP_END_SIZE = b"PK\x01\x02", 46, 22  # sizes without what follows
LARGEST_DIRECTORY = 4 << 20  # bytes of a document's list of members
OTHER_NAME = b"up"  # the field 0x7075
# What a zip is imported for.
PROGRAMS = tuple(".py .pyw .pyc .pyo .so .pth .dll .pyd .class .jar".split())
OF_TOOLS = "tools obey data of that form"
OF_TEMPLATES = "scripts, templates or tests have such marks"


def why_no_content(name: str, content: IO[bytes], size: int) -> str | None:
    """Why a file of that name is no result by what it holds; None for one, and for an empty one."""
    kind = kind_of(name)
    beginning = content.read(BEGINNING)
    if kind is None or not beginning:
        return None
    begins = beginning.startswith(kind.first) and beginning[kind.at :].startswith(kind.begins)
    if kind.begins and not begins:
        return f"it does not begin as {kind.what} does"
    if kind.begins and is_text(beginning + content.read(LOOK)):
        return f"it can be read as text, which {kind.what} cannot"
    if kind.what == DATA:
        data = beginning + content.read(LARGEST_JSON)
        ending = name.lower().rpartition(".")[2]
        allowed = {"$schema"} if ending == "sarif" else set[str]()
        return why_no_data(data, size, lines=f".{ending}" in LINES_OF_JSON, allowed=allowed)
    if kind.what == TABLE and not kind.begins:
        odd = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(ODD_BEGINNINGS)
        return OF_TEMPLATES if odd or has_marks(beginning, content) else None
    return why_not_this_zip(content) if kind.begins == ZIP else why_a_zip_too(kind, content)


def why_not_this_zip(content: IO[bytes]) -> str | None:
    """A workbook is a zip, and Python imports from any: it must be a document without programs."""
    try:
        end = read_end(content)
        place = end.rfind(ZIP_END)
        if any(mark in end for mark in ZIP64) or end.count(ZIP_END) != 1:
            return "readers may disagree on what it holds"
        size, start = struct.unpack("<II", end[place + 12 : place + 20])
        if size > LARGEST_DIRECTORY:
            return "it holds too much for a document"
        names = names_listed(content, start, size, end[place:])
        if names is None or zipfile.ZipFile(content).namelist() != names:
            return "readers may disagree on what it holds"
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return "it cannot be read as its ending says"
    is_document = bool({"[Content_Types].xml", "mimetype"} & set(names))
    if not is_document or any(name.lower().endswith(PROGRAMS) for name in names):
        return "it is an archive, not a document"
    return None


def names_listed(content: IO[bytes], start: int, size: int, end: bytes) -> list[str] | None:
    """Of a zip whose list of members fills its place to the end record, without any comment.

    In a comment, or behind a length that leads past the list, another list may lie; and a field of
    a member may give it another name.
    """
    content.seek(start)
    listed, place, names = content.read(size), 0, list[str]()
    while listed[place : place + 4] == ZIP_MEMBER and place + ZIP_MEMBER_SIZE <= size:
        name, extra, comment = struct.unpack("<HHH", listed[place + 28 : place + 34])
        place += ZIP_MEMBER_SIZE
        names.append(listed[place : place + name].decode("utf-8"))
        if comment or OTHER_NAME in listed[place + name : place + name + extra]:
            return None
        place += name + extra
    ends_there = len(end) == ZIP_END_SIZE and start + size + len(end) == content.seek(0, 2)
    is_whole = place == size and len(names) == int.from_bytes(end[10:12], "little")
    return names if ends_there and is_whole else None


def why_a_zip_too(kind: ResultKind, content: IO[bytes]) -> str | None:
    """A picture with a zip at its end is both."""
    return f"it is an archive as well as {kind.what}" if ZIP_END in read_end(content) else None


def is_text(data: bytes) -> bool:
    """Whether a reader of text would take it: one that looks for tests in any file, for one."""
    decoder = codecs.getincrementaldecoder("utf-8")()  # the last character may be cut
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return False
    return True


def read_end(content: IO[bytes]) -> bytes:
    content.seek(max(0, content.seek(0, 2) - LONGEST_ZIP_END))
    return content.read(LONGEST_ZIP_END)


def has_marks(beginning: bytes, content: IO[bytes]) -> bool:
    """Whether a mark stands anywhere, also across the end of a chunk."""
    chunk = beginning
    while chunk:
        if MARKS.search(chunk):
            return True
        more = content.read(CHUNK)
        chunk = chunk[-LONGEST_MARK:] + more if more else b""
    return False


def why_no_data(
    data: bytes, size: int, *, lines: bool, allowed: Collection[str] = ()
) -> str | None:
    """Why JSON is none, or some tool's: strings are read as they are meant, not as spelt."""
    if size > LARGEST_JSON:
        return f"JSON of more than {LARGEST_JSON >> 20} MB is not looked through"
    try:
        texts = [line for line in data.splitlines() if line.strip()] if lines else [data]
        # Of bytes json guesses the alphabet; others read these as UTF-8, and find other things.
        values = [
            json.loads(text.decode("utf-8-sig"), object_pairs_hook=refuse_twins) for text in texts
        ]
    except (ValueError, RecursionError):
        return "it cannot be read as JSON"
    if any(
        isinstance(value, dict) and value.keys() & KEYS_OF_TOOLS - set(allowed) for value in values
    ):
        return OF_TOOLS
    for part in walk_json(values):
        if isinstance(part, str):
            if part in WORDS_OF_TOOLS:
                return OF_TOOLS
            if TEMPLATE.search(part):
                return OF_TEMPLATES
        elif {"apiversion", "kind"} <= {key.casefold() for key in part}:
            return OF_TOOLS
    return None


def refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values under one key a reader takes the first or the last; raises ValueError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def walk_json(value: Any) -> Iterator[str | dict[str, Any]]:
    """Every string, key and object, at any depth."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            yield part
            yield from part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
