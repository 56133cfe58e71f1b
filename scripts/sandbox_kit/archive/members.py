"""The members of an archive that came back.

It is a stranger's, so none may leave its folder or be more than a file.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import IO

from ..defaults import LARGEST_TRANSFER, MOST_FILES
from ..errors import Failure

# Terminal escapes, and what another system takes for a separator.
UNWANTED_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
FIX_HOSTILE = (
    "look at the files in the sandbox (--keep, then --command 'ls -lR DIR'),"
    " and fetch the ones you want by name"
)


def checked_members(stream: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The members; raises Failure archive for a hostile one.

    Hostile is what leaves the folder, a device, a bomb, or a name that plays tricks.
    """
    members, files, size = [], dict[str, tarfile.TarInfo](), 0
    for member in stream:
        members.append(member)
        if member.islnk():
            become_the_file(member, files)
        refuse_member(member)
        if member.isreg():
            files[member.name] = member
        size += member.size
        if len(members) > MOST_FILES or size > LARGEST_TRANSFER:
            raise Failure(
                "archive",
                f"more than {MOST_FILES:,} files or {LARGEST_TRANSFER >> 20} MB came back",
                fix=FIX_HOSTILE,
            )
    return members


def become_the_file(link: tarfile.TarInfo, files: Mapping[str, tarfile.TarInfo]) -> None:
    """Turn a hard link to an earlier member into a file of its own.

    tarfile would look for the other name for as long as an archive makes it.
    """
    if link.linkname not in files:
        raise hostile_archive(link, "is another name of something that is not there")
    file = files[link.linkname]
    link.type, link.size, link.offset_data = tarfile.REGTYPE, file.size, file.offset_data


def refuse_member(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if member.name.startswith("/") or ".." in path.parts:
        raise hostile_archive(member, "lies outside what was asked for")
    if UNWANTED_NAME.search(member.name):
        raise hostile_archive(member, "has control characters or a backslash in its name")
    if (
        not (member.isreg() or member.isdir() or member.issym())
        or member.issparse()
        or member.size < 0
    ):
        raise hostile_archive(member, "is neither a file nor a folder")


def leads_out(path: PurePosixPath, target: str) -> bool:
    end = posixpath.normpath(posixpath.join(path.parent.as_posix(), target))
    return target.startswith("/") or end.split("/")[0] == ".."


def hostile_archive(member: tarfile.TarInfo, why: str) -> Failure:
    return Failure("archive", f"refused: {ascii(member.name)[:200]} {why}", fix=FIX_HOSTILE)


def content_of(stream: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = stream.extractfile(member)
    if file is None:
        raise hostile_archive(member, "has no content")
    return file
