"""Volumes: shared, kept, in use; and no mount point on storage that a sandbox wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from daytona import CreateSandboxFromSnapshotParams, Daytona, VolumeMount

from tests.local_server import LocalServer, running_server

NOWHERE = "00000000-0000-0000-0000-000000000000"


def made(server: LocalServer, name: str) -> str:
    """The id of a new volume."""
    reply = server.request("POST", "/api/volumes", body={"name": name})
    assert reply.status == 200, reply.body
    return str(reply.json()["id"])


def mounted(server: LocalServer, volume: str, path: str, **more: str) -> dict[str, Any]:
    """A sandbox with one volume."""
    return server.create(volumes=[{"volumeId": volume, "mountPath": path, **more}])


def delete(server: LocalServer, *sandboxes: dict[str, Any]) -> None:
    for sandbox in sandboxes:
        assert server.request("DELETE", f"/api/sandbox/{sandbox['id']}").status == 200


def test_the_pages_example_runs_and_the_files_outlive_the_sandbox(sdk: Daytona) -> None:
    """reference/files.md: a volume at /home/daytona/data, written by one, read by the next."""
    volume = sdk.volume.get("datasets", create=True)
    mounts = [VolumeMount(volume_id=volume.id, mount_path="/home/daytona/data")]
    assert volume.state == "pending_create", "whoever does not wait for `ready` fails in the cloud"
    assert sdk.volume.get(volume.name).state == "ready"
    first = sdk.create(CreateSandboxFromSnapshotParams(volumes=mounts))
    first.process.exec("echo kept > data/note.txt", timeout=60)
    first.delete(timeout=60, wait=True)
    second = sdk.create(CreateSandboxFromSnapshotParams(volumes=mounts))

    assert second.process.exec("cat data/note.txt").result == "kept\n"
    assert second.fs.download_file("data/note.txt") == b"kept\n"
    second.delete(timeout=60, wait=True)
    sdk.volume.delete(volume)
    assert "datasets" not in [found.name for found in sdk.volume.list()]


@pytest.mark.parametrize(
    "path", ["/data", "/workspace/sets", "/mnt/data", "/opt/x/y", "/home/daytona/.cache/models"]
)
def test_two_sandboxes_share_a_volume_and_keep_it_over_a_restart(
    server: LocalServer, path: str
) -> None:
    """Both see what either writes, at every kind of path, also after a stop and a start."""
    volume = made(server, f"shared{path.replace('/', '-')}")
    one, other = mounted(server, volume, path), mounted(server, volume, path)
    server.exec(one["id"], f"echo one > {path}/file")
    assert server.exec(other["id"], f"cat {path}/file")["result"] == "one\n"
    assert server.request("POST", f"/api/sandbox/{one['id']}/stop").status == 200
    server.exec(other["id"], f"echo two > {path}/file")
    assert server.request("POST", f"/api/sandbox/{one['id']}/start").status == 200

    assert server.exec(one["id"], f"cat {path}/file")["result"] == "two\n"
    delete(server, one, other)
    assert server.request("DELETE", f"/api/volumes/{volume}").status == 200


def test_a_subpath_shows_that_part_only(server: LocalServer) -> None:
    """Nothing above it can be reached, and no descriptor of the host's folder is left inside."""
    volume = made(server, "parted")
    whole, part = (
        mounted(server, volume, "/whole"),
        mounted(server, volume, "/mnt/part", subpath="users/alice"),
    )
    server.exec(whole["id"], "echo secret > /whole/top; echo hers > /whole/users/alice/file")

    assert server.exec(part["id"], "cat /mnt/part/file")["result"] == "hers\n"
    outside = server.exec(
        part["id"], "ls -d /mnt/part/../../top /.volumes/*/top 2>/dev/null | wc -l"
    )["result"]
    assert outside == "0\n"
    assert "users/alice" not in server.exec(part["id"], "ls -l /proc/*/fd 2>/dev/null")["result"]
    delete(server, whole, part)
    assert server.request("DELETE", f"/api/volumes/{volume}").status == 200


def test_a_link_planted_in_a_volume_leads_no_subpath_to_the_host(
    server: LocalServer, tmp_path: Path
) -> None:
    """The way to a subpath was written by sandboxes, so a link on it refuses the mount."""
    victim = server.state_dir.parent / "victim"
    victim.mkdir(mode=0o777)
    volume = made(server, "planted")
    attacker = mounted(server, volume, "/data")
    server.exec(attacker["id"], f"ln -s {victim} /data/users")
    refused = server.request(
        "POST",
        "/api/sandbox",
        body={"volumes": [{"volumeId": volume, "mountPath": "/mnt/x", "subpath": "users/alice"}]},
    )

    assert refused.status == 507
    assert os.listdir(victim) == []
    delete(server, attacker)
    assert server.request("DELETE", f"/api/volumes/{volume}").status == 200


def test_a_link_planted_at_the_mount_path_leads_the_next_start_nowhere(server: LocalServer) -> None:
    """CVE-2026-87766: nothing in a sandbox's own storage makes its next start write on the host."""
    victim = server.state_dir.parent / "next-start"
    victim.mkdir(mode=0o777)
    volume = made(server, "next-start")
    sandbox = mounted(server, volume, "/home/daytona/data/deep")
    server.exec(
        sandbox["id"],
        f"rm -rf data && ln -s {victim} data && rm -rf /mnt/* && ln -s {victim} /mnt/x",
    )
    server.request("POST", f"/api/sandbox/{sandbox['id']}/stop")

    assert server.request("POST", f"/api/sandbox/{sandbox['id']}/start").status == 200
    assert os.listdir(victim) == []
    delete(server, sandbox)
    assert server.request("DELETE", f"/api/volumes/{volume}").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/etc/x",
        "/usr/data",
        "/proc/x",
        "/home",
        "/home/daytona",
        "/",
        "data",
        "/data/../etc",
        "/.volumes/x",
        "/run/x",
        "/a b",
        "/var/x",
    ],
)
def test_a_mount_path_that_the_system_needs_is_refused_with_the_allowed_form(
    server: LocalServer, path: str
) -> None:
    """The caller learns which paths there are."""
    volume = server.request("GET", "/api/volumes/by-name/refused")
    identity = volume.json()["id"] if volume.status == 200 else made(server, "refused")
    reply = server.request(
        "POST", "/api/sandbox", body={"volumes": [{"volumeId": identity, "mountPath": path}]}
    )

    assert reply.status == 400
    assert "/home/daytona/NAME" in reply.json()["message"]


@pytest.mark.parametrize(
    ("volumes", "status"),
    [
        ("text", 400),
        ([1], 400),
        ([{}], 400),
        ([{"volumeId": NOWHERE, "mountPath": "/data"}], 404),
        ([{"volumeId": "bad-requests"}], 400),
        ([{"volumeId": "bad-requests", "mountPath": "/d", "subpath": "../x"}], 400),
        (
            [
                {"volumeId": "bad-requests", "mountPath": "/d"},
                {"volumeId": "bad-requests", "mountPath": "/d/e"},
            ],
            400,
        ),
        ([{"volumeId": "bad-requests", "mountPath": "/d"}] * 2, 400),
    ],
    ids=str,
)
def test_a_bad_volumes_field_makes_nothing(server: LocalServer, volumes: Any, status: int) -> None:
    """Each surprise is a 400 or 404, and no sandbox stays."""
    if server.request("GET", "/api/volumes/by-name/bad-requests").status == 404:
        made(server, "bad-requests")
    before = len(server.sandboxes())

    assert server.request("POST", "/api/sandbox", body={"volumes": volumes}).status == status
    assert len(server.sandboxes()) == before


def test_files_of_the_snapshot_at_the_path_are_not_covered(server: LocalServer) -> None:
    """A volume over them would hide or lose them; the create says so and leaves nothing."""
    volume = made(server, "covering")
    sandbox = server.create()
    server.exec(sandbox["id"], "mkdir data && echo x > data/file")
    address = f"/api/sandbox/{sandbox['id']}/snapshot"
    assert server.request("POST", address, body={"name": "has-data"}).status == 200
    fields = {
        "snapshot": "has-data",
        "volumes": [{"volumeId": volume, "mountPath": "/home/daytona/data"}],
    }
    reply = server.request("POST", "/api/sandbox", body=fields)

    assert (reply.status, "has files at" in reply.json()["message"]) == (400, True)
    assert server.request("DELETE", "/api/snapshots/has-data").status == 200
    assert server.request("DELETE", f"/api/volumes/{volume}").status == 200
    delete(server, sandbox)


def test_names_are_unique_and_a_volume_in_use_stays(server: LocalServer) -> None:
    """400 and 409; a stopped sandbox uses it as well."""
    volume = made(server, "unique")
    sandbox = mounted(server, "unique", "/data")
    server.request("POST", f"/api/sandbox/{sandbox['id']}/stop")

    assert server.request("POST", "/api/volumes", body={"name": "unique"}).status == 400
    assert server.request("POST", "/api/volumes", body={"name": "<i>x"}).status == 400
    assert server.request("DELETE", f"/api/volumes/{volume}").status == 409
    assert server.request("GET", f"/api/volumes/{NOWHERE}").status == 404
    delete(server, sandbox)
    assert server.request("DELETE", f"/api/volumes/{volume}").status == 200
    assert server.request("GET", f"/api/volumes/{volume}").status == 404


def test_a_killed_server_keeps_acknowledged_volumes_with_their_files(state_dir: Path) -> None:
    """And frees the disk of those it had deleted."""
    with running_server(state_dir) as server:
        kept, gone = made(server, "kept"), made(server, "gone")
        sandbox = mounted(server, kept, "/data")
        server.exec(sandbox["id"], "echo still here > /data/file")
        assert server.request("DELETE", f"/api/volumes/{gone}").status == 200
        os.kill(server.pid, 9)
    (state_dir / "volumes" / NOWHERE).mkdir()
    with running_server(state_dir) as server:
        assert {path.name for path in (state_dir / "volumes").iterdir()} == {kept}
        assert server.request("POST", f"/api/sandbox/{sandbox['id']}/start").status == 200
        assert server.exec(sandbox["id"], "cat /data/file")["result"] == "still here\n"
