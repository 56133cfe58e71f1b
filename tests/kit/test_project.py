"""Which folders are a project: every component of the working directory counts, not its name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sandbox_kit.host_access.project import (
    Project,
    ProtectedFolders,
    is_in_anothers_home,
    is_linked_worktree,
    is_work_tree,
    why_closed,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test's own."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(home: Path) -> Path:
    """A real one, with a commit."""
    folder = home / "work" / "repository"
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return folder


@pytest.mark.parametrize("name", ["work", "work/repository/src", "work/with space"])
def test_a_plain_folder_below_the_home_is_a_project(home: Path, name: str) -> None:
    """With git or without."""
    (home / name).mkdir(parents=True)

    assert Project.around(home / name).closed is None


@pytest.mark.parametrize(
    "name", [".git", ".git/hooks", ".claude", ".github/workflows", "src/.hidden/deep"]
)
def test_a_hidden_folder_of_a_project_is_none(repository: Path, name: str) -> None:
    """`cd .git` moved the gate with it."""
    (repository / name).mkdir(parents=True, exist_ok=True)

    assert "hidden folder" in str(Project.around(repository / name).closed)


@pytest.mark.parametrize("name", [".config/gh", ".ssh", ".claude/skills/x", ".local/share/y"])
def test_a_hidden_folder_of_the_home_is_none(home: Path, name: str) -> None:
    """Also where it is a git work tree itself, as a home's settings often are."""
    (home / name).mkdir(parents=True)
    plain = Project.around(home / name).closed
    git(home / name.split("/")[0], "init", "-q")
    git(home / name, "init", "-q")

    assert "hidden folder" in str(plain)
    assert "hidden folder" in str(Project.around(home / name).closed)


def test_the_home_itself_and_what_is_above_it_are_none(home: Path) -> None:
    """Whatever lies there lies below it."""
    git(home, "init", "-q")

    assert "home folder itself" in str(Project.around(home).closed)
    assert "above the home" in str(Project.around(home.parent).closed)
    assert "above the home" in str(Project.around(Path("/")).closed)


@pytest.mark.parametrize(
    "folder",
    [
        "/proc",
        "/proc/1",
        "/proc/self/cwd",
        "/etc",
        "/etc/ssh",
        "/sys/kernel",
        "/dev/shm",
        "/usr/lib",
        "/var/log/x",
        "/run/x",
    ],
)
def test_the_machines_trees_are_none(folder: str) -> None:
    """Not these exact folders only."""
    assert why_closed(Path(folder), [Path("/home/u")]) is not None


def test_a_folder_that_everybody_writes_is_none(tmp_path: Path) -> None:
    """`/tmp` holds others' files; what somebody made in it is a project."""
    (tmp_path / "shared" / "mine").mkdir(parents=True)
    (tmp_path / "shared").chmod(0o1777)

    assert why_closed(tmp_path / "shared", [Path("/home/u")]) == "is everybody's, not a project's"
    assert why_closed(tmp_path / "shared" / "mine", [Path("/home/u")]) is None
    assert why_closed(Path("/mnt/c/Users/me"), [Path("/home/u")]) == "is a home folder of Windows'"


def test_a_pipe_in_a_worktrees_place_holds_nobody(repository: Path) -> None:
    """It is read before any deadline runs."""
    folder = repository / ".worktrees" / "x"
    folder.mkdir(parents=True)
    git_folder = repository / "g"
    git_folder.mkdir()
    (folder / ".git").write_text("gitdir: ../../g\n")
    (git_folder / "commondir").write_text("..\n")
    os.mkfifo(git_folder / "gitdir")

    assert not is_linked_worktree(folder)


def test_a_folder_above_the_machines_trees_is_none() -> None:
    """Else `cd /var` would open /var/lib; where the machine has no such tree it is like any."""
    assert why_closed(Path("/var"), [Path("/home/u")]) == "is a folder above the machine's own"
    assert why_closed(Path("/mnt"), [Path("/home/u")]) is None


@pytest.mark.parametrize(
    "folder", ["/usr/src/app", "/srv/project", "/opt/x", "/var/www/site", "/tmp/x", "/data"]
)
def test_where_people_keep_projects_is_open(folder: str) -> None:
    """Containers have them there."""
    assert why_closed(Path(folder), [Path("/home/u")]) is None


def test_a_folder_elsewhere_is_judged_whole(tmp_path: Path) -> None:
    """No home above it says where the user's own begins."""
    (tmp_path / "a" / ".b" / "c").mkdir(parents=True)

    assert "hidden folder" in str(why_closed(tmp_path / "a" / ".b" / "c", [Path("/home/u")]))


def test_a_worktree_in_a_hidden_folder_is_a_project(repository: Path) -> None:
    """Clients put them below .claude/worktrees; its own hidden folders stay closed."""
    place = repository / ".claude" / "worktrees" / "task"
    git(repository, "worktree", "add", "-q", str(place))
    (place / "src").mkdir()
    (place / ".vscode").mkdir()

    assert is_linked_worktree(place)
    assert Project.around(place).closed is None
    assert Project.around(place / "src").closed is None
    assert "hidden folder" in str(Project.around(place / ".vscode").closed)


def test_a_worktree_that_its_repository_does_not_know_is_none(repository: Path) -> None:
    """A stranger's archive can hold a .git file, but not a repository's record of it."""
    git(repository, "worktree", "add", "-q", str(repository.parent / "real"))
    forged = repository / ".cache" / "task"
    forged.mkdir(parents=True)
    (forged / ".git").write_bytes((repository.parent / "real" / ".git").read_bytes())

    assert not is_linked_worktree(forged)
    assert "hidden folder" in str(Project.around(forged).closed)


@pytest.mark.parametrize("planted", ["folder", "file"])
def test_a_git_folder_planted_in_a_hidden_one_opens_nothing(tmp_path: Path, planted: str) -> None:
    """An archive can bring one; outside the home too, where nothing else tells the user's."""
    place = tmp_path / "project" / ".vscode"
    (place / "gd").mkdir(parents=True)
    (place / "gd" / "HEAD").write_text("ref: refs/heads/main\n")
    if planted == "folder":
        (place / "gd").rename(place / ".git")
    else:
        (place / ".git").write_text("gitdir: gd\n")

    assert is_work_tree(place)
    assert "hidden folder" in str(why_closed(place, [Path("/home/u")]))


def test_a_worktree_that_an_archive_brings_opens_nothing(tmp_path: Path) -> None:
    """It can hold a whole record of one; but clients do not put worktrees into .vscode."""
    (tmp_path / "project" / ".vscode").mkdir(parents=True)
    (tmp_path / "project" / "fake").mkdir()
    for name, text in (
        (".vscode/.git", "gitdir: ../fake\n"),
        ("fake/HEAD", "x"),
        ("fake/commondir", ".."),
        ("fake/gitdir", "../.vscode/.git\n"),
    ):
        (tmp_path / "project" / name).write_text(text)
    place = tmp_path / "project" / ".vscode"

    assert is_linked_worktree(place)
    assert "hidden folder" in str(why_closed(place, [Path("/home/u")]))


@pytest.mark.parametrize("name", ["Library/x", "AppData/Roaming"])
def test_the_hidden_folders_of_other_systems_are_none(home: Path, name: str) -> None:
    """They have no dot."""
    assert "folder of tools" in str(why_closed(home / name, [home]))
    assert why_closed(Path("/srv/Library"), [home]) is None


def test_another_users_home_is_no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder beside the homes that is this user's is one."""
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    monkeypatch.setattr(
        Path,
        "stat",
        lambda self, **_: type(
            "Status", (), {"st_uid": 12345 if self.name == "mine" else 1, "st_mode": 0o40755}
        )(),
    )

    assert why_closed(Path("/home/other/work"), [Path("/home/u")]) == "is another user's"
    assert why_closed(Path("/home"), [Path("/root")]) is not None
    assert is_in_anothers_home(Path("/Users/other"))
    assert why_closed(Path("/var/home/other/work"), [Path("/var/home/u")]) == "is another user's"
    assert not is_in_anothers_home(Path("/home/mine/work"))


def test_the_first_folder_of_a_project_is_known(repository: Path) -> None:
    """By git; without it the working directory is all there is.

    A home that is a work tree is nobody's project.
    """
    (repository / "src").mkdir()
    git(repository.parents[1], "init", "-q")
    (repository.parent / "plain" / "below").mkdir(parents=True)

    assert Project.around(repository).is_root
    assert not Project.around(repository / "src").is_root
    assert Project.around(repository.parent / "plain" / "below").is_root


def test_a_submodule_is_a_work_tree(repository: Path) -> None:
    """Its .git is a file too."""
    other = repository.parent / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "x")
    git(repository, "submodule", "add", "-q", str(other), "sub")

    assert is_work_tree(repository / "sub")
    assert Project.around(repository / "sub").closed is None


@pytest.mark.parametrize(
    "content",
    [b"", b"gitdir:", b"gitdir: /nowhere", b"gitdir: a\0b", b"\xff\xfe", b"not a pointer"],
)
def test_a_git_file_that_leads_nowhere_makes_no_work_tree(tmp_path: Path, content: bytes) -> None:
    """Nor a traceback."""
    (tmp_path / ".git").write_bytes(content)

    assert not is_work_tree(tmp_path)
    assert not is_linked_worktree(tmp_path)


def test_the_skill_its_environment_and_its_state_are_protected(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they lie; state is not even read, it holds a key."""
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", str(home / "plain" / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    found = ProtectedFolders.of_this_skill()
    skill = Path(__file__).resolve().parents[2]

    assert found.covers(skill / "scripts" / "skill_env.py", write=True)
    assert not found.covers(skill / "README.md", write=False)
    assert found.covers(home / "data" / "daytona-sandbox" / "venv" / "x", write=True)
    for write in (False, True):
        assert found.covers(home / "plain" / "state" / "server.json", write=write)
        assert not found.covers(home / "plain" / "other", write=write)
