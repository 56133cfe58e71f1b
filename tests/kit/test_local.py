"""How the client reads what local Daytona's own command line says."""

from __future__ import annotations

import fcntl
import json
import shlex
from pathlib import Path

import pytest

import skill_env
from sandbox_kit.errors import Failure
from sandbox_kit.local import (
    LocalServer,
    find_or_start,
    is_answering,
    is_running,
    read_complaint,
    read_server_json,
)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder."""
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", str(tmp_path))
    return tmp_path


def test_reason_and_fix_are_passed_on() -> None:
    """The engine knows better than we what would help."""
    failure = read_complaint(
        "12:00 serving\nsetting up uid map: Permission denied\nfix: sudo apt install bubblewrap\n"
    )

    assert (failure.kind, failure.message) == (
        "local_unavailable",
        "setting up uid map: Permission denied",
    )
    assert failure.fix == "sudo apt install bubblewrap"


def test_silence_is_a_failure_too() -> None:
    """A crash without words still ends in a line and a fix."""
    failure = read_complaint("")

    assert failure.message
    assert shlex.split(failure.fix)[2:] == [
        str(skill_env.SKILL / "scripts" / "local_daytona"),
        "status",
    ]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"url": 1}', '{"url": "http://127.0.0.1:1", "version": "x"}']
)
def test_an_unreadable_server_file_is_no_server(state: Path, text: str) -> None:
    """Half a file, or somebody else's, is as good as none."""
    (state / "server.json").write_text(text)

    assert read_server_json() is None


def test_the_key_is_in_no_repr(state: Path) -> None:
    """Tracebacks show objects."""
    (state / "server.json").write_text(
        json.dumps(
            {"url": "http://127.0.0.1:1", "pid": 1, "version": "x", "api_key": "dtn_local_secret"}
        )
    )
    server = read_server_json()

    assert server is not None
    assert server.api_key == "dtn_local_secret"
    assert "dtn_local_secret" not in repr(server)
    assert server.endpoint == "http://127.0.0.1:1/api"


def test_a_server_that_does_not_answer_is_not_used() -> None:
    """A crash leaves its file behind."""
    assert is_answering(LocalServer(url="http://127.0.0.1:9", version="x", api_key="k")) is False


def test_an_engine_that_cannot_work_is_local_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real command, on a state folder that cannot be made."""
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", "/proc/nowhere/state")
    with pytest.raises(Failure) as caught:
        find_or_start()

    assert caught.value.kind == "local_unavailable"
    assert "DAYTONA_LOCAL_STATE" in caught.value.fix


def test_a_server_that_holds_no_lock_is_not_shown_the_key(state: Path) -> None:
    """After a crash anybody may listen on its port, and say that it is local Daytona."""
    (state / "lock").write_text("")
    assert not is_running()
    with (state / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert is_running()
