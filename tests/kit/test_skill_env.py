"""Where things lie, and which interpreter will do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import skill_env


def test_folders_follow_xdg_only_when_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """XDG says that a relative path is to be ignored; the working directory must not decide."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative/path")

    assert skill_env.data_dir() == tmp_path / "daytona-sandbox"
    assert skill_env.client_state_dir() == Path.home() / ".local/state/daytona-sandbox"


def test_local_state_is_roots_own_place_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """A root server's spare uid cannot pass through root's home."""
    monkeypatch.delenv("DAYTONA_LOCAL_STATE", raising=False)
    expected = (
        Path("/var/lib/daytona-sandbox")
        if os.geteuid() == 0 and os.access("/var/lib", os.W_OK)
        else skill_env.client_state_dir() / "local"
    )

    assert skill_env.local_state_dir() == expected
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", "/elsewhere")
    assert skill_env.local_state_dir() == Path("/elsewhere")


def test_the_servers_version_changes_with_its_sources(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that an old server is noticed after a `git pull`."""
    before = skill_env.server_version()
    (tmp_path / "scripts" / "local_daytona").mkdir(parents=True)
    (tmp_path / "scripts" / "local_daytona" / "x.py").write_text("")
    monkeypatch.setattr(skill_env, "SKILL", tmp_path)

    assert before.startswith(skill_env.VERSION + "+")
    assert skill_env.server_version() != before


@pytest.mark.parametrize(
    ("version", "parts"),
    [("0.226.1", (0, 226, 1)), ("2.0.0rc1", (2, 0, 0)), ("1.2.dev3", (1, 2)), ("", ())],
    ids=repr,
)
def test_versions_are_read_by_their_numbers(version: str, parts: tuple[int, ...]) -> None:
    """Enough to compare with the supported range."""
    assert skill_env.numbers(version) == parts


def site(tmp_path: Path, *names: str) -> list[str]:
    for name in names:
        (tmp_path / f"{name}.dist-info").mkdir(parents=True)
    return [str(tmp_path)]


def test_missing_packages_are_named(tmp_path: Path) -> None:
    """The user sees what is missing, and the caller the kind."""
    found = skill_env.problem(site(tmp_path, "daytona-0.226.1"), extra=("aiohttp",))

    assert found is not None
    assert (found.kind, str(found)) == (
        "sdk_missing",
        "python-dotenv, dulwich, aiohttp not installed",
    )


def test_a_whole_environment_has_no_problem(tmp_path: Path) -> None:
    """Names are compared as PEP 503 normalises them."""
    names = ("daytona-0.300.0", "python_dotenv-1.0", "dulwich-1.2", "Python.SocketIO-5")

    assert skill_env.problem(site(tmp_path, *names)) is None


def test_a_2x_sdk_is_told_from_a_missing_one(tmp_path: Path) -> None:
    """2.x removed this API."""
    found = skill_env.problem(site(tmp_path, "daytona-2.0.0", "python_dotenv-1.0", "dulwich-1.2"))

    assert found is not None
    assert found.kind == "sdk_version"


def test_an_old_interpreter_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a SyntaxError: the file parses on 3.8."""
    monkeypatch.setattr(sys, "version_info", (3, 8, 10, "final", 0))
    found = skill_env.problem([])

    assert found is not None
    assert "3.8 is too old" in str(found)


@pytest.mark.parametrize(
    ("path", "shown"), [("/a/b-c_1.0", "/a/b-c_1.0"), ("/a b", "'/a b'"), ("/it's", "'/it'\\''s'")]
)
def test_paths_are_quoted_as_a_shell_takes_them(path: str, shown: str) -> None:
    """The fix line is pasted."""
    assert skill_env.quoted(path) == shown


def test_an_old_interpreter_is_sent_to_a_newer_one_on_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--install with the newer one serves the old one too.

    `apt install python3.10` would be wrong nearly everywhere.
    """
    monkeypatch.setattr(sys, "version_info", (3, 9, 6, "final", 0))
    monkeypatch.chdir(
        "/"
    )  # a clone may lie beside the test's own folder, and what lies there is not run
    monkeypatch.setenv("PATH", str(tmp_path))
    nothing = skill_env.too_old()
    (tmp_path / "python3.12").write_text("#!/bin/sh\n")
    (tmp_path / "python3.12").chmod(0o755)
    newer = skill_env.too_old()

    assert nothing is not None
    assert "install Python 3.10 or newer" in nothing.fix
    assert newer is not None
    assert newer.fix == skill_env.install_command("python3.12")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """enter() from an interpreter without packages; what it would start is written down."""
    programs: list[str] = []
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(skill_env, "SKILL", tmp_path / "skill")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(os, "execv", lambda program, arguments: programs.append(program))
    return programs


def environment(folder: Path, sdk: str = "0.226.1") -> Path:
    """A whole environment, as metadata."""
    site(
        folder / "lib" / "python3.12" / "site-packages",
        f"daytona-{sdk}",
        "python_dotenv-1.0",
        "dulwich-1.2",
    )
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text("")
    (folder / skill_env.STAMP).write_text("")
    return folder


def test_an_old_interpreter_goes_on_in_a_newer_ones_environment(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has a python3 of 3.9: the environment's interpreter counts, not the one typed."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 6, "final", 0))
    folder = environment(skill_env.data_dir() / "venv")
    with pytest.raises(skill_env.NotInstalled):  # a real exec does not come back
        skill_env.enter()

    assert started == [str(folder / "bin" / "python")]


def test_an_environment_whose_python_cannot_start_is_passed_over(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is tried, and the last word is a sentence."""

    def refuse(program: str, _: list[str]) -> None:
        started.append(program)
        raise OSError(8, "Exec format error")

    monkeypatch.setattr(os, "execv", refuse)
    folders = [environment(skill_env.SKILL / ".venv"), environment(skill_env.data_dir() / "venv")]
    with pytest.raises(skill_env.NotInstalled, match="not installed"):
        skill_env.enter()

    assert started == [str(folder / "bin" / "python") for folder in folders]


def test_it_never_starts_itself_again(
    started: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An environment that only looks right from outside is not entered again and again.

    However its path is spelled.
    """
    folder = environment(skill_env.data_dir() / "venv")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "link"))
    with pytest.raises(skill_env.NotInstalled):
        skill_env.enter()

    assert started == []


@pytest.mark.parametrize(
    "variable", ["HOME", "DAYTONA_LOCAL_STATE", "XDG_DATA_HOME", "XDG_STATE_HOME"]
)
def test_a_relative_place_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    """A repository would choose them: an interpreter, a server's address, another user's id."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "planted")
    for folder in (skill_env.data_dir(), skill_env.client_state_dir(), skill_env.local_state_dir()):
        assert folder.is_absolute()
        assert not folder.is_relative_to(tmp_path)


@pytest.mark.parametrize("path", ["HERE", "HERE/bin", "", ".", "bin", ":", "HERE/link"])
def test_a_program_of_the_working_directory_is_not_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    """Not by an absolute entry either, as activation makes it; elsewhere the program is found."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "link").symlink_to("bin")
    for place in (tmp_path, tmp_path / "bin"):
        (place / "daytona").write_text("#!/bin/sh\n")
        (place / "daytona").chmod(0o755)
    monkeypatch.setenv("PATH", path.replace("HERE", str(tmp_path)))
    planted = skill_env.find_program("daytona")
    monkeypatch.chdir("/")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert planted is None
    assert skill_env.find_program("daytona") == str(tmp_path / "bin" / "daytona")


def test_a_program_beside_the_working_directory_is_not_found_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever chooses the working directory goes into another folder of the same project."""
    home = tmp_path / "home"
    for name in ("work/proj/bin", "work/proj/sub", ".local/bin"):
        (home / name).mkdir(parents=True)
    for place in ("work/proj/bin", ".local/bin"):
        (home / place / "daytona").write_text("#!/bin/sh\n")
        (home / place / "daytona").chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{home}/work/proj/bin")
    monkeypatch.chdir(home / "work" / "proj" / "sub")
    planted = skill_env.find_program("daytona")
    monkeypatch.setenv("PATH", f"{home}/work/proj/bin:{home}/.local/bin")

    assert planted is None
    assert skill_env.find_program("daytona") == str(home / ".local/bin/daytona")
