"""The real Claude Code CLI with the skill, driven by a scripted model on loopback: no account."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.local_server import LocalServer, new_state_dir

from .conftest import ROOT, copy_tracked
from .scripted_model import ScriptedModel, Turn, serving
from .tools import claude_code

NAME = "daytona-sandbox"
LOAD_ALLOWED = (
    f"Skill({NAME})"  # a skill with allowed-tools is asked about once; in -p an ask is a refusal
)
TURN_TIMEOUT_S = 300


@dataclass(frozen=True)
class Result:
    """What one tool call of the scripted model came to."""

    input: dict[str, Any]
    text: str
    refused: bool


@dataclass(frozen=True)
class Session:
    """One `claude -p`: its events, the model's requests, and each tool call with its result."""

    events: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    results: list[Result]

    @property
    def init(self) -> dict[str, Any]:
        return self.events[0]

    def texts(self, request: int = 0) -> str:
        """Everything that the model was told in one request."""
        return json.dumps(self.requests[request], ensure_ascii=False)


@dataclass(frozen=True)
class Installed:
    """A user with the skill, a project folder, and a local engine of their own."""

    home: Path
    project: Path
    skill: Path
    state_dir: Path
    flags: tuple[str, ...] = ()

    def script(self, name: str) -> str:
        """How the skill's text has the model start a script."""
        return f'python3 -I "{self.skill / "scripts" / name}"'

    @property
    def server(self) -> LocalServer:
        """The local engine that a run of this user's has started."""
        return LocalServer(
            state_dir=self.state_dir, **json.loads((self.state_dir / "server.json").read_text())
        )

    def ask(
        self,
        prompt: str,
        turns: Sequence[Turn] = (),
        *,
        allowed: Sequence[str] = (LOAD_ALLOWED,),
        **environ: str,
    ) -> Session:
        """`claude -p prompt` with a model that says `turns`.

        In a scrubbed environment, with `environ` besides.
        """
        model = ScriptedModel(turns)
        with serving(model) as address:
            done = subprocess.run(
                [
                    str(claude_code()),
                    "-p",
                    prompt,
                    "--output-format",
                    "stream-json",
                    "--verbose",
                    "--allowedTools",
                    *allowed,
                    *self.flags,
                ],
                env={**self._environment(address), **environ},
                cwd=self.project,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TURN_TIMEOUT_S,
                check=False,
            )
        assert done.returncode == 0, done.stderr + done.stdout[-2000:]
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return Session(events, model.requests, list(results(model.requests[-1], denied(events))))

    def call(self, commands: Sequence[str], **environ: str) -> list[Result]:
        """The model loads the skill, then makes each command a Bash call; one result a command."""
        from .scripted_model import Call

        load = Call("Skill", {"skill": NAME})
        bash = [
            Call("Bash", {"command": command, "description": "as the skill says"})
            for command in commands
        ]
        return self.ask("Run it in a sandbox", [load, *bash], **environ).results[1:]

    def type(self, line: str) -> None:
        """A line of the user's own shell, which needs nobody's permission; it must work."""
        subprocess.run(
            ["sh", "-c", line],
            env=self._environment(""),
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TURN_TIMEOUT_S,
            check=True,
        )

    def _environment(self, address: str) -> dict[str, str]:
        quiet = (
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "DISABLE_TELEMETRY",
            "DISABLE_ERROR_REPORTING",
            "DISABLE_AUTOUPDATER",
        )
        return {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "CLAUDE_CODE_TMPDIR": str(self.home),
            "ANTHROPIC_BASE_URL": address,
            "ANTHROPIC_API_KEY": "no-key-is-needed",
            "DAYTONA_LOCAL_STATE": str(self.state_dir),
            **dict.fromkeys(quiet, "1"),
        }


def denied(events: Sequence[dict[str, Any]]) -> set[str]:
    """Ids of the tool calls that the permission rules refused."""
    return {
        denial["tool_use_id"] for event in events for denial in event.get("permission_denials", ())
    }


def results(request: dict[str, Any], refused: set[str]) -> Iterator[Result]:
    """The tool results that one request carries, with the calls that they answer."""
    calls: dict[str, dict[str, Any]] = {}
    for message in request["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_use":
                calls[block["id"]] = block["input"]
            elif block["type"] == "tool_result":
                content = block["content"]
                text = (
                    content
                    if isinstance(content, str)
                    else "".join(part.get("text", "") for part in content)
                )
                yield Result(calls[block["tool_use_id"]], text, block["tool_use_id"] in refused)


@dataclass(frozen=True)
class Wall:
    """A wall of the skill's that is taken down.

    Each of `changes` is a file of the skill, a text in there, and what takes its place.
    """

    name: str
    changes: tuple[tuple[str, str, str], ...]

    def take_down(self, skill: Path) -> None:
        """Fails when the text is not there: a wall that moved must not seem to be off."""
        for name, old, new in self.changes:
            text = (skill / name).read_text()
            assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
            (skill / name).write_text(text.replace(old, new))


@contextmanager
def installed(
    how: str = "clone", *, parent: str = "plugins", off: Sequence[Wall] = ()
) -> Iterator[Installed]:
    """A home with the skill in it, three ways.

    As a `clone` in ~/.claude/skills, as a `plugin` below `parent`, or of a `project` below it.

    The environment is this clone's; the walls of `off` are down.
    """
    home = Path(tempfile.mkdtemp(prefix="claude-home-"))
    project = home / parent / "project" if how == "project" else home / "project"
    place = {
        "clone": home / ".claude" / "skills",
        "plugin": home / parent,
        "project": project / ".claude" / "skills",
    }[how]
    skill = place / NAME
    skill.mkdir(parents=True)
    project.mkdir(parents=True, exist_ok=True)
    copy_tracked(skill)
    (skill / ".venv").symlink_to(ROOT / ".venv")
    for wall in off:
        wall.take_down(skill)
    state_dir = new_state_dir()
    flags = ("--plugin-dir", str(skill)) if how == "plugin" else ()
    try:
        yield Installed(home, project, skill, state_dir, flags)
    finally:
        subprocess.run(
            [
                str(ROOT / ".venv/bin/python"),
                str(skill / "scripts/local_daytona"),
                "stop",
                "--state-dir",
                str(state_dir),
            ],
            capture_output=True,
            timeout=120,
            check=False,
        )
        shutil.rmtree(home, ignore_errors=True)
