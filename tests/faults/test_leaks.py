"""Whichever request fails, no sandbox is left behind, or the user is told its id."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from sandbox_kit.errors import Failure
from sandbox_kit.lease import may_have_made_one
from tests.kit.script_runner import Script
from tests.local_server import SCRIPTS, LocalServer

from .proxy import Fault, Proxy

CREATE = ("POST", "/api/sandbox")
DELETE = ("DELETE", "/api/sandbox/.*")
GET = ("GET", "/api/sandbox/.*")
FOLLOW = ("GET", "/toolbox/.*/logs")


def test_without_a_fault_the_requests_are_these(run: Script, proxy: Proxy) -> None:
    """Each request of a plain run has its reason (execution); another must be justified here."""
    result = run("--command", "echo hello")
    requests = [
        f"{method} {re.sub(r'[0-9a-f-]{36}|run-[0-9a-f-]+', 'X', path)}"
        for method, path in proxy.seen
        if "socket.io" not in path
    ]

    assert (result.code, result.stdout) == (0, "hello\n")
    assert requests == [
        "POST /api/sandbox",
        "POST /toolbox/X/files/folder",  # private: holds the script and its variables
        "POST /toolbox/X/files/bulk-upload",
        "POST /toolbox/X/process/session",
        "POST /toolbox/X/process/session/X/exec",
        "GET /toolbox/X/process/session/X/command/X/logs",  # the stream
        "GET /toolbox/X/process/session/X/command/X",  # the exit code
        "DELETE /api/sandbox/X",
    ]


def test_a_lost_answer_to_the_create_is_followed_by_a_look_and_a_delete(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """The sandbox exists and nobody told us its id: it is found by the name we chose."""
    proxy.faults.append(Fault(*CREATE, "drop-after", times=1))
    result = run("--json", "--command", "true")

    assert (result.code, result.json()["error"]["kind"]) == (125, "network")
    assert proxy.count(*CREATE) == 1
    assert server.sandboxes() == []


def test_a_create_whose_answer_names_no_sandbox_is_followed_by_a_look_and_a_delete(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """The generated clients make None of a 201, and what was made must not be left for it."""
    proxy.faults.append(Fault(*CREATE, "unknown", times=1))
    result = run("--json", "--command", "true")

    assert (result.code, result.json()["error"]["kind"]) == (125, "server_error")
    assert proxy.count(*CREATE) == 1
    assert server.sandboxes() == []


def test_an_error_whose_body_never_ends_is_told_at_once(run: Script, proxy: Proxy) -> None:
    """It was read into memory until the request's time was over."""
    proxy.faults.append(Fault(*CREATE, "endless"))
    began = time.monotonic()
    result = run("--json", "--command", "true")

    assert (result.code, result.json()["error"]["kind"]) == (125, "forbidden")
    assert time.monotonic() - began < 10


def test_no_redirect_takes_a_request_to_another_host(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """Its body has the program and its variables."""
    proxy.faults.append(Fault("POST", "/toolbox/.*/files/bulk-upload", "elsewhere"))
    result = run("--command", "true")

    assert result.code == 125
    assert "redirects to another host" in result.stderr
    assert server.sandboxes() == []


def test_a_cleanup_that_runs_out_of_time_names_the_sandbox(
    run: Script, proxy: Proxy, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that never answers the delete must not take the id with it."""
    from sandbox_kit import lease

    monkeypatch.setattr(lease, "CLEANUP_LIMIT_S", 0.1)
    proxy.faults.append(Fault(*DELETE, "delay"))
    result = run("--command", "true")
    made = next(path.rpartition("/")[2] for method, path in proxy.seen if method == "DELETE")

    assert result.code == 125
    assert made in result.stderr
    assert shlex.split(result.fix)[2:] == [str(SCRIPTS / "sandboxes.py"), "delete", made]


@pytest.mark.parametrize("status", [401, 403, 429, 501])
def test_a_refused_look_while_it_starts_does_not_leave_it(
    run: Script, proxy: Proxy, server: LocalServer, status: int
) -> None:
    """Its id is known by then: no answer can mean any more that the create made nothing."""
    proxy.faults.append(Fault(*GET, status, times=1))
    result = run("--json", "--image", "daytona-small", "--command", "true")

    assert result.code == 125
    assert proxy.count(*DELETE) == 1
    assert server.sandboxes() == []


def test_a_server_that_is_gone_while_it_starts_is_looked_for() -> None:
    """The last request never left, but the create did."""
    failure = Failure("network", "no connection", unsent=True)

    assert not may_have_made_one(failure)
    assert may_have_made_one(failure.replaced(sandbox_id="an id"))


@pytest.mark.parametrize("action", [500, 502, 503, "drop-before", "garbage"])
def test_a_create_that_made_nothing_is_reported_once(
    run: Script, proxy: Proxy, server: LocalServer, action: int | str
) -> None:
    """It is not sent again, and the look that follows finds nothing."""
    proxy.faults.append(Fault(*CREATE, action))
    result = run("--json", "--command", "true")

    assert result.code == 125
    assert result.json()["error"]["kind"] in ("server_error", "network")
    assert result.fix
    assert proxy.count(*CREATE) == 1
    assert server.sandboxes() == []


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "Invalid credentials", "unauthorized"),
        (403, "Forbidden", "forbidden"),
        (429, "slow down", "rate_limited"),
        (403, "Total CPU limit exceeded. Maximum allowed: 10", "quota"),
        (400, "Network access is restricted and cannot be overridden", "tier_network"),
    ],
)
def test_a_refused_create_is_translated(
    run: Script, proxy: Proxy, server: LocalServer, status: int, message: str, kind: str
) -> None:
    """The server's words decide, and nothing is deleted."""
    proxy.faults.append(Fault(*CREATE, status, message=message))
    result = run("--json", "--command", "true")

    assert (result.code, result.json()["error"]["kind"]) == (125, kind)
    assert proxy.count(*DELETE) == 0


def test_a_name_that_another_run_took_meanwhile_is_used_and_never_deleted(
    run: Script, proxy: Proxy, server: LocalServer, ours: dict[str, str]
) -> None:
    """A 409 on create means: not this run's. Get-or-create then gets."""
    server.create(name="theirs", labels=ours)
    proxy.faults.append(Fault("GET", "/api/sandbox/theirs", 404, times=1))
    result = run("--name", "theirs", "--command", "echo in it")

    assert (result.code, result.stdout) == (0, "in it\n")
    assert proxy.count(*DELETE) == 0
    assert server.get("theirs") is not None


def test_a_name_that_somebody_else_took_meanwhile_is_left_alone(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """Get-or-create gets this user's sandboxes only."""
    server.create(name="theirs")
    proxy.faults.append(Fault("GET", "/api/sandbox/theirs", 404, times=1))
    result = run("--name", "theirs", "--json", "--command", "echo in it")

    assert (result.code, result.json()["error"]["kind"], result.json()["stdout"]) == (
        125,
        "forbidden",
        "",
    )
    assert proxy.count(*DELETE) == 0
    assert server.get("theirs") is not None


def test_a_sandbox_of_our_name_with_another_run_id_is_left_alone(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """After a lost answer the name alone proves nothing."""
    server.create(name="shared", labels={"managed-by": "daytona-sandbox", "run-id": "another"})
    proxy.faults.append(Fault("GET", "/api/sandbox/shared", 404, times=1))
    proxy.faults.append(Fault(*CREATE, 502))
    result = run("--json", "--name", "shared", "--command", "true")

    assert result.code == 125
    assert proxy.count(*DELETE) == 0
    assert server.get("shared") is not None


@pytest.mark.parametrize("action", [409, 500, 502, 503, 429, "drop-before"])
def test_a_delete_that_fails_once_is_repeated(
    run: Script, proxy: Proxy, server: LocalServer, action: int | str
) -> None:
    """The output is shown, the exit code is the program's."""
    proxy.faults.append(Fault(*DELETE, action, times=1))
    result = run("--command", "echo done; exit 3")

    assert (result.code, result.stdout) == (3, "done\n")
    assert server.sandboxes() == []


def test_a_404_to_the_delete_is_not_believed_while_the_sandbox_is_there(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """Something before the server can answer it."""
    proxy.faults.append(Fault(*DELETE, 404, times=1))

    assert run("--command", "true").code == 0
    assert server.sandboxes() == []


def test_an_upload_that_the_server_swallowed_is_the_tools_failure(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """Not the program's exit code: it never ran."""
    proxy.faults.append(Fault("POST", "/toolbox/.*/files/bulk-upload", "garbage"))
    result = run("--json", "--command", "true")

    assert (result.code, result.json()["error"]["kind"]) == (125, "exec_failed")
    assert server.sandboxes() == []


def test_a_program_that_ends_with_125_is_believed(run: Script, proxy: Proxy) -> None:
    """The tool's own code is not reserved for the tool."""
    result = run("--json", "--command", "exit 125")

    assert (result.code, result.json()["exit_code"], result.json()["error"]) == (125, 125, None)


def test_a_delete_whose_answer_is_lost_is_done(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """The second try finds nothing, and that is success."""
    proxy.faults.append(Fault(*DELETE, "drop-after", times=1))

    assert run("--command", "true").code == 0
    assert server.sandboxes() == []


def test_a_sandbox_that_cannot_be_deleted_is_told_with_id_end_and_command(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """125 although the program succeeded: somebody has to act, or to know that the ttl will."""
    proxy.faults.append(Fault(*DELETE, 503))
    result = run("--command", "echo done")
    left = server.sandboxes()

    assert (result.code, result.stdout) == (125, "done\n")
    assert len(left) == 1
    assert left[0]["id"] in result.stderr
    assert "within 60 minutes" in result.stderr
    assert shlex.split(result.fix)[2:] == [str(SCRIPTS / "sandboxes.py"), "delete", left[0]["id"]]


def test_a_key_without_the_right_to_delete_is_told_at_once(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """Repeating a 403 helps nobody."""
    proxy.faults.append(Fault(*DELETE, 403, message="Forbidden"))
    result = run("--json", "--command", "true")

    assert (result.code, result.json()["error"]["kind"]) == (125, "forbidden")
    assert proxy.count(*DELETE) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/toolbox/.*/files/folder",
        "/toolbox/.*/files/bulk-upload",
        "/toolbox/.*/process/session",
        "/toolbox/.*/process/session/.*/exec",
    ],
)
@pytest.mark.parametrize("action", [500, "drop-before", "drop-after", "garbage"])
def test_a_fault_before_the_program_ran_deletes_the_sandbox(
    run: Script, proxy: Proxy, server: LocalServer, path: str, action: int | str
) -> None:
    """And no command is sent twice."""
    proxy.faults.append(Fault("POST", path, action))
    result = run("--json", "--command", "true")

    # An answer without a body that is read is as good as the right one: the run then ends well.
    assert result.code == 125 or (action == "garbage" and result.code == 0)
    assert proxy.count("POST", "/toolbox/.*/process/session/.*/exec") <= 1
    assert server.sandboxes() == []


def test_a_stream_that_is_cut_goes_on_without_losing_or_repeating_a_line(
    run: Script, proxy: Proxy
) -> None:
    """Long runs lose their connection; the server replays, we skip."""
    proxy.faults.append(Fault(*FOLLOW, "cut", times=2))
    result = run("--command", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done")

    assert (result.code, result.stdout) == (0, "1\n2\n3\n4\n5\n6\n")
    assert proxy.count(*FOLLOW) >= 3


def test_without_websockets_the_output_is_polled(
    run: Script, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some networks let none through."""

    async def refuse(*_: object, **__: object) -> None:
        from sandbox_kit.errors import Failure

        raise Failure("network", "no websockets here")

    from sandbox_kit.sdk import Sandbox

    monkeypatch.setattr(Sandbox, "follow", refuse)
    result = run("--command", "echo one; sleep 0.3; echo two >&2; exit 5")

    assert (result.code, result.stdout) == (5, "one\n")
    assert "two\n" in result.stderr


def test_a_broken_exit_code_request_still_deletes(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """The program ran, its code is not known: the tool failed, the sandbox is gone."""
    proxy.faults.append(Fault("GET", "/toolbox/.*/command/[^/]*", 500))
    result = run("--json", "--command", "echo x")

    assert result.code == 125
    assert server.sandboxes() == []


@pytest.mark.parametrize("stage", ["create", "run"])
def test_sigterm_at_any_stage_leaves_nothing(proxy: Proxy, server: LocalServer, stage: str) -> None:
    """During the create the answer is waited for, because it carries the id."""
    command = "echo started; sleep 60"
    line = [sys.executable, str(SCRIPTS / "run_in_sandbox.py"), "--command", command]
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ.copy(),
    )
    assert process.stderr is not None
    assert process.stdout is not None
    wait_for, stream = (
        ("creating sandbox", process.stderr) if stage == "create" else ("started", process.stdout)
    )
    for text in stream:
        if wait_for in text:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert process.returncode == 143
    assert server.sandboxes() == []


UNUSABLE = {
    "closed": "2>&-",
    "full": "2>/dev/full",
    "a pipe without a reader": "2> >(exit)",
}


@pytest.mark.parametrize(
    ("action", "unusable"), [*(("drop-after", name) for name in UNUSABLE), (500, "full")]
)
def test_a_stderr_that_takes_nothing_stops_no_cleanup(
    proxy: Proxy, server: LocalServer, unusable: str, action: int | str
) -> None:
    """The terminal may have gone away; and the exit code is ours, not Python's 1 or 120."""
    proxy.faults.append(Fault("POST", "/api/sandbox", action, times=1))
    line = (
        f'{sys.executable} {SCRIPTS / "run_in_sandbox.py"} --command "exit 3" {UNUSABLE[unusable]}'
    )
    ended = subprocess.run(
        ["bash", "-c", line], capture_output=True, stdin=subprocess.DEVNULL, timeout=90, check=False
    )

    assert ended.returncode == 125
    assert server.sandboxes() == []
    assert proxy.count("GET", "/api/sandbox/run-.*") > 0


def test_lists_come_in_no_order(
    proxy: Proxy, server: LocalServer, run: Script, sandboxes_script: Script
) -> None:
    """`logs` and `wait` find the last program, and `list` all sandboxes, however they come."""
    for number in range(6):
        run("--name", f"listed-{number % 3}", "--command", f"echo run {number}; exit {number}")
    said = [sandboxes_script("logs", f"listed-{number}").stdout for number in range(3)]
    codes = [sandboxes_script("wait", f"listed-{number}").code for number in range(3)]
    listed = sandboxes_script("list", "--json").json()["sandboxes"]

    assert said == ["run 3\n", "run 4\n", "run 5\n"]
    assert codes == [3, 4, 5]
    assert sorted(found["name"] for found in listed) == ["listed-0", "listed-1", "listed-2"]


def test_sandboxes_delete_repeats_and_reports(
    sandboxes_script: Script, proxy: Proxy, server: LocalServer, ours: dict[str, str]
) -> None:
    """What --keep printed must work on a bad day too."""
    made = server.create(labels=ours)
    proxy.faults.append(Fault(*DELETE, 409, times=1, message="Sandbox state change in progress"))

    assert sandboxes_script("delete", made["id"]).code == 0
    assert server.get(made["id"]) is None


NETWORK = ("POST", "/api/sandbox/.*/network-settings")


@pytest.mark.parametrize(
    ("action", "message"),
    [("ignored", ""), (400, "Network access is restricted and cannot be overridden")],
)
def test_a_network_rule_that_does_not_hold_stops_the_run(
    run: Script, proxy: Proxy, server: LocalServer, action: int | str, message: str
) -> None:
    """It ends loudly before the program starts.

    A server may refuse a rule by its tier, or drop a field that it does not know.
    """
    proxy.faults.append(Fault(*NETWORK, action, message=message))
    result = run("--json", "--setup", "true", "--no-network", "--command", "echo ran")

    assert (result.code, result.json()["error"]["kind"]) == (125, "tier_network")
    assert "ran" not in result.json()["stdout"]
    assert server.sandboxes() == []


def test_a_dry_run_is_the_request_of_the_run(run: Script, proxy: Proxy) -> None:
    """But for the names, which are new each time."""
    argv = (
        "--no-network",
        "--label",
        "team=web",
        "--ttl",
        "33",
        "--snapshot",
        "daytona-medium",
        "--command",
        "true",
    )
    shown = json.loads(run("--dry-run", *argv).stdout)
    run(*argv)
    sent = json.loads(proxy.created[0])
    for request in (shown, sent):
        del request["name"], request["labels"]["run-id"]

    assert len(proxy.created) == 1
    assert shown == sent


@pytest.mark.parametrize("action", [403, "ignored"])
def test_a_ttl_that_an_existing_sandbox_does_not_take_is_told(
    run: Script, proxy: Proxy, server: LocalServer, ours: dict[str, str], action: int | str
) -> None:
    """Refused, or accepted and not set: the run goes on, and says that it changes nothing."""
    server.create(name="old", labels=ours, ttlMinutes=30)
    proxy.faults.append(Fault("POST", "/api/sandbox/.*/ttl/2880", action))
    result = run("--name", "old", "--ttl", "2880", "--command", "echo fine")

    assert (result.code, result.stdout) == (0, "fine\n")
    assert "--ttl changes nothing" in result.stderr


def test_a_sandbox_that_may_be_left_is_named_in_a_line_of_its_own(
    run: Script, proxy: Proxy, server: LocalServer
) -> None:
    """Before the last words, also with --quiet."""
    proxy.faults.append(Fault(*DELETE, 503))
    result = run("--quiet", "--command", "true")
    (left,) = server.sandboxes()

    assert result.stderr.splitlines()[-3].startswith(f"[sandbox] may be left: {left['id']}; delete")


def test_a_cleanup_that_was_slept_through_is_looked_at_before_it_is_called_left(
    run: Script, proxy: Proxy, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delete arrived, its answer came too late for our clock."""
    from sandbox_kit import lease

    monkeypatch.setattr(lease, "CLEANUP_LIMIT_S", 0.2)
    monkeypatch.setattr(lease, "DELETE_PAUSES_S", (0.0, 5.0))
    proxy.faults.append(Fault(*DELETE, "drop-after"))
    result = run("--command", "true")

    assert server.sandboxes() == []
    assert result.code == 0
    assert "deleted: run-" in result.stderr


@pytest.mark.parametrize("started", [True, False])
def test_a_create_that_was_slept_through_is_looked_at_before_it_is_given_up(
    run: Script, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    """Our clock ran on while the server made it."""
    from sandbox_kit.sdk import Sandbox

    async def sleep_on(_sandbox: Sandbox) -> None:
        raise TimeoutError

    monkeypatch.setattr(Sandbox, "wait_for_start", sleep_on)
    if not started:
        proxy.faults.append(Fault(*GET, 503))
    result = run("--json", "--command", "true")

    assert result.code == (0 if started else 125)


MANY = [word for number in range(4) for word in ("--each", str(number))]


def test_a_full_account_has_fewer_at_a_time(proxy: Proxy, server: LocalServer, run: Script) -> None:
    """What it refuses is tried again when another one has ended; all are done in the end."""
    refused = "Total CPU limit exceeded. Maximum allowed: 2."
    proxy.faults.append(Fault("POST", "/api/sandbox", 400, times=2, message=refused))
    result = run(*MANY, "--command", "sleep 0.3; echo $EACH")

    assert (result.code, sorted(result.stdout.splitlines())) == (
        0,
        ["0: 0", "1: 1", "2: 2", "3: 3"],
    )
    assert "the account is full: " in result.stderr
    assert server.sandboxes() == []


def test_an_account_that_has_room_for_none_is_told_once_for_each(
    proxy: Proxy, server: LocalServer, run: Script
) -> None:
    """Nobody waits for what never ends."""
    refused = "Total CPU limit exceeded. Maximum allowed: 0."
    proxy.faults.append(Fault("POST", "/api/sandbox", 400, message=refused))
    result = run(*MANY, "--command", "true")

    assert result.code == 125
    assert "0 of 4 done" in result.stderr
    assert server.sandboxes() == []


def test_a_server_that_is_asked_too_often_is_asked_again_later(
    proxy: Proxy, server: LocalServer, run: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it says to wait."""
    monkeypatch.setattr("sandbox_kit.many_runs.SHORTEST_WAIT_S", 0.01)
    proxy.faults.append(Fault("POST", "/api/sandbox", 429, times=3))
    result = run(*MANY, "--command", "true")

    assert (result.code, server.sandboxes()) == (0, [])
    assert proxy.count("POST", "/api/sandbox") == 7


def test_one_value_whose_create_fails_ends_no_other(
    proxy: Proxy, server: LocalServer, run: Script
) -> None:
    """Its failure is in its place; the exit code is the first failed one's."""
    proxy.faults.append(Fault("POST", "/api/sandbox", 500, times=1))
    answer = run(*MANY, "--json", "--command", "true").json()
    kinds = [each["error"]["kind"] if each["error"] else None for each in answer["each"]]

    assert sorted(kinds, key=str) == [None, None, None, "server_error"]
    assert answer["exit_code"] == 125
    assert answer["error"]["kind"] == "server_error"
    assert server.sandboxes() == []


@pytest.mark.thorough
def test_what_many_runs_may_leave_is_told_where_their_output_is_lost(
    proxy: Proxy, server: LocalServer
) -> None:
    """The one fault must not hide the other: each sandbox is named."""
    proxy.faults.append(Fault("DELETE", "/api/sandbox/.*", 500))
    script = SCRIPTS / "run_in_sandbox.py"
    ended = subprocess.run(
        ["bash", "-c", f"{sys.executable} {script} {' '.join(MANY)} --command 'echo x' >/dev/full"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    left = [str(made["id"]) for made in server.sandboxes()]
    for one in left:
        server.request("DELETE", f"/api/sandbox/{one}")

    assert ended.returncode == 125
    assert [one for one in left if f"may be left: {one}" not in ended.stderr] == []
    assert len(left) > 1


def test_a_snapshot_of_what_a_stop_would_delete_is_refused_as_the_server_says(
    proxy: Proxy, server: LocalServer, run: Script, sandboxes_script: Script
) -> None:
    """An ephemeral sandbox is not stopped for it: that is its end."""
    run("--name", "base", "--command", "true")
    server.request("POST", "/api/sandbox/base/autodelete/0")
    proxy.faults.append(
        Fault("POST", "/api/sandbox/[^/]*/snapshot", 400, message="must be stopped")
    )
    refused = sandboxes_script("snapshot", "base", "made")
    found = server.get("base")
    server.request("DELETE", "/api/sandbox/base")

    assert refused.code == 125
    assert "must be stopped" in refused.stderr
    assert found is not None
    assert found["state"] == "started"


def test_a_snapshot_is_made_of_a_stopped_sandbox_where_the_server_wants_that(
    proxy: Proxy, server: LocalServer, run: Script, sandboxes_script: Script
) -> None:
    """What it refused and why is told; a refusal for good is the failure."""
    run("--name", "base", "--command", "true")
    path = "/api/sandbox/[^/]*/snapshot"
    wanted = "Sandbox must be stopped"
    proxy.faults.append(Fault("POST", path, 400, times=1, message=wanted))
    made = sandboxes_script("snapshot", "base", "made")
    found = server.get("base")
    proxy.faults.append(Fault("POST", path, 400, message=wanted))
    refused = sandboxes_script("snapshot", "base", "another")
    gone = sandboxes_script("snapshots", "--delete", "made")
    server.request("DELETE", "/api/sandbox/base")

    assert (made.code, refused.code, gone.code) == (0, 125, 0)
    assert f"{wanted}; trying it stopped, and so it stays" in made.stderr
    assert found is not None
    assert found["state"] == "stopped"
    assert wanted in refused.stderr
