"""Which paths git ignores: lines as dulwich reads them, matched without backtracking."""

from __future__ import annotations

import io
import itertools
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..defaults import LARGEST_TEXT
from ..errors import UsageFailure
from ..host_access.folders import open_folder, open_regular_file

IGNORE_FILE = ".gitignore"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# dulwich's translation, piece by piece: a star, folders between two names, folders before a name.
FLAGS, STAR, FOLDERS = b"(?ms)", b"[^/]*", b"(?:[^/]+/)*"
ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
FOLDERS_BEFORE = (b"(.*/)?", b"(?:.*/)??")


@dataclass(frozen=True)
class IgnoreLine:
    """One line of an ignore file; `keeps` is a line with an exclamation mark."""

    regex: re.Pattern[bytes]
    keeps: bool
    folders_only: bool

    def matches(self, path: bytes, *, folder: bool) -> bool:
        return (folder or not self.folders_only) and self.regex.match(path) is not None


def read_ignore_lines(text: bytes, *, ignore_case: bool = False) -> list[IgnoreLine]:
    """The lines that git would heed; raises ImportError where dulwich is missing."""
    from dulwich.ignore import read_ignore_patterns, translate
    from dulwich.wildmatch import MalformedPattern

    found = []
    for line in read_ignore_patterns(io.BytesIO(text.removeprefix(BYTE_ORDER_MARK))):
        keeps = line.startswith(b"!")
        pattern = line[1:] if keeps else line
        # An escaped slash is a slash, and dulwich takes the two apart.
        name = ESCAPED.sub(lambda found: b"/" if found[1] == b"/" else found[0], pattern)
        name = name.rstrip(b"/")
        if not name:
            continue
        # A slash at the end binds a line to folders, but to no place.
        folders_only = pattern.endswith(b"/")
        try:
            regex = re.compile(
                without_backtracking(translate(name)), re.IGNORECASE if ignore_case else 0
            )
        except (MalformedPattern, re.error, RecursionError, OverflowError):
            continue  # git matches nothing by such a line
        found.append(IgnoreLine(regex, keeps, folders_only))
    return found


def without_backtracking(regex: bytes) -> bytes:
    """The same matches in time that grows with the name, not with a power of it.

    Names between stars are found at the first place that will do, inside a lookahead, which is
    never tried again; so are the folders between two `**`. Only the last star may try all places.
    """
    for spelling in FOLDERS_BEFORE:
        regex = regex.replace(spelling, FOLDERS)
    while FOLDERS * 2 in regex:
        regex = regex.replace(FOLDERS * 2, FOLDERS)
    number = itertools.count()
    first, *rest = (
        each_star_once(part, number) for part in regex.removeprefix(FLAGS).split(FOLDERS)
    )
    middles = [once(FOLDERS + b"?" + part, number) for part in rest[:-1]]
    last = [FOLDERS + part for part in rest[-1:]]
    return FLAGS + b"".join([first, *middles, *last])


def each_star_once(regex: bytes, number: Iterator[int]) -> bytes:
    first, *rest = regex.split(STAR)
    middles = [once(STAR + b"?" + part, number) for part in rest[:-1]]
    return b"".join([first, *middles, *(STAR + part for part in rest[-1:])])


def once(regex: bytes, number: Iterator[int]) -> bytes:
    """What Python 3.11 calls an atomic group."""
    name = b"once%d" % next(number)
    return b"(?=(?P<" + name + b">" + regex + b"))(?P=" + name + b")"


class IgnoreRules:
    """The ignore files that hold in a tree, as git reads them: the nearest file's last line wins.

    Paths are relative to the tree's root, with slashes.
    """

    def __init__(
        self,
        root: Path,
        excludes: Iterable[bytes] = (),
        *,
        ignore_case: bool = False,
        left_out: Callable[[str], bytes | None] = lambda _path: None,
    ) -> None:
        """`excludes` hold in the whole tree, after its own files; the last of them comes first.

        `left_out` gives an ignore file that is tracked and not in the work tree.
        """
        self._root = root
        self._left_out = left_out
        self._ignore_case = ignore_case
        self._lines: dict[str, list[IgnoreLine]] = {}
        self._excludes = [read_ignore_lines(text, ignore_case=ignore_case) for text in excludes]

    def is_ignored(self, path: str, *, folder: bool) -> bool:
        """By a line that names it; whether a folder around it is ignored is asked for that one."""
        for base, lines in self._files_for(path):
            name = os.fsencode(path[len(base) :])
            for line in reversed(lines):
                if line.matches(name, folder=folder):
                    return not line.keeps
        return False

    def _files_for(self, path: str) -> Iterator[tuple[str, list[IgnoreLine]]]:
        """(folder with a slash, its lines), the nearest first."""
        folder = path
        while folder:
            folder = posixpath.dirname(folder)
            yield f"{folder}/" if folder else "", self._lines_of(folder)
        yield from (("", lines) for lines in reversed(self._excludes))

    def _lines_of(self, folder: str) -> list[IgnoreLine]:
        if folder not in self._lines:
            text = read_plain_file(self._root / folder / IGNORE_FILE, LARGEST_TEXT)
            if text is None:
                text = self._left_out(posixpath.join(folder, IGNORE_FILE))
            self._lines[folder] = (
                read_ignore_lines(text, ignore_case=self._ignore_case) if text else []
            )
        return self._lines[folder]


def read_plain_file(path: Path, limit: int) -> bytes | None:
    """None for no regular file: a repository may have a pipe of that name, or a link."""
    try:
        with (
            open_folder(path.parent.resolve()) as folder,
            open_regular_file("--upload", path.name, folder, path.name) as stream,
        ):
            return stream.read(limit)
    except (OSError, RuntimeError, ValueError, UsageFailure):
        return None
