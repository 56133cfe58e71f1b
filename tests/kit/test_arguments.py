"""The command line: what is accepted, what is refused, and with which fix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox_kit.arguments import (
    parse_health_arguments,
    parse_run_arguments,
    parse_sandboxes_arguments,
)
from sandbox_kit.deadlines import Deadlines
from sandbox_kit.defaults import LONGEST_TIMEOUT_S
from sandbox_kit.errors import UsageFailure
from sandbox_kit.request import SandboxesRequest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
RUN = ["--command", "true"]
REPO = [*RUN, "--repo", "https://example.org/a/b.git"]


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
        (
            ["--code", "x", "--language", "typescript", "--local"],
            "python and javascript",
            "compile",
        ),
        ([*RUN, "--memory", "4"], "only work with --image", "--snapshot daytona-medium"),
        ([*RUN, "--snapshot", "s", "--cpu", "2"], "only work with --image", "daytona-large"),
        ([*RUN, "--image", "a:1", "--snapshot", "s"], "exclude each other", "--snapshot"),
        ([*RUN, "--branch", "b"], "needs --repo", "--repo URL --branch"),
        ([*RUN, "--commit", "abcdef1"], "needs --repo", "--repo URL --commit"),
        ([*RUN, "--depth", "1"], "needs --repo", "--repo URL --depth"),
        ([*RUN, "--git-token", "T"], "needs --repo", "--repo URL --git-token"),
        ([*REPO, "--commit", "main"], "hexadecimal", "--branch NAME"),
        (
            [*REPO, "--commit", "abcdef1", "--branch", "b"],
            "exclude each other",
            "a commit is enough",
        ),
        ([*REPO, "--depth", "0"], "not between", "--help"),
        ([*REPO, "--branch=-x"], "not a branch's name", "--branch main"),
        ([*REPO, "--git-token", "ghp_abc-def"], "never a token", "export GH_TOKEN"),
        (
            [*RUN, "--repo", "http://host/x", "--git-token", "T"],
            "only sent by https",
            "https address",
        ),
        ([*RUN, "--repo", "https://host"], "http or https", "https://"),
        (
            [*RUN, "--no-network", "--allow-domain", "a.org"],
            "exclude each other",
            "leave out --allow-domain",
        ),
        (
            [*RUN, "--allow-domain", "a.org", "--allow-cidr", "1.2.3.0/24"],
            "exclude each other",
            "leave out --allow-cidr",
        ),
        ([*RUN, "--allow-domain", "https://a.org"], "takes a domain name", "pypi.org"),
        ([*RUN, "--allow-domain", "1.2.3.4"], "takes a domain name", "--allow-cidr"),
        ([*RUN, "--allow-domain", "localhost"], "takes a domain name", "pypi.org"),
        ([*RUN, "--allow-cidr", "a.org"], "takes an IPv4 range", "--allow-domain"),
        ([*RUN, "--allow-cidr", "1.2.3.4"], "takes an IPv4 range", "203.0.113.0/24"),
        ([*RUN, "--allow-cidr", "2001:db8::/32"], "takes an IPv4 range", "203.0.113.0/24"),
        ([*RUN, *["--allow-cidr", "1.2.3.0/24"] * 11], "takes 10 at the most", "wider"),
        ([*RUN, *["--allow-domain", "a.org"] * 21], "takes 20 at the most", "wider"),
        ([*RUN, "--serve", "x"], "on which port", "add --preview PORT"),
        (["--serve", "x"], "on which port", "add --preview PORT"),
        ([*RUN, "--preview", "0"], "not between", "--help"),
        ([*RUN, "--preview", "70000"], "not between", "--help"),
        ([*RUN, "--preview", "22222"], "Daytona's own", "--preview 8000"),
        (["--preview", "8000"], "nothing to run", "--command"),
        (["--serve", " ", "--preview", "8000"], "nothing to run", "--command"),
        ([*RUN, "--setup", " "], "nothing to run", "--command"),
        ([*RUN, "--detach", "--timeout", "5"], "--timeout has no place", "--ttl MIN"),
        ([*RUN, "--detach", "--download", "x"], "--download has no place", "leave out --download"),
        ([*RUN, "--detach", "--preview", "8000"], "--preview has no place", "leave out --preview"),
        ([*RUN, *RUN, "--detach"], "starts one program", "&&"),
        (["--command", "-", "--command", "-"], "only one program", "write the others out"),
        ([*RUN, *RUN, "--stdin", "x"], "several --command", "use one --command"),
        ([*RUN, *RUN, "--", "x"], "several --command", "use one --command"),
        (["--serve", "x", "--preview", "8000", "--", "y"], "are for --command", "text of --serve"),
        ([*RUN, "word"], "unrecognized arguments", "--help"),
        ([*RUN, "--charts", "d"], "Python code", "--code"),
        (
            ["--code", "x", "--language", "javascript", "--charts", "d"],
            "matplotlib's charts",
            "--download",
        ),
        ([*RUN, "--secret", "NAME"], "takes ENV=NAME", "--secret API_TOKEN=my-token"),
        ([*RUN, "--secret", "1A=x"], "takes ENV=NAME", "--secret API_TOKEN=my-token"),
        ([*RUN, "--label", "team"], "takes K=V", "--label team=web"),
        ([*RUN, "--label", "run-id=x"], "is set by this tool", "another name"),
        ([*RUN, "--label", "managed-by=x"], "is set by this tool", "another name"),
        ([*RUN, "--sandbox", "x", "--secret", "A=b"], "cannot change", "leave out --secret"),
        ([*RUN, "--sandbox", "x", "--label", "a=b"], "cannot change", "leave out --label"),
        ([*RUN, "--sandbox", "x", "--ttl", "30"], "cannot change", "leave out --ttl"),
        ([*RUN, "--sandbox", "x", "--auto-stop", "0"], "cannot change", "leave out --auto-stop"),
        ([*RUN, "--sandbox", "x", "--target", "eu"], "cannot change", "leave out --target"),
        ([*RUN, "--sandbox", "x", "--dry-run"], "cannot change", "leave out --dry-run"),
        ([*RUN, "--quiet", "--verbose"], "exclude each other", "one of them"),
        ([*RUN, "--timeout", "3600", "--auto-stop", "5"], "may end it before", "--auto-stop 65"),
        ([*RUN, *RUN, "--timeout", "3600", "--ttl", "70"], "ends before", "--ttl 130"),
        (
            [*RUN, "--serve", "x", "--port", "80", "--timeout", "3600", "--ttl", "70"],
            "ends before",
            "--ttl 130",
        ),
        ([*RUN, "--ttl", "0"], "not between", "--help"),
        (
            [*RUN, "--repo", "https://user:secret@host/x"],
            "must not carry credentials",
            "without user and password",
        ),
        ([*RUN, "--repo", "git@github.com:org/x"], "http or https", "https://"),
        ([*RUN, "--repo", "--upload-pack=x"], "expected one argument", "--help"),
        (
            [*RUN, "--sandbox", "x", "--name", "y"],
            "cannot change the existing sandbox",
            "leave out --name",
        ),
        ([*RUN, "--sandbox", "x", "--image", "y:1"], "cannot change", "leave out --image"),
        ([*RUN, "--sandbox", "x", "--keep"], "cannot change", "leave out --keep"),
        ([*RUN, "--name", "../x"], "not a sandbox name", "--name work-1"),
        (
            [*RUN, "--timeout", "3600", "--ttl", "10"],
            "--ttl 10 ends before --timeout 3600 can",
            "--ttl 70",
        ),
        ([*RUN, "--time", "5"], "unrecognized arguments", "--help"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_what_cannot_be_is_refused_with_what_to_type(
    argv: list[str], message: str, fix: str
) -> None:
    """One line why, one line what instead; nothing is created, because nothing was imported yet."""
    with pytest.raises(UsageFailure) as caught:
        parse_run_arguments(argv)

    assert message in caught.value.message
    assert fix in caught.value.fix
    assert caught.value.exit_code == 2


def test_a_value_of_env_is_in_no_message() -> None:
    """A refused --env may hold a secret all the same."""
    with pytest.raises(UsageFailure) as caught:
        parse_run_arguments([*RUN, "--env", "1BAD=hunter22"])

    assert "hunter22" not in caught.value.message + caught.value.fix


@pytest.mark.parametrize(
    ("argv", "ttl", "auto_stop"),
    [
        ([], 60, 15),
        (["--keep"], 240, 15),
        (["--name", "x"], 240, 15),
        (["--timeout", "7200"], 130, 125),
        (["--ttl", "20"], 20, 15),
        (["--detach"], 240, 0),
        (["--preview", "80"], 240, 0),
        (["--setup", "x", "--timeout", "3600"], 130, 65),
        (["--auto-stop", "0"], 60, 0),
    ],
    ids=[
        "default",
        "kept",
        "named",
        "long",
        "chosen",
        "detached",
        "preview",
        "two steps",
        "never idle",
    ],
)
def test_lifetimes_follow_the_timeout(argv: list[str], ttl: int, auto_stop: int) -> None:
    """The server must not end a sandbox before the program may."""
    deadlines = Deadlines.of_run(parse_run_arguments([*RUN, *argv]))

    assert (deadlines.ttl_min, deadlines.auto_stop_min) == (ttl, auto_stop)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["list", "x"],
        ["delete"],
        ["prune"],
        ["list", "--nope"],
        ["prune", "--older-than", "3"],
        ["info"],
        ["info", "a", "b"],
        ["wait", "a", "--timeout", "0"],
    ],
    ids=str,
)
def test_sandboxes_refuses_what_it_does_not_know(argv: list[str]) -> None:
    """Also subcommands answer with a message and a fix."""
    with pytest.raises(UsageFailure) as caught:
        parse_sandboxes_arguments(argv)

    assert caught.value.fix


def test_healthcheck_takes_two_flags() -> None:
    """And nothing else."""
    assert parse_health_arguments(["--json"]).json
    with pytest.raises(UsageFailure):
        parse_health_arguments(["--fix"])


@pytest.mark.parametrize("script", ["run_in_sandbox.py", "sandboxes.py", "healthcheck.py"])
@pytest.mark.parametrize("argument", ["--help", "--nonsense"])
def test_help_and_usage_errors_import_nothing_heavy(script: str, argument: str) -> None:
    """They answer at once, and with an interpreter that has none of the packages."""
    line = [sys.executable, "-X", "importtime", str(SCRIPTS / script), argument]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    imported = {
        row.rsplit("|", 1)[-1].strip().partition(".")[0]
        for row in done.stderr.splitlines()
        if row.startswith("import time")
    }

    assert "argparse" in imported
    assert not imported & {"daytona", "pydantic", "dotenv", "aiohttp", "asyncio", "socketio"}
    assert done.returncode == (0 if argument == "--help" else 2)


def test_what_follows_two_dashes_is_the_programs() -> None:
    """Also words that look like flags of ours."""
    assert parse_run_arguments(["--code", "x", "--", "--json", "-"]).arguments == ("--json", "-")
    assert not parse_run_arguments(["--code", "x", "--", "--json"]).json


@pytest.mark.parametrize(("text", "minutes"), [("90m", 90), ("12h", 720), ("3d", 4320), ("0m", 0)])
def test_an_age_has_its_unit(text: str, minutes: int) -> None:
    """`prune --older-than 3` could mean anything, so it is refused."""
    given = parse_sandboxes_arguments(["prune", "--older-than", text])

    assert SandboxesRequest.of(given).older_than_min == minutes
