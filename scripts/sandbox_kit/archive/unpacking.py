"""What came back: results are written into the project, everything else is held."""

from __future__ import annotations

import os
import posixpath
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from ..console import quote_path
from ..errors import Failure
from ..host_access.contents import why_no_content
from ..host_access.folders import NEW, OpenFolder
from ..host_access.gate import HostAccess, has_page_or_data_beside
from ..host_access.held import LEADS_OUT, TAKEN, ArchiveEntry, HeldFile, HeldResults
from ..host_access.results import same_stem
from ..host_access.written import WrittenRecord, new_digest
from .members import FIX_HOSTILE, checked_members, content_of, hostile_archive, leads_out
from .packing import PLAIN_MODE

CHUNK = 1 << 20


@dataclass(frozen=True)
class SavedFile:
    """A file that came back: its path here, its size in bytes."""

    path: str
    bytes: int


@dataclass(frozen=True)
class ArrivedDownload:
    """A download that has come: its archive here, and what was asked for."""

    archive: Path
    there: str
    here: str
    force: bool


def unpack_download(
    arrival: ArrivedDownload, access: HostAccess, *, held: HeldResults, written: WrittenRecord
) -> list[SavedFile]:
    """Write the results of one download and hold the rest; returns the files written.

    Raises Failure archive before anything is written.
    """
    try:
        with tarfile.open(arrival.archive, mode="r:") as stream:
            members = checked_members(stream)
            placed, entries = sort_members(stream, members, arrival, access, written)
            with ResultWriter(access, written, force=arrival.force) as writer:
                saved = [
                    (entry, writer.write(entry.file.path, content_of(stream, entry.member)))
                    for entry in placed
                ]
            taken = [
                replace(entry, file=replace(entry.file, reason=TAKEN, exists=True))
                for entry, found in saved
                if found is None
            ]
            if entries or taken:
                held.keep(
                    arrival.there,
                    str(access.folder / arrival.here),
                    [*entries, *(with_content(stream, entry) for entry in taken)],
                )
            return [found for _, found in saved if found is not None]
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise Failure(
            "archive", f"what the sandbox sent is not a proper archive: {error}", fix=FIX_HOSTILE
        ) from None


def sort_members(
    stream: tarfile.TarFile,
    members: list[tarfile.TarInfo],
    arrival: ArrivedDownload,
    access: HostAccess,
    written: WrittenRecord,
) -> tuple[list[ArchiveEntry], list[ArchiveEntry]]:
    """What is written, and what is held with its content.

    Raises Failure archive for two entries in one place.
    """
    placed, entries, seen, folders, pages = [], [], set[str](), set[str](), PagesAndData()
    for member, name in place_members(members, arrival.here, access):
        if name in seen or name in folders or not seen.isdisjoint(parent_paths(name)):
            raise hostile_archive(member, "stands for something that is there already")
        seen.add(name)
        folders |= parent_paths(name)
        reason = why_held(stream, member, name, arrival, access, written) or pages.why_not(name)
        entry = ArchiveEntry(
            member,
            None,
            HeldFile(name, reason or "", member.size, access.is_taken("--download", name)),
        )
        if reason is None:
            placed.append(entry)
        else:
            entries.append(with_content(stream, entry))
    return placed, entries


class PagesAndData:
    """The pages and data of one download.

    A page is not written beside data of its own name, which site generators obey with it.
    """

    def __init__(self) -> None:
        self._roles: dict[tuple[str, str], str] = {}

    def why_not(self, name: str) -> str | None:
        stem, role = same_stem(posixpath.basename(name))
        first = self._roles.setdefault((posixpath.dirname(name), stem), role) if role else role
        return None if first == role else "a page and its data must not lie together"


def why_held(
    stream: tarfile.TarFile,
    member: tarfile.TarInfo,
    name: str,
    arrival: ArrivedDownload,
    access: HostAccess,
    written: WrittenRecord,
) -> str | None:
    """By what it is, where it goes, and only then by what it holds: that reads all of it."""
    if member.issym():
        return LEADS_OUT if leads_out(PurePosixPath(member.name), member.linkname) else "a link"
    reason = access.why_not_written("--download", name, force=arrival.force, written=written)
    if reason is None:
        with content_of(stream, member) as file:
            reason = why_no_content(posixpath.basename(name), file, member.size)
    return reason


def with_content(stream: tarfile.TarFile, entry: ArchiveEntry) -> ArchiveEntry:
    return (
        entry if entry.member.issym() else replace(entry, content=content_of(stream, entry.member))
    )


def parent_paths(name: str) -> set[str]:
    return {parent.as_posix() for parent in PurePosixPath(name).parents}


def place_members(
    members: list[tarfile.TarInfo], here: str, access: HostAccess
) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Each file and link with its name here."""
    single = len(members) == 1 and not members[0].isdir()
    for member in members:
        if not member.isdir():
            name = PurePosixPath(member.name).as_posix()
            yield (
                member,
                posixpath.normpath(
                    file_place(here, name, access) if single else posixpath.join(here, name)
                ),
            )


def file_place(here: str, name: str, access: HostAccess) -> str:
    """A single file goes into a folder that is there, else it is called what the user said."""
    into = here.endswith("/") or os.path.isdir(access.allowed("--download", here, write=True))
    return posixpath.join(here, posixpath.basename(name)) if into else here


class ResultWriter:
    """Writes results one after another, none through a link, none executable.

    The last folder stays open for the next file.
    """

    def __init__(self, access: HostAccess, written: WrittenRecord, *, force: bool) -> None:
        self._access = access
        self._force = force
        self._written = written
        self._folder: OpenFolder | None = None

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._folder is not None:
            self._folder.close()

    def write(self, name: str, content: IO[bytes]) -> SavedFile | None:
        """A new file, or one in place of what a run wrote; None when somebody was quicker there.

        Raises Failure host_access for a full or closed place.
        """
        path = self._access.allowed("--download", name, write=True)
        first = self._access.first_folder(path)
        is_new = first is not None and not os.path.lexists(first)
        try:
            with content:
                folder = self._enter(name, path.parent)
                if first is not None and is_new:
                    self._written.note_folder(first)
                size, digest, inode = write_whole(
                    folder, path.name, content, may_replace=lambda: self._may_replace(path)
                )
        except FileExistsError:
            return None
        except OSError as error:
            raise Failure(
                "host_access",
                f"--download {quote_path(name)}: {error.strerror}",
                fix="name a place that can be written",
            ) from None
        self._written.note_file(path, digest, inode)
        return SavedFile(name, size)

    def _may_replace(self, path: Path) -> bool:
        """Whether the new file, now whole, may take the place of what is there.

        Asked late because writing may take a while: an edit of the user's since the first look
        stays. Raises FileExistsError when its page or its data has come meanwhile.
        """
        if has_page_or_data_beside(path):
            raise FileExistsError(path)
        return (
            self._force
            and os.path.lexists(path)
            and self._access.is_as_written(path, self._written)
        )

    def _enter(self, name: str, path: Path) -> OpenFolder:
        if self._folder is None or self._folder.path != path:
            if self._folder is not None:
                self._folder.close()
                self._folder = None
            self._folder = self._access.open_folder("--download", name, path, write=True)
        return self._folder


def write_whole(
    folder: OpenFolder, name: str, content: IO[bytes], *, may_replace: Callable[[], bool]
) -> tuple[int, str, int]:
    """(bytes, digest, inode) of a file that gets its name when it is whole, or not at all.

    Raises OSError.
    """
    part, digest, size = f".{uuid.uuid4().hex}.part", new_digest(), 0
    try:
        with os.fdopen(folder.open(part, NEW, PLAIN_MODE), "wb") as target:
            while chunk := content.read(CHUNK):
                target.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            inode = os.fstat(target.fileno()).st_ino
        folder.put(part, name, replace=may_replace())
    except BaseException:
        folder.remove(part)
        raise
    return size, digest.hexdigest(), inode
