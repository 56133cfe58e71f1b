"""What a script does when its main is called in this process: exit code, stdout, stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Result:
    """What a script did: its exit code and its two streams."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> dict[str, Any]:
        """stdout as the one JSON object that --json promises."""
        answer: dict[str, Any] = json.loads(self.stdout)
        return answer

    @property
    def fix(self) -> str:
        """The last line of stderr, which a failure ends with."""
        last = self.stderr.splitlines()[-1] if self.stderr else ""
        return last.partition("fix: ")[2]


Script = Callable[..., Result]


def called(main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str]) -> Script:
    def run(*argv: str) -> Result:
        capsys.readouterr()
        code = main(argv)
        shown = capsys.readouterr()
        return Result(code, shown.out, shown.err)

    return run
