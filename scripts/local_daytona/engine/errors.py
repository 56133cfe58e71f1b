"""What can go wrong in the engine, in the caller's words."""

from __future__ import annotations

import errno
import os


class EngineUnavailable(Exception):
    """This machine cannot isolate a sandbox; `fix` says what would change that."""

    def __init__(self, reason: str, *, fix: str) -> None:
        super().__init__(reason)
        self.fix = fix


class SandboxGone(Exception):
    """The sandbox's agent no longer answers: it was stopped, or something in it broke the agent."""


class FileProblem(OSError):
    """A file operation failed inside the sandbox; carries the errno from there."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code or errno.EIO, message or os.strerror(code or errno.EIO))
