"""Folders opened one by one: what a name becomes on the way is not followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox_kit.host_access.folders import NEW, OpenFolder, open_folder


@pytest.fixture(params=["descriptors", "paths"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As here, and as Windows has it."""
    monkeypatch.setattr(
        "sandbox_kit.host_access.folders.BY_DESCRIPTOR", request.param == "descriptors"
    )
    return str(request.param)


def write(folder: OpenFolder, name: str, text: str) -> None:
    with os.fdopen(folder.open(name, NEW), "w") as file:
        file.write(text)


@pytest.mark.usefixtures("how")
def test_folders_are_made_on_the_way(tmp_path: Path) -> None:
    """And a file is put under its name when it is whole."""
    with open_folder(tmp_path / "a" / "b", make=True) as folder:
        write(folder, "part", "x")
        folder.put("part", "name", replace=False)

    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["name"]


@pytest.mark.usefixtures("how")
def test_nothing_is_put_over_a_file_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    """Whoever was quicker keeps theirs."""
    (tmp_path / "name").write_text("mine")
    with open_folder(tmp_path) as folder:
        write(folder, "part", "theirs")
        with pytest.raises(FileExistsError):
            folder.put("part", "name", replace=False)
        assert (tmp_path / "name").read_text() == "mine"
        folder.put("part", "name", replace=True)

    assert (tmp_path / "name").read_text() == "theirs"


@pytest.mark.usefixtures("how")
@pytest.mark.parametrize("make", [False, True])
def test_a_link_on_the_way_is_not_followed(tmp_path: Path, make: bool) -> None:
    """Also one that took a folder's place after the path was judged."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(OSError):
        open_folder(tmp_path / "link" / "x", make=make)
    assert list((tmp_path / "real").iterdir()) == []


def test_a_folder_that_is_renamed_stays_the_one_that_was_opened(tmp_path: Path) -> None:
    """What was judged is what is written."""
    (tmp_path / "a").mkdir()
    (tmp_path / "evil").mkdir()
    with open_folder(tmp_path / "a") as folder:
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").symlink_to(tmp_path / "evil")
        write(folder, "x", "1")

    assert (tmp_path / "b" / "x").exists()
    assert list((tmp_path / "evil").iterdir()) == []


@pytest.mark.usefixtures("how")
def test_every_folder_on_the_way_is_judged_by_what_it_is(tmp_path: Path) -> None:
    """A protected folder is found under another name, because it is itself that is looked at."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    wanted = (tmp_path / "a").stat()
    seen: list[bool] = []
    open_folder(
        tmp_path / "a" / "b", judge=lambda status: seen.append(os.path.samestat(status, wanted))
    ).close()

    assert sum(seen) == 1


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Twenty thousand files come in one download."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        open_folder(tmp_path).close()
        with pytest.raises(OSError):
            open_folder(tmp_path / "missing" / "x")

    assert len(os.listdir("/proc/self/fd")) == before
