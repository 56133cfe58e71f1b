"""The full log of a run: a private file of the client's state, capped, deleted after a week."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

import skill_env

from .state_files import prune_once

LOG_LIMIT = 256 * 1024 * 1024
LOG_CUT = "\n[the log ends here: it reached 256 MB]\n"


class RunLog:
    """The whole output of a run in a file of its own, 0600, capped; made with the first text."""

    def __init__(self, run_id: str) -> None:
        self.path = logs_dir() / f"{run_id}.log"
        self.problem: str | None = None  # why there is no log; a run goes on without one
        self._file: TextIO | None = None
        self._size = 0

    def write(self, text: str) -> None:
        if not text or self._size >= LOG_LIMIT or self.problem:
            return
        try:
            self._file = self._file or self._open()
            self._size += len(text)
            self._file.write(text if self._size < LOG_LIMIT else text + LOG_CUT)
        except OSError as error:
            self.problem = f"no full log: {error.filename or self.path}: {error.strerror or error}"

    def _open(self) -> TextIO:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        prune_once(self.path.parent, "*.log")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        return os.fdopen(
            os.open(self.path, flags, 0o600), "w", encoding="utf-8", errors="replace", newline="\n"
        )

    def flush(self) -> None:
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self.problem = f"the full log {self.path} is incomplete: {error.strerror}"

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:  # a disk that is full says so when the last buffer is written
                self.problem = f"the full log {self.path} is incomplete: {error.strerror}"
            self._file = None


def logs_dir() -> Path:
    return skill_env.client_state_dir() / "logs"
