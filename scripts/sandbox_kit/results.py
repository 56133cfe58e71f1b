"""What counts as a result: the one table of what a granted line may bring back into a project. Everything else is held for the user.

The line is granted, so whoever talks to Claude chooses what is written, where and under which name. A result is read by people, and by
programs that were told to read it. What some tool obeys just because it lies there (a test, a build file, a setting, a template, an
inventory, a package) is none. No list of what tools obey is ever whole, so this one says what is a result, not what is not:

- by its ending: whatever has none, or another one, is no result;
- data formats of machines (pictures, PDF, parquet, …) by what they begin with: they hold no text that a tool could take for its own;
- text by its name where tools look for names (`.json`, `.txt`, `.xml`), by its content where they look for marks of a template or a
  test, and by its place: only the project's own folder, or one that runs made. Tools read what lies in the folders that people made.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import IO

CHUNK = 1 << 20
LONGEST_NAME = 255  # bytes, on every file system that people use
ZIP, GZIP = (b"PK\x03\x04", b"PK\x05\x06"), (b"\x1f\x8b",)
# Words of which a name must have one, where tools look for names; in the singular.
RESULT_WORDS = frozenset((
    "result", "report", "output", "out", "summary", "metric", "stat", "statistic", "benchmark", "coverage", "analysis", "data",
    "dataset", "answer", "response", "prediction", "score", "measurement", "timing", "finding", "eval", "evaluation", "comparison",
    "table", "value", "sample", "chart", "plot", "figure", "count", "record", "row", "event", "transaction", "price", "junit",
    "cobertura", "log", "stdout", "stderr", "transcript", "listing",
))  # fmt: skip
# And none of these, which tools of all kinds put into the names of their settings.
OBEYED_WORDS = frozenset((
    "config", "conf", "setting", "option", "preference", "rc", "lock", "manifest", "preset", "workspace", "plugin", "extension",
    "hook", "mcp", "template", "requirement", "constraint", "env", "environment", "inventory", "package",
))  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One row: endings and what such a file begins with (any of these, at a place). `text` can be taken for something else."""

    what: str
    endings: tuple[str, ...]
    begins: tuple[bytes, ...] = ()
    at: int = 0  # where it begins so
    text: bool = False
    named: bool = False  # its name must say that it is a result
    placed: bool = False  # it lies in the project's own folder or in one that runs made


RESULTS = (
    Kind("a picture", (".png",), (b"\x89PNG\r\n\x1a\n",)),
    Kind("a picture", (".jpg", ".jpeg"), (b"\xff\xd8\xff",)),
    Kind("a picture", (".gif",), (b"GIF87a", b"GIF89a")),
    Kind("a picture", (".webp",), (b"WEBP",), at=8),
    Kind("a picture", (".bmp",), (b"BM",)),
    Kind("a picture", (".tif", ".tiff"), (b"II*\0", b"MM\0*")),
    Kind("a picture", (".svg",), (b"<",), text=True, placed=True),
    Kind("a document", (".pdf",), (b"%PDF-",)),
    Kind("a document", (".docx", ".pptx", ".xlsx", ".odt", ".ods", ".odp"), ZIP),
    Kind("a table", (".parquet",), (b"PAR1",)),
    Kind("a table", (".feather", ".arrow"), (b"ARROW1", b"FEA1")),
    Kind("a table", (".csv", ".tsv"), text=True, placed=True),
    Kind("an array", (".npy",), (b"\x93NUMPY",)),
    Kind("an array", (".npz",), ZIP),
    Kind("data", (".json",), text=True, named=True, placed=True),
    Kind("data", (".jsonl", ".ndjson", ".geojson", ".sarif", ".lcov"), text=True, placed=True),
    Kind("a report", (".xml",), (b"<",), text=True, named=True, placed=True),
    Kind("a page", (".html", ".htm"), (b"<",), text=True, placed=True),
    Kind("text", (".txt",), text=True, named=True, placed=True),
    Kind("a log", (".log",), text=True, placed=True),
    Kind("sound", (".wav",), (b"RIFF",)),
    Kind("sound", (".mp3",), (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")),
    Kind("sound", (".ogg",), (b"OggS",)),
    Kind("sound", (".flac",), (b"fLaC",)),
    Kind("film", (".mp4", ".mov"), (b"ftyp",), at=4),
    Kind("film", (".webm",), (b"\x1aE\xdf\xa3",)),
    Kind("an archive", (".zip",), ZIP, placed=True),
    Kind("an archive", (".tar",), (b"ustar",), at=257, placed=True),
    Kind("an archive", (".gz", ".tgz"), GZIP, placed=True),
    Kind("an archive", (".bz2",), (b"BZh",), placed=True),
    Kind("an archive", (".xz",), (b"\xfd7zXZ\0",), placed=True),
    Kind("an archive", (".zst",), (b"(\xb5/\xfd",), placed=True),
    Kind("an archive", (".7z",), (b"7z\xbc\xaf\x27\x1c",), placed=True),
)
PACKED = (".gz", ".bz2", ".xz", ".zst")  # around a file of another kind
PACKAGE = re.compile(r".*-v?\d+(\.\d+)+.*")  # NAME-VERSION is what package managers look for
# Marks of templates and of doctests: engines and test runners find them in files of any ending.
MARKS = (b"{{", b"{%", b"<%", b"<?php")
DOCTEST = b">>>"  # pytest runs what it finds in test*.txt
BEGINNING = 512  # bytes by which a kind is told
# Folders whose content tools obey, also where one stands in such a folder and nothing says where the project begins.
OBEYED_FOLDERS = (
    "templates", "_templates", "template", "layouts", "_layouts", "layout", "_includes", "includes", "partials", "_partials", "views",
    "overrides", "theme", "themes", "node_modules", "site-packages", "dist-packages", "__pycache__", "*.egg-info", "*.dist-info",
    "inventory", "inventories", "group_vars", "host_vars", "roles", "vars", "defaults", "tasks", "handlers", "meta", "config", "conf",
    "conf.d", "*.d", "requirements", "patches", "charts", "dags", "flows", "dist", "vendor", "wheels", "wheelhouse", "packages", "db",
    "migrations", "changelog", "monitors", "hooks", "plugins", "skills", "commands", "agents", "k8s", "kube", "kubernetes", "manifests",
    "crds", "helm", "infra", "terraform", "deploy", "environments", "autostart", "tests", "test", "spec", "specs", "features",
)  # fmt: skip
# What Windows takes for a device.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?")


def kind_of(name: str) -> Kind | None:
    """The row of a file's name; None for what is no result by its ending."""
    plain = folded(name)
    kind = next((kind for kind in RESULTS if plain.endswith(kind.endings)), None)
    inner = next((plain[: -len(ending)] for ending in PACKED if plain.endswith(ending)), None)
    if kind is None or (inner is not None and not inner.endswith(".tar") and "." in inner and kind_of(inner) is None):
        return None
    return kind


def why_no_result(path: PurePath, above: Iterable[str] = ()) -> str | None:
    """Why a file of that relative path is no result whatever it holds; None for one. `above` are the folders that hold it already."""
    if not path.parts or any(is_odd(part) for part in path.parts):
        return "an odd name"
    *folders, name = map(folded, (*above, *path.parts))
    kind = kind_of(name)
    if kind is None:
        return "no result by its ending"
    obeyed = next((folder for folder in folders if matches(folder, OBEYED_FOLDERS)), None) if kind.placed else None
    if obeyed is not None:
        return f"tools may obey what lies in {obeyed}"
    if kind.named and not says_result(name):
        return "tools may obey a file of that name: call it results, output, report or data"
    if not kind.text and kind.placed and PACKAGE.fullmatch(name):
        return "package managers look for such names"
    return None


def why_no_content(name: str, content: IO[bytes]) -> str | None:
    """Why a file of that name is not what its ending says, or holds a mark of a template or a test; an empty one is anything."""
    kind = kind_of(name)
    beginning = content.read(BEGINNING)
    if kind is None or not beginning:
        return None
    start = beginning.lstrip(b"\xef\xbb\xbf \t\r\n") if kind.text else beginning[kind.at :]
    if kind.begins and not start.startswith(kind.begins):
        return f"it does not begin as {kind.what} does"
    if kind.text and (start.startswith(b"#!") or has_marks(beginning, content, (*MARKS, *[DOCTEST] * (kind.what == "text")))):
        return "scripts, templates or tests have such marks"
    return None


def has_marks(beginning: bytes, content: IO[bytes], marks: Sequence[bytes]) -> bool:
    """Whether one of them stands anywhere, also across the end of a chunk."""
    chunk, longest = beginning, max(map(len, marks)) - 1
    while chunk:
        if any(mark in chunk for mark in marks):
            return True
        more = content.read(CHUNK)
        chunk = chunk[-longest:] + more if more else b""
    return False


def says_result(name: str) -> bool:
    """Whether the words of a name are a result's and no setting's."""
    found = re.split(r"[^a-z0-9]+", folded(name).rpartition(".")[0])
    words = {re.sub(r"s?[0-9]*$", "", word) for word in found}
    return bool((words | {f"{word}s" for word in words}) & RESULT_WORDS) and not words & OBEYED_WORDS  # analysis ends with an s


def folded(name: str) -> str:
    """As a file system that knows no case, or no accents, would compare it."""
    return unicodedata.normalize("NFKC", name).casefold()


def is_odd(name: str) -> bool:
    """A name that means something else on another system, or looks like another one."""
    plain = folded(name)
    return (
        not name.isprintable()
        or len(name.encode(errors="replace")) > LONGEST_NAME
        or name != unicodedata.normalize("NFC", name)
        or name.endswith((".", " "))
        or name.startswith((" ", "-", ".", "~"))
        or any(char in ':\\"<>|?*%' for char in plain)
        or re.search(r"~\d", plain) is not None
        or DEVICES.fullmatch(plain) is not None
    )


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
