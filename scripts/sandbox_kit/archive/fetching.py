"""sandboxes.py fetch: bring what a run left held to where the user says.

Consent is that somebody typed it, so any name will do. It still refuses what leads out of the given
folder, and the skill's own folders: what came back is a stranger's.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..console import quote_path
from ..defaults import LARGEST_TRANSFER, MOST_FILES
from ..errors import Failure, UsageFailure
from ..host_access.folders import FolderJudge, OpenFolder, open_folder, refuse_folders
from ..host_access.held import HeldDownload, read_held, tar_of
from ..host_access.project import ProtectedFolders
from ..host_access.results import fold_name
from ..plain_text import UNSEEN
from .members import content_of, leads_out, read_members
from .pairs import safe_remote, split_pair
from .unpacking import SavedFile, write_whole

OBEYED_REPOSITORIES = frozenset({".git", "git~1", ".hg", "hg~1", ".jj", ".bzr", "_darcs"})
# Of a folder that git takes for one.
REPOSITORIES = (frozenset({"head", "objects", "refs"}), frozenset({"head", "commondir"}))
MOST_FETCHED, LARGEST_FETCHED = (
    10 * MOST_FILES,
    4 * LARGEST_TRANSFER,
)  # somebody asked for it, and a worker that can be killed reads it


@dataclass(frozen=True)
class FetchRequest:
    """One THERE[:HERE] of the command line."""

    there: str
    here: Path

    @classmethod
    def of(cls, text: str, folder: Path) -> FetchRequest:
        """HERE is the name that THERE ends with, unless it is given."""
        there, here = split_pair(text, flag="fetch")
        there = safe_remote(there, flag="fetch")
        return cls(there, Path(folder / (here or posixpath.basename(there))).expanduser().resolve())


def list_held_files(run_id: str) -> list[tuple[str, str, int]]:
    """(path in the sandbox, where it was to go, bytes) of what is held; raises UsageFailure."""
    run_id, found = run_id.removeprefix("run-"), []
    for download in read_held(run_id):
        with tarfile.open(tar_of(run_id, download), mode="r:") as archive:
            found += [
                (path_inside(download, member), download.here, member.size) for member in archive
            ]
    return found


def path_inside(download: HeldDownload, member: tarfile.TarInfo) -> str:
    """A member's path in the sandbox; a single file's is what was asked for."""
    if member.name == posixpath.basename(download.there):  # those of a folder begin with `./`
        return download.there
    return posixpath.normpath(posixpath.join(download.there, member.name))


@dataclass
class Fetched:
    """What was written, and the links that were not: they lead out, or through other links."""

    saved: list[SavedFile] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    of_git: list[str] = field(default_factory=list)  # a repository's own files, which git obeys


def fetch_results(run_id: str, pairs: tuple[str, ...], *, force: bool, folder: Path) -> Fetched:
    """Write what `pairs` name; Failure for a taken or closed place before the first write."""
    run_id = run_id.removeprefix("run-")  # as the sandbox was called
    downloads = read_held(run_id)
    found = Fetched()
    for wish in [FetchRequest.of(text, folder) for text in pairs]:
        candidates = [held for held in downloads if is_below(wish.there, held.there)]
        if not candidates:
            held = ", ".join(quote_path(held.there) for held in downloads)
            raise UsageFailure(
                f"run {run_id} holds nothing of {quote_path(wish.there)}", fix=f"it holds: {held}"
            )
        # The same THERE may have been brought to two places, and be held for one of them.
        candidates.sort(key=lambda held: Path(held.here).resolve() != wish.here)
        fetch_wish(run_id, candidates, wish, found, force=force)
    return found


def fetch_wish(
    run_id: str,
    candidates: list[HeldDownload],
    wish: FetchRequest,
    found: Fetched,
    *,
    force: bool,
) -> None:
    """From the first of the downloads that has it."""
    for download in candidates:
        with tarfile.open(tar_of(run_id, download), mode="r:") as archive:
            if fetch_one(archive, download, wish, found, force=force):
                return
    raise UsageFailure(
        f"nothing of {quote_path(wish.there)} is held",
        fix="sandboxes.py fetch RUN lists what is",
    )


def is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def fetch_one(
    archive: tarfile.TarFile,
    download: HeldDownload,
    wish: FetchRequest,
    found: Fetched,
    *,
    force: bool,
) -> bool:
    """The files of one wish, links last; all places are looked at before the first is written.

    False when there are none.
    """
    wanted = [
        member
        for member in read_members(archive, most=MOST_FETCHED, largest=LARGEST_FETCHED).good
        if is_below(path_inside(download, member), wish.there)
    ]
    if not wanted:
        return False
    wanted, of_git = without_repositories(wanted, download, wish)
    found.of_git += of_git
    links = {normal_name(member.name) for member in wanted if member.issym()}
    left = [member for member in wanted if member.issym() and leads_astray(member, links)]
    found.left += [path_inside(download, member) for member in left]
    members = [member for member in wanted if not member.isdir() and member not in left]
    placed = [(member, place_of(member, download, wish)) for member in members]
    protected = ProtectedFolders.of_this_skill()
    for _, path in placed:
        refuse_place(path, wish.here, protected, force=force)
    judge = refuse_folders(protected.identities(write=True), failure_of_own_folders())
    placed.sort(key=lambda pair: pair[0].issym())
    found.saved += [
        write_member(archive, member, path, judge, force=force) for member, path in placed
    ]
    return True


def without_repositories(
    wanted: list[tarfile.TarInfo], download: HeldDownload, wish: FetchRequest
) -> tuple[list[tarfile.TarInfo], list[str]]:
    """What is no repository's own, and the paths of what is.

    git obeys a repository wherever it lies, `.git` or bare, at the next command below it. So its
    files come only where the path that was asked for lies in it, or is its folder.
    """
    asked = {fold_name(part) for part in wish.there.split("/")}
    bare = bare_folders([path_inside(download, member) for member in wanted], wish)
    kept, left = [], []
    for member in wanted:
        path = path_inside(download, member)
        below = path.removeprefix(wish.there).strip("/").split("/")
        is_gits = any(is_git_folder(part) for part in below) and not asked & OBEYED_REPOSITORIES
        if is_gits or any(is_below(path, folder) for folder in bare):
            left.append(path)
        else:
            kept.append(member)
    return kept, left


def is_git_folder(name: str) -> bool:
    """Or another version control's, whose settings run programs too.

    As file systems compare names: some know no case, no unseen characters, no dots and blanks at an
    end, or take what follows a colon for a part of the file.
    """
    folded = UNSEEN.sub("", fold_name(name)).partition(":")[0].rstrip(". ")
    return folded in OBEYED_REPOSITORIES


def bare_folders(paths: list[str], wish: FetchRequest) -> set[str]:
    """Folders that would be repositories, with what lies there already; not the one asked for."""
    inside: dict[str, set[str]] = {}
    for path in paths:
        parts = path.split("/")
        for number, part in enumerate(parts):
            inside.setdefault("/".join(parts[:number]), set()).add(fold_name(part))
    found = set()
    for folder, names in inside.items():
        here = wish.here / folder.removeprefix(wish.there).strip("/")
        for marks in REPOSITORIES:
            there = {name for name in marks if os.path.lexists(here / name)}
            there |= {"head"} if os.path.lexists(here / "HEAD") else set()
            if names & marks and names | there >= marks and is_below(folder, wish.there):
                found.add(folder)
    return found


def leads_astray(link: tarfile.TarInfo, links: set[str]) -> bool:
    """Out of the archive, by itself or through another link of it."""
    parent = PurePosixPath(normal_name(link.name)).parent
    steps = PurePosixPath(parent, link.linkname).parts
    on_the_way = {normal_name(posixpath.join(*steps[:count])) for count in range(1, len(steps) + 1)}
    return leads_out(PurePosixPath(link.name), link.linkname) or not links.isdisjoint(on_the_way)


def normal_name(name: str) -> str:
    return posixpath.normpath(name)


def place_of(member: tarfile.TarInfo, download: HeldDownload, wish: FetchRequest) -> Path:
    """A file that was asked for by its own name takes HERE's, unless that is a folder."""
    path = path_inside(download, member)
    if path == wish.there and not member.isdir():
        return wish.here / PurePosixPath(path).name if wish.here.is_dir() else wish.here
    return wish.here / PurePosixPath(path).relative_to(wish.there)


def refuse_place(path: Path, here: Path, protected: ProtectedFolders, *, force: bool) -> None:
    """Raises Failure for a path out of `here` by a link, into the skill's, or over a file."""
    real = path.parent.resolve() / path.name
    if real != path or protected.covers(real, write=True):
        where = (
            "is below this skill's own folders"
            if real == path
            else f"leads out of {quote_path(str(here))}"
        )
        raise Failure("host_access", f"{quote_path(str(path))} {where}", fix="name another folder")
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            raise Failure(
                "host_access", f"{quote_path(str(path))} is a folder", fix="name another place"
            )
        if not force and path.lstat():
            raise Failure(
                "host_access",
                f"{quote_path(str(path))} is there already",
                fix="--force overwrites it; or name another place",
            )


def write_member(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: Path,
    judge: FolderJudge,
    *,
    force: bool,
) -> SavedFile:
    """One file or link, never executable; raises Failure host_access."""
    try:
        with open_folder(path.parent, make=True, judge=judge) as folder:
            if member.issym():
                return write_link(folder, member, path, force=force)
            with content_of(archive, member) as file:
                size, _, _ = write_whole(folder, path.name, file, may_replace=lambda: force)
    except OSError as error:
        raise Failure(
            "host_access",
            f"{quote_path(str(path))}: {error.strerror}",
            fix="name a place that can be written",
        ) from None
    return SavedFile(str(path), size)


def failure_of_own_folders() -> Failure:
    return Failure(
        "host_access", "that is below this skill's own folders", fix="name another folder"
    )


def write_link(
    folder: OpenFolder, member: tarfile.TarInfo, path: Path, *, force: bool
) -> SavedFile:
    """It leads to something of the same archive, which was checked."""
    there = folder.look(path.name)
    if force and there is not None and not stat.S_ISDIR(there.st_mode):
        folder.remove(path.name)
    folder.link(member.linkname, path.name)
    return SavedFile(str(path), 0)
