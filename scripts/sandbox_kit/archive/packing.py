"""Files on their way into a sandbox: what travels and what stays, in one tar."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from skill_env import quoted

from ..console import quote_path
from ..defaults import LARGEST_TRANSFER, MOST_FILES
from ..errors import Failure, UsageFailure
from ..host_access.folders import OpenFolder, open_folder, open_regular_file
from ..host_access.gate import MORE_PATHS, HostAccess
from ..host_access.keys import (
    BY_CONTENT,
    BY_NAME,
    DOTFILE,
    SOURCES,
    holds_a_secret,
)
from .pairs import Upload
from .selection import (
    GIT_ITSELF,
    IGNORED,
    LEADS_OUT,
    NO_FILE,
    OWN_REPOSITORY,
    SUBMODULE,
    LeftHere,
    Selected,
    Selection,
)

NAMES_SHOWN = 8
PLAIN_MODE, FOLDER_MODE, LINK_MODE = 0o644, 0o755, 0o777


@dataclass
class PackedUpload:
    """A tar that is ready to go, and what a person wants to know of it."""

    path: Path
    files: int = 0
    size: int = 0
    left: list[LeftPath] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # sentences on what could not be read

    def describe(self) -> str:
        return f"{describe_number(self.files, 'file')}, {readable_size(self.size)}"

    def describe_left(self) -> list[tuple[str, str]]:
        """For each reason: which stay and how many; and what to type, if anything sends them.

        That holds a quoted name, so whoever takes a secret out of it must not show it.
        """
        reasons: dict[str, list[LeftPath]] = {}
        for found in self.left:
            reasons.setdefault(found.reason, []).append(found)
        return [describe_reason(reason, found) for reason, found in reasons.items()]

    def left_as_json(self) -> list[dict[str, str]]:
        return [{"path": found.path, "reason": found.reason} for found in self.left]


@dataclass(frozen=True)
class LeftPath:
    """What stays here: its path as a flag would name it, and what to type that sends it."""

    path: str
    reason: str
    fix: str | None = None


def describe_reason(reason: str, found: list[LeftPath]) -> tuple[str, str]:
    fix = next((left.fix for left in found if left.fix), "")
    return f"left here: {list_names([left.path for left in found])}: {len(found)}, {reason}", fix


def describe_number(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


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
    """All of `uploads` in one tar at `path`; raises Failure for nothing, too much, or no access."""
    found = PackedUpload(path)
    with tarfile.open(path, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for upload in uploads:
            top = access.folder_to_read("--upload", upload.here)
            if top is None:
                real = access.allowed("--upload", upload.here)
                with access.open_folder("--upload", upload.here, real.parent, write=False) as held:
                    within = Path(real.name)
                    add_file(
                        archive, held, real.name, upload.there, found, within=within, named=True
                    )
            else:
                access.open_folder("--upload", upload.here, top, write=False).close()
                add_folder(archive, top, upload, found, access)
    return found


def add_folder(
    archive: tarfile.TarFile,
    top: Path,
    upload: Upload,
    found: PackedUpload,
    access: HostAccess,
) -> None:
    """A tree without what git ignores, what looks secret, and what is no file."""
    files, selection = found.files, Selection(top, access.protected.identities(write=False))
    if upload.there != ".":
        add_entry(archive, upload.there, tarfile.DIRTYPE, top.stat().st_mtime)
    for selected in selection.walk():
        add_selected(archive, selected, selection, upload.there, found)
    left = [left_path(item, upload, top, has_git=selection.has_git) for item in selection.left]
    found.left += left
    if selection.problem and selection.problem not in found.problems:
        found.problems.append(selection.problem)
    if found.files == files:
        raise nothing_to_send(upload, left)


def add_selected(
    archive: tarfile.TarFile,
    selected: Selected,
    selection: Selection,
    there: str,
    found: PackedUpload,
) -> None:
    """One folder's own entries."""
    inside = path_within(there, selected.folder.relative_to(selection.top).as_posix())
    try:
        opened = open_folder(selected.folder)
    except OSError:  # it went away meanwhile, and has nothing to add
        return
    with opened as folder:
        for name in selected.folders:
            status = folder.look(name)
            if status is not None:
                add_entry(archive, path_within(inside, name), tarfile.DIRTYPE, status.st_mtime)
        for name in selected.names:
            path = selected.folder / name
            entry = path_within(inside, name)
            reason = add_path(archive, folder, path, selection.top, entry, found)
            if reason is not None:
                selection.leave(path, reason)


def nothing_to_send(upload: Upload, left: list[LeftPath]) -> UsageFailure:
    """An empty folder, or one whose files all stay, is not what anybody means to send."""
    told = "; ".join(line for line, _ in PackedUpload(Path(), left=left).describe_left())
    fix = next((item.fix for item in left if item.fix), "name a folder that holds files")
    return UsageFailure(
        f"--upload {quote_path(upload.here)}: no files to send" + (f"; {told}" if told else ""),
        fix=fix,
    )


def left_path(item: LeftHere, upload: Upload, top: Path, *, has_git: bool) -> LeftPath:
    """With the path as a flag would name it from the working directory."""
    slash = "/" if item.path.endswith("/") else ""
    here = path_within(upload.here.replace(os.sep, "/"), item.path)
    pair = here
    if path_within(upload.there, item.path) != here:
        pair = f"{here}:{path_within(upload.there, item.path)}"
    return LeftPath(here + slash, item.reason, fix_for(item, pair, here, top, has_git=has_git))


def fix_for(item: LeftHere, pair: str, here: str, top: Path, *, has_git: bool) -> str | None:
    """The one thing to type that sends it; None for what nothing sends."""
    if item.reason in (IGNORED, SUBMODULE, OWN_REPOSITORY):
        return f"to send it: --upload {quoted(pair)}"
    if item.reason == GIT_ITSELF:
        return "to name a version: --env SETUPTOOLS_SCM_PRETEND_VERSION=1.0; or --repo URL"
    real = str(top / item.path.rstrip("/"))
    if item.reason not in (BY_NAME, DOTFILE) or os.path.islink(real):  # a stranger chose its end
        return None
    if item.reason == BY_NAME and has_git and here.lower().endswith(SOURCES):
        return f"to send it: git --literal-pathspecs add -- {quoted(here)}"
    if os.pathsep not in real:  # that would be two paths, and a stranger chose the second one
        return f"the user may allow it: export {MORE_PATHS}={quoted(real)} before the session"
    return None


def path_within(there: str, relative: str) -> str:
    return posixpath.normpath(posixpath.join(there, relative))


def add_path(
    archive: tarfile.TarFile,
    folder: OpenFolder,
    path: Path,
    top: Path,
    there: str,
    found: PackedUpload,
) -> str | None:
    """Why a file or link stays here after all; None when it was added, or is gone."""
    status = folder.look(path.name)
    if status is None:
        return None
    if stat.S_ISLNK(status.st_mode):
        return None if add_link(archive, top, path, there, found) else LEADS_OUT
    if not stat.S_ISREG(status.st_mode):
        return NO_FILE
    within = path.relative_to(top)
    return None if add_file(archive, folder, path.name, there, found, within=within) else BY_CONTENT


def add_entry(
    archive: tarfile.TarFile, name: str, kind: bytes, changed: float, *, link: str = ""
) -> None:
    """A folder or a link, with the time of its last change."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.mtime, entry.linkname = kind, int(changed), link
    entry.mode = FOLDER_MODE if kind == tarfile.DIRTYPE else LINK_MODE
    archive.addfile(entry)


def add_link(
    archive: tarfile.TarFile, top: Path, path: Path, name: str, found: PackedUpload
) -> bool:
    """Add a relative link that stays in the tree; False for any other.

    Another one would lead nowhere in the sandbox, or show it this machine's paths.
    """
    target = os.readlink(path)
    end = Path(os.path.normpath(path.parent / target))
    if os.path.isabs(target) or not end.is_relative_to(top):
        return False
    changed = path.lstat().st_mtime
    add_entry(archive, name, tarfile.SYMTYPE, changed, link=Path(target).as_posix())
    count_file(found, 0)
    return True


def add_file(
    archive: tarfile.TarFile,
    folder: OpenFolder,
    name: str,
    there: str,
    found: PackedUpload,
    *,
    within: Path,
    named: bool = False,
) -> bool:
    """False for a key, which stays here; one that a flag `named` raises Failure host_access."""
    with open_regular_file("--upload", name, folder, name) as stream:
        if holds_a_secret(within, stream):
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
