"""What a run came to: its JSON, its exit code, and where the program's two streams went."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox_kit.output import OutputStream

from .console import OpenLine, silence_stream
from .errors import TIMED_OUT, Failure
from .options import RunOptions
from .run_log import RunLog

PROGRAM, SETUP, TOOL = "program", "setup", "tool"


@dataclass
class RunReport:
    """What the run came to; the JSON of design section 3."""

    engine: str | None = None
    endpoint: str | None = None
    sandbox_id: str | None = None
    sandbox_name: str | None = None
    created: bool = False
    kept: bool = False
    expires_at: str | None = None
    exit_code: int | None = None
    whose: str | None = None  # exit code that is: the program's, the setup's, or this tool's
    timed_out: bool = False
    seconds: float = 0.0
    steps: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    held: list[dict[str, Any]] = field(
        default_factory=list
    )  # what came back and was not written, and why
    fetch: str | None = None  # the command that brings it
    preview: dict[str, Any] | None = None
    detached: bool = False
    combined: bool = False  # both streams came as one
    request: dict[str, Any] | None = None  # of --dry-run
    failure: Failure | None = None

    def as_json(self, collected: ProgramOutput) -> dict[str, Any]:
        sandbox = {
            "id": self.sandbox_id,
            "name": self.sandbox_name,
            "kept": self.kept,
            "expires_at": self.expires_at,
        }
        return {
            "engine": self.engine,
            "endpoint": self.endpoint,
            "sandbox": sandbox if self.sandbox_name else None,
            "exit_code": self.exit_code,
            "whose": TOOL if self.failure else self.whose,
            "timed_out": self.timed_out,
            "seconds": round(self.seconds, 3),
            "stdout": "".join(collected.out),
            "stderr": "".join(collected.err),
            "streams": "combined" if self.combined else "split",
            "truncated": collected.truncated,
            "log": collected.log_path,
            "steps": self.steps,
            "files": self.files,
            "charts": self.charts,
            "held": self.held,
            "fetch": self.fetch,
            "preview": self.preview,
            "error": self.failure.as_json() if self.failure else None,
        }

    def exit(self) -> int:
        if self.failure is not None:
            return self.failure.exit_code
        return TIMED_OUT if self.timed_out else int(self.exit_code or 0)


class ProgramOutput:
    """Where the program's two streams go: to our own as they come, or into the JSON."""

    def __init__(self, options: RunOptions, *, run_id: str, secrets: Sequence[str]) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self._log = RunLog(run_id)
        writers = (
            (self.out.append, self.err.append)
            if options.json
            else (StandardStream(sys.stdout).write, StandardStream(sys.stderr).write)
        )
        self.stdout, self.stderr = (
            OutputStream(write, limit=options.max_output, secrets=secrets, log=self._log)
            for write in writers
        )
        self._finished = False

    @property
    def truncated(self) -> bool:
        return self.stdout.truncated or self.stderr.truncated

    @property
    def log_path(self) -> str | None:
        return str(self._log.path) if self._log.path.exists() else None

    @property
    def log_problem(self) -> str | None:
        return self._log.problem

    def finish(self) -> None:
        """Everything that was held back goes out now; called before the sandbox's deletion is sent."""
        if not self._finished:
            self._finished = True
            for stream in (self.stdout, self.stderr):
                stream.finish()
            self._log.close()


class StandardStream:
    """One of our own streams; when its reader goes away the run ends, because nobody is left to read it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._broken = False

    def write(self, text: str) -> None:
        if self._broken or self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
            OpenLine.after(text)
        except OSError as error:
            self._broken = True
            silence_stream(self._stream)
            why = (
                "nobody reads the output any more"
                if isinstance(error, BrokenPipeError)
                else f"the output cannot be written: {error.strerror}"
            )
            raise Failure("interrupted", why, exit_code=125) from None
