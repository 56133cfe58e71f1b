"""A granted line acts on what this skill made for this user; adopt, not granted, opens the rest."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.local_server import LocalServer, until

from .script_runner import Script
from .test_run import start_script

ANOTHERS = {"managed-by": "daytona-sandbox", "user-id": "0" * 32, "run-id": "r"}


@pytest.fixture(
    params=[{}, ANOTHERS, {"managed-by": "daytona-sandbox"}],
    ids=["a stranger's", "a colleague's", "nobody's"],
)
def theirs(request: pytest.FixtureRequest, server: LocalServer) -> Iterator[dict[str, Any]]:
    """A sandbox that this user did not make."""
    yield server.create(name="prod-db", labels=request.param)
    server.request("DELETE", "/api/sandbox/prod-db")


@pytest.mark.parametrize("flag", ["--sandbox", "--name"])
@pytest.mark.parametrize(
    "more",
    [
        ("--command", "touch owned"),
        ("--no-network", "--command", "true"),
        ("--detach", "--command", "true"),
    ],
    ids=" ".join,
)
def test_a_run_leaves_it_alone(
    run: Script, server: LocalServer, theirs: dict[str, Any], flag: str, more: tuple[str, ...]
) -> None:
    """Nothing runs there, network and labels stay; the fix is a line the client asks about."""
    result = run("--local", flag, "prod-db", "--json", *more)
    after = server.get("prod-db")

    assert (result.code, result.json()["error"]["kind"]) == (125, "forbidden")
    assert shlex.split(result.fix.partition(": ")[2])[3:] == ["adopt", theirs["id"], "--local"]
    assert server.exec("prod-db", "ls")["result"] == ""
    assert after is not None
    for name in ("labels", "networkBlockAll", "public", "state"):
        assert after.get(name) == theirs.get(name), name


@pytest.mark.parametrize(
    "words", [("stop",), ("delete",), ("logs",), ("wait",), ("publish",)], ids=" ".join
)
def test_no_verb_acts_on_it(
    sandboxes_script: Script, server: LocalServer, theirs: dict[str, Any], words: tuple[str, ...]
) -> None:
    """Not even one that the person was asked about: they meant another."""
    result = sandboxes_script(*words, "prod-db", "--local", "--json")
    after = server.get("prod-db")

    assert (result.code, result.json()["error"]["kind"]) == (125, "forbidden")
    assert after is not None
    assert (after["state"], after["public"]) == ("started", False)


def test_prune_leaves_it_alone(
    sandboxes_script: Script, server: LocalServer, theirs: dict[str, Any]
) -> None:
    """However old it is."""
    pruned = sandboxes_script("prune", "--older-than", "0m", "--yes", "--local", "--json").json()

    assert pruned["sandboxes"] == []
    assert server.get("prod-db") is not None


def test_list_says_whose_it_is(
    sandboxes_script: Script, server: LocalServer, theirs: dict[str, Any]
) -> None:
    """What other tools made is not listed."""
    listed = sandboxes_script("list", "--local", "--json").json()["sandboxes"]
    shown = sandboxes_script("list", "--local").stdout

    if theirs["labels"].get("managed-by"):
        assert [found["whose"] for found in listed] == ["another user's"]
        assert "another user's" in shown
    else:
        assert listed == []


def test_adopt_makes_it_yours_and_keeps_its_labels(
    run: Script, sandboxes_script: Script, server: LocalServer, theirs: dict[str, Any]
) -> None:
    """Then everything works; a label of its own is not lost."""
    server.request(
        "PUT", "/api/sandbox/prod-db/labels", body={"labels": {**theirs["labels"], "team": "prod"}}
    )
    adopted = sandboxes_script("adopt", "prod-db", "--local", "--json")
    ran = run("--local", "--sandbox", "prod-db", "--command", "echo in it")
    after = server.get("prod-db")

    assert adopted.json()["sandboxes"][0]["whose"] == "yours"
    assert ran.stdout == "in it\n"
    assert after is not None
    assert after["labels"]["team"] == "prod"
    assert sandboxes_script("delete", "prod-db", "--local").code == 0


RULES = {
    "none": ("--no-network",),
    "pypi": ("--allow-domain", "pypi.org"),
    "range": ("--allow-cidr", "203.0.113.0/24"),
}


@pytest.mark.parametrize(
    ("first", "then", "works"),
    [
        ("none", ("--allow-domain", "pypi.org"), False),
        ("none", ("--allow-cidr", "8.8.8.0/24"), False),
        ("none", ("--no-network",), True),
        ("pypi", ("--allow-domain", "evil.example"), False),
        ("pypi", ("--allow-domain", "pypi.org", "--allow-domain", "evil.example"), False),
        ("pypi", ("--allow-domain", "*.pypi.org"), False),
        ("pypi", ("--allow-cidr", "203.0.113.0/24"), False),
        ("pypi", ("--allow-domain", "PyPI.org"), True),
        ("pypi", ("--no-network",), True),
        ("range", ("--allow-cidr", "203.0.0.0/16"), False),
        ("range", ("--allow-cidr", "203.0.113.0/25"), True),
    ],
    ids=str,
)
def test_a_network_rule_that_is_there_is_never_loosened(
    run: Script, server: LocalServer, first: str, then: tuple[str, ...], works: bool
) -> None:
    """Also one's own: whoever set it meant it, and the next line may be a hijacked model's."""
    run("--local", "--name", "tight", *RULES[first], "--command", "true")
    before = server.get("tight")
    result = run("--local", "--name", "tight", "--json", *then, "--command", "true")
    after = server.get("tight")
    server.request("DELETE", "/api/sandbox/tight")

    assert before is not None
    assert after is not None
    assert (result.code == 0) == works, result.stderr
    if not works:
        assert result.json()["error"]["kind"] == "conflict"
        for name in ("networkBlockAll", "networkAllowList", "domainAllowList"):
            assert after.get(name) == before.get(name), name


def test_a_rule_stays_for_runs_that_say_nothing_of_it(run: Script, server: LocalServer) -> None:
    """Leaving the flag out is no way round."""
    run("--local", "--name", "tight", "--no-network", "--command", "true")
    result = run("--local", "--name", "tight", "--setup", "true", "--command", "true")
    after = server.get("tight")
    server.request("DELETE", "/api/sandbox/tight")

    assert result.code == 0
    assert after is not None
    assert after["networkBlockAll"] is True


def test_a_setup_that_fails_leaves_the_rule_in_what_stays(run: Script, server: LocalServer) -> None:
    """The next run with that name finds the sandbox, and may say nothing of a network."""
    failed = run(
        *("--local", "--name", "setup-fails", "--no-network", "--setup", "exit 3"),
        *("--command", "echo ran"),
    )
    after = server.get("setup-fails")
    server.request("DELETE", "/api/sandbox/setup-fails")

    assert (failed.code, failed.stdout) == (3, "")
    assert after is not None
    assert after["networkBlockAll"] is True


def test_the_labels_of_this_tool_cannot_be_given(run: Script) -> None:
    """--label user-id=… would make somebody else's sandbox of ours, or ours of a colleague's."""
    for name in ("managed-by", "run-id", "user-id"):
        assert run("--local", "--command", "true", "--label", f"{name}=x").code == 2


def test_a_rule_that_comes_while_the_setup_runs_is_not_loosened(
    run: Script, server: LocalServer
) -> None:
    """The rule is applied after the setup, which may last: it is judged again then."""
    run("--local", "--name", "race", "--command", "true")
    results: list[Any] = []
    slow = (
        "--local",
        "--name",
        "race",
        "--json",
        "--allow-cidr",
        "0.0.0.0/0",
        "--setup",
        "touch begun; sleep 3",
        "--command",
        "echo ran",
    )
    process = start_script(*slow)
    until(lambda: server.exec("race", "ls begun")["exitCode"] == 0)
    results.append(run("--local", "--name", "race", "--no-network", "--command", "true"))
    out, _ = process.communicate(timeout=60)
    after = server.get("race")
    server.request("DELETE", "/api/sandbox/race")

    assert results[0].code == 0
    assert json.loads(out)["error"]["kind"] == "conflict"
    assert "ran" not in json.loads(out)["stdout"]
    assert after is not None
    assert after["networkBlockAll"] is True
