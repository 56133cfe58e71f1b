"""Looking through trees that may be endless, deep or full of traps: text in files, and names."""

from __future__ import annotations

import errno
import itertools
import os

from plain import kernel_device, open_plain, shown

TYPE_CHECKING = False  # as typing has it; importing typing would cost every sandbox milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    Values = dict[str, Any]

BINARY_PROBE = 512  # bytes at the beginning; a NUL among them means that it is no text
LONGEST_LINE = 64 * 1024 - 1  # bytes without its end: at a longer one Daytona leaves the file
MOST_FOUND = 50_000
LARGEST_ANSWER = 8 * 1024 * 1024  # bytes, roughly; the server takes no more of JSON


class Answers:
    """What was found so far; raises OSError when it becomes more than one answer holds."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._size = 0

    def add(self, item: Any, size: int) -> None:
        self.found.append(item)
        self._size += size
        if len(self.found) > MOST_FOUND or self._size > LARGEST_ANSWER:
            many = "more than %d matches" % len(self.found)
            raise OSError(errno.E2BIG, many + "; name a smaller folder, or a longer pattern")


def go_to(request: Values) -> None:
    """Work from the folder that a relative `path` lies in, so that it stays one in the answer."""
    if not os.path.isabs(request["path"]):
        os.chdir(request["cwd"])


def walk(top: str) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder, sorted by name; symlinks and /proc are not entered.

    Without recursion: a tree may be deeper than the call stack.
    """
    kernel = kernel_device()
    waiting = [iter(entries_of(top))]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        yield entry
        if is_folder_outside(kernel, entry):
            waiting.append(iter(entries_of(entry.path)))


def is_folder_outside(device: int, entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, no link to one, and not of this device."""
    try:
        is_folder = entry.is_dir(follow_symlinks=False)
        return is_folder and entry.stat(follow_symlinks=False).st_dev != device
    except OSError:
        return False


def entries_of(folder: str) -> list[os.DirEntry[str]]:
    """Sorted; none of a folder that may not be read, is gone, or lies too deep for a path."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if error.errno == errno.ETIMEDOUT:
            raise
        return []


def find(request: Values) -> list[Values]:
    """Lines with a literal text, in all text files below a folder or in one file.

    None for a path that is not there; no link is followed.
    """
    go_to(request)
    top, wanted = request["path"], request["pattern"].encode()
    answers = Answers()
    if os.path.islink(top):
        return []
    if not os.path.isdir(top):
        find_in(top, wanted, answers)
        return answers.found
    for entry in walk(top):
        if entry.is_file(follow_symlinks=False):
            find_in(os.path.normpath(entry.path), wanted, answers)
    return answers.found


def find_in(path: str, wanted: bytes, answers: Answers) -> None:
    """A file that cannot be read, or is none, holds nothing."""
    try:
        fd = open_plain(path, os.O_RDONLY)
    except OSError as error:
        if error.errno == errno.ETIMEDOUT:
            raise
        return
    with open(fd, "rb") as file:
        if b"\0" in file.read(BINARY_PROBE):
            return
        file.seek(0)
        for number, line in matching_lines(file, wanted):
            text = line.decode(errors="replace")
            found = {"file": shown(path), "line": number, "content": text}
            answers.add(found, len(path) + len(text) + 64)


def matching_lines(file: Any, wanted: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, text) of each line that holds `wanted`, up to the first that is too long."""
    for number in itertools.count(1):
        line = file.readline(LONGEST_LINE + 1)
        if not line or (len(line) > LONGEST_LINE and not line.endswith(b"\n")):
            return
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        if wanted in text:
            yield number, text


def search(request: Values) -> list[str]:
    """Paths whose base name matches a glob, the folder's own included; none of a missing one.

    Raises OSError for a glob that is none.
    """
    go_to(request)
    top, pattern = request["path"], parse_glob(request["pattern"])
    answers = Answers()
    if not os.path.lexists(top):
        return []
    if matches(os.path.basename(top), pattern):
        answers.add(shown(top), len(top))
    for entry in () if os.path.islink(top) else walk(top):
        if matches(entry.name, pattern):
            path = os.path.normpath(entry.path)
            answers.add(shown(path), len(path))
    return answers.found


def parse_glob(text: str) -> list[str | tuple[bool, str]]:
    """Go's filepath.Match in parts: "*", "?", `=x` for the letter x, a tuple for a class.

    A class is (negated, its letters as pairs of a range's ends).
    """
    parts: list[str | tuple[bool, str]] = []
    place = 0
    while place < len(text):
        letter = text[place]
        place += 1
        if letter in "*?":
            parts.append(letter)
        elif letter == "[":
            negated, letters, place = parse_class(text, place)
            parts.append((negated, letters))
        else:
            if letter == "\\":
                letter, place = text[place : place + 1], place + 1
                if not letter:
                    raise bad_glob()
            parts.append("=" + letter)
    return parts


def parse_class(text: str, place: int) -> tuple[bool, str, int]:
    """(negated, letters as pairs of a range's ends, the place behind it) of what follows a `[`."""
    negated = text[place : place + 1] == "^"
    place += negated
    ends = ""
    while text[place : place + 1] != "]" or not ends:
        low, place = class_letter(text, place)
        high = low
        if text[place : place + 1] == "-":
            high, place = class_letter(text, place + 1)
        ends += low + high
    return negated, ends, place + 1


def class_letter(text: str, place: int) -> tuple[str, int]:
    letter = text[place : place + 1]
    if letter == "\\":
        place += 1
        letter = text[place : place + 1]
    elif letter in ("-", "]"):
        raise bad_glob()
    if not letter:
        raise bad_glob()
    return letter, place + 1


def bad_glob() -> OSError:
    return OSError(errno.EINVAL, "syntax error in pattern")


def matches(name: str, parts: Sequence[str | tuple[bool, str]]) -> bool:
    """Without backtracking over more than the last star, so that no pattern takes long."""
    at, part, star, resume = 0, 0, -1, 0
    while at < len(name):
        if part < len(parts) and parts[part] == "*":
            star, resume = part, at
            part += 1
        elif part < len(parts) and fits(name[at], parts[part]):
            at, part = at + 1, part + 1
        elif star >= 0:
            resume += 1
            at, part = resume, star + 1
        else:
            return False
    return all(left == "*" for left in parts[part:])


def fits(letter: str, part: str | tuple[bool, str]) -> bool:
    if isinstance(part, str):
        return part in ("?", "=" + letter)
    negated, ends = part
    return negated != any(ends[n] <= letter <= ends[n + 1] for n in range(0, len(ends), 2))
