"""The command line: what is accepted, what is refused, and with which fix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox_kit.failures import UsageFailure
from sandbox_kit.options import LONGEST_TIMEOUT_S, parse_health, parse_list, parse_run

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
RUN = ["--command", "true"]


@pytest.mark.parametrize(
    ("argv", "message", "fix"),
    [
        ([], "nothing to run", "--command"),
        (["--command", "  "], "nothing to run", "--code"),
        (["--command", "a", "--code", "b"], "exclude each other", "use one of them"),
        ([*RUN, "--nonsense"], "unrecognized arguments", "--help"),
        ([*RUN, "--env", "NA-ME"], "no digit first", "--env NAME=VALUE"),
        ([*RUN, "--file", "x.py"], "exclude each other", "use one of them"),
        (["--file", ""], "nothing to run", "--file PATH"),
        ([*RUN, "--env", "1A=b"], "no digit first", "--env NAME=VALUE"),
        ([*RUN, "--timeout", "-1"], "not between", "--help"),
        ([*RUN, "--timeout", "0"], "not between", "--help"),
        ([*RUN, "--timeout", "1.5"], "not a whole number", "--help"),
        ([*RUN, "--timeout", str(LONGEST_TIMEOUT_S + 1)], "not between", "--help"),
        ([*RUN, "--max-output", "-1"], "not between", "--help"),
        (["--code", "x", "--language", "cobol"], "invalid choice", "--help"),
        ([*RUN, "--language", "python"], "what --code is written in", "--code"),
        (["--code", "x", "--language", "typescript", "--local"], "python and javascript", "compile"),
        ([*RUN, "--memory", "4"], "only work with --image", "--snapshot daytona-medium"),
        ([*RUN, "--snapshot", "s", "--cpu", "2"], "only work with --image", "daytona-large"),
        ([*RUN, "--image", "a:1", "--snapshot", "s"], "exclude each other", "--snapshot"),
        ([*RUN, "--branch", "b"], "branch of --repo", "--repo URL --branch NAME"),
        ([*RUN, "--repo", "https://user:secret@host/x"], "must not carry credentials", "without user and password"),
        ([*RUN, "--repo", "git@github.com:org/x"], "http or https", "https://"),
        ([*RUN, "--repo", "--upload-pack=x"], "expected one argument", "--help"),
        ([*RUN, "--sandbox", "x", "--name", "y"], "cannot change the existing sandbox", "leave out --name"),
        ([*RUN, "--sandbox", "x", "--image", "y:1"], "cannot change", "leave out --image"),
        ([*RUN, "--sandbox", "x", "--keep"], "cannot change", "leave out --keep"),
        ([*RUN, "--name", "../x"], "not a sandbox name", "--name work-1"),
        ([*RUN, "--timeout", "3600", "--ttl", "10"], "--ttl 10 ends before --timeout 3600 can", "--ttl 70"),
        ([*RUN, "--time", "5"], "unrecognized arguments", "--help"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_to_type(argv: list[str], message: str, fix: str) -> None:
    """One line why, one line what instead; nothing is created, because nothing was imported yet."""
    with pytest.raises(UsageFailure) as caught:
        parse_run(argv)

    assert message in caught.value.message
    assert fix in caught.value.fix
    assert caught.value.exit_code == 2


def test_a_value_of_env_is_in_no_message() -> None:
    """A refused --env may hold a secret all the same."""
    with pytest.raises(UsageFailure) as caught:
        parse_run([*RUN, "--env", "1BAD=hunter22"])

    assert "hunter22" not in caught.value.message + caught.value.fix


def test_env_values_may_hold_equal_signs_and_nothing() -> None:
    """Only the first sign separates."""
    assert parse_run([*RUN, "--env", "A=b=c", "--env", "E="]).env == {"A": "b=c", "E": ""}


def test_env_values_are_in_no_repr() -> None:
    """A traceback shows options."""
    assert "hunter22" not in repr(parse_run([*RUN, "--env", "A=hunter22"]))


@pytest.mark.parametrize(
    ("argv", "ttl", "auto_stop"),
    [([], 60, 15), (["--keep"], 240, 15), (["--name", "x"], 240, 15), (["--timeout", "7200"], 130, 125), (["--ttl", "20"], 20, 15)],
    ids=["default", "kept", "named", "long", "chosen"],
)  # fmt: skip
def test_lifetimes_follow_the_timeout(argv: list[str], ttl: int, auto_stop: int) -> None:
    """The server must not end a sandbox before the program may."""
    options = parse_run([*RUN, *argv])

    assert (options.ttl_min, options.auto_stop_min) == (ttl, auto_stop)


@pytest.mark.parametrize("argv", [[], ["list", "x"], ["delete"], ["prune"], ["list", "--nope"]], ids=str)
def test_sandboxes_refuses_what_it_does_not_know(argv: list[str]) -> None:
    """Also subcommands answer with a message and a fix."""
    with pytest.raises(UsageFailure) as caught:
        parse_list(argv)

    assert caught.value.fix


def test_healthcheck_takes_two_flags() -> None:
    """And nothing else."""
    assert parse_health(["--json"]).json
    with pytest.raises(UsageFailure):
        parse_health(["--fix"])


@pytest.mark.parametrize("script", ["run_in_sandbox.py", "sandboxes.py", "healthcheck.py"])
@pytest.mark.parametrize("argument", ["--help", "--nonsense"])
def test_help_and_usage_errors_import_nothing_heavy(script: str, argument: str) -> None:
    """They answer at once, and with an interpreter that has none of the packages."""
    line = [sys.executable, "-X", "importtime", str(SCRIPTS / script), argument]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    imported = {row.rsplit("|", 1)[-1].strip().partition(".")[0] for row in done.stderr.splitlines() if row.startswith("import time")}

    assert "argparse" in imported
    assert not imported & {"daytona", "pydantic", "dotenv", "aiohttp", "asyncio", "socketio"}
    assert done.returncode == (0 if argument == "--help" else 2)
