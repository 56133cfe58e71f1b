"""What a run came to: its JSON and its exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .errors import TIMED_OUT, Failure
from .output import ProgramOutput

PROGRAM, SETUP, TOOL = "program", "setup", "tool"


@dataclass
class RunReport:
    """Filled as the run goes on."""

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
    left_here: list[dict[str, str]] = field(default_factory=list)  # what did not travel, and why
    # What came back and was not written, and why.
    held: list[dict[str, Any]] = field(default_factory=list)
    fetch: str | None = None  # the command that brings it
    preview: dict[str, Any] | None = None
    detached: bool = False
    request: dict[str, Any] | None = None  # of --dry-run
    failure: Failure | None = None

    def as_json(self, output: ProgramOutput | None) -> dict[str, Any]:
        """`output` is None when nothing was run."""
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
            "stdout": "".join(output.out) if output else "",
            "stderr": "".join(output.err) if output else "",
            "streams": "split",
            "truncated": output.truncated if output else False,
            "log": output.log_path if output else None,
            "steps": self.steps,
            "files": self.files,
            "charts": self.charts,
            "left_here": self.left_here,
            "held": self.held,
            "fetch": self.fetch,
            "preview": self.preview,
            "error": self.failure.as_json() if self.failure else None,
        }

    def choose_exit_code(self) -> int:
        if self.failure is not None:
            return self.failure.exit_code
        return TIMED_OUT if self.timed_out else int(self.exit_code or 0)
