"""The engine by itself: other ways to store, other interpreters, machines where it cannot work."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from local_daytona import engine as engine_module
from local_daytona.engine import Engine
from local_daytona.errors import EngineUnavailable
from local_daytona.isolation import installation
from local_daytona.isolation.bubblewrap import Host
from local_daytona.isolation.host import Owner
from local_daytona.isolation.installation import Bwrap, Python
from local_daytona.isolation.limits import Resources
from local_daytona.isolation.running_sandbox import RunningSandbox
from local_daytona.isolation.streams import read_all
from tests.local_server import SCRIPTS, wait_for_server

SMALL = Resources(cpu=1, memory=1, disk=1)


async def output_of(sandbox: RunningSandbox, command: str) -> str:
    """What a shell command prints inside."""
    read_end, write_end = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    running = await sandbox.agent.exec(
        ["sh", "-c", command],
        stdio=(null, write_end, write_end),
        environment=sandbox.environment(),
        cwd="/home/daytona",
    )
    os.close(write_end)
    os.close(null)
    output = await read_all(read_end, limit=10_000)
    await running.exited
    return output.decode()


async def in_a_sandbox(engine: Engine, *commands: str) -> list[str]:
    """Make, start, run, stop, start again for each further command, discard."""
    await engine.make("one")
    try:
        seen = []
        for command in commands:
            sandbox = await engine.start("one", name="one", resources=SMALL)
            seen.append(await output_of(sandbox, command))
            await sandbox.stop()
        return seen
    finally:
        engine.discard("one")
        await engine.empty_trash()


@pytest.mark.usefixtures("isolating")
def test_copied_storage_serves_where_overlays_do_not(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside docker, or with an old bubblewrap: slower to create, the same to use."""
    real = RunningSandbox.start

    async def refuse_overlays(host: Host, *args: Any, **options: Any) -> RunningSandbox:
        if host.overlay:
            raise EngineUnavailable("overlay: EINVAL", fix="none")
        return await real(host, *args, **options)

    monkeypatch.setattr(RunningSandbox, "start", refuse_overlays)

    async def run() -> tuple[dict[str, str], list[str]]:
        engine = await Engine.open(state_dir)
        return engine.describe(), await in_a_sandbox(
            engine, "echo kept > /etc/mine; whoami", "cat /etc/mine"
        )

    described, seen = asyncio.run(run())

    assert described["storage"] == "copy"
    assert seen == ["daytona\n", "kept\n"]


@pytest.mark.skipif(
    os.geteuid() != 0,
    reason="only a root server has an interpreter that its sandboxes cannot reach",
)
def test_an_interpreter_under_roots_closed_home_is_bound_into_reach(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's own interpreter (pyenv, uv) is shown at /python; bubblewrap is not root all the same.

    A mount namespace of its own does it.
    """
    hidden = Python(path="/python/bin/python3", prefix=Path("/usr"), hidden=True)
    monkeypatch.setattr(engine_module, "find_python", lambda owner: hidden)

    async def run() -> tuple[dict[str, str], list[str]]:
        engine = await Engine.open(state_dir)
        return engine.describe(), await in_a_sandbox(
            engine,
            "readlink /proc/1/exe >/dev/null || echo closed; /python/bin/python3 -c 'print(6*7)'",
        )

    described, seen = asyncio.run(run())
    mounts = Path("/proc/self/mounts").read_text()

    assert described["python"] == "/python/bin/python3"
    assert seen == ["closed\n42\n"]
    assert str(state_dir) not in mounts


def test_a_users_own_interpreter_is_bound_beside_the_system(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at its own path, which would be a mount point on the sandbox's storage."""
    monkeypatch.setattr(
        engine_module,
        "find_python",
        lambda owner: Python(path="/python/bin/python3", prefix=Path("/usr"), hidden=False),
    )

    async def run() -> list[str]:
        return await in_a_sandbox(
            await Engine.open(state_dir), "echo $PATH | grep -c /python/bin; python3 -c 'print(1)'"
        )

    assert asyncio.run(run()) == ["1\n1\n"]


def in_a_namespace(state: Path, prelude: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a server command as root of a user namespace, after `prelude`.

    Skips where this machine has no `unshare` for it.
    """
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this machine")
    line = f'{prelude} "$0" "$1" {command} --state-dir "$2"'
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        line,
        sys.executable,
        str(SCRIPTS / "local_daytona"),
        str(state),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 99 or "unrecognized option" in done.stderr:
        pytest.skip("this machine's unshare cannot do that")
    return done


# The one namespace that may be made is used up by the ordinary user that the server then runs as.
ONE_NAMESPACE = (
    "echo 1 > /proc/sys/user/max_user_namespaces || exit 99; "
    "exec unshare --user --map-user=1000 --map-group=1000 "
)


@pytest.mark.usefixtures("isolating")
def test_without_namespaces_it_says_why_and_what_to_do(tmp_path: Path) -> None:
    """No weaker mode: a reason, a fix, and `start` fails."""
    status = in_a_namespace(tmp_path / "state", ONE_NAMESPACE, "status")
    started = in_a_namespace(tmp_path / "state", ONE_NAMESPACE, "start")

    engine = json.loads(status.stdout)["engine"]
    assert "namespace" in engine["error"]
    assert "max_user_namespaces" in engine["fix"]
    assert started.returncode == 1
    assert started.stderr.splitlines()[-1] == f"fix: {engine['fix']}"


@pytest.mark.usefixtures("isolating")
def test_a_root_that_cannot_become_anybody_else_is_refused(tmp_path: Path) -> None:
    """Rather than running bubblewrap as root; a user's own root is nobody but that user."""
    answer = json.loads(in_a_namespace(tmp_path / "state", "exec", "status").stdout)

    if os.geteuid() != 0:
        assert "error" not in answer["engine"]
        return
    assert "no other user" in answer["engine"]["error"]
    assert answer["engine"]["fix"].startswith("start it outside this namespace")


def test_a_fixed_system_bubblewrap_comes_first_and_an_old_one_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundled one stands between them."""
    versions = {"new": (0, 12, 1), "old": (0, 8, 0)}
    monkeypatch.setattr(installation, "system_paths", lambda: [Path("old"), Path("new")])
    monkeypatch.setattr(installation, "bundled_copy", lambda installed, owner: Path("bundled"))
    monkeypatch.setattr(
        installation, "read_version", lambda path: versions.get(str(path), (0, 11, 0))
    )
    found = installation.find_bwraps(tmp_path, Owner(uid=1, gid=1, dropped=False))

    assert [str(bwrap) for bwrap in found] == ["system 0.12.1", "bundled 0.11.0", "system 0.8.0"]


def test_without_any_bubblewrap_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to try means nothing to fall back to."""
    monkeypatch.setattr(installation, "system_paths", list)
    monkeypatch.setattr(installation, "bundled_copy", lambda installed, owner: None)
    with pytest.raises(EngineUnavailable) as caught:
        installation.find_bwraps(tmp_path, Owner(uid=1, gid=1, dropped=False))

    assert "bubblewrap" in caught.value.fix


def test_a_setuid_bubblewrap_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run as root, which is what must not happen."""
    binary = tmp_path / "bwrap"
    binary.write_text("#!/bin/sh\necho bubblewrap 0.12.0\n")
    binary.chmod(0o755)
    monkeypatch.setattr(installation, "SYSTEM_FOLDERS", (str(tmp_path),))
    usable = installation.system_paths()
    binary.chmod(0o4755)

    assert usable == [binary]
    assert installation.system_paths() == []
    assert Bwrap(binary, installation.read_version(binary), "system").version == (0, 12, 0)


def test_deleting_a_million_files_holds_nobody_else_up(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each one asks for the trash to be emptied: they queue in one thread, others stay free."""
    free = threading.Event()

    async def run() -> None:
        engine = await Engine.open(state_dir)
        (engine.folders.trash / "huge").mkdir()
        monkeypatch.setattr("local_daytona.engine.remove_tree", lambda _path: free.wait(30))
        waiting = [asyncio.create_task(engine.empty_trash()) for _ in range(64)]
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(asyncio.to_thread(os.getpid), 10)
        finally:
            free.set()
            await asyncio.gather(*waiting)

    asyncio.run(run())


def test_a_server_with_less_than_a_sandbox_may_have_still_runs_them(state_dir: Path) -> None:
    """A user's own hard limits are not to be raised: what it starts has those then."""
    state_dir.mkdir()
    serve = [sys.executable, str(SCRIPTS / "local_daytona"), "serve", "--state-dir", str(state_dir)]
    with open(state_dir / "server.log", "ab") as log:
        process = subprocess.Popen(
            ["sh", "-c", 'ulimit -n 4000; exec "$@"', "sh", *serve],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        server = wait_for_server(state_dir, process)
        seen = server.exec(server.create()["id"], "ulimit -n; ulimit -c")["result"]
    finally:
        process.terminate()
        process.wait(timeout=60)

    assert seen == "4000\n0\n"
