"""Nothing of a project is imported: not by PYTHONPATH, the user's site or the working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skill_imports import own_path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
# What our scripts import on their way; some interpreters load `re` and its like before any script.
PLANTED = (
    "__future__",
    "aiohttp",
    "argparse",
    "daytona",
    "dotenv",
    "dulwich",
    "hashlib",
    "json",
    "pathlib",
    "sandbox_kit",
    "shutil",
    "skill_env",
    "skill_imports",
    "tarfile",
    "yarl",
)


def test_an_empty_entry_of_pythonpath_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may lie below the interpreter's own prefix, as /usr/src/app does."""
    monkeypatch.chdir(tmp_path)
    path = [str(tmp_path), str(tmp_path / "lib")]

    assert own_path(path, {"PYTHONPATH": "/x::"}, [str(tmp_path.parent)], None) == [
        str(tmp_path / "lib")
    ]
    assert own_path(path, {}, [str(tmp_path.parent)], None) == path


def test_only_the_interpreters_own_folders_stay() -> None:
    """What lies in its prefix, unless PYTHONPATH or the user's site brought it."""
    path = [
        "",
        "src",
        "/p/lib/python3.11",
        "/p/lib/python3.11/site-packages",
        "/p/named",
        "/project/src",
        "/v/lib",
        "/home/u/.local/lib",
        "/prefix",
    ]

    environment = {"PYTHONPATH": f"src{os.pathsep}/p/named"}
    assert own_path(path, environment, ["/p", "/v"], "/home/u/.local/lib") == [
        "/p/lib/python3.11",
        "/p/lib/python3.11/site-packages",
        "/v/lib",
    ]


@pytest.mark.parametrize("isolated", [True, False], ids=["-I", "without -I"])
@pytest.mark.parametrize(
    "words",
    [
        ("run_in_sandbox.py", "--help"),
        ("run_in_sandbox.py", "--command", "true"),
        ("sandboxes.py", "list"),
        ("healthcheck.py", "--help"),
        ("local_daytona", "status", "--help"),
    ],
    ids=" ".join,
)
def test_planted_modules_are_not_imported(
    tmp_path: Path, words: tuple[str, ...], isolated: bool
) -> None:
    """Many export PYTHONPATH=src; the working directory and the user's site are no better."""
    site = (
        tmp_path
        / "base"
        / "lib"
        / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        / "site-packages"
    )
    for folder in (tmp_path / "src", tmp_path, site):
        for name in PLANTED:
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "__init__.py").write_text(
                f"open({str(tmp_path / 'owned')!r}, 'a').write('{name} ')\n"
            )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": f"src{os.pathsep}{tmp_path}",
        "PYTHONUSERBASE": str(tmp_path / "base"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "DAYTONA_LOCAL_STATE": str(tmp_path / "local"),
    }
    line = [sys.executable, *(["-I"] if isolated else []), str(SCRIPTS / words[0]), *words[1:]]
    done = subprocess.run(
        line,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "Traceback" not in done.stderr
    assert not (tmp_path / "owned").exists(), (tmp_path / "owned").read_text()


def test_the_plant_itself_would_grow(tmp_path: Path) -> None:
    """Without our care the same PYTHONPATH brings a stranger's module: the test above can fail."""
    (tmp_path / "aiohttp").mkdir()
    (tmp_path / "aiohttp" / "__init__.py").write_text(
        f"open({str(tmp_path / 'owned')!r}, 'w').write('x')\n"
    )
    subprocess.run(
        [sys.executable, "-c", "import aiohttp"], env={"PYTHONPATH": str(tmp_path)}, check=True
    )

    assert (tmp_path / "owned").exists()
