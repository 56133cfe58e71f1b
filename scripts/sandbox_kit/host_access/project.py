"""Which folders are a project, where a flag may touch files.

The others are the machine's, the home's or a tool's own.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import skill_env

from .folders import READ_ONLY
from .keys import looks_like_a_key

# As trees: whoever works below these works on the machine; in the exceptions people keep projects.
SYSTEM_TREES = tuple(
    map(
        Path,
        [
            *"""
        /bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /run /sbin /snap /sys /usr /nix
        /var/backups /var/cache /var/lib /var/log /var/mail /var/run /var/spool /Applications
        /private/etc /private/var/db /private/var/log /System /Library
        """.split(),
            *(
                drive + name
                for drive in ("C:/", "/mnt/c/")  # as Windows has them, and as WSL mounts them
                for name in ("Windows", "Program Files", "Program Files (x86)", "ProgramData")
            ),
        ],
    )
)
# Hidden folders of macOS and Windows; the second one is no name of a project's, also where another
# system's homes are mounted.
TOOLS_FOLDERS = ("Library", "AppData", "snap", "Maildir")
VERSION_CONTROL = (".git", ".hg", ".svn", ".jj", "_darcs", ".fslckout")
PROJECTS_IN_THEM = tuple(map(Path, ("/usr/src", "/usr/local/src", "/run/media")))
# Where homes lie side by side; beside this user's own they do too.
WINDOWS_HOMES = Path("/mnt/c/Users")
HOMES = (Path("/home").resolve(), Path("/home"), Path("/Users"), WINDOWS_HOMES)
LONGEST_GIT_FILE = 4096


@dataclass(frozen=True)
class Project:
    """A working directory as flags may use it.

    `closed` says why they may not, as the end of a sentence about it.
    """

    folder: Path
    closed: str | None
    is_root: bool  # no folder above it is under version control

    @classmethod
    def around(cls, folder: Path) -> Project:
        """Of a folder whose links are resolved."""
        homes = home_folders()
        above_homes = {*homes, *(path for home in homes for path in home.parents)}
        root = work_tree_around(folder, above_homes)
        controlled = any(
            is_under_version_control(parent)
            for parent in folder.parents
            if parent not in above_homes
        )
        closed = why_closed(folder, homes) or why_key_like(folder, root, homes)
        return cls(folder, closed, root == folder or not controlled)


def home_folders() -> tuple[Path, ...]:
    """This user's home, as the environment and as the system have it."""
    found = [Path.home()]
    if hasattr(os, "geteuid"):
        with contextlib.suppress(KeyError, OSError):
            import pwd

            found.append(Path(pwd.getpwuid(os.geteuid()).pw_dir))
    return tuple(path.resolve() for path in found if path.is_absolute())


def why_closed(folder: Path, homes: Iterable[Path]) -> str | None:
    """Why nothing in `folder` is a project's; None for a project."""
    below = next((home for home in homes if folder.is_relative_to(home)), None)
    if any(home.is_relative_to(folder) for home in homes):
        if folder in homes:
            return "is the home folder itself"
        return "is a folder above the home folder"
    if is_the_machines(folder):
        return "is the machine's, not a project's"
    if any(tree.is_relative_to(folder) and tree.exists() for tree in SYSTEM_TREES):
        return "is a folder above the machine's own"
    if is_shared_by_everybody(folder):
        return "is everybody's, not a project's"
    if folder in (*HOMES, *(home.parent for home in homes)):
        return "holds the homes of this machine's users"
    if folder.parent == WINDOWS_HOMES:
        return "is a home folder of Windows'"
    if below is None and is_in_anothers_home(folder, homes):
        return "is another user's"
    return why_hidden(folder, below)


def is_the_machines(folder: Path) -> bool:
    in_them = any(folder.is_relative_to(tree) for tree in PROJECTS_IN_THEM)
    return not in_them and any(folder.is_relative_to(tree) for tree in SYSTEM_TREES)


def is_shared_by_everybody(folder: Path) -> bool:
    """`/tmp` and its like: all may write there, and each file is its writer's."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    return bool(mode & stat.S_ISVTX and mode & stat.S_IWOTH)


def why_hidden(folder: Path, home: Path | None) -> str | None:
    """Below a hidden folder, one of tools or of git's; a client's worktree is none of these."""
    root = next(
        (
            path
            for path in (folder, *folder.parents)
            if is_place_of_worktrees(path.parent) and is_linked_worktree(path)
        ),
        None,
    )
    for part in folder.relative_to(root or home or folder.anchor).parts:
        if part.startswith("."):
            return f"lies in {part}, a hidden folder"
        if part == "AppData" or (part in TOOLS_FOLDERS and home is not None):
            return f"lies in {part}, a folder of tools"
    if any(is_bare_repository(path) for path in (folder, *folder.parents)):
        return "lies in a repository of git's own"
    return None


def is_bare_repository(folder: Path) -> bool:
    """Where a file below `refs` is a branch."""
    return (folder / "HEAD").is_file() and all(
        (folder / name).is_dir() for name in ("objects", "refs")
    )


def is_in_anothers_home(folder: Path, homes: Iterable[Path] = ()) -> bool:
    """Whether it lies in somebody else's home, where homes lie side by side.

    A shared folder among them that is this user's is a place for projects.
    """
    beside = {home.parent for home in homes if home.parent != Path(home.anchor)}
    for place in (*HOMES, *beside):
        if folder.is_relative_to(place) and folder != place:
            with contextlib.suppress(OSError):
                return (place / folder.relative_to(place).parts[0]).stat().st_uid != os.geteuid()
    return False


def work_tree_around(folder: Path, no_projects: Collection[Path]) -> Path | None:
    """The nearest git work tree from `folder` up; a home that is one itself is no project."""
    candidates = (
        candidate for candidate in (folder, *folder.parents) if candidate not in no_projects
    )
    return next((candidate for candidate in candidates if is_work_tree(candidate)), None)


def is_under_version_control(folder: Path) -> bool:
    """By anything of that name: a `.git` that leads nowhere still says where a project begins."""
    return any(os.path.lexists(folder / name) for name in VERSION_CONTROL)


def why_key_like(folder: Path, root: Path | None, homes: Iterable[Path]) -> str | None:
    """A folder of keys is one also as the working directory; a project's own name is free."""
    base = root or next((home for home in homes if folder.is_relative_to(home)), None)
    parts = folder.relative_to(base or folder.anchor).parts
    name = next((part for part in parts if looks_like_a_key(part)), None)
    return f"lies in {name}, which looks like a place of keys" if name else None


def is_work_tree(folder: Path) -> bool:
    """Whether git takes it for one: by a `.git` with a HEAD, or a file that leads to such a one."""
    git = folder / ".git"
    with contextlib.suppress(OSError):
        if git.is_dir():
            return (git / "HEAD").is_file()
        target = git_folder_of(git)
        return target is not None and (target / "HEAD").is_file()
    return False


def git_folder_of(file: Path) -> Path | None:
    """Where a `.git` file of a worktree or submodule leads: `gitdir: PATH`."""
    mark, _, path = read_line(file).partition(":")
    return (
        (file.parent / path.strip()).resolve()
        if mark == "gitdir" and path.strip() and "\0" not in path
        else None
    )


def read_line(file: Path) -> str:
    """The beginning of a small file of git's; "" for a pipe, which would be waited for."""
    try:
        with os.fdopen(os.open(file, READ_ONLY & ~getattr(os, "O_NOFOLLOW", 0)), "rb") as stream:
            if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return stream.read(LONGEST_GIT_FILE).decode("utf-8", "replace")
    except OSError:
        pass
    return ""


def is_place_of_worktrees(folder: Path) -> bool:
    """Where clients put worktrees: `.claude/worktrees`, `.worktrees` and their like."""
    return folder.name == ".worktrees" or (
        folder.name == "worktrees" and folder.parent.name.startswith(".")
    )


def is_linked_worktree(folder: Path) -> bool:
    """A worktree that somebody added on purpose, as clients do below .claude/worktrees.

    It and its repository name each other.
    """
    target = git_folder_of(folder / ".git") if (folder / ".git").is_file() else None
    if target is None or not (target / "commondir").is_file():
        return False
    with contextlib.suppress(OSError):
        back = Path(read_line(target / "gitdir").strip().replace("\0", ""))
        return (target / back).resolve() == folder / ".git"
    return False


@dataclass(frozen=True)
class ProtectedFolders:
    """Folders where no flag writes, wherever they lie and by whatever name.

    `unread` also hold keys and other runs' output.
    """

    unwritten: tuple[Path, ...]
    unread: tuple[Path, ...]

    @classmethod
    def of_this_skill(cls) -> ProtectedFolders:
        """The skill, its environments, its state and local Daytona's."""
        states = (skill_env.client_state_dir(), skill_env.local_state_dir())
        environments = (
            skill_env.data_dir(),
            *([Path(sys.prefix)] if sys.prefix != sys.base_prefix else []),
        )
        return cls(
            unwritten=tuple(path.resolve() for path in (skill_env.SKILL, *environments, *states)),
            unread=tuple(path.resolve() for path in states),
        )

    def covers(self, path: Path, *, write: bool) -> bool:
        """By the path itself; `identities` find them under another name."""
        return any(
            path.is_relative_to(folder) for folder in (self.unwritten if write else self.unread)
        )

    def identities(self, *, write: bool) -> frozenset[tuple[int, int]]:
        """Device and inode of those that exist."""
        found = []
        for folder in self.unwritten if write else self.unread:
            with contextlib.suppress(OSError):
                status = os.stat(folder)
                found.append((status.st_dev, status.st_ino))
        return frozenset(found)
