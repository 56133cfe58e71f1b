"""The README's first command on a fresh clone: as user, as root, on Debian without ensurepip."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from . import tools
from .conftest import ROOT, Newcomer

FIRST = next(
    line
    for line in (ROOT / "README.md").read_text().splitlines()
    if line.startswith("python3 scripts/healthcheck.py --install")
)
NO_ENSUREPIP = (
    "import importlib.util as u; real = u.find_spec; "
    "u.find_spec = lambda n, p=None: None if n == 'ensurepip' else real(n, p)\n"
)


def check_main_job(newcomer: Newcomer) -> None:
    done = newcomer.type(FIRST)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "4950"
    assert "Traceback" not in done.stderr


def check_without_install(newcomer: Newcomer) -> None:
    """As Claude does: another folder, the script's whole path."""
    script = newcomer.clone / "scripts" / "run_in_sandbox.py"
    done = newcomer.type(f"python3 '{script}' --local --code 'print(6 * 7)'", cwd=Path("/"))

    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_an_ordinary_user_gets_4950(ordinary: Newcomer) -> None:
    """Nothing but python3 is there, and no right to install anything."""
    check_main_job(ordinary)
    check_without_install(ordinary)


def test_a_second_install_changes_nothing(ordinary: Newcomer) -> None:
    """It can be repeated, and says at once that all is well."""
    check_main_job(ordinary)
    again = ordinary.type("python3 scripts/healthcheck.py --install")

    assert again.returncode == 0
    assert "installing" not in again.stderr
    assert "LOCAL ONLY" in again.stdout


def test_root_in_its_closed_home_gets_4950(root: Newcomer) -> None:
    """A likely first contact: a clone under /root, which the sandboxes' uid cannot enter."""
    check_main_job(root)
    check_without_install(root)


@pytest.fixture
def without_ensurepip(ordinary: Newcomer) -> Newcomer:
    """Debian without python3-venv, by a sitecustomize; an environment folder of its own."""
    folder = ordinary.home / "without-ensurepip"
    ordinary.type(f"mkdir -p {folder}")
    (folder / "sitecustomize.py").write_text(NO_ENSUREPIP)
    return Newcomer(
        ordinary.name,
        ordinary.home,
        ordinary.clone,
        (("PYTHONPATH", str(folder)), ("XDG_DATA_HOME", str(folder / "data"))),
    )


@pytest.mark.network
def test_a_debian_without_ensurepip_fetches_the_pinned_pip(without_ensurepip: Newcomer) -> None:
    """No root, no python3-venv: pip comes from the configured index."""
    done = without_ensurepip.type("python3 scripts/healthcheck.py --install")

    assert done.returncode == 0, done.stderr
    assert "fetching pip" in done.stderr
    assert re.search(r"ok  sdk: daytona 0\.", done.stdout)


def test_uv_runs_a_script_by_its_header(ordinary: Newcomer) -> None:
    """The README's terminal with uv: no --install, dependencies come from the PEP 723 header."""
    line = next(
        found for found in (ROOT / "README.md").read_text().splitlines() if "`uv run " in found
    )
    command = line.split("`")[1].replace("uv run", f"'{tools.FOLDER / 'bin' / 'uv'}' run")
    done = ordinary.type(command)

    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert "Installed" in done.stderr
