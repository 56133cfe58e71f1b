"""A full disk here, or no place for temporary files: named, and no cut file is left."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sandbox_kit.archive.fetching import fetch_results
from tests.local_server import SCRIPTS, LocalServer

from .script_runner import Script

SMALL = "size=96k"


def run_with_full(place: Path, *argv: str, script: str = "run_in_sandbox.py") -> tuple[int, str]:
    """A script beside a file system of 96 kB at `place`; its exit code and stderr."""
    place.mkdir(parents=True, exist_ok=True)
    line = shlex.join([sys.executable, str(SCRIPTS / script), *argv])
    mount = f"mount -t tmpfs -o {SMALL} none {shlex.quote(str(place))}"
    check = f"echo; echo LEFT: $(find {shlex.quote(str(place))} -type f) >&2"
    done = subprocess.run(
        [
            "unshare",
            "-rm",
            "bash",
            "-c",
            f"{mount} || exit 77; {line}; code=$?; {check}; exit $code",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode == 77:
        pytest.skip("no file system can be mounted here")
    return done.returncode, done.stderr


def test_an_upload_that_does_not_fit_names_the_place_and_tmpdir(
    server: LocalServer,
    scripts_environment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was "run it again with --debug and report"."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "small"))
    (scripts_environment / "large.bin").write_bytes(bytes(1 << 20))
    code, err = run_with_full(
        tmp_path / "small", "--local", "--upload", ".", "--command", "echo never"
    )

    assert code == 125
    assert f"{tmp_path / 'small'}: no space is left on this machine" in err
    assert "TMPDIR=" in err
    assert "--debug" not in err
    assert err.rstrip().endswith("LEFT:")
    assert server.sandboxes() == []


def test_a_download_that_does_not_fit_names_the_place_and_tmpdir(
    server: LocalServer,
    scripts_environment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the others are tried all the same."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "small"))
    make = "mkdir results; head -c 999999 /dev/zero > large.bin; echo 1 > results/a.csv"
    code, err = run_with_full(
        tmp_path / "small",
        *("--local", "--command", make, "--download", "large.bin", "--download", "results"),
    )

    assert code == 125
    assert f"{tmp_path / 'small'}: no space is left on this machine" in err
    assert (scripts_environment / "results" / "a.csv").read_text() == "1\n"
    assert err.rstrip().endswith("LEFT:")
    assert server.sandboxes() == []


def test_what_cannot_be_kept_leaves_no_half_of_it(
    server: LocalServer, scripts_environment: Path, tmp_path: Path
) -> None:
    """A full state folder: the log and what is held go there."""
    state = tmp_path / "state" / "daytona-sandbox" / "results"
    code, err = run_with_full(
        state, "--local", "--command", "head -c 999999 /dev/zero > a.py", "--download", "a.py"
    )

    assert code == 125
    assert "could not be kept in" in err
    assert "XDG_STATE_HOME=" in err
    assert err.rstrip().endswith("LEFT:")


def test_a_fetch_that_does_not_fit_leaves_no_cut_file(
    run: Script, server: LocalServer, scripts_environment: Path, tmp_path: Path
) -> None:
    """The next one would say that the file is there already."""
    held = run(
        "--local", "--command", "head -c 999999 /dev/zero > a.py", "--download", "a.py"
    ).stderr
    run_id = held.partition('sandboxes.py" fetch ')[2].split()[0]
    small = scripts_environment / "small"
    code, err = run_with_full(small, "fetch", run_id, f"a.py:{small}/a.py", script="sandboxes.py")

    assert code == 125, err
    assert "No space left on device" in err or "no space is left" in err
    assert "--debug" not in err
    assert err.rstrip().endswith("LEFT:")
    fetch_results(run_id, ("a.py:whole.py",), force=False, folder=scripts_environment)
    assert (scripts_environment / "whole.py").stat().st_size == 999999


def test_a_log_that_is_cut_is_not_named_as_all_of_it(
    server: LocalServer, scripts_environment: Path, tmp_path: Path
) -> None:
    """The notice is written when the log is."""
    logs = tmp_path / "state" / "daytona-sandbox" / "logs"
    code, err = run_with_full(
        logs, "--local", "--command", "head -c 300000 /dev/zero | tr '\\0' 'x' >&2"
    )

    assert code == 0
    assert "all of it:" not in err
    assert "No space left on device" in err


def test_no_temporary_folder_is_nobodys_bug(
    run: Script,
    server: LocalServer,
    scripts_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system has none that takes a file; the user can name one."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/nowhere"])
    (scripts_environment / "a.txt").write_text("a")
    result = run("--local", "--json", "--upload", ".", "--command", "true")

    assert result.json()["error"]["kind"] == "host_access"
    assert "TMPDIR=" in result.fix
    assert server.sandboxes() == []


@pytest.mark.parametrize(
    "line",
    [
        "run_in_sandbox.py --local --command 'echo x'",
        "run_in_sandbox.py --local --json --command 'echo x'",
        "run_in_sandbox.py --dry-run --command 'echo x'",
        "sandboxes.py list --local --json",
        "healthcheck.py",
        "healthcheck.py --json",
    ],
)
def test_a_stdout_that_takes_nothing_is_told_as_that(
    server: LocalServer, scripts_environment: Path, line: str
) -> None:
    """Nobody got the answer, so the exit code is no program's, nor a bug of ours."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {SCRIPTS}/{line} >/dev/full"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == (125 if "healthcheck" not in line else done.returncode)
    assert done.returncode != 0
    assert "the output cannot be written: No space left on device" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("fix: free the place that stdout goes to")
    assert "Traceback" not in done.stderr
