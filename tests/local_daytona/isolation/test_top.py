"""Folders of a sandbox's own at the top of its file system, and the mount points beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_daytona.isolation.host import Owner
from local_daytona.isolation.rootfs import LINKS, MOUNTED, TOP, SandboxFolders
from tests.local_server import LocalServer, running_server, until

pytestmark = pytest.mark.usefixtures("overlays")


@pytest.fixture(scope="module")
def overlays(server: LocalServer) -> None:
    if server.status()["engine"]["storage"] != "overlay":
        pytest.skip("no overlays here: the root is read-only")


@pytest.fixture
def kept(server: LocalServer) -> Iterator[str]:
    """A sandbox that is stopped and started again."""
    created = server.create()
    yield created["id"]
    server.request("DELETE", f"/api/sandbox/{created['id']}")


def restart(server: LocalServer, sandbox: str) -> None:
    for verb in ("stop", "start"):
        assert server.request("POST", f"/api/sandbox/{sandbox}/{verb}").status == 200


def test_a_folder_made_in_any_way_is_kept_over_stop_and_start(
    server: LocalServer, kept: str
) -> None:
    """/app and /workspace are where images and agents put their work."""
    server.exec(kept, "mkdir /app && echo a > /app/a")
    folder = f"/toolbox/{kept}/files/folder?path=/workspace/deep&mode=755"
    assert server.request("POST", folder).status == 201
    restart(server, kept)

    assert server.exec(kept, "cat /app/a; ls -d /workspace/deep")["result"] == (
        "a\n/workspace/deep\n"
    )


def test_a_snapshot_has_them_too(server: LocalServer, kept: str) -> None:
    """And every sandbox of it has its own."""
    server.exec(kept, "mkdir /app && echo a > /app/a")
    address = f"/api/sandbox/{kept}/snapshot"
    assert server.request("POST", address, body={"name": "with-app"}).status == 200
    copy = server.create(snapshot="with-app")["id"]

    assert server.exec(copy, "cat /app/a; echo b > /app/a")["result"] == "a\n"
    assert server.exec(kept, "cat /app/a")["result"] == "a\n"
    server.request("DELETE", f"/api/sandbox/{copy}")
    server.request("DELETE", "/api/snapshots/with-app")


@pytest.mark.thorough
def test_it_counts_as_the_sandboxs_disk(server: LocalServer, victim: str) -> None:
    """The root is no way around the limit."""
    server.request(
        "POST",
        f"/toolbox/{victim}/process/execute",
        body={"command": "mkdir /app; for n in 1 2 3; do head -c 2G /dev/zero > /app/$n; done"},
    )
    said = until(lambda: (server.get(victim) or {}).get("errorReason"))

    assert "of disk, its size is 3 GiB" in said


def test_nothing_on_it_is_replaced_while_it_runs(server: LocalServer, kept: str) -> None:
    """The kernel keeps what is mounted; the links into /usr come back at the next start."""
    ended = server.exec(
        kept,
        "for name in usr etc home proc dev run var tmp; do mv /$name /x 2>&1; done; rm -f /lib",
    )
    restart(server, kept)

    assert ended["result"].count("busy") == 8
    assert os.path.islink("/lib") == (
        server.exec(kept, "test -L /lib && echo link")["result"] == "link\n"
    )


def test_what_lies_under_a_mount_points_name_is_gone_before_the_start(tmp_path: Path) -> None:
    """A link there would lead the next start where its writer likes (CVE-2026-87766)."""
    folders = SandboxFolders(tmp_path / "sandbox")
    top = folders.layer(TOP, "up")
    top.mkdir(parents=True)
    folders.layer(TOP, "work").mkdir(parents=True)
    for name in (*LINKS, *MOUNTED, "python", ".volumes"):
        (top / name).symlink_to(tmp_path / "host")
    (top / "home").unlink()
    (top / "home" / "deep").mkdir(parents=True)
    (top / "app").mkdir()
    owner = Owner(uid=os.getuid(), gid=os.getgid(), dropped=False)
    folders.free_mount_points(owner, ["data"])

    assert os.listdir(top) == ["app"]


def test_files_in_the_place_of_a_volume_are_not_covered(server: LocalServer, kept: str) -> None:
    """A link or an empty folder gives way; files do not, and the create says so."""
    server.exec(kept, "mkdir /data /empty && echo x > /data/x && ln -s /tmp /link")
    address = f"/api/sandbox/{kept}/snapshot"
    assert server.request("POST", address, body={"name": "with-data"}).status == 200
    volume = server.request("POST", "/api/volumes", body={"name": "at-the-top"}).json()["id"]

    def mounted(path: str) -> tuple[int, str]:
        fields = {
            "snapshot": "with-data",
            "volumes": [{"volumeId": volume, "mountPath": path}],
        }
        reply = server.request("POST", "/api/sandbox", body=fields)
        told = reply.json()
        if reply.status == 200:
            wrote = server.exec(told["id"], f"echo y > {path}/y; ls -A {path}")
            assert wrote["result"] == "y\n"
            server.request("DELETE", f"/api/sandbox/{told['id']}")
            return 200, ""
        return reply.status, told["message"]

    assert mounted("/data")[0] == 400
    assert "has files at /data" in mounted("/data")[1]
    assert [mounted(path) for path in ("/empty", "/link", "/new/deep")] == [(200, "")] * 3
    server.request("DELETE", "/api/snapshots/with-data")
    server.request("DELETE", f"/api/volumes/{volume}")


def test_a_sandbox_of_an_older_server_gets_them_too(state_dir: Path) -> None:
    """Its storage has no layer for the root yet."""
    with running_server(state_dir) as server:
        sandbox = server.create()["id"]
        assert server.request("POST", f"/api/sandbox/{sandbox}/stop").status == 200
        base = state_dir / "sandboxes" / sandbox
        for part in ("up", "work"):
            for folder, _, _ in os.walk(base / part / TOP):
                os.chmod(folder, 0o700)
            os.rename(base / part / TOP, state_dir / f"{part}-gone")
        assert server.request("POST", f"/api/sandbox/{sandbox}/start").status == 200

        assert server.exec(sandbox, "mkdir /app && ls -d /app")["result"] == "/app\n"
