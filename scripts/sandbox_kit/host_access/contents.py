"""Whether a file that came back is what its ending says, and holds nothing that a tool obeys."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable
from typing import IO, Any

from .results import LINES_OF_JSON, ZIP, ResultKind, kind_of

CHUNK = 1 << 20
# Marks of templates, directives and tests: engines find them in files of any ending. Whatever ends
# a line for some reader but LF and CRLF, or is no text at all, is a mark as well: the lines after
# it would be seen by a tool and not by this.
MARKS = re.compile(
    rb"\{\{|\{%|<%|<\?(?!xml[ \t])|#\{|<!--\s*#|\\x7[bB]|\\u007[bB]|[`~:]{3,}[ \t]*\{|\[\[\[cog"
    rb"|^[ \t]*(\.\.[ \t]|---[ \t]*\r?$)"
    rb"|(?:^|[^\w.])\.\.[ \t]+(?:\|[^|\n]{1,80}\|[ \t]+)?[\w:+.-]{1,80}[ \t]*::"
    rb"|^[^\w\n]{0,80}\*[* \t]{0,80}"
    rb"(?i:settings?|variables?|test cases?|tasks?|keywords?|comments?)\b"
    rb"|(?i:<t[hd][^>]{0,80}>\s{0,80}(settings?|variables?|test cases?|keywords?)\s{0,80}<)"
    rb"|[\x00\x0b\x0c\x1c-\x1e]|\r(?=[^\n])|\xc2\x85|\xe2\x80[\xa8\xa9]",
    re.MULTILINE,
)
DOCTEST = b">>>"  # an operator in the scripts of a page
# In a string of JSON, where lines mean nothing.
TEMPLATE = re.compile(r"\{\{|\{%|<%|<\?|#\{|\\x7[bB]|\\u007[bB]")
LONGEST_MARK = 256  # bytes that two chunks share
ODD_TEXT = (b"#!", b"***", b"---", b"%YAML")  # how no table, log or text begins
LARGEST_JSON = 64 << 20  # bytes that are parsed
# Keys of a top object.
OBJECTS_OF_TOOLS = ("apiVersion", "AWSTemplateFormatVersion", "$schema", "scripts", "plugins")
DATA_OF_TOOLS = ("permalink", "eleventyComputed", "templateEngineOverride")  # keys of any object
ZIP64 = (b"PK\x06\x06", b"PK\x06\x07")  # a second end, that not every reader looks at
ZIP_END, LONGEST_ZIP_END = b"PK\x05\x06", 66_000  # where it may stand, in bytes from a file's end
# What an archive that can be imported holds.
PROGRAMS = (".py", ".pyc", ".pyo", ".so", ".pth", ".dll", ".pyd")
MOST_MEMBERS = 10_000  # of a document
BEGINNING = 512  # bytes by which a kind is told


def why_no_content(name: str, content: IO[bytes], size: int) -> str | None:
    """Why a file of that name is not what its ending says, or holds a mark; None when it may be.

    Marks are those of a template, a directive or a test. An empty file is anything.
    """
    kind = kind_of(name)
    beginning = content.read(BEGINNING)
    if kind is None or not beginning:
        return None
    start = beginning.lstrip(b"\xef\xbb\xbf \t\r\n") if kind.text else beginning[kind.at :]
    if kind.begins and not start.startswith(kind.begins):
        return f"it does not begin as {kind.what} does"
    if kind.like and not re.match(kind.like, start, re.IGNORECASE):
        return f"it does not begin as {kind.what} does"
    if kind.what == "data":
        return why_no_data(
            beginning + content.read(LARGEST_JSON), size, lines=name.lower().endswith(LINES_OF_JSON)
        )
    if kind.text:
        marked = start.startswith(ODD_TEXT) or has_marks(
            beginning, content, doctest=kind.what != "a page"
        )
        return "scripts, templates or tests have such marks" if marked else None
    if kind.begins == ZIP:
        return why_not_this_zip(kind, content)
    return why_an_archive(kind, beginning, content)


def why_not_this_zip(kind: ResultKind, content: IO[bytes]) -> str | None:
    """Why a zip is no workbook of that kind, or holds code or a setting.

    Python imports from any zip, and tools unpack what they find.
    """
    try:
        content.seek(0)
        names = zipfile.ZipFile(content).namelist()
        content.seek(max(0, content.seek(0, 2) - LONGEST_ZIP_END))
        end = content.read(LONGEST_ZIP_END)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return "it cannot be read as its ending says"
    if len(names) > MOST_MEMBERS or any(mark in end for mark in ZIP64) or end.count(ZIP_END) != 1:
        return "readers may disagree on what it holds"
    if kind.what == "a document":
        good = {"[Content_Types].xml", "mimetype"} & set(names) and not any(
            name.lower().endswith(PROGRAMS) for name in names
        )
        return None if good else "it is an archive, not a document"
    odd = [
        name
        for name in names
        if not name.endswith("/")
        and (kind_of(name.rpartition("/")[2]) is None or "/." in f"/{name}")
    ]
    return "it holds code or settings" if odd else None


def why_an_archive(kind: ResultKind, beginning: bytes, content: IO[bytes]) -> str | None:
    """A picture with a zip at its end is both."""
    if kind.what == "an archive":
        return None
    end = beginning
    while chunk := content.read(CHUNK):
        end = end[-LONGEST_ZIP_END:] + chunk
    return "it is an archive as well" if ZIP_END in end[-LONGEST_ZIP_END:] else None


def has_marks(beginning: bytes, content: IO[bytes], *, doctest: bool) -> bool:
    """Whether a mark stands anywhere, also across the end of a chunk."""
    chunk = beginning
    while chunk:
        if MARKS.search(chunk) or (doctest and DOCTEST in chunk):
            return True
        more = content.read(CHUNK)
        chunk = chunk[-LONGEST_MARK:] + more if more else b""
    return False


def why_no_data(data: bytes, size: int, *, lines: bool) -> str | None:
    """Why JSON is none, or some tool's; strings are looked at decoded, not as they are spelt."""
    if size > LARGEST_JSON:
        return "too long to be looked through"
    try:
        texts = [line for line in data.splitlines() if line.strip()] if lines else [data]
        values = [json.loads(text, object_pairs_hook=without_twins) for text in texts]
        if any(
            isinstance(value, dict) and any(key in value for key in OBJECTS_OF_TOOLS)
            for value in values
        ):
            return "tools obey data of that form"
        if any(
            {"apiversion", "kind"} <= {key.casefold() for key in found}
            for value in values
            for found in objects_of(value)
        ):
            return "tools obey data of that form"
        strings = [text for value in values for text in strings_of(value)]
        if any(text in DATA_OF_TOOLS for text in strings):
            return "tools obey data of that form"
        if any(TEMPLATE.search(text) for text in strings):
            return "scripts, templates or tests have such marks"
    except (ValueError, RecursionError):
        return "it cannot be read as JSON"
    return None


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values under one key a reader takes the first or the last; raises ValueError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def objects_of(value: Any) -> Iterable[dict[str, Any]]:
    """At any depth."""
    if isinstance(value, dict):
        yield value
    for found in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from objects_of(found)


def strings_of(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, found in value.items():
            yield key
            yield from strings_of(found)
    elif isinstance(value, list):
        for found in value:
            yield from strings_of(found)
