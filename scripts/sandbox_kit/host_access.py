"""The one gate for what a flag may touch on this machine: files to read, variables to pass on.

A hijacked model may choose every argument of a pre-approved command line, but not the variables that its user exported. So the
working directory's tree is open, without dotfiles and what looks like a key, and the user's own two variables open more.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import IO

from .failures import Failure, UsageFailure

MORE_PATHS = "DAYTONA_SANDBOX_PATHS"
PASSED_NAMES = "DAYTONA_SANDBOX_PASS_ENV"
OWN_NAMES = "DAYTONA_"  # our own credentials are never a program's
# Not to hang on a pipe, nor to follow a link that replaced the file; Windows has neither flag, and one of its own.
# Dotfiles that tools read from a project and that hold no credentials; every other one stays here (.env, .npmrc, .netrc, .git ...).
HARMLESS = (
    ".gitignore", ".gitattributes", ".gitmodules", ".editorconfig", ".dockerignore", ".eslintrc*", ".eslintignore", ".prettierrc*",
    ".prettierignore", ".babelrc*", ".swcrc", ".mocharc*", ".nycrc*", ".stylelintrc*", ".browserslistrc", ".flake8", ".pylintrc",
    ".coveragerc",
    ".ruff.toml", ".isort.cfg", ".style.yapf", ".pre-commit-config.yaml", ".python-version", ".node-version", ".nvmrc", ".ruby-version",
    ".tool-versions", ".clang-format", ".clang-tidy", ".rustfmt.toml", ".golangci.y*ml", ".github", ".storybook",
)  # fmt: skip
READ_ONLY = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
# Folders that hold the machine, not a project: working there opens nothing.
NO_PROJECTS = ("/", "/dev", "/etc", "/proc", "/sys")
KEY_LIKE = (
    "*.pem", "*.key", "*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ovpn", "*.tfstate", "*.tfstate.backup",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "credentials*", "secrets.*", "service-account*.json", "service_account*.json",
    "kubeconfig*", "_netrc",
)  # fmt: skip


@dataclass(frozen=True)
class HostAccess:
    """What is open: one folder's tree, what the user named besides, and the variables that may be passed on."""

    folder: Path
    named: tuple[Path, ...]
    names: frozenset[str]
    tokens: frozenset[str]  # NAME@host: a git token, bound to its host
    environ: Mapping[str, str]

    @classmethod
    def of(cls, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> HostAccess:
        """As the user's environment says."""
        variables = os.environ if environ is None else environ
        paths = [Path(text).expanduser() for text in variables.get(MORE_PATHS, "").split(os.pathsep) if text]
        words = re.split(r"[,\s]+", variables.get(PASSED_NAMES, ""))
        return cls(
            folder=(Path.cwd() if folder is None else folder).resolve(),
            named=tuple(path.resolve() for path in paths if path.is_absolute()),
            names=frozenset(word for word in words if word and "@" not in word),
            tokens=frozenset(word for word in words if "@" in word),
            environ=variables,
        )

    def read(self, flag: str, given: str, *, limit: int) -> bytes:
        """The bytes of a regular file of at most `limit` bytes; raises Failure host_access, or usage when there is no such file."""
        real = self.allowed(flag, given)
        with open_regular(flag, given, real) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise UsageFailure(f"{flag} {shown(given)} is larger than {limit >> 20} MiB", fix="name a smaller file")
        return content

    def text(self, flag: str, given: str, *, limit: int) -> str:
        """As `read`, decoded; raises UsageFailure for what is not UTF-8."""
        try:
            return self.read(flag, given, limit=limit).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UsageFailure(f"{flag} {shown(given)} is not UTF-8 text", fix="convert it to UTF-8") from None

    def allowed(self, flag: str, given: str) -> Path:
        """The real path behind `given`, symbolic links resolved; raises Failure host_access. Nothing is opened."""
        try:
            real = (self.folder / given).resolve()
        except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, a loop of links
            raise UsageFailure(f"{flag} {shown(given)} is not a path", fix="name a file") from None
        if real in self.named:
            return real
        inside = [base for base in self._open_trees() if real.is_relative_to(base)]
        if not inside:
            raise refused(flag, given, "is outside the working directory")
        if not any(is_plain(real.relative_to(base)) for base in inside):
            raise refused(flag, given, "is a dotfile or looks like a key")
        return real

    def folder_to_read(self, flag: str, given: str) -> Path | None:
        """The real path of a folder; None when `given` is something else. Raises Failure host_access."""
        real = self.allowed(flag, given)
        return real if real.is_dir() else None

    def writable(self, flag: str, given: str, *, force: bool) -> Path:
        """Where a file may be written, symbolic links resolved; raises Failure host_access, also for a file that is there already."""
        real = self.allowed(flag, given)
        if real.exists() and not real.is_dir() and not force:
            raise Failure("host_access", f"{flag} {shown(given)} is there already", fix="--force overwrites it; or name another place")
        return real

    def _open_trees(self) -> tuple[Path, ...]:
        return self.named if str(self.folder) in NO_PROJECTS else (self.folder, *self.named)

    def variable(self, name: str) -> str:
        """A host variable's value for --env NAME; raises Failure host_access unless the user opened it."""
        if name.upper().startswith(OWN_NAMES):
            raise Failure("host_access", f"--env {name} would pass on a setting of this skill's own", fix="use another variable")
        if name not in self.names:
            raise Failure(
                "host_access", f"--env {name} would pass on a variable of this machine",
                fix=f"the user may allow it by export {PASSED_NAMES}={name} before the session; or --env {name}=VALUE, a throwaway one",
            )  # fmt: skip
        if name not in self.environ:
            raise UsageFailure(f"--env {name}: there is no such variable here", fix=f"export {name}, or --env {name}=VALUE")
        return self.environ[name]

    def git_token(self, name: str, url: str) -> str:
        """A token for the host of `url`; raises Failure host_access unless the user bound that variable to that host."""
        match = re.match(r"https://([A-Za-z0-9.-]+)(:\d+)?/", url)  # one spelling, which every reader of addresses takes for the same host
        host = match[1].lower() if match else "an odd address"
        if f"{name}@{host}" not in {bound.partition("@")[0] + "@" + bound.partition("@")[2].lower() for bound in self.tokens}:
            raise Failure(
                "host_access", f"--git-token {name} would send a variable of this machine to {host}",
                fix=f"the user may allow it by export {PASSED_NAMES}={name}@{host} before the session",
            )  # fmt: skip
        if not self.environ.get(name):
            raise UsageFailure(f"--git-token {name}: there is no such variable here", fix=f"export {name}")
        return self.environ[name]


def open_regular(flag: str, given: str, real: Path) -> IO[bytes]:
    """A file opened without following a link or waiting for a pipe; raises UsageFailure for anything but a regular file."""
    try:
        stream = os.fdopen(os.open(real, READ_ONLY), "rb")
    except OSError as error:
        raise UsageFailure(f"{flag} {shown(given)}: {error.strerror}", fix="name a file that exists and can be read") from None
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise UsageFailure(f"{flag} {shown(given)} is not a regular file", fix="name a file")
    return stream


def is_plain(relative: PurePath) -> bool:
    """No part of the path is hidden or looks like a key."""
    return not any(part.startswith(".") or looks_like_a_key(part) for part in relative.parts)


def looks_like_a_key(name: str) -> bool:
    return any(fnmatch(name.lower(), pattern) for pattern in KEY_LIKE)


def may_leave(name: str) -> bool:
    """Whether a file or folder inside an uploaded folder may go along: a project's tests need its tools' settings."""
    return (not name.startswith(".") or any(fnmatch(name, pattern) for pattern in HARMLESS)) and not looks_like_a_key(name)


def shown(given: str) -> str:
    """A path in a message: bounded, quoted when it holds more than plain characters."""
    text = given if len(given) <= 200 else given[:200] + "…"
    return text if text.isprintable() and " " not in text else repr(text)


def refused(flag: str, given: str, why: str) -> Failure:
    return Failure(
        "host_access", f"{flag} {shown(given)} {why}",
        fix=f"put a plainly named copy into the working directory, or the user allows it: export {MORE_PATHS}=/path before the session",
    )  # fmt: skip
