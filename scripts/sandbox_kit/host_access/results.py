"""What counts as a result: the one table of what a granted line may bring back into a project.

Everything else is held for the user. The line is granted, so whoever talks to Claude chooses what
is written, where and under which name. A result is read by people, and by programs that were told
to read it. What some tool obeys just because it lies there (a test, a build file, a setting, a
template, an inventory, a package) is none. No list of what tools obey is ever whole, so this one
says what is a result, not what is not:

- its name is plain words and one known ending; a shell, make or a second tool reads nothing else
  into it;
- it is what its ending says: pictures by their beginning, JSON by being parsed, pages and reports
  by their first element; and text holds no mark of a template, a directive or a test;
- it lies below a folder that says "results" (or output, report …), that runs made, and that stands
  in the project's top folder: tools read whatever lies anywhere below the folders that people
  made. Only tables, pictures, documents and JSON that says so by its name may lie straight in the
  top folder, and only pictures and PDF in a new folder elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath

from ..plain_text import UNSEEN

LONGEST_NAME = 255  # bytes, on every file system that people use
# Of these, only pictures: `charts` is helm's folder for packages too.
PICTURE_WORDS = frozenset(("chart", "plot", "figure", "picture", "graph"))
ZIP, GZIP = (b"PK\x03\x04", b"PK\x05\x06"), (b"\x1f\x8b",)
# The name of a results folder, and of a text that tools look for by name, must have one of these
# words; here in the singular.
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
class ResultKind:
    """One row: endings, what such a file begins with, and where it may lie.

    It begins with any of `begins`, at a place, or with a pattern.
    """

    what: str
    endings: tuple[str, ...]
    begins: tuple[bytes, ...] = ()
    at: int = 0  # where it begins so
    like: bytes = b""  # a pattern of a text's beginning
    text: bool = False  # it can be taken for something else
    named: bool = False  # its name must say that it is a result
    top: bool = False  # it may lie in the project's top folder, not only in one for results
    # It holds nothing that a tool could obey: any new folder for results will do.
    inert: bool = False


PAGE = rb"<(!doctype\s+html\s*>|html[\s>])"
REPORT = rb"(<\?xml[^>]{0,200}\?>\s*)?<(testsuites?|coverage|checkstyle)[\s>]"
DRAWING = rb"(<\?xml[^>]{0,200}\?>\s*)?(<!DOCTYPE svg PUBLIC[^>\[]{0,200}>\s*)?<svg[\s>]"
LINES_OF_JSON = (".jsonl", ".ndjson")
RESULTS = (
    ResultKind("a picture", (".png",), (b"\x89PNG\r\n\x1a\n",), top=True, inert=True),
    ResultKind("a picture", (".jpg", ".jpeg"), (b"\xff\xd8\xff",), top=True, inert=True),
    ResultKind("a picture", (".webp",), (b"WEBP",), at=8, top=True, inert=True),
    ResultKind("a picture", (".tif", ".tiff"), (b"II*\0", b"MM\0*"), top=True, inert=True),
    ResultKind("a picture", (".gif",), (b"GIF87a", b"GIF89a")),
    ResultKind("a drawing", (".svg",), like=DRAWING, text=True),
    ResultKind("a document", (".pdf",), (b"%PDF-",), top=True, inert=True),
    ResultKind("a document", (".xlsx", ".docx", ".pptx", ".odt", ".ods", ".odp"), ZIP, top=True),
    ResultKind("a table", (".csv", ".tsv"), text=True, top=True),
    ResultKind("a table", (".parquet",), (b"PAR1",), top=True),
    ResultKind("data", (".json",), text=True, named=True, top=True),
    ResultKind("data", (".geojson", ".sarif", *LINES_OF_JSON), text=True),
    ResultKind("a report", (".xml",), like=REPORT, text=True, named=True),
    ResultKind("a page", (".html", ".htm"), like=PAGE, text=True),
    ResultKind("text", (".txt",), text=True, named=True),
    ResultKind("a log", (".log",), text=True),
    ResultKind("sound", (".wav",), (b"RIFF",)),
    ResultKind("sound", (".mp3",), (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")),
    ResultKind("film", (".mp4", ".mov"), (b"ftyp",), at=4),
    ResultKind("film", (".webm",), (b"\x1aE\xdf\xa3",)),
    ResultKind("an archive", (".zip",), ZIP),
    ResultKind("an archive", (".tar",), (b"ustar",), at=257),
    ResultKind("an archive", (".gz", ".tgz"), GZIP),
    ResultKind("an archive", (".bz2",), (b"BZh",)),
    ResultKind("an archive", (".xz",), (b"\xfd7zXZ\0",)),
    ResultKind("an archive", (".zst",), (b"(\xb5/\xfd",)),
)
PACKED = (".gz", ".bz2", ".xz", ".zst")  # around a file of another kind
PLAIN = re.compile(r"\w[\w-]*")  # of a folder, and of a file before its ending
# Folders whose content tools obey by any name; where one stands in such a folder, nothing below it
# is a place for results.
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


def kind_of(name: str) -> ResultKind | None:
    """The row of a file's name; None for what is no result by its ending, or by one before it."""
    stem, ending = split_ending(fold_name(name))
    if ending in PACKED and "." in stem:
        inner, before = split_ending(stem)
        return (
            kind_by(ending)
            if before == ".tar" or (kind_by(before) is not None and "." not in inner)
            else None
        )
    return kind_by(ending)


def kind_by(ending: str) -> ResultKind | None:
    return next((kind for kind in RESULTS if ending in kind.endings), None)


def split_ending(name: str) -> tuple[str, str]:
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if dot else (name, "")


def why_no_result(path: PurePath, above: Iterable[str] = ()) -> str | None:
    """Why a file of that relative path is no result, whatever it holds; None for one.

    `above` are the folders that hold it already.
    """
    if not path.parts:
        return "an odd name"
    *folders, name = map(fold_name, path.parts)
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
        (
            folder
            for folder in (*map(fold_name, above), *folders)
            if matches_any(folder, OBEYED_FOLDERS)
        ),
        None,
    )
    if obeyed is not None:
        return f"tools may obey what lies in {obeyed}"
    if folders and not says_result(folders[0]):
        return f"tools may obey what lies in {folders[0]}: {FIX}"
    return why_by_name(kind, folders, split_ending(name)[0])


def why_by_name(kind: ResultKind, folders: Sequence[str], stem: str) -> str | None:
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
    """Whether a name has more than one ending, by which `results.tf.json` is terraform's."""
    dots = name.count(".")
    return dots > 2 or (dots == 2 and not name.endswith(PACKED))


def same_stem(name: str) -> tuple[str, str]:
    """The stem that a page and its data share, and which of them this is ("" for neither).

    Where the folder holds the one, the other would be obeyed with it.
    """
    stem, ending = split_ending(fold_name(name))
    if ending in (".html", ".htm", ".txt"):
        return stem, "page"
    return stem, "data" if ending == ".json" else ""


def says_result(stem: str) -> bool:
    """Whether the words of a name are a result's and no setting's."""
    words = words_of(stem)
    plurals = {f"{word}s" for word in words}  # analysis ends with an s
    return bool((words | plurals) & RESULT_WORDS) and not words & OBEYED_WORDS


def words_of(stem: str) -> set[str]:
    """In the singular, without numbers at their end."""
    return {re.sub(r"s?[0-9]*$", "", word) for word in re.split(r"[^a-z0-9]+", fold_name(stem))}


def fold_name(name: str) -> str:
    """As a file system that knows no case, or no accents, would compare it."""
    return unicodedata.normalize("NFKC", name).casefold()


def is_odd(word: str) -> bool:
    """Whether a shell, make or a system reads something else into it, or it looks like another."""
    plain = fold_name(word)
    return (
        PLAIN.fullmatch(word) is None
        or PLAIN.fullmatch(plain) is None
        or UNSEEN.search(word) is not None
        or word != unicodedata.normalize("NFC", word)
        or len(word.encode(errors="replace")) > LONGEST_NAME - 20
        or DEVICES.fullmatch(plain) is not None
    )


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
