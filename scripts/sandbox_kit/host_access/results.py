"""What counts as a result: the one table of what a granted line may bring back into a project.

The line is granted, so whoever talks to Claude chooses what is written, where and under which name.
A result is read by people, and by programs that were told to read it. What some tool obeys just
because it lies there (a test, a build file, a setting, a template, a package) is none. No list of
what tools obey is ever whole, so this one says what is a result, not what is not:

- its name is plain words and one known ending; no shell, make or other tool reads more into it;
- it is what its ending says, by its beginning, its structure, or by being parsed (`contents`);
- its place: below a folder that says so by its name (results, output, report), that runs made, and
  that stands in the project's top folder; pictures and documents also straight in that one, and
  pictures and PDF in a new folder elsewhere.

Text that holds what its writer likes (pages, reports, logs) and archives of files are no results:
engines find templates, directives and tests in files of any ending. They are held, and one `fetch`
brings them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath

from ..plain_text import UNSEEN

LONGEST_NAME = 200  # bytes: file systems take 255, and a part's own name is longer
LONGEST_PATH, DEEPEST = 400, 8  # characters and folders below the open tree
# What a folder for results is called, in the singular; the second row takes pictures only.
FOLDER_WORDS = frozenset("result report output out download".split())
PICTURE_WORDS = frozenset("chart plot figure picture graph".split())
# Of these words the name of JSON must have one, in the singular.
RESULT_WORDS = frozenset(
    """
    result report output out summary metric stat statistic benchmark coverage analysis data
    dataset answer response prediction score measurement timing finding eval evaluation
    comparison table value sample count record row event transaction price transcript listing
    """.split()
)
# And none of these, which tools of all kinds put into the names of their settings.
OBEYED_WORDS = frozenset(
    """
    config conf setting option preference rc lock manifest preset workspace plugin extension
    hook mcp template requirement constraint env environment inventory package agent module
    script
    """.split()
)


@dataclass(frozen=True)
class ResultKind:
    """One row: endings, what a file begins with, where it may lie.

    It begins with `first`, and then, `at` a place, with any of `begins`.

    `named`: its name must say that it is a result. `top`: it may lie straight in the project's top
    folder. `inert`: it holds nothing that a tool could obey, so any new folder will do.
    """

    what: str
    endings: tuple[str, ...]
    begins: tuple[bytes, ...] = ()
    at: int = 0
    first: bytes = b""
    named: bool = False
    top: bool = False
    inert: bool = False


TABLE, DATA, DOCUMENT = "a table", "data", "a document"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
LINES_OF_JSON = (".jsonl", ".ndjson")
RESULTS = (
    ResultKind("a picture", (".png",), (b"\x89PNG\r\n\x1a\n",), top=True, inert=True),
    ResultKind("a picture", (".jpg", ".jpeg"), (b"\xff\xd8\xff",), top=True, inert=True),
    ResultKind("a picture", (".webp",), (b"WEBP",), at=8, first=b"RIFF", top=True, inert=True),
    ResultKind("a picture", (".tif", ".tiff"), (b"II*\0", b"MM\0*"), top=True, inert=True),
    ResultKind("a picture", (".gif",), (b"GIF87a", b"GIF89a")),
    ResultKind(DOCUMENT, (".pdf",), (b"%PDF-",), top=True, inert=True),
    ResultKind(DOCUMENT, (".xlsx", ".docx", ".pptx", ".odt", ".ods", ".odp"), ZIP, top=True),
    ResultKind(TABLE, (".csv", ".tsv")),
    ResultKind(TABLE, (".parquet",), (b"PAR1",)),
    ResultKind(DATA, (".json",), named=True),
    ResultKind(DATA, (".geojson", ".sarif", *LINES_OF_JSON)),
    ResultKind("sound", (".wav",), (b"WAVE",), at=8, first=b"RIFF"),
    ResultKind("sound", (".mp3",), (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")),
    ResultKind("film", (".mp4", ".mov"), (b"ftyp",), at=4, first=b"\0\0\0"),
    ResultKind("film", (".webm",), (b"\x1aE\xdf\xa3",)),
)
# Of a file before its ending, and of a folder: tools' own folders begin or end with a line.
PLAIN_STEM, PLAIN_FOLDER = re.compile(r"\w[\w-]*"), re.compile(r"[^\W_]([\w-]*[^\W_])?")
# Folders whose content tools obey by any name; nothing that such a folder holds is a result.
OBEYED_FOLDERS = tuple(
    """
    templates template layouts layout includes partials views overrides theme themes
    node_modules site-packages dist-packages *.egg-info *.dist-info *.d inventory inventories
    group_vars host_vars roles vars defaults tasks handlers meta library config conf
    requirements patches dags flows vendor wheels wheelhouse migrations changelog monitors hooks
    plugins skills commands agents scripts mocks fixtures snapshots k8s kube kubernetes manifests
    crds helm infra terraform deploy environments autostart startup
    """.split()
)
# What Windows takes for a device.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)")
FIX = "call the folder results, output or report"


def kind_of(name: str) -> ResultKind | None:
    """The row of a file's name; None for what is no result by its ending."""
    ending = split_ending(fold_name(name))[1]
    return next((kind for kind in RESULTS if ending in kind.endings), None)


def split_ending(name: str) -> tuple[str, str]:
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if dot else (name, "")


def why_no_result(path: PurePath, above: Iterable[str] = ()) -> str | None:
    """Why a file of that relative path is no result whatever it holds; None for one.

    `above` are the folders that hold it already.
    """
    if not path.parts:
        return "an odd name"
    *folders, name = map(fold_name, path.parts)
    kind = kind_of(name)
    if kind is None:
        return "code, settings, text and unknown endings are not written"
    if len(folders) > DEEPEST or len(str(path)) > LONGEST_PATH:
        return "too deep in folders"
    if is_odd_path(path):
        return "an odd name: letters, digits, - and _ and one ending are plain"
    held_by = [*map(fold_name, above), *folders]
    obeyed = next((folder for folder in held_by if matches_any(folder, OBEYED_FOLDERS)), None)
    if obeyed is not None:
        return f"tools may obey what lies in {obeyed}"
    if folders and not is_folder_for_results(folders[0]):
        return f"tools may obey what lies in {folders[0]}: {FIX}"
    return why_by_name(kind, folders, split_ending(name)[0])


def why_by_name(kind: ResultKind, folders: Sequence[str], stem: str) -> str | None:
    """Of what is in a good place, or in the project's top folder."""
    if not folders and not kind.top:
        return f"not straight in the project's folder: {FIX}"
    if kind.named and not says_result(stem):
        return "tools may obey a file of that name: call it results, output or report"
    if folders and not kind.inert and not words_of(folders[0]) & FOLDER_WORDS:
        return f"such a folder is for pictures: {FIX}"
    return None


def is_odd_path(path: PurePath) -> bool:
    """`results.tf.json` is terraform's, whatever its last ending says; endings are plain ASCII."""
    *folders, name = path.parts
    stem, *endings = name.split(".")
    return (
        any(is_odd(folder, PLAIN_FOLDER) for folder in folders)
        or is_odd(stem, PLAIN_STEM)
        or has_more_endings(name)
        or not "".join(endings).isascii()
    )


def has_more_endings(name: str) -> bool:
    return name.count(".") > 1


def is_folder_for_results(name: str) -> bool:
    words = words_of(name)
    return bool(words & (FOLDER_WORDS | PICTURE_WORDS)) and not words & OBEYED_WORDS


def says_result(stem: str) -> bool:
    """Whether the words of a name are a result's and no setting's."""
    words = words_of(stem)
    with_plurals = words | {f"{word}s" for word in words}  # analysis ends with an s
    return bool(with_plurals & RESULT_WORDS) and not words & OBEYED_WORDS


def words_of(stem: str) -> set[str]:
    """In the singular, without numbers at their end."""
    return {re.sub(r"s?[0-9]*$", "", word) for word in re.split(r"[^a-z0-9]+", fold_name(stem))}


def fold_name(name: str) -> str:
    """As a file system that knows no case, or no accents, would compare it."""
    return unicodedata.normalize("NFKC", name).casefold()


def is_odd(word: str, plain: re.Pattern[str]) -> bool:
    """What a shell, make or another system reads more into, or what looks like another name."""
    folded = fold_name(word)
    return (
        plain.fullmatch(word) is None
        or plain.fullmatch(folded) is None
        or UNSEEN.search(word) is not None
        or word != unicodedata.normalize("NFC", word)
        or len(word.encode(errors="replace")) > LONGEST_NAME
        or DEVICES.fullmatch(folded) is not None
    )


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
