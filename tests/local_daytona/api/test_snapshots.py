"""Snapshots, archive, resize: made, started from, listed, deleted, still there after a crash."""

from __future__ import annotations

import concurrent.futures
import signal
from pathlib import Path
from typing import Any

import pytest
from daytona import CreateSandboxFromSnapshotParams, Daytona, Resources

from tests.local_server import LocalServer, running_server, spawn, until, wait_for_server

NEVER = "00000000-0000-0000-0000-000000000000"


def post(server: LocalServer, path: str, **fields: Any) -> Any:
    """A POST that must succeed."""
    reply = server.request("POST", path, body=fields)
    assert reply.status == 200, reply.body
    return reply.json()


def saved(server: LocalServer, sandbox: dict[str, Any], name: str) -> dict[str, Any]:
    """Make a snapshot of a sandbox; its JSON."""
    post(server, f"/api/sandbox/{sandbox['id']}/snapshot", name=name)
    found: dict[str, Any] = server.request("GET", f"/api/snapshots/{name}").json()
    return found


def delete(server: LocalServer, *sandboxes: dict[str, Any]) -> None:
    for sandbox in sandboxes:
        assert server.request("DELETE", f"/api/sandbox/{sandbox['id']}").status == 200


def test_a_snapshot_of_a_running_sandbox_gives_its_files_to_new_ones(sdk: Daytona) -> None:
    """The page's example: prepare once, start many; each has its own /home, /opt, /etc and /var."""
    first = sdk.create(CreateSandboxFromSnapshotParams(snapshot="daytona-medium"))
    first.process.exec(
        "mkdir -p tools && echo one > tools/a && echo two > /opt/b && echo three > /etc/c && "
        "rm /etc/passwd && echo 4 > /var/d"
    )
    first.create_snapshot("my-tools", timeout=60)
    second = sdk.create(CreateSandboxFromSnapshotParams(snapshot="my-tools"))
    third = sdk.create(CreateSandboxFromSnapshotParams(snapshot="my-tools"))

    assert first.state == "started"
    seen = "cat tools/a /opt/b /etc/c /var/d; ls /etc/passwd"
    assert second.process.exec(seen).result.startswith("one\ntwo\nthree\n4\n")
    assert second.process.exec("ls /etc/passwd").exit_code != 0
    assert (second.cpu, second.memory, second.disk, second.snapshot) == (2, 4, 8, "my-tools")
    second.process.exec("echo changed > tools/a; touch /etc/passwd")
    assert third.process.exec("cat tools/a; ls /etc/passwd 2>&1 | grep -c No").result == "one\n1\n"
    assert first.process.exec("cat tools/a").result == "one\n"
    for sandbox in (first, second, third):
        sandbox.delete(timeout=60)
    sdk.snapshot.delete("my-tools")
    assert "my-tools" not in [snapshot.name for snapshot in sdk.snapshot.list().items]


def test_a_snapshot_outlives_its_sandbox_and_is_found_by_id_name_and_source(
    server: LocalServer,
) -> None:
    """Everything a client may ask for leads to the same snapshot."""
    sandbox = server.create()
    made = saved(server, sandbox, "found-again")
    delete(server, sandbox)

    assert made["state"] == "active"
    assert made["size"] is not None
    assert server.request("GET", f"/api/snapshots/{made['id']}").json() == made
    listed = server.request("GET", f"/api/snapshots?sourceSandboxId={sandbox['id']}").json()
    assert [snapshot["name"] for snapshot in listed["items"]] == ["found-again"]
    assert server.request("DELETE", f"/api/snapshots/{made['id']}").status == 200
    assert server.request("GET", f"/api/snapshots/{made['id']}").status == 404


def test_the_list_comes_in_pages(server: LocalServer) -> None:
    """page, limit, total and totalPages agree."""
    first = server.request("GET", "/api/snapshots?page=1&limit=2").json()
    second = server.request("GET", "/api/snapshots?page=2&limit=2").json()

    assert first["totalPages"] == -(-first["total"] // 2)
    assert len(first["items"]) == 2
    assert first["items"] != second["items"]
    assert server.request("GET", "/api/snapshots?sort=nonsense").status == 400


def test_names_are_unique_and_daytonas_own_stay(server: LocalServer) -> None:
    """409 for a taken name, 403 for deleting a ready-made one, 400 for a name no one could use."""
    sandbox = server.create()
    path = f"/api/sandbox/{sandbox['id']}/snapshot"
    saved(server, sandbox, "taken")

    assert server.request("POST", path, body={"name": "taken"}).status == 409
    assert server.request("POST", path, body={"name": "daytona-small"}).status == 409
    assert server.request("POST", path, body={"name": "../x"}).status == 400
    assert server.request("DELETE", "/api/snapshots/daytona-small").status == 403
    assert server.request("DELETE", f"/api/snapshots/{NEVER}").status == 404
    assert server.request("DELETE", "/api/snapshots/taken").status == 200
    delete(server, sandbox)


def test_an_inactive_snapshot_starts_nothing_until_it_is_activated(server: LocalServer) -> None:
    """As with Daytona's, which go to sleep after two weeks."""
    sandbox = server.create()
    saved(server, sandbox, "sleepy")

    assert server.request("POST", "/api/snapshots/sleepy/activate").status == 400
    assert server.request("POST", "/api/snapshots/sleepy/deactivate").status == 204
    refused = server.request("POST", "/api/sandbox", body={"snapshot": "sleepy"})
    assert (refused.status, refused.json()["message"]) == (400, "Snapshot sleepy is inactive")
    assert server.request("POST", "/api/snapshots/sleepy/activate").json()["state"] == "active"
    delete(server, sandbox, server.create(snapshot="sleepy"))
    assert server.request("DELETE", "/api/snapshots/sleepy").status == 200


def test_a_snapshot_is_made_while_code_swaps_folders_for_links(server: LocalServer) -> None:
    """Hostile code that races against the copy gets no file of the host into the snapshot."""
    sandbox = server.create()
    racing = (
        "mkdir -p x; for i in $(seq 50); do mkdir x/$i; echo mine > x/$i/shadow; done; "
        "(while true; do for i in $(seq 50); do mv x/$i x/o; ln -s /etc x/$i; rm x/$i; "
        "mv x/o x/$i; done; done) >/dev/null 2>&1 &"
    )
    server.exec(sandbox["id"], racing)
    for turn in range(5):
        saved(server, sandbox, f"raced-{turn}")
        copy = server.create(snapshot=f"raced-{turn}")
        found = server.exec(copy["id"], "cat x/*/shadow 2>/dev/null | grep -vc mine")
        assert found["result"] == "0\n"
        delete(server, copy)
        assert server.request("DELETE", f"/api/snapshots/raced-{turn}").status == 200
    delete(server, sandbox)


def test_a_snapshot_that_cannot_be_copied_leaves_nothing_and_the_sandbox_goes_on(
    server: LocalServer,
) -> None:
    """The caller is told why, and may use the name again."""
    sandbox = server.create()
    server.exec(
        sandbox["id"], "python3 -c \"import os\nfor _ in range(300): os.mkdir('d'); os.chdir('d')\""
    )
    refused = server.request(
        "POST", f"/api/sandbox/{sandbox['id']}/snapshot", body={"name": "too-deep"}
    )

    assert refused.status == 507
    assert "nested" in refused.json()["message"]
    assert server.request("GET", "/api/snapshots/too-deep").status == 404
    assert server.exec(sandbox["id"], "echo alive")["result"] == "alive\n"
    delete(server, sandbox)


def check_snapshots(after: LocalServer, acknowledged: set[str], turn: int) -> None:
    """Exactly the acknowledged ones are there, on disk too; this turn's works, and is deleted."""
    items = after.request("GET", "/api/snapshots?limit=200").json()["items"]
    kept = {item["name"]: item for item in items if not item["general"]}
    folders = {path.name for path in (after.state_dir / "snapshots").iterdir()}

    assert {*kept} == acknowledged
    assert folders == {item["id"] for item in kept.values()}
    if f"cut-{turn}" in kept:
        copy = after.create(snapshot=f"cut-{turn}")
        restored = after.exec(copy["id"], "cat mark; stat -c %s big")["result"]
        assert restored == f"{turn}\n100000000\n"
        assert after.request("DELETE", f"/api/snapshots/cut-{turn}").status == 200
        acknowledged.discard(f"cut-{turn}")


@pytest.mark.thorough
def test_killed_at_any_moment_no_half_snapshot_and_no_orphan_folder_stays(state_dir: Path) -> None:
    """What was acknowledged survives a SIGKILL with its files; what was not leaves nothing."""
    acknowledged: set[str] = set()
    snapshots = state_dir / "snapshots"
    for turn in range(4):
        process = spawn(state_dir)
        server = wait_for_server(state_dir, process)
        sandbox = server.create()
        server.exec(
            sandbox["id"], f"head -c 100000000 /dev/zero | tr '\\0' x > big; echo {turn} > mark"
        )
        with concurrent.futures.ThreadPoolExecutor() as pool:
            running = pool.submit(
                server.request,
                "POST",
                f"/api/sandbox/{sandbox['id']}/snapshot",
                body={"name": f"cut-{turn}"},
            )
            if turn < 3:
                until(lambda running=running: any(snapshots.iterdir()) or running.done())
            else:
                running.result()
            process.send_signal(signal.SIGKILL)
            process.wait()
            if running.exception() is None and running.result().status == 200:
                acknowledged.add(f"cut-{turn}")
        with running_server(state_dir) as after:
            check_snapshots(after, acknowledged, turn)
            for found in after.sandboxes():
                delete(after, found)
    assert "cut-3" not in acknowledged


def test_an_archived_sandbox_starts_again_with_its_files(sdk: Daytona) -> None:
    """Only a stopped one is archived, never an ephemeral one."""
    sandbox = sdk.create()
    sandbox.process.exec("echo kept > note")
    with pytest.raises(Exception, match="cannot be archived"):
        sandbox.archive()
    sandbox.stop(timeout=60)
    sandbox.archive()

    assert sandbox.state == "archived"
    sandbox.start(timeout=60)
    assert sandbox.process.exec("cat note").result == "kept\n"
    sandbox.delete(timeout=60)


@pytest.mark.thorough
def test_auto_archive_comes_before_auto_delete_which_still_counts_from_the_stop(
    state_dir: Path,
) -> None:
    """Both timers of a stopped sandbox run, and neither forgets it."""
    with running_server(state_dir, minute=0.2) as server:
        sandbox = server.create(autoArchiveInterval=2, autoDeleteInterval=20, autoStopInterval=0)
        server.request("POST", f"/api/sandbox/{sandbox['id']}/stop")
        until(lambda: (server.get(sandbox["id"]) or {}).get("state") == "archived")
        until(lambda: server.get(sandbox["id"]) is None)


def test_resize_follows_daytonas_rules(sdk: Daytona) -> None:
    """More cpu and memory while it runs; less, or more disk, when stopped.

    Never less disk, never beyond the largest.
    """
    sandbox = sdk.create()
    sandbox.resize(Resources(cpu=2, memory=2))
    sandbox.refresh_data()
    assert (sandbox.cpu, sandbox.memory, sandbox.disk) == (2, 2, 3)
    for wanted in (Resources(cpu=1), Resources(disk=5), Resources(cpu=64), Resources(cpu=2)):
        with pytest.raises(
            Exception, match=r"Stop the Sandbox|must be a whole number|already has this size"
        ):
            sandbox.resize(wanted)
    sandbox.stop(timeout=60)
    sandbox.resize(Resources(cpu=1, disk=5))
    with pytest.raises(Exception, match="only be increased"):
        sandbox.resize(Resources(disk=4))
    sandbox.refresh_data()

    assert (sandbox.cpu, sandbox.memory, sandbox.disk) == (1, 2, 5)
    sandbox.delete(timeout=60)


def test_recover_pause_and_fork_say_what_they_are(server: LocalServer) -> None:
    """A healthy sandbox has nothing to recover from; pausing and forking stay with the cloud."""
    sandbox = server.create()

    assert server.request("POST", f"/api/sandbox/{sandbox['id']}/recover").status == 400
    for action in ("pause", "fork"):
        assert server.request("POST", f"/api/sandbox/{sandbox['id']}/{action}").status == 501
    delete(server, sandbox)
