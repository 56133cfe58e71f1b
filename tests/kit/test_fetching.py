"""fetch brings what is held: wherever the user says, but never out of there.

Nor into the skill's own folders.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from sandbox_kit.archive.fetching import fetch_results, list_held_files
from sandbox_kit.errors import Failure
from sandbox_kit.host_access.held import (
    INDEX,
    ArchiveEntry,
    HeldFile,
    HeldResults,
    most_telling_first,
    read_held,
)
from sandbox_kit.state_files import prune_once

RUN = "20261126-010203-0123abcd"
SKILL = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "daytona-sandbox" / "results"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def member(name: str, link: str | None = None) -> ArchiveEntry:
    info = tarfile.TarInfo(name)
    data = f"content of {name}".encode()
    info.size = 0 if link is not None else len(data)
    if link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, link
    return ArchiveEntry(
        info,
        None if link is not None else io.BytesIO(data),
        HeldFile(name, "no result by its ending", info.size),
    )


def hold(*entries: ArchiveEntry, there: str = "out", run_id: str = RUN) -> HeldResults:
    found = HeldResults(run_id)
    found.keep(there, "here", entries)
    return found


def test_a_folder_comes_with_code_dotfiles_and_links(work: Path) -> None:
    """Consent is that somebody typed it; nothing is executable."""
    hold(member("./a.py"), member("./deep/.envrc"), member("./l", link="deep/.envrc"))
    saved = fetch_results(RUN, ("out:new/place",), force=False, folder=work)

    assert sorted(path.path for path in saved.saved) == sorted(
        str(work / "new/place" / name) for name in ("a.py", "deep/.envrc", "l")
    )
    assert (work / "new/place/a.py").read_text() == "content of ./a.py"
    assert (work / "new/place/a.py").stat().st_mode & 0o111 == 0
    assert os.readlink(work / "new/place/l") == "deep/.envrc"


@pytest.mark.parametrize(
    ("pair", "where"),
    [
        ("out/deep/b.py", "b.py"),
        ("out/deep/b.py:c.py", "c.py"),
        ("out/deep:d", "d/b.py"),
        ("out", "out/deep/b.py"),
    ],
)
def test_one_file_or_a_part_comes_alone(work: Path, pair: str, where: str) -> None:
    """By its path in the sandbox."""
    hold(member("./deep/b.py"))
    fetch_results(RUN, (pair,), force=False, folder=work)

    assert (work / where).read_text() == "content of ./deep/b.py"


def test_a_single_file_is_called_as_the_user_says(work: Path) -> None:
    """Or lies in a folder that is there."""
    hold(member("x.py"), there="src/x.py")
    (work / "into").mkdir()
    for pair in ("src/x.py", "src/x.py:y.py", "src/x.py:into"):
        fetch_results(RUN, (pair,), force=False, folder=work)

    assert {str(path.relative_to(work)) for path in work.rglob("*.py")} == {
        "x.py",
        "y.py",
        "into/x.py",
    }


def test_what_is_there_stays_without_force_and_nothing_else_is_written(work: Path) -> None:
    """All places are looked at before the first is written."""
    hold(member("./a.py"), member("./b.py"))
    (work / "b.py").write_text("mine")
    with pytest.raises(Failure) as caught:
        fetch_results(RUN, ("out:.",), force=False, folder=work)
    assert "--force" in caught.value.fix
    assert not (work / "a.py").exists()
    fetch_results(RUN, ("out:.",), force=True, folder=work)

    assert (work / "b.py").read_text() == "content of ./b.py"


def test_a_link_that_lies_here_does_not_lead_it_out(work: Path) -> None:
    """What came back is a stranger's, and so may be the folder."""
    hold(member("./deep/b.py"))
    (work.parent / "outside").mkdir()
    (work / "deep").symlink_to(work.parent / "outside")
    with pytest.raises(Failure) as caught:
        fetch_results(RUN, ("out:.",), force=True, folder=work)

    assert "leads out of" in caught.value.message
    assert list((work.parent / "outside").iterdir()) == []


@pytest.mark.parametrize("place", ["SKILL/scripts", "STATE/daytona-sandbox/x", "ALIAS/scripts"])
def test_the_skills_own_folders_are_closed_even_to_consent(
    work: Path, place: str, state: Path
) -> None:
    """Who agrees to code in the project agrees to no other skill, however the folder is named."""
    (work / "alias").symlink_to(SKILL)
    hold(member("./x.py"))
    where = (
        place.replace("SKILL", str(SKILL))
        .replace("STATE", str(state.parents[1]))
        .replace("ALIAS", str(work / "alias"))
    )
    with pytest.raises(Failure) as caught:
        fetch_results(RUN, (f"out:{where}",), force=True, folder=work)

    assert caught.value.kind == "host_access"
    assert not (SKILL / "scripts" / "x.py").exists()


@pytest.mark.parametrize(
    "run_id",
    ["", "..", "../logs", "20261126-010203-0123abcd/../x", "unknown", "20261126-010203-ffffffff"],
)
def test_a_run_that_holds_nothing_is_told(run_id: str, work: Path) -> None:
    """And a run's name is no path."""
    hold(member("./x.py"))
    with pytest.raises(Failure) as caught:
        fetch_results(run_id, ("out",), force=False, folder=work)

    assert caught.value.kind == "usage"


def test_an_unknown_path_is_told_with_what_is_held(work: Path) -> None:
    """Nothing is guessed."""
    hold(member("./x.py"))
    with pytest.raises(Failure) as caught:
        fetch_results(RUN, ("outside",), force=False, folder=work)

    assert caught.value.fix == "it holds: out"


def test_what_is_held_is_inert_private_and_listed(state: Path) -> None:
    """In a tar under a name of ours: no tool that comes by finds a hook or a test."""
    hold(member("./.git/hooks/pre-commit"), member("./conftest.py"))
    names = sorted(path.name for path in (state / RUN).iterdir())

    assert names == ["0.tar", INDEX]
    assert {path.stat().st_mode & 0o777 for path in (state / RUN).iterdir()} == {0o600}
    assert (state / RUN).stat().st_mode & 0o777 == 0o700
    assert [path for path, _, _ in list_held_files(RUN)] == [
        "out/.git/hooks/pre-commit",
        "out/conftest.py",
    ]


def test_old_runs_are_pruned(state: Path) -> None:
    """Like logs: a week."""
    hold(member("./x.py"), run_id="20260101-000000-00000000")
    old = time.time() - 8 * 24 * 3600
    os.utime(state / "20260101-000000-00000000", (old, old))
    prune_once.cache_clear()  # the next process
    hold(member("./x.py"))

    assert [path.name for path in state.iterdir()] == [RUN]


def test_the_command_is_quoted_and_bounded() -> None:
    """It is pasted into a shell, and a line of ours is cut at its bound."""
    odd = hold(member("./x.py"), there="a b'$(touch x)").fetch_command(shows=str)
    many = HeldResults("20261126-010203-00000001")
    for number in range(200):
        many.keep(f"folder-{number}", "here", [member("./x.py")])

    assert odd is not None
    assert odd.endswith(" 'a b'\\''$(touch x):here'")
    command = many.fetch_command(shows=str)
    assert command == f'python3 -I "{SKILL}/scripts/sandboxes.py" fetch 20261126-010203-00000001'


@pytest.mark.parametrize(
    "names",
    [
        [
            "./.git/commondir",
            "./vendor/lib/config",
            "./vendor/lib/objects/k",
            "./vendor/lib/refs/k",
        ],
        ["./src/.git/HEAD", "./src/.git/config", "./src/.git/objects/k", "./src/.git/refs/k"],
        ["./src/HEAD", "./src/config", "./src/objects/k", "./src/refs/k"],
        ["./src/HEAD", "./src/commondir", "./src/config.worktree"],
        ["./.GIT/config"],
        ["./.git./config"],
        ["./.g\u200cit/config"],
        ["./GIT~1/config"],
        ["./.git::$INDEX_ALLOCATION/config"],
        ["./.hg/hgrc"],
    ],
)
def test_no_repository_comes_unasked(work: Path, names: list[str]) -> None:
    """git runs what its settings name at the next command in the folder."""
    hold(member("./fixed.py"), *map(member, names))
    found = fetch_results(RUN, ("out:.",), force=False, folder=work)

    assert [Path(file.path).name for file in found.saved if "vendor" not in file.path] == [
        "fixed.py"
    ]
    assert not list(work.rglob("HEAD"))
    assert not [path for path in work.rglob("*") if path.name.lower().startswith((".g", ".h"))]
    assert found.of_git


def test_a_repository_is_completed_by_no_second_fetch(work: Path) -> None:
    """What lies there already counts."""
    (work / "src" / "objects").mkdir(parents=True)
    (work / "src" / "refs").mkdir()
    hold(member("./src/HEAD"), member("./src/config"))

    assert fetch_results(RUN, ("out:.",), force=False, folder=work).saved == []


def test_a_repository_that_is_asked_for_comes(work: Path) -> None:
    """By its own name: that is consent."""
    hold(member("./r/.git/HEAD"), member("./r/.git/config"))
    found = fetch_results(RUN, ("out/r/.git:copy/.git",), force=False, folder=work)

    assert sorted(Path(file.path).name for file in found.saved) == ["HEAD", "config"]


def test_hidden_names_behind_many_lead_to_the_list_first(work: Path) -> None:
    """Eight are shown; whoever pastes a line that brings more of them has not seen what."""
    few, many = (
        hold(
            *(member(f"./.a{n}") for n in range(number)), run_id=f"20261126-010203-0123abc{number}"
        )
        for number in (3, 9)
    )

    assert str(few.fetch_command(shows=str)).endswith(" out:here")
    assert str(many.fetch_command(shows=str)).endswith("fetch 20261126-010203-0123abc9")


def test_what_tools_obey_is_named_first() -> None:
    """Decoys with a dot would come before it by their name."""
    files = [HeldFile(name, "x", 1) for name in (".a", ".claude/settings.json", "b", "src/.git/x")]

    assert [file.path for file in sorted(files, key=most_telling_first)] == [
        ".claude/settings.json",
        "src/.git/x",
        ".a",
        "b",
    ]


def test_what_a_run_holds_has_a_bound(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """A sparse file costs the sandbox nothing, and this machine its size: before it is written."""
    monkeypatch.setattr("sandbox_kit.host_access.held.MOST_OF_A_RUN", 20_000)
    held = hold(member("./a"))
    monkeypatch.setattr("sandbox_kit.host_access.held.copy_entries", lambda *_: 1 / 0)
    with pytest.raises(Failure) as caught:
        held.keep("more", "here", [member("./x")])

    assert "would hold more than" in caught.value.message
    assert [path.name for path in (state / RUN).glob("*.tar")] == ["0.tar"]


def test_half_an_archive_stays_after_no_end(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """Not after a signal either: nobody could fetch it, and it would stay a week."""

    def end(*_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr("sandbox_kit.host_access.held.copy_entries", end)
    with pytest.raises(SystemExit):
        hold(member("./a"))
    assert list(state.rglob("*.tar")) == []
    monkeypatch.undo()


def test_a_state_that_cannot_hold_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than lost without a word."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    with pytest.raises(Failure) as caught:
        hold(member("./x.py"))

    assert "XDG_STATE_HOME" in caught.value.fix


@pytest.mark.parametrize("index", ["", "[]x", "{}", "[1]", json.dumps([{"there": "a"}])])
def test_a_broken_index_is_no_traceback(state: Path, index: str) -> None:
    """A cut file says nothing."""
    hold(member("./x.py"))
    (state / RUN / INDEX).write_text(index)
    if index == "{}":
        assert read_held(RUN) == []
        return
    with pytest.raises(Failure):
        read_held(RUN)


def test_a_file_called_like_its_folder_lies_in_it(work: Path) -> None:
    """A folder `tool` that holds `tool` is no single file."""
    hold(member("./tool"), member("./deep/b.py"), there="tool")
    found = fetch_results(RUN, ("tool:there",), force=False, folder=work)

    assert sorted(file.path for file in found.saved) == [
        str(work / "there/deep/b.py"),
        str(work / "there/tool"),
    ]


def test_what_was_brought_to_two_places_comes_from_the_one_that_is_named(work: Path) -> None:
    """Each was held on its own, and one may lack what the other has."""
    held = HeldResults(RUN)
    held.keep("out", str(work / "first"), [member("./a.py")])
    held.keep("out", str(work / "second"), [member("./b.py")])
    second = fetch_results(RUN, ("out:second",), force=False, folder=work)
    elsewhere = fetch_results(RUN, ("out/b.py:c.py",), force=False, folder=work)

    assert [file.path for file in second.saved] == [str(work / "second/b.py")]
    assert (work / "c.py").read_text() == "content of ./b.py"
    assert elsewhere.saved


def test_more_files_than_a_run_writes_can_be_fetched(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was too much to write was kept, so that somebody may ask for it."""
    monkeypatch.setattr("sandbox_kit.archive.members.MOST_FILES", 1)
    hold(member("./a.py"), member("./b.py"))

    assert len(fetch_results(RUN, ("out:new",), force=False, folder=work).saved) == 2
