"""What came back: results are written into the project, everything else is held."""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import Failure
from ..host_access.contents import why_no_content
from ..host_access.folders import NEW, OpenFolder
from ..host_access.gate import HostAccess
from ..host_access.held import (
    LEADS_OUT,
    LEFT_BEHIND,
    TAKEN,
    ArchiveEntry,
    HeldFile,
    HeldResults,
)
from ..host_access.written import WrittenRecord, new_digest
from .members import BROKEN_ARCHIVE, FIX_HOSTILE, Members, content_of, leads_out, read_members
from .packing import PLAIN_MODE

CHUNK = 1 << 20


@dataclass(frozen=True)
class SavedFile:
    """A file that came back: its path here, its size in bytes."""

    path: str
    bytes: int


@dataclass(frozen=True)
class Unpacked:
    """What one download wrote, and why the rest of it could not be kept, if that failed."""

    saved: list[SavedFile]
    failure: Failure | None = None


@dataclass(frozen=True)
class ArrivedDownload:
    """A download that has come: its archive here, and what was asked for."""

    archive: Path
    there: str
    here: str
    force: bool


def unpack_download(
    arrival: ArrivedDownload, access: HostAccess, *, held: HeldResults, written: WrittenRecord
) -> Unpacked:
    """Write the results of one download and hold the rest.

    Raises Failure archive for what is no archive.
    """
    try:
        with tarfile.open(arrival.archive, mode="r:") as stream:
            plan = Plan(stream, arrival, access, written)
            plan.sort(read_members(stream))
            saved = plan.write()
            try:
                plan.keep(held)
            except Failure as failure:  # what was written is written
                return Unpacked(saved, failure)
            return Unpacked(saved)
    except BROKEN_ARCHIVE as error:
        raise Failure(
            "archive", f"what the sandbox sent is not a proper archive: {error}", fix=FIX_HOSTILE
        ) from None


class Plan:
    """Of one download: what is written, and what is held with the reason why."""

    def __init__(
        self,
        stream: tarfile.TarFile,
        arrival: ArrivedDownload,
        access: HostAccess,
        written: WrittenRecord,
    ) -> None:
        self.placed: list[ArchiveEntry] = []
        self.held: list[ArchiveEntry] = []
        self._stream = stream
        self._arrival = arrival
        self._access = access
        self._written = written
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def sort(self, members: Members) -> None:
        """By what it is, where it goes, and only then by what it holds: that is read whole."""
        here = self._arrival.here
        for member, reason in members.left:
            name = posixpath.join(here, PurePosixPath(member.name).as_posix().lstrip("/"))
            self._hold(member, name, f"{LEFT_BEHIND}{reason}")
        for member, name in place_members(members, here, self._access):
            if self._is_in_the_way(name):
                self._hold(member, name, f"{LEFT_BEHIND}it stands for something else of this name")
                continue
            self._files.add(name)
            self._folders |= parent_paths(name)
            why = self._why_held(member, name)
            if why is None:
                self.placed.append(ArchiveEntry(member, None, HeldFile(name, "", member.size)))
            else:
                self._hold(member, name, why)

    def write(self) -> list[SavedFile]:
        """What is placed; what cannot be written after all is held."""
        saved = []
        with ResultWriter(self._access, self._written, force=self._arrival.force) as writer:
            for entry in self.placed:
                try:
                    content = content_of(self._stream, entry.member)
                    saved.append(writer.write(entry.file.path, content))
                except FileExistsError as error:
                    self._hold(entry.member, entry.file.path, str(error))
                except OSError as error:
                    self._hold(entry.member, entry.file.path, error.strerror or "not written")
                except Failure:
                    self._hold(entry.member, entry.file.path, "no place that is written")
        return saved

    def keep(self, held: HeldResults) -> None:
        """What is held; raises Failure host_access when that cannot be."""
        if self.held:
            here = str(self._access.folder / self._arrival.here)
            entries = [with_content(self._stream, entry) for entry in self.held]
            held.keep(self._arrival.there, here, entries)

    def _is_in_the_way(self, name: str) -> bool:
        taken = name in self._files or name in self._folders
        return taken or not self._files.isdisjoint(parent_paths(name))

    def _hold(self, member: tarfile.TarInfo, name: str, reason: str) -> None:
        exists = self._access.is_taken("--download", name)
        self.held.append(ArchiveEntry(member, None, HeldFile(name, reason, member.size, exists)))

    def _why_held(self, member: tarfile.TarInfo, name: str) -> str | None:
        if member.issym():
            out = leads_out(PurePosixPath(member.name), member.linkname)
            return LEADS_OUT if out else "a link"
        reason = self._access.why_not_written(
            "--download", name, force=self._arrival.force, written=self._written
        )
        if reason is None:
            with content_of(self._stream, member) as file:
                reason = why_no_content(posixpath.basename(name), file, member.size)
        return reason


def with_content(stream: tarfile.TarFile, entry: ArchiveEntry) -> ArchiveEntry:
    if entry.file.is_left_behind or entry.member.issym():
        return entry
    return replace(entry, content=content_of(stream, entry.member))


def parent_paths(name: str) -> set[str]:
    return {parent.as_posix() for parent in PurePosixPath(name).parents}


def place_members(
    members: Members, here: str, access: HostAccess
) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Each file and link with its name here."""
    for member in members.good:
        if not member.isdir():
            name = PurePosixPath(member.name).as_posix()
            yield (
                member,
                posixpath.normpath(
                    file_place(here, name, access)
                    if members.is_single_file
                    else posixpath.join(here, name)
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

    def write(self, name: str, content: IO[bytes]) -> SavedFile:
        """A new file, or one in the place of what a run wrote.

        Raises FileExistsError with the reason when somebody was quicker there, Failure host_access
        for a closed place, OSError for one that takes nothing.
        """
        path = self._access.allowed("--download", name, write=True)
        with content:
            folder = self._enter(name, path)
            size, digest, inode = write_whole(
                folder, path.name, content, may_replace=lambda: self._may_replace(path)
            )
        self._written.note_file(path, digest, inode)
        return SavedFile(name, size)

    def _may_replace(self, path: Path) -> bool:
        """Asked when the new file is whole, which takes a while: an edit meanwhile stays."""
        if not os.path.lexists(path):
            return False
        if not (self._force and self._access.is_as_written(path, self._written)):
            raise FileExistsError(TAKEN)
        return True

    def _enter(self, name: str, path: Path) -> OpenFolder:
        if self._folder is None or self._folder.path != path.parent:
            if self._folder is not None:
                self._folder.close()
                self._folder = None
            first = self._access.first_folder(path)

            def watch(folder: Path, status: os.stat_result, made: bool) -> None:
                """One that a run made, none that came since the first look."""
                if made:
                    self._written.note_folder(folder, status)
                    return
                for_results = first is not None and folder.is_relative_to(first)
                if for_results and not self._written.made_folder(folder, status):
                    raise FileExistsError("somebody else made that folder meanwhile")

            self._folder = self._access.open_folder(
                "--download", name, path.parent, write=True, watch=watch
            )
        return self._folder


def write_whole(
    folder: OpenFolder, name: str, content: IO[bytes], *, may_replace: Callable[[], bool]
) -> tuple[int, str, int]:
    """(bytes, digest, inode) of a file that has its name when it is whole; raises OSError."""
    part, digest, size = f".{uuid.uuid4().hex}.part", new_digest(), 0
    there = folder.look(name)  # a private file stays private when it is made again
    mode = PLAIN_MODE & there.st_mode if there and stat.S_ISREG(there.st_mode) else PLAIN_MODE
    try:
        with os.fdopen(folder.open(part, NEW, mode), "wb") as target:
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
