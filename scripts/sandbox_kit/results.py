"""What counts as a result: the one table of what a granted line may bring back into a project. Everything else is held for the user.

The line is granted, so whoever talks to Claude chooses what is written, where and under which name. A result is read by people, and by
programs that were told to read it. What some tool obeys just because it lies there (a test, a build file, a setting, a template, an
inventory, a package) is none. No list of what tools obey is ever whole, so this one says what is a result, not what is not:

- its name is plain words and one known ending; a shell, make or a second tool reads nothing else into it;
- it begins as its ending says, and text holds no mark of a template or a test;
- it lies below a folder that says "results" (or output, report, charts …) and that runs made; only tables, pictures, documents and
  JSON that says so by its name may lie straight in the project's first folder.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import IO, Any

from .plain_text import UNSEEN

CHUNK = 1 << 20
LONGEST_NAME = 255  # bytes, on every file system that people use
ZIP, GZIP = (b"PK\x03\x04", b"PK\x05\x06"), (b"\x1f\x8b",)
# Words of which the name of a results folder, and of a text that tools look for by name, must have one; in the singular.
RESULT_WORDS = frozenset((
    "result", "report", "output", "out", "summary", "metric", "stat", "statistic", "benchmark", "coverage", "htmlcov", "analysis", "data",
    "dataset", "answer", "response", "prediction", "score", "measurement", "timing", "finding", "eval", "evaluation", "comparison",
    "table", "value", "sample", "chart", "plot", "figure", "picture", "graph", "count", "record", "row", "event", "transaction", "price",
    "junit", "cobertura", "log", "stdout", "stderr", "transcript", "listing", "download",
))  # fmt: skip
# And none of these, which tools of all kinds put into the names of their settings.
OBEYED_WORDS = frozenset((
    "config", "conf", "setting", "option", "preference", "rc", "lock", "manifest", "preset", "workspace", "plugin", "extension", "hook",
    "mcp", "template", "requirement", "constraint", "env", "environment", "inventory", "package", "agent", "module", "script",
))  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One row: endings, what such a file begins with (any of these, at a place), and where it may lie."""

    what: str
    endings: tuple[str, ...]
    begins: tuple[bytes, ...] = ()
    at: int = 0  # where it begins so
    text: bool = False  # it can be taken for something else
    named: bool = False  # its name must say that it is a result
    top: bool = False  # it may lie in the project's first folder, not only in one for results


RESULTS = (
    Kind("a picture", (".png",), (b"\x89PNG\r\n\x1a\n",), top=True),
    Kind("a picture", (".jpg", ".jpeg"), (b"\xff\xd8\xff",), top=True),
    Kind("a picture", (".webp",), (b"WEBP",), at=8, top=True),
    Kind("a picture", (".tif", ".tiff"), (b"II*\0", b"MM\0*"), top=True),
    Kind("a picture", (".gif",), (b"GIF87a", b"GIF89a")),
    Kind("a picture", (".svg",), (b"<",), text=True),
    Kind("a document", (".pdf",), (b"%PDF-",), top=True),
    Kind("a document", (".xlsx", ".docx", ".pptx", ".odt", ".ods", ".odp"), ZIP, top=True),
    Kind("a table", (".csv", ".tsv"), text=True, top=True),
    Kind("a table", (".parquet",), (b"PAR1",), top=True),
    Kind("a table", (".feather", ".arrow"), (b"ARROW1", b"FEA1")),
    Kind("an array", (".npy",), (b"\x93NUMPY",)),
    Kind("data", (".json",), text=True, named=True, top=True),
    Kind("data", (".jsonl", ".ndjson", ".geojson", ".sarif", ".lcov"), text=True),
    Kind("a report", (".xml",), (b"<",), text=True, named=True),
    Kind("a page", (".html", ".htm"), (b"<",), text=True),
    Kind("a page's style", (".css",), text=True),
    Kind("text", (".txt",), text=True, named=True),
    Kind("a log", (".log",), text=True),
    Kind("sound", (".wav",), (b"RIFF",)),
    Kind("sound", (".mp3",), (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")),
    Kind("sound", (".ogg",), (b"OggS",)),
    Kind("sound", (".flac",), (b"fLaC",)),
    Kind("film", (".mp4", ".mov"), (b"ftyp",), at=4),
    Kind("film", (".webm",), (b"\x1aE\xdf\xa3",)),
    Kind("an archive", (".zip",), ZIP),
    Kind("an archive", (".tar",), (b"ustar",), at=257),
    Kind("an archive", (".gz", ".tgz"), GZIP),
    Kind("an archive", (".bz2",), (b"BZh",)),
    Kind("an archive", (".xz",), (b"\xfd7zXZ\0",)),
    Kind("an archive", (".zst",), (b"(\xb5/\xfd",)),
    Kind("an archive", (".7z",), (b"7z\xbc\xaf\x27\x1c",)),
)
PACKED = (".gz", ".bz2", ".xz", ".zst")  # around a file of another kind
PLAIN = re.compile(r"\w[\w-]*")  # of a folder, and of a file before its ending
# Marks of templates: engines find them in files of any ending. pytest runs the doctests that it finds in test*.txt.
MARKS, DOCTEST = (b"{{", b"{%", b"<%", b"<?php", b"#{"), b">>>"
ESCAPED_MARK = re.compile(rb"\\u00(7[bB]|2[35]|3[cC])")  # JSON's other spelling of their first characters
LARGEST_JSON = 64 << 20  # bytes that are parsed to look for those
OBJECTS = b"O'"  # in a numpy header: an array of Python objects is a pickle, which is code
BEGINNING = 512  # bytes by which a kind is told
# Folders whose content tools obey by any name; where one stands in such a folder, nothing below it is a place for results.
OBEYED_FOLDERS = (
    "templates", "_templates", "template", "layouts", "_layouts", "layout", "_includes", "includes", "partials", "_partials", "views",
    "overrides", "theme", "themes", "node_modules", "site-packages", "dist-packages", "__pycache__", "*.egg-info", "*.dist-info", "*.d",
    "inventory", "inventories", "group_vars", "host_vars", "roles", "vars", "defaults", "tasks", "handlers", "meta", "library", "config",
    "conf", "requirements", "patches", "dags", "flows", "vendor", "wheels", "wheelhouse", "migrations", "changelog", "monitors", "hooks",
    "plugins", "skills", "commands", "agents", "scripts", "_data", "k8s", "kube", "kubernetes", "manifests", "crds", "helm", "infra",
    "terraform", "deploy", "environments", "autostart",
)  # fmt: skip
# What Windows takes for a device.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)")
FIX = "call the folder results, output, report or charts"


def kind_of(name: str) -> Kind | None:
    """The row of a file's name; None for what is no result by its ending, or has another one before it."""
    stem, ending = split_ending(folded(name))
    if ending in PACKED and "." in stem:
        inner, before = split_ending(stem)
        return kind_by(ending) if before == ".tar" or (kind_by(before) is not None and "." not in inner) else None
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
    if any(is_odd(part) for part in path.parts[:-1]) or is_odd(path.parts[-1].split(".")[0]) or has_more_endings(name):
        return "an odd name: letters, digits, - and _ and one ending are plain"
    obeyed = next((folder for folder in (*map(folded, above), *folders) if matches(folder, OBEYED_FOLDERS)), None)
    if obeyed is not None:
        return f"tools may obey what lies in {obeyed}"
    if folders and not says_result(folders[0]):
        return f"tools may obey what lies in {folders[0]}: {FIX}"
    return why_by_name(kind, folders, split_ending(name)[0])


def why_by_name(kind: Kind, folders: Sequence[str], stem: str) -> str | None:
    """Of what is in a good place, or in the project's first folder."""
    if kind.named and not says_result(stem):
        return "tools may obey a file of that name: call it results, output, report or data"
    if not folders and not kind.top:
        return f"not straight in the project's folder: {FIX}"
    if kind.what == "data" and folders and stem == folders[-1]:
        return "site generators obey data that is called as its folder"
    return None


def has_more_endings(name: str) -> bool:
    """`results.tf.json` is terraform's, whatever its last ending says."""
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
    if kind.endings == (".npy",) and OBJECTS in beginning:
        return "an array of objects is a program"
    if kind.text and (start.startswith(b"#!") or has_marks(kind, beginning, content, size)):
        return "scripts, templates or tests have such marks"
    return None


def has_marks(kind: Kind, beginning: bytes, content: IO[bytes], size: int) -> bool:
    """Whether a mark stands anywhere, also across the end of a chunk, and in JSON also spelt by escapes."""
    marks = (*MARKS, *([DOCTEST] if kind.endings == (".txt",) else []))
    parts, chunk, longest = [beginning], beginning, max(map(len, marks)) - 1
    escaped = False
    while chunk:
        if any(mark in chunk for mark in marks):
            return True
        escaped = escaped or ESCAPED_MARK.search(chunk) is not None
        more = content.read(CHUNK)
        parts += [more] if size <= LARGEST_JSON else []
        chunk = chunk[-max(longest, 6) :] + more if more else b""
    return escaped and kind.what == "data" and (size > LARGEST_JSON or has_marks_spelt_out(b"".join(parts)))


def has_marks_spelt_out(data: bytes) -> bool:
    """Of JSON, or of a line of it each; what cannot be parsed may hold anything."""
    try:
        texts = [data] if data.lstrip()[:1] in (b"[", b"{") and b"\n{" not in data else data.splitlines()
        return any(mark.decode() in text for line in texts if line.strip() for text in strings_of(json.loads(line)) for mark in MARKS)
    except (ValueError, RecursionError):
        return True


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


def says_result(stem: str) -> bool:
    """Whether the words of a name are a result's and no setting's."""
    words = {re.sub(r"s?[0-9]*$", "", word) for word in re.split(r"[^a-z0-9]+", folded(stem))}
    return bool((words | {f"{word}s" for word in words}) & RESULT_WORDS) and not words & OBEYED_WORDS  # analysis ends with an s


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
