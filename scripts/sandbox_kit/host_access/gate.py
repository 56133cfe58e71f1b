"""The one gate for what a flag may touch on this machine.

That is files to read, results to write and variables to pass on. A hijacked model may choose every
argument of a granted command line and its working directory, but not the variables that its user
exported. So the working directory's tree is open where it is a project's, without dotfiles and
what looks like a key; only results are written, over nothing of the user's; and the user's own two
variables open more.
"""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO

import skill_env

from ..console import quote_path
from ..errors import Failure, UsageFailure
from .folders import (
    FolderJudge,
    FolderWatch,
    OpenFolder,
    open_folder,
    open_regular_file,
    refuse_folders,
)
from .held import CHANGED, TAKEN
from .keys import holds_a_secret, is_plain_path
from .project import Project, ProtectedFolders, home_folders, is_the_machines
from .results import kind_of, why_no_result
from .written import WrittenRecord

OWN_FOLDERS = "lies in this skill's own folders"
MORE_PATHS = "DAYTONA_SANDBOX_PATHS"
PASSED_NAMES = "DAYTONA_SANDBOX_PASS_ENV"
OF_THE_VAULT = "vault:"  # a name there opens no variable of this machine that is called so
OWN_NAMES = "DAYTONA_"  # our own credentials are never a program's


@dataclass(frozen=True)
class HostAccess:
    """What is open: one folder's tree, what the user named besides, and variables to pass on."""

    folder: Path
    named: tuple[Path, ...]
    names: frozenset[str]
    tokens: frozenset[str]  # NAME@host: a git token, bound to its host
    environ: Mapping[str, str]

    @classmethod
    def of(cls, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> HostAccess:
        """As the user's environment says."""
        variables = os.environ if environ is None else environ
        paths = [
            Path(text).expanduser()
            for text in variables.get(MORE_PATHS, "").split(os.pathsep)
            if text
        ]
        words = re.split(r"[,\s]+", variables.get(PASSED_NAMES, ""))
        return cls(
            folder=(working_directory() if folder is None else folder).resolve(),
            named=tuple(path.resolve() for path in paths if path.is_absolute()),
            names=frozenset(word for word in words if word and "@" not in word),
            tokens=frozenset(word for word in words if "@" in word),
            environ=variables,
        )

    @functools.cached_property
    def project(self) -> Project:
        """The working directory, judged once."""
        return Project.around(self.folder)

    @functools.cached_property
    def protected(self) -> ProtectedFolders:
        return ProtectedFolders.of_this_skill()

    def read(self, flag: str, given: str, *, limit: int) -> bytes:
        """The bytes of a regular file of at most `limit` bytes.

        Raises Failure host_access, or usage when there is no such file.
        """
        with self.open_to_read(flag, given) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise UsageFailure(
                f"{flag} {quote_path(given)} is larger than {limit >> 20} MiB",
                fix="name a smaller file",
            )
        # A link may have the name of what may hold tokens: its target's name counts as well.
        real = PurePath(*Path(os.path.realpath(self.folder / given)).parts[-2:])
        for name in {PurePath(given), real}:
            if holds_a_secret(name, io.BytesIO(content)):
                raise access_refused(flag, given, "holds a key")
        return content

    def text(self, flag: str, given: str, *, limit: int) -> str:
        """As `read`, decoded; raises UsageFailure for what is not UTF-8."""
        try:
            return self.read(flag, given, limit=limit).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UsageFailure(
                f"{flag} {quote_path(given)} is not UTF-8 text", fix="convert it to UTF-8"
            ) from None

    def allowed(self, flag: str, given: str, *, write: bool = False) -> Path:
        """The real path behind `given`, symbolic links resolved; nothing is opened.

        Raises Failure host_access.
        """
        real = self._resolved(flag, given)
        reason = self._why_not_there(real, write=write)
        if reason is not None:
            raise access_refused(flag, given, reason)
        return real

    def open_to_read(self, flag: str, given: str) -> IO[bytes]:
        """A regular file, reached folder by folder.

        Raises Failure host_access, or usage when there is none.
        """
        real = self.allowed(flag, given)
        with self.open_folder(flag, given, real.parent, write=False) as folder:
            return open_regular_file(flag, given, folder, real.name)

    def open_folder(
        self,
        flag: str,
        given: str,
        path: Path,
        *,
        write: bool,
        watch: FolderWatch | None = None,
    ) -> OpenFolder:
        """A folder by its resolved path, made when it is for writing.

        Raises Failure host_access, UsageFailure when there is none, FileExistsError from `watch`.
        """
        try:
            judge = self._judge(flag, given, write=write)
            return open_folder(path, make=write, judge=judge, watch=watch)
        except FileExistsError:
            raise
        except OSError as error:
            fix = (
                "name a place that can be written"
                if write
                else "name one that exists and can be read"
            )
            raise UsageFailure(f"{flag} {quote_path(given)}: {error.strerror}", fix=fix) from None

    def folder_to_read(self, flag: str, given: str) -> Path | None:
        """The real path of a folder, None for anything else; raises Failure host_access."""
        real = self.allowed(flag, given)
        return real if real.is_dir() else None

    def why_not_written(
        self, flag: str, given: str, *, force: bool, written: WrittenRecord
    ) -> str | None:
        """Why a granted line writes nothing of that name here; None when it may.

        Raises nothing: what is not written is held.
        """
        try:
            real = self._resolved(flag, given)
        except UsageFailure:
            return "not a path"
        return (
            self._why_not_there(real, write=True)
            or self._why_through_a_link(given, real)
            or self._why_no_result(real)
            or self._why_misplaced(real, written)
            or self._why_it_stays(real, force, written)
        )

    def is_held_by_name(self, real: Path) -> bool:
        """Whether no run ever writes a file of that name."""
        return self._why_no_result(real) is not None

    def is_taken(self, flag: str, given: str) -> bool:
        """Whether something has that name; False for what is no path."""
        try:
            return os.path.lexists(self._resolved(flag, given))
        except UsageFailure:
            return False

    def is_there(self, real: Path) -> bool:
        """Whether something other than a folder has that name."""
        return os.path.lexists(real) and not os.path.isdir(real)

    def _resolved(self, flag: str, given: str) -> Path:
        try:
            return (self.folder / given).resolve()
        except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, a loop of links
            raise UsageFailure(
                f"{flag} {quote_path(given)} is not a path", fix="name a file"
            ) from None

    def _why_not_there(self, real: Path, *, write: bool) -> str | None:
        """Why that place is closed to flags, as the end of a sentence about it."""
        if self.protected.covers(real, write=write):
            return OWN_FOLDERS
        if real in self.named:
            return None
        inside = [base for base in self._open_trees() if real.is_relative_to(base)]
        if not inside:
            closed = self.project.closed
            return (
                f"cannot be touched from here: the working directory {closed}"
                if closed
                else "is outside the working directory"
            )
        if is_the_machines(real) and not any(is_the_machines(base) for base in inside):
            return "is the machine's"
        if not any(is_plain_path(real.relative_to(base)) for base in inside):
            return "is a dotfile or looks like a key"
        return None

    def _why_through_a_link(self, given: str, real: Path) -> str | None:
        """A link of the user's says where something of theirs is, not where results go."""
        named = Path(os.path.normpath(self.folder / given))
        is_link = named.is_relative_to(self.folder) and named != real
        return "a link lies on the way" if is_link else None

    def _why_no_result(self, real: Path) -> str | None:
        """By the names below the open tree, which are the line's own, and by the folders above it.

        Those count where tools obey what lies in them.
        """
        base = self._base(real)
        return why_no_result(
            real.relative_to(base) if real != base else PurePath(real.name), self._above(base)
        )

    def _why_misplaced(self, real: Path, written: WrittenRecord) -> str | None:
        """Results lie in the project's top folder, or in a folder that runs made there for them.

        Tools look through the folders that people made.
        """
        first, kind = self.first_folder(real), kind_of(real.name)
        if (
            self._base(real) == self.folder
            and not self.project.is_root
            and not (first is not None and kind is not None and kind.inert)
        ):
            return "below the project's top folder only pictures are written: go there, or fetch it"
        for folder in self._folders_for_results(real):
            if os.path.lexists(folder) and not written.made_folder(folder):
                return f"tools may read what lies in {quote_path(folder.name)}: name a new folder"
        return None

    def first_folder(self, real: Path) -> Path | None:
        """The open tree's own folder on the way to `real`; None when `real` lies straight in it."""
        base = self._base(real)
        parts = real.relative_to(base).parts if real != base else ()
        return base / parts[0] if len(parts) > 1 else None

    def _folders_for_results(self, real: Path) -> list[Path]:
        """The first folder of the open tree on the way to `real`, and those below it."""
        first = self.first_folder(real)
        return [path for path in real.parents if first and path.is_relative_to(first)][::-1]

    def _base(self, real: Path) -> Path:
        """The innermost open tree around a path; for a file that the user named, its folder."""
        inside = [base for base in self._open_trees() if real.is_relative_to(base)]
        return max(inside, key=lambda base: len(base.parts), default=real.parent)

    @functools.cached_property
    def _homes(self) -> tuple[Path, ...]:
        return home_folders()

    def _above(self, base: Path) -> tuple[str, ...]:
        """The folders that hold `base`, below the home where it lies there."""
        home = next((home for home in self._homes if base.is_relative_to(home)), Path(base.anchor))
        return base.relative_to(home).parts

    def _why_it_stays(self, real: Path, force: bool, written: WrittenRecord) -> str | None:
        """Why what is there is not replaced; None when nothing is there.

        None also for what a run wrote and nobody changed, with --force.
        """
        if not os.path.lexists(real):
            return None
        return (None if self.is_as_written(real, written) else CHANGED) if force else TAKEN

    def is_as_written(self, real: Path, written: WrittenRecord) -> bool:
        """Whether a file is there as a run wrote it."""
        try:
            with (
                open_folder(real.parent) as folder,
                open_regular_file("--download", real.name, folder, real.name) as stream,
            ):
                before = os.fstat(stream.fileno())
                as_written = written.wrote(real, stream)
                after = folder.look(real.name)  # hashing takes a while, and edits go on
                return as_written and after is not None and is_unchanged(before, after)
        except (OSError, UsageFailure):
            return False

    def _judge(self, flag: str, given: str, *, write: bool) -> FolderJudge:
        return refuse_folders(
            self.protected.identities(write=write), access_refused(flag, given, OWN_FOLDERS)
        )

    def _open_trees(self) -> tuple[Path, ...]:
        return self.named if self.project.closed else (self.folder, *self.named)

    def variable(self, name: str) -> str:
        """A host variable's value for --env NAME.

        Raises Failure host_access unless the user opened it.
        """
        if name.upper().startswith(OWN_NAMES):
            raise Failure(
                "host_access",
                f"--env {name} would pass on a setting of this skill's own",
                fix="use another variable",
            )
        if name not in self.names:
            raise Failure(
                "host_access",
                f"--env {name} would pass on a variable of this machine",
                fix=f"the user may allow it by export {PASSED_NAMES}={name} before the session;"
                f" or --env {name}=VALUE, a throwaway one",
            )
        if name not in self.environ:
            raise UsageFailure(
                f"--env {name}: there is no such variable here",
                fix=f"export {name}, or --env {name}=VALUE",
            )
        return self.environ[name]

    def vault_secret(self, name: str) -> str:
        """The name of a vault's secret; raises Failure host_access unless the user opened it."""
        opened = f"{OF_THE_VAULT}{name}" in self.names
        if not opened:
            raise Failure(
                "host_access",
                f"--secret would pass on {quote_path(name)} of your organization's vault",
                fix="the user may allow it by"
                f" export {PASSED_NAMES}={skill_env.quoted(OF_THE_VAULT + name)}"
                " before the session",
            )
        return name

    def git_token(self, name: str, url: str) -> str:
        """A token for the host of `url`.

        Raises Failure host_access unless the user bound that variable to that host.
        """
        # One spelling, which every reader of addresses takes for the same host.
        match = re.match(r"https://([A-Za-z0-9.-]+(:\d+)?)/", url)
        if match is None:
            raise Failure(
                "host_access",
                f"--git-token {name} would be sent to an odd address",
                fix="--repo https://HOST/PATH.git",
            )
        host = match[1].lower().removesuffix(":443")
        bound = {(one.partition("@")[0], one.partition("@")[2].lower()) for one in self.tokens}
        if (name, host) not in bound:
            raise Failure(
                "host_access",
                f"--git-token {name} would send a variable of this machine to {host}",
                fix=f"the user may allow it by export {PASSED_NAMES}={name}@{host}"
                " before the session",
            )
        if not self.environ.get(name):
            raise UsageFailure(
                f"--git-token {name}: there is no such variable here", fix=f"export {name}"
            )
        return self.environ[name]


def working_directory() -> Path:
    """Raises UsageFailure for one that was deleted."""
    try:
        return Path.cwd()
    except OSError:
        raise UsageFailure(
            "the working directory is not there any more", fix="cd to a folder that is there"
        ) from None


def is_unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_ino, before.st_size, before.st_mtime_ns) == (
        after.st_ino,
        after.st_size,
        after.st_mtime_ns,
    )


def access_refused(flag: str, given: str, why: str) -> Failure:
    """With the way out that this reason has."""
    fix = (
        "name a plain file in the project's folder,"
        f" or the user allows it: export {MORE_PATHS}=/path before the session"
    )
    if OWN_FOLDERS in why:
        fix = "work in a folder of your own project"
    elif "from here" in why:
        fix = (
            "cd to the project's folder first;"
            f" or the user allows this one: export {MORE_PATHS}=/path before the session"
        )
    return Failure("host_access", f"{flag} {quote_path(given)} {why}", fix=fix)
