"""sandboxes.py fetch: bring what a run left held to where the user says. Consent is that somebody typed it, so any name will do.

It still refuses what leads out of the given folder, and the skill's own folders: what came back is a stranger's.
"""

from __future__ import annotations

import contextlib
import posixpath
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .failures import Failure, UsageFailure
from .held import HeldDownload, read_held, tar_of
from .host_access import shown
from .host_files import Folder, Judge, keep_out, open_folder
from .project import Protected
from .transfer import Saved, checked, content, safe_remote, split_pair, write_whole


@dataclass(frozen=True)
class Wish:
    """One THERE[:HERE] of the command line."""

    there: str
    here: Path

    @classmethod
    def of(cls, text: str, folder: Path) -> Wish:
        """HERE is the name that THERE ends with, unless it is given."""
        there, here = split_pair(text, flag="fetch")
        there = safe_remote(there, flag="fetch")
        return cls(there, Path(folder / (here or posixpath.basename(there))).expanduser().resolve())


def listed(run_id: str) -> list[tuple[str, str, int]]:
    """(path in the sandbox, where it was to go, bytes) of every file that is held of a run; raises UsageFailure."""
    run_id, found = run_id.removeprefix("run-"), []
    for download in read_held(run_id):
        with tarfile.open(tar_of(run_id, download), mode="r:") as archive:
            found += [(inside(download, member), download.here, member.size) for member in archive]
    return found


def inside(download: HeldDownload, member: tarfile.TarInfo) -> str:
    """A member's path in the sandbox; a single file's is what was asked for."""
    name = PurePosixPath(member.name).as_posix()
    return (
        download.there
        if name == posixpath.basename(download.there)
        else posixpath.normpath(posixpath.join(download.there, name))
    )


def fetch(run_id: str, pairs: tuple[str, ...], *, force: bool, folder: Path) -> list[Saved]:
    """Write what `pairs` name; raises Failure before anything is written when a place is taken or closed."""
    run_id = run_id.removeprefix("run-")  # as the sandbox was called
    downloads = read_held(run_id)
    saved: list[Saved] = []
    for wish in [Wish.of(text, folder) for text in pairs]:
        download = next((found for found in downloads if is_below(wish.there, found.there)), None)
        if download is None:
            held = ", ".join(shown(found.there) for found in downloads)
            raise UsageFailure(
                f"run {run_id} holds nothing of {shown(wish.there)}", fix=f"it holds: {held}"
            )
        with tarfile.open(tar_of(run_id, download), mode="r:") as archive:
            saved += take(archive, download, wish, force=force)
    return saved


def is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def take(
    archive: tarfile.TarFile, download: HeldDownload, wish: Wish, *, force: bool
) -> list[Saved]:
    """The files of one wish, links last; all places are looked at before the first is written."""
    members = [
        member for member in checked(archive) if is_below(inside(download, member), wish.there)
    ]
    if not members:
        raise UsageFailure(
            f"nothing of {shown(wish.there)} is held", fix="sandboxes.py fetch RUN lists what is"
        )
    placed = [(member, place_of(member, download, wish)) for member in members]
    protected = Protected.of_this_skill()
    for _, path in placed:
        refuse(path, wish.here, protected, force=force)
    judge = keep_out(protected.identities(write=True), failure_of_own_folders())
    placed.sort(key=lambda pair: pair[0].issym())
    return [write(archive, member, path, judge, force=force) for member, path in placed]


def place_of(member: tarfile.TarInfo, download: HeldDownload, wish: Wish) -> Path:
    """A file that was asked for by its own name takes HERE's, unless that is a folder."""
    path = inside(download, member)
    if path == wish.there and not member.isdir():
        return wish.here / PurePosixPath(path).name if wish.here.is_dir() else wish.here
    return wish.here / PurePosixPath(path).relative_to(wish.there)


def refuse(path: Path, here: Path, protected: Protected, *, force: bool) -> None:
    """Raises Failure for a path that leads out of `here` by a link that lies there, into the skill's folders, or over a file."""
    real = path.parent.resolve() / path.name
    if real != path or protected.covers(real, write=True):
        where = (
            "is below this skill's own folders"
            if real == path
            else f"leads out of {shown(str(here))}"
        )
        raise Failure("host_access", f"{shown(str(path))} {where}", fix="name another folder")
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            raise Failure(
                "host_access", f"{shown(str(path))} is a folder", fix="name another place"
            )
        if not force and path.lstat():
            raise Failure(
                "host_access",
                f"{shown(str(path))} is there already",
                fix="--force overwrites it; or name another place",
            )


def write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, judge: Judge, *, force: bool
) -> Saved:
    """One file or link, never executable; raises Failure host_access."""
    try:
        with open_folder(path.parent, make=True, judge=judge) as folder:
            if member.issym():
                return link(folder, member, path, force=force)
            with content(archive, member) as file:
                size, _, _ = write_whole(folder, path.name, file, may_replace=lambda: force)
    except OSError as error:
        raise Failure(
            "host_access",
            f"{shown(str(path))}: {error.strerror}",
            fix="name a place that can be written",
        ) from None
    return Saved(str(path), size)


def failure_of_own_folders() -> Failure:
    return Failure(
        "host_access", "that is below this skill's own folders", fix="name another folder"
    )


def link(folder: Folder, member: tarfile.TarInfo, path: Path, *, force: bool) -> Saved:
    """It leads to something of the same archive, which was checked."""
    there = folder.look(path.name)
    if force and there is not None and not stat.S_ISDIR(there.st_mode):
        folder.remove(path.name)
    folder.link(member.linkname, path.name)
    return Saved(str(path), 0)
