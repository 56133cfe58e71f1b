"""Starting the scripts as Claude does: system python3, another folder, an empty environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local_server import SCRIPTS, LocalServer

PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable


@pytest.fixture
def bare(server: LocalServer, tmp_path: Path) -> dict[str, str]:
    """A clean environment; only the test's own folders are named."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "DAYTONA_LOCAL_STATE": str(server.state_dir),
    }


def start(
    script: Path, *argv: str, env: dict[str, str], cwd: Path, python: str = PYTHON
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, str(script), *argv],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The scripts without an environment of their own, in a folder with a space in its name."""
    target = tmp_path / "my skills" / "daytona-sandbox"
    shutil.copytree(SCRIPTS, target / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return target


def with_environment(clone: Path, place: Path) -> None:
    """Give the clone the suite's own environment, by a link."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(Path(sys.prefix))


def test_it_runs_from_any_folder_with_the_systems_python(
    bare: dict[str, str], clone: Path, tmp_path: Path
) -> None:
    """A bare python3 finds the clone's own environment."""
    with_environment(clone, clone / ".venv")
    bare["DAYTONA_LOCAL_STATE"] = str(new_state(tmp_path))
    done = start(
        clone / "scripts" / "run_in_sandbox.py",
        "--local",
        "--code",
        "print(sum(range(100)))",
        env=bare,
        cwd=Path("/"),
    )
    start(clone / "scripts" / "local_daytona", "stop", env=bare, cwd=Path("/"))

    assert (done.returncode, done.stdout) == (0, "4950\n"), done.stderr


def new_state(tmp_path: Path) -> Path:
    from tests.local_server import new_state_dir

    return new_state_dir()


def test_it_finds_what_install_made(bare: dict[str, str], clone: Path, tmp_path: Path) -> None:
    """The user's environment lies under XDG_DATA_HOME, because a skill folder may be read-only."""
    bare["XDG_DATA_HOME"] = str(tmp_path / "data")
    with_environment(clone, tmp_path / "data" / "daytona-sandbox" / "venv")
    done = start(clone / "scripts" / "healthcheck.py", env=bare, cwd=tmp_path)

    assert "ok  sdk: daytona 0." in done.stdout
    assert done.returncode == 3, done.stdout


def test_without_an_environment_it_says_how_to_make_one(
    bare: dict[str, str], clone: Path, tmp_path: Path
) -> None:
    """125, one line why, one line what to type, which works from that folder."""
    done = start(
        clone / "scripts" / "run_in_sandbox.py",
        "--local",
        "--command",
        "true",
        env=bare,
        cwd=tmp_path,
    )

    assert done.returncode == 125
    assert done.stderr.splitlines() == [
        (
            "[sandbox] exit code 125 is this tool's, nothing was run: "
            "the skill's environment is not installed"
        ),
        f'fix: python3 -I "{clone}/scripts/healthcheck.py" --install',
    ]


def test_a_broken_environment_is_passed_over(
    bare: dict[str, str], clone: Path, tmp_path: Path
) -> None:
    """A system upgrade can leave a python that is a dangling link."""
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").symlink_to("/nonexistent/python3")
    done = start(
        clone / "scripts" / "run_in_sandbox.py",
        "--local",
        "--command",
        "true",
        env=bare,
        cwd=tmp_path,
    )

    assert done.returncode == 125
    assert "Traceback" not in done.stderr


def test_a_folder_in_the_working_directory_is_never_used(
    bare: dict[str, str], clone: Path, tmp_path: Path
) -> None:
    """A stranger's repository may bring a .venv, or modules of the names that we import."""
    hostile = tmp_path / "repo"
    (hostile / ".venv" / "bin").mkdir(parents=True)
    (hostile / ".venv" / "bin" / "python").write_text("#!/bin/sh\necho OWNED\n")
    (hostile / ".venv" / "bin" / "python").chmod(0o755)
    for name in ("skill_env", "sandbox_kit", "json", "daytona", "argparse"):
        (hostile / f"{name}.py").write_text("print('OWNED')\n")
    done = start(
        clone / "scripts" / "run_in_sandbox.py",
        "--local",
        "--command",
        "true",
        env=bare,
        cwd=hostile,
    )

    assert "OWNED" not in done.stdout + done.stderr
    assert done.returncode == 125


def fake_environment(clone: Path, sdk: str) -> None:
    """An environment whose packages exist as metadata only."""
    folder = clone / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(PYTHON)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(PYTHON).parent}\n")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for name in (f"daytona-{sdk}", "python_dotenv-1.0.0", "dulwich-1.2.21"):
        (folder / "lib" / f"python{version}" / "site-packages" / f"{name}.dist-info").mkdir(
            parents=True
        )


@pytest.mark.parametrize("sdk", ["2.0.1", "0.225.9", "1.9.0"])
def test_an_sdk_out_of_range_is_named_unless_it_will_do(
    bare: dict[str, str], clone: Path, tmp_path: Path, sdk: str
) -> None:
    """2.x has another API; 1.x would still be below it."""
    fake_environment(clone, sdk)
    done = start(
        clone / "scripts" / "run_in_sandbox.py",
        "--local",
        "--command",
        "true",
        env=bare,
        cwd=tmp_path,
    )

    if sdk == "1.9.0":
        assert "another API" not in done.stderr
        return
    assert done.returncode == 125
    assert f"daytona {sdk} has another API" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("--install")


def test_the_servers_command_line_says_the_same(
    bare: dict[str, str], clone: Path, tmp_path: Path
) -> None:
    """local_daytona is started by people too."""
    done = start(clone / "scripts" / "local_daytona", "status", env=bare, cwd=tmp_path)

    assert done.returncode == 125
    assert done.stderr.splitlines()[-1].startswith("fix: python3 ")


def test_arguments_survive_the_change_of_interpreter(
    bare: dict[str, str], clone: Path, tmp_path: Path
) -> None:
    """Also those a shell would change."""
    with_environment(clone, clone / ".venv")
    bare["DAYTONA_API_KEY"] = "x"
    done = start(
        clone / "scripts" / "run_in_sandbox.py",
        "--command",
        "true",
        "--repo",
        'a b "c" $HOME *',
        env=bare,
        cwd=tmp_path,
    )

    assert done.returncode == 2
    assert "--repo takes an http or https address" in done.stderr


def test_a_symlinked_skill_folder_works(bare: dict[str, str], clone: Path, tmp_path: Path) -> None:
    """Skills are often links into a checkout."""
    (tmp_path / "link").symlink_to(clone)
    with_environment(clone, clone / ".venv")
    done = start(tmp_path / "link" / "scripts" / "healthcheck.py", "--json", env=bare, cwd=tmp_path)

    assert '"verdict": "LOCAL ONLY"' in done.stdout


@pytest.mark.parametrize(
    "script",
    [
        "healthcheck.py",
        "sandboxes.py list --local",
        "run_in_sandbox.py --local --json --command true",
    ],
)
def test_a_reader_that_goes_away_is_no_traceback(
    bare: dict[str, str], clone: Path, tmp_path: Path, script: str
) -> None:
    """`… | true` closes stdout before anything is written."""
    with_environment(clone, clone / ".venv")
    bare["DAYTONA_LOCAL_STATE"] = str(new_state(tmp_path))
    name, *arguments = script.split()
    line = f"{PYTHON} '{clone / 'scripts' / name}' {' '.join(arguments)} | true"
    done = subprocess.run(
        ["bash", "-c", line], env=bare, capture_output=True, text=True, timeout=120, check=False
    )
    start(clone / "scripts" / "local_daytona", "stop", env=bare, cwd=tmp_path)

    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="file modes")
def test_the_scripts_can_be_run_as_programs() -> None:
    """They carry a shebang and the bit."""
    for name in ("run_in_sandbox.py", "healthcheck.py", "sandboxes.py"):
        assert os.access(SCRIPTS / name, os.X_OK)
        assert (SCRIPTS / name).read_text().startswith("#!/usr/bin/env python3\n")
