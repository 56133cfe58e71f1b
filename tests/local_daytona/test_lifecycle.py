"""The server as a program: start, stop, status, env; crashes, races, versions, its own end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_daytona import lifecycle
from tests.local_server import (
    SCRIPTS,
    LocalServer,
    host_processes_of,
    is_alive,
    running_server,
    spawn,
    until,
    wait_for_server,
)

pytestmark = pytest.mark.usefixtures("isolating")


@pytest.fixture
def command(state_dir: Path) -> Iterator[Any]:
    """Runs `python3 scripts/local_daytona WORDS` on its own state folder; ends what it started."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [
            sys.executable,
            str(SCRIPTS / "local_daytona"),
            *words,
            "--state-dir",
            str(state_dir),
        ]
        return subprocess.run(
            line, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False
        )

    yield run
    run("stop")


def server_file(state: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((state / "server.json").read_text())
    return found


def test_start_status_env_stop(command: Any, state_dir: Path) -> None:
    """The whole round as a user types it; the key shows in `env` only."""
    started = command("start")
    where = json.loads(started.stdout)
    status = command("status")
    env = command("env")
    stopped = command("stop")
    after = json.loads(command("status").stdout)

    key = env.stdout.partition("DAYTONA_API_KEY=")[2].split()[0]
    assert started.returncode == status.returncode == env.returncode == stopped.returncode == 0
    assert where == {
        name: json.loads(status.stdout)[name] for name in ("url", "pid", "version")
    } | {"state_dir": str(state_dir)}
    for name in ("DAYTONA_API_URL", "DAYTONA_V0_API_URL"):
        assert f"export {name}={where['url']}/api\n" in env.stdout
    assert key.startswith("dtn_local_")
    assert key not in started.stdout + status.stdout + stopped.stdout
    assert (after["running"], after["url"]) == (False, None)
    assert {"bwrap", "limits", "egress"} <= after["engine"].keys()
    assert not is_alive(where["pid"])


def test_stop_ends_a_server_that_answers_nobody(
    command: Any, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stands still holds its sandboxes too, and is not `not running`."""
    pid = json.loads(command("start").stdout)["pid"]
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(lifecycle, "STOP_TIMEOUT_S", 0.5)

    assert lifecycle.stop(state_dir)
    until(lambda: not is_alive(pid))
    assert not lifecycle.stop(state_dir)


def test_a_server_is_stopped_without_its_packages(
    command: Any, state_dir: Path, tmp_path: Path
) -> None:
    """Who runs the scripts with `uv run` has no environment for `stop` to enter."""
    pid = json.loads(command("start").stdout)["pid"]
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    line = [sys.executable, "-I", "-S", str(tmp_path / "scripts" / "local_daytona")]
    stopped, refused = (
        subprocess.run(
            [*line, word, "--state-dir", str(state_dir)],
            env={"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for word in ("stop", "start")
    )

    assert json.loads(stopped.stdout)["stopped"], stopped.stderr
    assert not is_alive(pid)
    assert (refused.returncode, "fix: " in refused.stderr) == (125, True)


def test_starting_twice_finds_the_running_server(command: Any) -> None:
    """`start` is what every --local run calls."""
    first, second = command("start"), command("start")

    assert json.loads(first.stdout)["pid"] == json.loads(second.stdout)["pid"]


def test_two_starts_at_once_end_with_one_server(command: Any) -> None:
    """Two agents may begin together; both must find the one server."""
    answers: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: answers.append(command("start"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [answer.returncode for answer in answers] == [0, 0, 0], [
        answer.stderr for answer in answers
    ]
    assert len({json.loads(answer.stdout)["pid"] for answer in answers}) == 1


def test_a_second_server_on_the_state_folder_is_refused(command: Any) -> None:
    """The database has one owner; the loser says what to do."""
    command("start")
    second = command("serve")

    assert second.returncode != 0
    assert "another local Daytona uses" in second.stderr
    assert "fix: " in second.stderr
    assert "Traceback" not in second.stderr


def test_the_state_is_closed_to_other_users(command: Any, state_dir: Path) -> None:
    """Key, database and logs are the owner's; a root server's folder can only be passed through."""
    command("start")

    assert oct(state_dir.stat().st_mode & 0o777) == ("0o711" if os.geteuid() == 0 else "0o700")
    for name in ("server.json", "local.sqlite", "server.log", "lock"):
        assert (state_dir / name).stat().st_mode & 0o077 == 0, name


def test_the_key_is_in_no_command_line(command: Any, state_dir: Path) -> None:
    """Every user of the machine can read argv."""
    command("start")
    found = server_file(state_dir)
    lines = b"".join(
        path.read_bytes()
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if is_alive(int(path.parent.name))
    )

    assert found["api_key"].encode() not in lines


def test_a_new_server_has_a_new_key_and_the_same_sandboxes(command: Any, state_dir: Path) -> None:
    """Keys live as long as a server; what was kept lives longer."""
    command("start")
    first = server_file(state_dir)
    kept = LocalServer(state_dir=state_dir, **first).create(name="kept")
    command("stop")
    command("start")
    second = LocalServer(state_dir=state_dir, **server_file(state_dir))

    assert first["api_key"] != second.api_key
    assert [(found["id"], found["state"]) for found in second.sandboxes()] == [
        (kept["id"], "stopped")
    ]


def test_after_sigkill_kept_sandboxes_are_stopped_with_files_and_ephemeral_ones_gone(
    state_dir: Path,
) -> None:
    """The promise to a user whose machine lost the server."""
    process = spawn(state_dir)
    server = wait_for_server(state_dir, process)
    kept, ephemeral = server.create(name="kept"), server.create(autoDeleteInterval=0)
    for made in (kept, ephemeral):
        server.exec(made["id"], "echo precious > file; sleep 1000 >/dev/null 2>&1 </dev/null &")
    inside = host_processes_of(state_dir)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not host_processes_of(state_dir))
    with running_server(state_dir) as again:
        found = again.get("kept")
        gone = again.get(ephemeral["id"])
        again.request("POST", "/api/sandbox/kept/start")
        text = again.exec("kept", "cat file; pgrep -fx 'sleep 1000'")["result"]
        left = [path.name for path in (state_dir / "sandboxes").iterdir()]
        again.request("DELETE", "/api/sandbox/kept")

    assert inside
    assert found is not None
    assert (found["id"], found["state"], gone) == (kept["id"], "stopped", None)
    assert text == "precious\n"
    assert left == [kept["id"]]


def test_a_ttl_that_ran_out_while_the_server_was_down_is_kept_to(state_dir: Path) -> None:
    """The sandbox is deleted before the first request is answered."""
    with running_server(state_dir) as server:
        server.create(name="old", ttlMinutes=1)
        server.create(name="young", ttlMinutes=100)
    with running_server(state_dir, minute=0.05) as again:
        assert again.get("old") is None


def test_a_server_of_another_version_is_replaced_unless_it_is_in_use(
    command: Any, state_dir: Path
) -> None:
    """An update must not run against old code, and must not end somebody's sandbox."""
    with other_version(state_dir) as old:
        old.create(name="in-use")
        refused = command("start")
        old.request("DELETE", "/api/sandbox/in-use")
        replaced = command("start")

        assert refused.returncode == 1
        assert "1 sandboxes" in refused.stderr
        assert refused.stderr.splitlines()[-1].startswith("fix: ")
        assert replaced.returncode == 0, replaced.stderr
        assert json.loads(replaced.stdout)["pid"] != old.pid


def other_version(state: Path) -> Any:
    """A real server that calls itself 0.0.0."""
    import contextlib

    @contextlib.contextmanager
    def run() -> Iterator[LocalServer]:
        code = (
            f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import skill_env; "
            "skill_env.server_version = lambda: '0.0.0';"
            "from local_daytona.commands import main; "
            f"raise SystemExit(main(['serve', '--state-dir', {str(state)!r}]))"
        )
        state.mkdir()
        with open(state / "server.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            yield wait_for_server(state, process)
        finally:
            process.terminate()
            process.wait(timeout=30)

    return run()


def test_it_ends_by_itself_when_nobody_needs_it(state_dir: Path) -> None:
    """Ten minutes without a request, a running sandbox or a timer (here a minute is 50 ms)."""
    process = spawn(state_dir, minute=0.05)
    wait_for_server(state_dir, process)

    assert process.wait(timeout=30) == 0
    assert not (state_dir / "server.json").exists()


def test_a_running_sandbox_keeps_it(state_dir: Path) -> None:
    """Idleness is about sandboxes, not about requests alone."""
    process = spawn(state_dir, minute=0.05)
    server = wait_for_server(state_dir, process)
    server.create(autoStopInterval=0, ttlMinutes=60)

    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1.5)
    assert process.wait(timeout=30) == 0


def test_sigterm_ends_every_sandbox_first(state_dir: Path) -> None:
    """No process may outlive an orderly end, and ephemeral storage is gone at once."""
    with running_server(state_dir) as server:
        server.create(autoDeleteInterval=0)
        server.create(name="kept")

    assert host_processes_of(state_dir) == []
    assert len(list((state_dir / "sandboxes").iterdir())) == 1


def test_leftovers_of_a_crash_in_create_are_swept(state_dir: Path) -> None:
    """Storage that no record names is removed when the server starts."""
    with running_server(state_dir):
        pass
    (state_dir / "sandboxes" / "nobodys").mkdir()
    with running_server(state_dir):
        until(lambda: not any((state_dir / "trash").iterdir()))

    assert list((state_dir / "sandboxes").iterdir()) == []


def test_env_names_each_direct_host_once(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluated again in the same shell, it grows nothing."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost,inner.example")
    command("start")

    assert "export NO_PROXY=127.0.0.1,localhost,inner.example\n" in command("env").stdout


def test_start_serves_image_names_and_says_when_they_come_late(command: Any) -> None:
    """What the server does not know by now counts at its next start only."""
    started = command("start", "--image", "*")
    again = command("start", "--image", "*")
    late = command("start", "--image", "python:3.12")

    assert (started.returncode, again.stdout) == (0, started.stdout)
    assert json.loads(command("status").stdout)["images"] == ["*"]
    assert late.returncode == 1
    assert "stop && " in late.stderr
    assert late.stderr.endswith("start --image python:3.12\n")


@pytest.mark.parametrize("mask", [0o027, 0o077])
def test_it_works_whatever_umask_it_was_started_with(state_dir: Path, mask: int) -> None:
    """Its folders have modes of their own, and files inside those of any Linux."""
    state = state_dir.parent / "new" / "folder" / "state"
    old = os.umask(mask)
    try:
        started = subprocess.run(
            [sys.executable, str(SCRIPTS / "local_daytona"), "start", "--state-dir", str(state)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.umask(old)
    try:
        assert started.returncode == 0, started.stderr
        server = LocalServer(state_dir=state, **server_file(state))
        box = server.create()["id"]
        made = server.exec(box, "touch made; stat -c %a made; python3 -c 'print(1)'")
    finally:
        lifecycle.stop(state)

    assert made["result"] == "644\n1\n"


def test_env_without_a_server_says_how_to_start_one(command: Any) -> None:
    """eval of nothing would be a silent failure."""
    answer = command("env")

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.splitlines()[-1] == f'fix: python3 -I "{SCRIPTS}/local_daytona" start'


def test_a_state_folder_that_cannot_be_written_is_one_line_and_a_fix(tmp_path: Path) -> None:
    """No traceback for a wrong --state-dir."""
    (tmp_path / "file").write_text("")
    line = [
        sys.executable,
        str(SCRIPTS / "local_daytona"),
        "start",
        "--state-dir",
        str(tmp_path / "file" / "below"),
    ]
    answer = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    assert answer.returncode == 1
    assert len(answer.stderr.splitlines()) == 2
    assert answer.stderr.splitlines()[-1].startswith("fix: ")
