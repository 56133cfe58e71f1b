"""The members of an archive that came back: none may leave its folder or be more than a file."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO

from ..defaults import LARGEST_TRANSFER, MOST_FILES
from ..errors import Failure

# Terminal escapes, and what another system takes for a separator.
UNWANTED_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
# What tarfile raises for a stranger's bytes.
BROKEN_ARCHIVE = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError)
LONGEST_NAMES = 16 << 20  # characters of all names together
FIX_HOSTILE = (
    "look at the files in the sandbox (--keep, then --command 'ls -lR DIR'),"
    " and fetch the ones you want by name"
)


@dataclass
class Members:
    """Files, folders and links; and whatever else an archive names, with why it is left."""

    good: list[tarfile.TarInfo] = field(default_factory=list)
    left: list[tuple[tarfile.TarInfo, str]] = field(default_factory=list)

    @property
    def is_single_file(self) -> bool:
        """Whether a file was asked for, and no folder."""
        return len(self.good) == 1 and not self.left and not self.good[0].isdir()


def read_members(
    stream: tarfile.TarFile, *, most: int | None = None, largest: int | None = None
) -> Members:
    """One bad member spoils no other; raises Failure archive for too many or too much.

    Another name of a file counts like the file, as which it is written.
    """
    most, largest = most or MOST_FILES, largest or LARGEST_TRANSFER
    found, files, number, size, names = Members(), dict[str, tarfile.TarInfo](), 0, 0, 0
    for member in stream:
        number, names = number + 1, names + len(member.name) + len(member.linkname)
        reason = why_left(member, files)
        if reason is None and member.islnk():
            become_the_file(member, files[member.linkname])
        size += max(0, member.size)
        if number > most or size > largest or names > LONGEST_NAMES:
            raise Failure(
                "archive",
                f"more than {most:,} files or {largest >> 20} MB came back",
                fix=FIX_HOSTILE,
            )
        if reason is not None:
            found.left.append((member, reason))
            continue
        if member.isreg():
            files[member.name] = member
        found.good.append(member)
    return found


def why_left(member: tarfile.TarInfo, files: Mapping[str, tarfile.TarInfo]) -> str | None:
    """As the end of a sentence about it; None for a file, a folder or a link."""
    path = PurePosixPath(member.name)
    if member.name.startswith("/") or ".." in path.parts:
        return "it lies outside what was asked for"
    if UNWANTED_NAME.search(member.name):
        return "control characters or a backslash in its name"
    if member.islnk():
        return None if member.linkname in files else "another name of something that is not there"
    if not (member.isreg() or member.isdir() or member.issym()) or member.issparse():
        return "neither a file nor a folder"
    return "a size that cannot be" if member.size < 0 else None


def become_the_file(link: tarfile.TarInfo, file: tarfile.TarInfo) -> None:
    """Another name of a file that came before; tarfile would look for it without end."""
    link.type, link.size, link.offset_data = tarfile.REGTYPE, file.size, file.offset_data


def leads_out(path: PurePosixPath, target: str) -> bool:
    end = posixpath.normpath(posixpath.join(path.parent.as_posix(), target))
    return target.startswith("/") or end.split("/")[0] == ".."


def content_of(stream: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """Raises Failure archive for what has none."""
    file = stream.extractfile(member)
    if file is None:
        name = ascii(member.name)[:200]
        raise Failure("archive", f"refused: {name} has no content", fix=FIX_HOSTILE)
    return file
