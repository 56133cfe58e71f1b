"""What of a folder travels: what git calls the user's, without keys; and why the rest stays."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..defaults import LARGEST_TEXT
from ..host_access.keys import why_name_stays
from .ignore_rules import read_plain_file
from .work_tree import WorkTree

IGNORED = "ignored by git"
SUBMODULE = "a submodule"
OWN_REPOSITORY = "a repository of its own"
LEADS_OUT = "a link that leads out"
NO_FILE = "neither a file nor a folder"
OWN_STATE = "this skill's own"
GIT_ITSELF = "git's own, and the build asks it for a version"
BUILD_FILES = tuple(
    "pyproject.toml setup.py setup.cfg build.rs build.gradle build.gradle.kts pom.xml".split()
)
VERSION_BY_GIT = re.compile(
    rb"setuptools[-_]scm|hatch-vcs|versioneer|\bpbr\b|dunamai|poetry-dynamic-versioning|versioningit"
    rb"|flit[-_]scm|source *= *\"scm\"|git describe|vergen|git-commit-id|jgitver|gitversion"
)


@dataclass(frozen=True)
class LeftHere:
    """Why a path below the folder that a flag named stays; a folder's has a slash at its end."""

    path: str
    reason: str


@dataclass(frozen=True)
class Selected:
    """One folder of those that travel: its folders, and its files and links, by name."""

    folder: Path
    folders: list[str]
    names: list[str]


class Selection:
    """The walk through one folder that a flag named; `left` is whole when it has ended."""

    def __init__(self, top: Path, unread: frozenset[tuple[int, int]] = frozenset()) -> None:
        self.top = top
        self._unread = unread  # device and inode of folders that nothing is read in
        self._tree = WorkTree.around(top)
        # What a flag names goes, also when git ignores it.
        self._is_whole = self._tree.ignores_on_the_way(self._tree.path_of(top))
        self._ignored: set[Path] = set()  # folders that are ignored, but hold what is tracked
        self.left: list[LeftHere] = []

    @property
    def problem(self) -> str | None:
        """What of git could not be read, as a sentence."""
        return self._tree.problem

    @property
    def has_git(self) -> bool:
        return self._tree.has_git

    def walk(self) -> Iterator[Selected]:
        if os.path.lexists(self.top / ".git") and asks_git_for_a_version(self.top):
            self.leave(self.top / ".git", GIT_ITSELF)
        for folder, folders, names in os.walk(self.top):
            here = Path(folder)
            links = [name for name in folders if (here / name).is_symlink()]
            folders[:] = [
                name
                for name in sorted(set(folders) - set(links))
                if name != ".git" and self._may_go(here / name, folder=True)
            ]
            files = [
                name
                for name in sorted([*names, *links])
                if name != ".git" and self._may_go(here / name, folder=False)
            ]
            yield Selected(here, list(folders), files)

    def leave(self, path: Path, reason: str, *, folder: bool = False) -> None:
        relative = path.relative_to(self.top).as_posix()
        self.left.append(LeftHere(f"{relative}/" if folder else relative, reason))

    def _may_go(self, path: Path, *, folder: bool) -> bool:
        reason = self._why_folder_stays(path) if folder else self._why_file_stays(path)
        if reason is not None:
            self.leave(path, reason, folder=folder)
        return reason is None

    def _why_folder_stays(self, path: Path) -> str | None:
        if identity_of(path) in self._unread:
            return OWN_STATE
        name = self._tree.path_of(path)
        tracked = name in self._tree.tracked.folders
        if name in self._tree.tracked.submodules:
            return SUBMODULE
        stays = self._why_name_stays(path, tracked=tracked, folder=True)
        if stays is not None:
            return stays
        if self._is_ignored(path, name, folder=True):
            if not tracked:
                return IGNORED
            self._ignored.add(path)
        if self._heeds_git and not tracked and os.path.lexists(path / ".git"):
            return OWN_REPOSITORY
        return None

    def _why_file_stays(self, path: Path) -> str | None:
        name = self._tree.path_of(path)
        tracked = name in self._tree.tracked.files
        stays = self._why_name_stays(path, tracked=tracked, folder=False)
        if stays is None and not tracked and self._is_ignored(path, name, folder=False):
            return IGNORED
        return stays

    def _why_name_stays(self, path: Path, *, tracked: bool, folder: bool) -> str | None:
        return why_name_stays(path.relative_to(self.top), tracked=tracked, folder=folder)

    @property
    def _heeds_git(self) -> bool:
        return self._tree.has_git and not self._is_whole

    def _is_ignored(self, path: Path, name: str, *, folder: bool) -> bool:
        if self._is_whole:
            return False
        return path.parent in self._ignored or self._tree.ignores(name, folder=folder)


def identity_of(path: Path) -> tuple[int, int] | None:
    """Device and inode; None for what is gone."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def asks_git_for_a_version(top: Path) -> bool:
    """Whether a build file names a tool that does."""
    return any(
        VERSION_BY_GIT.search(read_plain_file(top / name, LARGEST_TEXT) or b"")
        for name in BUILD_FILES
    )
