"""What counts as a result: the one table of what a granted line may bring back into a project. Everything else is held for the user.

The line is granted, so whoever talks to Claude chooses what is written, where and under which name. A result is read by people, and by
programs that were told to read it. What some tool obeys just because it lies there (a test, a build file, a setting, a template, an
inventory, a package) is none. No list of what tools obey is ever whole, so this one says what is a result, not what is not:

- its name is plain words and one known ending; a shell, make or a second tool reads nothing else into it;
- it is what its ending says: pictures by their beginning, JSON by being parsed, pages and reports by their first element; and text holds
  no mark of a template, a directive or a test;
- it lies below a folder that says "results" (or output, report …), that runs made, and that stands in the project's top folder: tools
  read whatever lies anywhere below the folders that people made. Only tables, pictures, documents and JSON that says so by its name may
  lie straight in the top folder, and only pictures and PDF in a new folder elsewhere.
"""

from __future__ import annotations

import json
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import IO, Any

from .plain_text import UNSEEN

CHUNK = 1 << 20
LONGEST_NAME = 255  # bytes, on every file system that people use
# Of these, only pictures: `charts` is helm's folder for packages too.
PICTURE_WORDS = frozenset(("chart", "plot", "figure", "picture", "graph"))
ZIP, GZIP = (b"PK\x03\x04", b"PK\x05\x06"), (b"\x1f\x8b",)
# Words of which the name of a results folder, and of a text that tools look for by name, must have one; in the singular.
RESULT_WORDS = frozenset(
    tuple(
        """
            result report output out summary metric stat statistic benchmark
            coverage htmlcov analysis data dataset answer response prediction score
            measurement timing finding eval evaluation comparison table value
            sample chart plot figure picture graph count record row event
            transaction price junit cobertura log stdout stderr transcript listing
            download
        """.split()
    )
)
# And none of these, which tools of all kinds put into the names of their settings.
OBEYED_WORDS = frozenset(
    tuple(
        """
            config conf setting option preference rc lock manifest preset workspace
            plugin extension hook mcp template requirement constraint env
            environment inventory package agent module script
        """.split()
    )
)


@dataclass(frozen=True)
class Kind:
    """One row: endings, what such a file begins with (any of these, at a place, or this pattern), and where it may lie."""

    what: str
    endings: tuple[str, ...]
    begins: tuple[bytes, ...] = ()
    at: int = 0  # where it begins so
    like: bytes = b""  # a pattern of a text's beginning
    text: bool = False  # it can be taken for something else
    named: bool = False  # its name must say that it is a result
    top: bool = False  # it may lie in the project's top folder, not only in one for results
    inert: bool = (
        False  # it holds nothing that a tool could obey: any new folder for results will do
    )


PAGE = rb"<(!doctype\s+html\s*>|html[\s>])"
REPORT = rb"(<\?xml[^>]{0,200}\?>\s*)?<(testsuites?|coverage|checkstyle)[\s>]"
DRAWING = rb"(<\?xml[^>]{0,200}\?>\s*)?(<!DOCTYPE svg PUBLIC[^>\[]{0,200}>\s*)?<svg[\s>]"
LINES_OF_JSON = (".jsonl", ".ndjson")
RESULTS = (
    Kind("a picture", (".png",), (b"\x89PNG\r\n\x1a\n",), top=True, inert=True),
    Kind("a picture", (".jpg", ".jpeg"), (b"\xff\xd8\xff",), top=True, inert=True),
    Kind("a picture", (".webp",), (b"WEBP",), at=8, top=True, inert=True),
    Kind("a picture", (".tif", ".tiff"), (b"II*\0", b"MM\0*"), top=True, inert=True),
    Kind("a picture", (".gif",), (b"GIF87a", b"GIF89a")),
    Kind("a drawing", (".svg",), like=DRAWING, text=True),
    Kind("a document", (".pdf",), (b"%PDF-",), top=True, inert=True),
    Kind("a document", (".xlsx", ".docx", ".pptx", ".odt", ".ods", ".odp"), ZIP, top=True),
    Kind("a table", (".csv", ".tsv"), text=True, top=True),
    Kind("a table", (".parquet",), (b"PAR1",), top=True),
    Kind("data", (".json",), text=True, named=True, top=True),
    Kind("data", (".geojson", ".sarif", *LINES_OF_JSON), text=True),
    Kind("a report", (".xml",), like=REPORT, text=True, named=True),
    Kind("a page", (".html", ".htm"), like=PAGE, text=True),
    Kind("text", (".txt",), text=True, named=True),
    Kind("a log", (".log",), text=True),
    Kind("sound", (".wav",), (b"RIFF",)),
    Kind("sound", (".mp3",), (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")),
    Kind("film", (".mp4", ".mov"), (b"ftyp",), at=4),
    Kind("film", (".webm",), (b"\x1aE\xdf\xa3",)),
    Kind("an archive", (".zip",), ZIP),
    Kind("an archive", (".tar",), (b"ustar",), at=257),
    Kind("an archive", (".gz", ".tgz"), GZIP),
    Kind("an archive", (".bz2",), (b"BZh",)),
    Kind("an archive", (".xz",), (b"\xfd7zXZ\0",)),
    Kind("an archive", (".zst",), (b"(\xb5/\xfd",)),
)
PACKED = (".gz", ".bz2", ".xz", ".zst")  # around a file of another kind
PLAIN = re.compile(r"\w[\w-]*")  # of a folder, and of a file before its ending
# Marks of templates, directives and tests: engines find them in files of any ending. Whatever ends a line for some reader but LF and CRLF,
# or is no text at all, is a mark as well: the lines after it would be seen by a tool and not by this.
MARKS = re.compile(
    rb"\{\{|\{%|<%|<\?(?!xml[ \t])|#\{|<!--\s*#|\\x7[bB]|\\u007[bB]|[`~:]{3,}[ \t]*\{|\[\[\[cog"
    rb"|^[ \t]*(\.\.[ \t]|---[ \t]*\r?$)|(?:^|[^\w.])\.\.[ \t]+(?:\|[^|\n]{1,80}\|[ \t]+)?[\w:+.-]{1,80}[ \t]*::"
    rb"|^[^\w\n]{0,80}\*[* \t]{0,80}(?i:settings?|variables?|test cases?|tasks?|keywords?|comments?)\b"
    rb"|(?i:<t[hd][^>]{0,80}>\s{0,80}(settings?|variables?|test cases?|keywords?)\s{0,80}<)"
    rb"|[\x00\x0b\x0c\x1c-\x1e]|\r(?=[^\n])|\xc2\x85|\xe2\x80[\xa8\xa9]",
    re.MULTILINE,
)
DOCTEST = b">>>"  # an operator in the scripts of a page
TEMPLATE = re.compile(
    r"\{\{|\{%|<%|<\?|#\{|\\x7[bB]|\\u007[bB]"
)  # in a string of JSON, where lines mean nothing
LONGEST_MARK = 256  # bytes that two chunks share
ODD_TEXT = (b"#!", b"***", b"---", b"%YAML")  # how no table, log or text begins
LARGEST_JSON = 64 << 20  # bytes that are parsed
OBJECTS_OF_TOOLS = (
    "apiVersion",
    "AWSTemplateFormatVersion",
    "$schema",
    "scripts",
    "plugins",
)  # keys of a top object
DATA_OF_TOOLS = ("permalink", "eleventyComputed", "templateEngineOverride")  # keys of any object
ZIP64 = (b"PK\x06\x06", b"PK\x06\x07")  # a second end, that not every reader looks at
ZIP_END, LONGEST_ZIP_END = b"PK\x05\x06", 66_000  # where it may stand, in bytes from a file's end
PROGRAMS = (
    ".py",
    ".pyc",
    ".pyo",
    ".so",
    ".pth",
    ".dll",
    ".pyd",
)  # what an archive that can be imported holds
MOST_MEMBERS = 10_000  # of a document
BEGINNING = 512  # bytes by which a kind is told
# Folders whose content tools obey by any name; where one stands in such a folder, nothing below it is a place for results.
OBEYED_FOLDERS = tuple(
    """
        templates _templates template layouts _layouts layout _includes includes
        partials _partials views overrides theme themes node_modules site-packages
        dist-packages __pycache__ *.egg-info *.dist-info *.d inventory inventories
        group_vars host_vars roles vars defaults tasks handlers meta library config
        conf requirements patches dags flows vendor wheels wheelhouse migrations
        changelog monitors hooks plugins skills commands agents scripts _data k8s kube
        kubernetes manifests crds helm infra terraform deploy environments autostart
    """.split()
)
# What Windows takes for a device.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)")
FIX = "call the folder results, output or report"


def kind_of(name: str) -> Kind | None:
    """The row of a file's name; None for what is no result by its ending, or has another one before it."""
    stem, ending = split_ending(folded(name))
    if ending in PACKED and "." in stem:
        inner, before = split_ending(stem)
        return (
            kind_by(ending)
            if before == ".tar" or (kind_by(before) is not None and "." not in inner)
            else None
        )
    return kind_by(ending)


def kind_by(ending: str) -> Kind | None:
    return next((kind for kind in RESULTS if ending in kind.endings), None)


def split_ending(name: str) -> tuple[str, str]:
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if dot else (name, "")


def why_no_result(path: PurePath, above: Iterable[str] = ()) -> str | None:
    """Why a file of that relative path is no result whatever it holds; None for one. `above` are the folders that hold it already."""
    if not path.parts:
        return "an odd name"
    *folders, name = map(folded, path.parts)
    kind = kind_of(name)
    if kind is None:
        return "code, settings and unknown endings are not written"
    stem, *endings = path.parts[-1].split(".")
    if (
        any(is_odd(part) for part in (*path.parts[:-1], stem))
        or has_more_endings(name)
        or not "".join(endings).isascii()
    ):
        return "an odd name: letters, digits, - and _ and one ending are plain"
    obeyed = next(
        (folder for folder in (*map(folded, above), *folders) if matches(folder, OBEYED_FOLDERS)),
        None,
    )
    if obeyed is not None:
        return f"tools may obey what lies in {obeyed}"
    if folders and not says_result(folders[0]):
        return f"tools may obey what lies in {folders[0]}: {FIX}"
    return why_by_name(kind, folders, split_ending(name)[0])


def why_by_name(kind: Kind, folders: Sequence[str], stem: str) -> str | None:
    """Of what is in a good place, or in the project's top folder."""
    if kind.named and (not says_result(stem) or (kind.what == "text" and stem.startswith("test"))):
        return "tools may obey a file of that name: call it results, output, report or data"
    if not folders and not kind.top:
        return f"not straight in the project's folder: {FIX}"
    if folders and words_of(folders[0]) & PICTURE_WORDS and not kind.inert:
        return f"such a folder is for pictures: {FIX}"
    if kind.what == "data" and folders and stem == folders[-1]:
        return "site generators obey data that is called as its folder"
    return None


def has_more_endings(name: str) -> bool:
    """`results.tf.json` is terraform's, whatever its last ending says; and an ending is plain ASCII."""
    dots = name.count(".")
    return dots > 2 or (dots == 2 and not name.endswith(PACKED))


def why_no_content(name: str, content: IO[bytes], size: int) -> str | None:
    """Why a file of that name is not what its ending says, or holds a mark of a template or a test; an empty one is anything."""
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


def why_not_this_zip(kind: Kind, content: IO[bytes]) -> str | None:
    """A workbook is a zip, and Python imports from any; tools unpack what they find. Nothing in it may be code or a setting."""
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


def why_an_archive(kind: Kind, beginning: bytes, content: IO[bytes]) -> str | None:
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
    """Why JSON is none, or some tool's: its strings are looked at as they are meant, not as they are spelt."""
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


def same_stem(name: str) -> tuple[str, str]:
    """What a page and its data share: where the folder holds the one, the other would be obeyed with it."""
    stem, ending = split_ending(folded(name))
    return (
        (stem, "page")
        if ending in (".html", ".htm", ".txt")
        else (stem, "data")
        if ending == ".json"
        else (stem, "")
    )


def says_result(stem: str) -> bool:
    """Whether the words of a name are a result's and no setting's."""
    words = words_of(stem)
    return (
        bool((words | {f"{word}s" for word in words}) & RESULT_WORDS) and not words & OBEYED_WORDS
    )  # analysis ends with an s


def words_of(stem: str) -> set[str]:
    """In the singular, without numbers at their end."""
    return {re.sub(r"s?[0-9]*$", "", word) for word in re.split(r"[^a-z0-9]+", folded(stem))}


def folded(name: str) -> str:
    """As a file system that knows no case, or no accents, would compare it."""
    return unicodedata.normalize("NFKC", name).casefold()


def is_odd(word: str) -> bool:
    """What a shell, make or another system reads something else into, or what looks like another name."""
    plain = folded(word)
    return (
        PLAIN.fullmatch(word) is None
        or PLAIN.fullmatch(plain) is None
        or UNSEEN.search(word) is not None
        or word != unicodedata.normalize("NFC", word)
        or len(word.encode(errors="replace")) > LONGEST_NAME - 20
        or DEVICES.fullmatch(plain) is not None
    )


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
