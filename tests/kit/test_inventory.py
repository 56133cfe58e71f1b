"""sandboxes.py: what this skill made can be found and deleted, nothing else is touched."""

from __future__ import annotations

import random

import pytest

from sandbox_kit.remote_process import find_program
from sandbox_kit.sdk import SessionCommand
from tests.local_server import LocalServer

from .script_runner import Script

ANOTHERS = {"managed-by": "daytona-sandbox", "user-id": "0" * 32, "run-id": "r2"}


def test_list_shows_ours_only(
    sandboxes_script: Script, server: LocalServer, ours: dict[str, str]
) -> None:
    """By the server's label filter."""
    mine, other = (
        server.create(name="mine", labels=ours, ttlMinutes=30),
        server.create(name="other"),
    )
    shown = sandboxes_script("list", "--local")
    as_json = sandboxes_script("list", "--local", "--json").json()
    for made in (mine, other):
        server.request("DELETE", f"/api/sandbox/{made['id']}")

    assert "mine" in shown.stdout
    assert "other" not in shown.stdout
    assert as_json["engine"] == "local"
    (found,) = as_json["sandboxes"]
    keys = "id name state created_at expires_at auto_stop_min labels run_id whose size runs"
    assert set(found) == set(keys.split())
    assert (found["name"], found["state"], found["run_id"], found["whose"]) == (
        "mine",
        "started",
        "r1",
        "yours",
    )
    assert found["expires_at"]


def test_delete_takes_ids_and_names(
    sandboxes_script: Script, server: LocalServer, ours: dict[str, str]
) -> None:
    """Several at once."""
    first, second = server.create(labels=ours), server.create(name="second", labels=ours)

    assert sandboxes_script("delete", first["id"], "second", "--local").code == 0
    assert server.get(first["id"]) is None
    assert server.get(second["id"]) is None


def test_what_others_made_is_refused(sandboxes_script: Script, server: LocalServer) -> None:
    """The label is what makes it ours."""
    server.create(name="theirs")
    result = sandboxes_script("delete", "theirs", "--local", "--json")
    found = server.get("theirs")
    server.request("DELETE", "/api/sandbox/theirs")

    assert (result.code, result.json()["error"]["kind"]) == (125, "forbidden")
    assert found is not None


def test_an_unknown_one_is_told_and_the_others_are_deleted(
    sandboxes_script: Script, server: LocalServer, ours: dict[str, str]
) -> None:
    """One mistake must not keep the rest alive."""
    made = server.create(labels=ours)
    result = sandboxes_script("delete", "no-such", made["id"], "--local")

    assert result.code == 125
    assert "no-such" in result.stderr
    assert 'sandboxes.py" list' in result.fix
    assert server.get(made["id"]) is None


def test_a_usage_error_is_json_too(sandboxes_script: Script) -> None:
    """Whoever asks for JSON gets it."""
    result = sandboxes_script("delete", "--json")

    assert (result.code, result.json()["error"]["kind"]) == (2, "usage")


def test_info_shows_one_in_full(
    sandboxes_script: Script, server: LocalServer, ours: dict[str, str]
) -> None:
    """For people a line a fact, for programs the size too."""
    made = server.create(name="known", labels=ours)
    shown, as_json = (
        sandboxes_script("info", "known", "--local"),
        sandboxes_script("info", "known", "--local", "--json").json(),
    )
    server.request("DELETE", "/api/sandbox/known")

    assert f"id: {made['id']}" in shown.stdout.splitlines()
    assert as_json["size"] == {"cpu": 1, "memory": 1, "disk": 3}


def test_stop_keeps_the_files_and_the_end(
    sandboxes_script: Script, server: LocalServer, ours: dict[str, str]
) -> None:
    """A stopped one is no error; its programs' output is gone, and that is said."""
    server.create(name="halted", labels=ours)
    first, second = (
        sandboxes_script("stop", "halted", "--local"),
        sandboxes_script("stop", "halted", "--local"),
    )
    found, logs = server.get("halted"), sandboxes_script("logs", "halted", "--local", "--json")
    server.request("DELETE", "/api/sandbox/halted")

    assert (first.code, second.code) == (0, 0)
    assert found is not None
    assert found["state"] == "stopped"
    assert (logs.code, logs.json()["error"]["kind"]) == (125, "conflict")


def test_prune_shows_first_and_deletes_ours_alone(
    sandboxes_script: Script, server: LocalServer, ours: dict[str, str]
) -> None:
    """Only what is older than the age, only with --yes, only with our label."""
    server.create(name="old", labels=ours)
    server.create(name="foreign")
    young = sandboxes_script("prune", "--older-than", "1h", "--yes", "--local", "--json").json()
    shown = sandboxes_script("prune", "--older-than", "0m", "--local")
    still = server.get("old")
    done = sandboxes_script("prune", "--older-than", "0m", "--yes", "--local", "--json").json()
    gone, foreign = server.get("old"), server.get("foreign")
    server.request("DELETE", "/api/sandbox/foreign")

    assert young["sandboxes"] == []
    assert "add --yes" in shown.stderr
    assert still is not None
    assert ([found["name"] for found in done["sandboxes"]], done["deleted"]) == (["old"], True)
    assert gone is None
    assert foreign is not None


def test_wait_gives_up_without_ending_the_program(
    run: Script, sandboxes_script: Script, server: LocalServer
) -> None:
    """124, as any time limit of ours; the program goes on."""
    run("--local", "--name", "slow", "--detach", "--command", "sleep 30")
    waited = sandboxes_script("wait", "slow", "--timeout", "1", "--local", "--json")
    logs = sandboxes_script("logs", "slow", "--local", "--json").json()
    server.request("DELETE", "/api/sandbox/slow")

    assert (waited.code, waited.json()["error"]["kind"]) == (124, "timeout")
    assert logs["exit_code"] is None


@pytest.mark.parametrize("setup", [[], ["--setup", "true"]], ids=["alone", "after a setup"])
def test_logs_and_wait_follow_what_was_detached_whatever_ran_since(
    run: Script, sandboxes_script: Script, server: LocalServer, setup: list[str]
) -> None:
    """`wait` would end at once, with another program's exit code, while the job runs."""
    job = "echo the job; sleep 3; exit 5"
    run("--local", "--name", "j", *setup, "--detach", "--command", job)
    run("--local", "--name", "j", "--command", "echo another")
    logs = sandboxes_script("logs", "j", "--local", "--json").json()
    waited = sandboxes_script("wait", "j", "--local")
    server.request("DELETE", "/api/sandbox/j")

    assert logs["stdout"] == "the job\n"
    assert waited.code == 5


def test_logs_show_the_server_that_a_link_leads_to(
    run: Script, sandboxes_script: Script, server: LocalServer
) -> None:
    """That is the program that lives on, not the one before it."""
    serve = "echo serving; exec python3 -m http.server 8000"
    words = ("--command", "echo built", "--serve", serve, "--preview", "8000")
    run("--local", "--name", "shown", *words)
    run("--local", "--name", "shown", "--command", "echo later")
    logs = sandboxes_script("logs", "shown", "--local", "--json").json()
    server.request("DELETE", "/api/sandbox/shown")

    assert logs["stdout"] == "serving\n"
    assert logs["exit_code"] is None


def test_programs_are_found_in_whatever_order_a_daemon_lists_them() -> None:
    """The real one lists them from a map: by name, by time of the run, by number in it."""

    def made(session: str, number: int) -> SessionCommand:
        return SessionCommand(session, f"{session}.{number}", f"exec sh /tmp/x/launch-{number}", 0)

    runs = [made("run-20261126-01", number) for number in range(12)]
    later = [*runs, made("run-20261126-02", 0)]
    jobs = [*later, made("job-20261125-01", 3), made("job-20261125-02", 1)]
    others = [SessionCommand("entrypoint", "e", "sleep infinity", None)]
    for found, wanted in (
        (runs, "run-20261126-01.11"),
        (later, "run-20261126-02.0"),
        (jobs, "job-20261125-02.1"),
    ):
        for seed in range(5):
            shuffled = random.Random(seed).sample(found + others, len(found) + 1)
            program = find_program(shuffled)
            assert program is not None
            assert program.id == wanted
    assert find_program(others) is None
