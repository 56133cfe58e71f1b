"""Files on their way into a sandbox: what travels and what stays, in one tar."""

from __future__ import annotations

import contextlib
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..console import quote_path
from ..defaults import LARGEST_TRANSFER, MOST_FILES
from ..errors import Failure, UsageFailure
from ..host_access.folders import OpenFolder, open_folder, open_regular_file
from ..host_access.gate import HostAccess
from ..host_access.keys import KEY_LOOK, holds_a_key, may_leave
from .ignore_rules import IgnoreRules
from .pairs import Upload

NAMES_SHOWN = 8
PLAIN_MODE, FOLDER_MODE = 0o644, 0o755


@dataclass
class PackedUpload:
    """A tar that is ready to go, and what a person wants to know of it."""

    path: Path
    files: int = 0
    size: int = 0
    skipped: list[str] = field(default_factory=list)

    def describe(self) -> str:
        skipped = f"; left here: {list_names(self.skipped)}" if self.skipped else ""
        plural = "" if self.files == 1 else "s"
        return f"{self.files} file{plural}, {readable_size(self.size)}{skipped}"


def list_names(names: list[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(quote_path(name) for name in names[:NAMES_SHOWN]) + more


def readable_size(size: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size = size / 1000  # type: ignore[assignment]  # a number to be shown
    return f"{size:.1f} GB"


@contextlib.contextmanager
def temporary_tar() -> Iterator[Path]:
    """A file that is gone afterwards. It is closed meanwhile: Windows opens no file twice."""
    sandbox, name = tempfile.mkstemp(prefix="daytona-sandbox-", suffix=".tar")
    os.close(sandbox)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def pack_uploads(path: Path, uploads: Sequence[Upload], access: HostAccess) -> PackedUpload:
    """All of `uploads` in one tar at `path`; raises Failure for too much or what cannot be read."""
    found = PackedUpload(path)
    with tarfile.open(path, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for upload in uploads:
            here, there = upload.here, upload.there
            top = access.folder_to_read("--upload", here)
            if top is None:
                real = access.allowed("--upload", here)
                with access.open_folder("--upload", here, real.parent, write=False) as folder:
                    add_file(archive, folder, real.name, there, found, named=True)
            else:
                access.open_folder("--upload", here, top, write=False).close()
                add_folder(archive, top, there, found)
    return found


def add_folder(archive: tarfile.TarFile, top: Path, there: str, found: PackedUpload) -> None:
    """A tree without what git would ignore, what looks secret, and what is no file."""
    rules = IgnoreRules(top)
    if there != ".":
        add_entry(archive, there, tarfile.DIRTYPE, FOLDER_MODE)
    for folder, folders, names in os.walk(top):
        here = Path(folder)
        rules.read(here)
        keep = []
        for name in sorted(folders):
            path, relative = here / name, (here / name).relative_to(top)
            if path.is_symlink():
                add_link(archive, top, path, path_within(there, relative.as_posix()), found)
            elif name == ".git" or rules.match(path, folder=True):
                continue
            elif not may_leave(name):
                found.skipped.append(f"{relative.as_posix()}/")
            else:
                keep.append(name)
                add_entry(
                    archive, path_within(there, relative.as_posix()), tarfile.DIRTYPE, FOLDER_MODE
                )
        folders[:] = keep
        add_names(archive, top, here, sorted(names), there=there, rules=rules, found=found)


def path_within(there: str, relative: str) -> str:
    return posixpath.normpath(posixpath.join(there, relative))


def add_names(
    archive: tarfile.TarFile,
    top: Path,
    here: Path,
    names: list[str],
    *,
    there: str,
    rules: IgnoreRules,
    found: PackedUpload,
) -> None:
    try:
        opened = open_folder(here)
    except OSError:  # it went away meanwhile, and has nothing to add
        return
    with opened as folder:
        for name in names:
            path = here / name
            relative = path.relative_to(top).as_posix()
            if rules.match(path, folder=False):
                continue
            if not may_leave(name):
                found.skipped.append(relative)
            elif path.is_symlink():
                add_link(archive, top, path, path_within(there, relative), found)
            elif path.is_file() and not add_file(
                archive, folder, name, path_within(there, relative), found
            ):
                found.skipped.append(relative)


def add_entry(
    archive: tarfile.TarFile, name: str, kind: bytes, mode: int, *, link: str = ""
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, link
    archive.addfile(entry)


def add_link(
    archive: tarfile.TarFile, top: Path, path: Path, name: str, found: PackedUpload
) -> None:
    """Add a relative link that stays in the tree, and skip any other.

    Another one would lead nowhere in the sandbox, or show it this machine's paths.
    """
    target = os.readlink(path)
    if os.path.isabs(target) or not Path(os.path.normpath(path.parent / target)).is_relative_to(
        top
    ):
        found.skipped.append(path.relative_to(top).as_posix())
    else:
        add_entry(archive, name, tarfile.SYMTYPE, 0o777, link=Path(target).as_posix())
        count_file(found, 0)


def add_file(
    archive: tarfile.TarFile,
    folder: OpenFolder,
    name: str,
    there: str,
    found: PackedUpload,
    *,
    named: bool = False,
) -> bool:
    """False for a key, which stays here; one that a flag `named` raises Failure host_access."""
    with open_regular_file("--upload", name, folder, name) as stream:
        if holds_a_key(name, stream.read(KEY_LOOK)):
            if named:
                raise Failure(
                    "host_access",
                    f"--upload {quote_path(name)} holds a key",
                    fix="name a file that the program may know",
                )
            return False
        stream.seek(0)
        status = os.fstat(stream.fileno())
        entry = tarfile.TarInfo(there)
        entry.size, entry.mtime = status.st_size, int(status.st_mtime)
        entry.mode = 0o755 if status.st_mode & 0o100 else PLAIN_MODE
        count_file(found, entry.size)
        archive.addfile(entry, ExactReader(stream, entry.size))
    return True


def count_file(found: PackedUpload, size: int) -> None:
    found.files, found.size = found.files + 1, found.size + size
    if found.files > MOST_FILES or found.size > LARGEST_TRANSFER:
        raise UsageFailure(
            f"--upload: more than {MOST_FILES:,} files or {LARGEST_TRANSFER >> 20} MB",
            fix="name a smaller folder, or add what is not needed to .gitignore",
        )


class ExactReader:
    """A file of the size that its head promised, also when it shrinks or grows meanwhile."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._stream.read(wanted)
        self._left -= wanted
        return data + b"\0" * (wanted - len(data))
