"""Servers killed in the middle of their work, full disks: what was acknowledged stays, no more."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.durability import Busy, round_of
from tests.local_server import (
    SCRIPTS,
    LocalServer,
    host_processes_of,
    is_alive,
    running_server,
    until,
    wait_for_server,
)

pytestmark = pytest.mark.thorough

ROUNDS = 8
SMALL_DISK = "192m"


def test_a_server_killed_at_any_moment_loses_nothing_it_acknowledged(state_dir: Path) -> None:
    """After each kill the next server finds what was acknowledged, and of the deleted nothing.

    Database, sandboxes and their files, processes, mounts, storage.
    """
    busy = Busy(seed=20261123)
    for _ in range(ROUNDS):
        assert round_of(state_dir, busy) == []

    assert busy.acknowledged > 0
    assert busy.killed == ROUNDS


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A state folder on a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="local-daytona-small-"))
    folder.chmod(0o711)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=0711", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no mount here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def test_a_full_disk_is_told_and_loses_nothing(small_disk: Path) -> None:
    """The caller reads 507; what was there stays usable, also by the next server.

    A freed disk is enough to go on.
    """
    state, filler = small_disk / "state", small_disk / "filler"
    with running_server(state) as server:
        kept = server.create(name="kept")["id"]
        server.exec(kept, "echo precious > /home/daytona/note; sync")
        fill(filler)
        refused = [server.request("POST", "/api/sandbox", body={}) for _ in range(3)]
        still = server.exec(kept, "cat /home/daytona/note")["result"]
        names = [item["name"] for item in server.sandboxes()]
    with running_server(state_with_room(state, filler)) as server:
        reply = server.request("POST", f"/api/sandbox/{kept}/start")
        after = server.exec(kept, "cat /home/daytona/note")["result"]
        created = server.request("POST", "/api/sandbox", body={})

    assert {reply.status for reply in refused} == {507}
    assert all(
        "No space left" in reply.json()["message"] or "full" in reply.json()["message"]
        for reply in refused
    )
    assert (still, names) == ("precious\n", ["kept"])
    assert (reply.status, after, created.status) == (200, "precious\n", 200)


@pytest.fixture
def small_ext4() -> Iterator[Path]:
    """A state folder on a small disk of its own, where a folder takes blocks too."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    folder = Path(tempfile.mkdtemp(prefix="local-daytona-ext4-"))
    folder.chmod(0o711)
    image, place = folder / "image", folder / "disk"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-F", str(image)], check=True)
    mount = ["mount", "-o", "loop", str(image), str(place)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no loop mount here: {done.stderr.decode().strip()}")
    place.chmod(0o711)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        shutil.rmtree(folder)


def test_a_server_starts_on_a_full_disk_and_deletes_what_fills_it(small_ext4: Path) -> None:
    """Even a start writes: without a reserve the filler could never be deleted."""
    state = small_ext4 / "state"
    with running_server(state) as server:
        filler = server.create(name="filler")["id"]
        kept = server.create(name="kept")["id"]
        path = f"/toolbox/{filler}/process/execute"
        command = "head -c 1G /dev/zero > /home/daytona/fill 2>&1"
        full = server.request("POST", path, body={"command": command})
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not is_alive(server.pid))
    fill(small_ext4 / "more")
    with running_server(state) as server:
        deleted = server.request("DELETE", f"/api/sandbox/{filler}").status
        until(lambda: shutil.disk_usage(small_ext4).free > 64 << 20)
        started = server.request("POST", f"/api/sandbox/{kept}/start").status
        said = server.exec(kept, "echo here")["result"]

    # 410 where the server noticed before the command ended.
    assert full.status in (200, 410)
    assert (deleted, started, said) == (200, 200, "here\n")


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    with open(path, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)


def state_with_room(state: Path, filler: Path) -> Path:
    filler.unlink()
    return state


FULL_DATABASE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from local_daytona import store
write = store.Table._write
def refuse(self, *values):
    if Path(sys.argv[2], "full").exists():
        full = "local Daytona could not write its database: database or disk is full"
        raise store.ApiError(507, full)
    write(self, *values)
store.Table._write = refuse
from local_daytona.commands import main
raise SystemExit(main(["serve", "--state-dir", sys.argv[2]]))
"""


def test_what_frees_a_full_disk_works_on_a_full_disk(state_dir: Path) -> None:
    """Stopping and deleting go on without the database, and nothing stays in between.

    Nothing runs that is said to be stopped.
    """
    state_dir.mkdir()
    with open(state_dir / "server.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", FULL_DATABASE, str(SCRIPTS), str(state_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        server = wait_for_server(state_dir, process)
        statuses = on_a_full_disk(server, state_dir / "full")
        gone = server.sandboxes()
    finally:
        process.terminate()
        process.wait(timeout=60)

    assert statuses == {
        "stop": 200,
        "start": 507,
        "start later": 200,
        "delete": 507,
        "delete later": 200,
        "create": 507,
    }
    assert gone == []


def on_a_full_disk(server: LocalServer, full: Path) -> dict[str, int]:
    """What each order answers; what runs is looked at in between."""
    sandbox_id = server.create()["id"]

    def status(method: str, path: str) -> int:
        return server.request(
            method, f"/api/sandbox{path}", body={} if method == "POST" else None
        ).status

    full.touch()
    found = {
        "stop": status("POST", f"/{sandbox_id}/stop"),
        "start": status("POST", f"/{sandbox_id}/start"),
    }
    assert host_processes_of(server.state_dir) == []
    full.unlink()
    found["start later"] = status("POST", f"/{sandbox_id}/start")
    full.touch()
    found |= {"delete": status("DELETE", f"/{sandbox_id}"), "create": status("POST", "")}
    assert host_processes_of(server.state_dir) == []
    full.unlink()
    return {**found, "delete later": status("DELETE", f"/{sandbox_id}")}
