"""Measuring trees that hostile code wrote: links, holes, depth, and numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local_daytona.errors import Unmeasurable
from local_daytona.isolation import usage
from local_daytona.isolation.orphans import is_bubblewrap_on
from local_daytona.isolation.usage import Process, families, tree_size


def test_links_out_of_the_tree_are_not_followed_and_hard_links_count_once(tmp_path: Path) -> None:
    """Only what the sandbox itself takes is counted."""
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    (outside / "big").write_bytes(b"x" * (4 << 20))
    tree.mkdir()
    empty = tree_size(tree)
    (tree / "link").symlink_to(outside)
    (tree / "file").write_bytes(b"x" * (1 << 20))
    os.link(tree / "file", tree / "again")
    with open(tree / "hole", "wb") as hole:
        hole.truncate(1 << 30)

    assert 1 << 20 <= tree_size(tree) - empty < 2 << 20


def test_a_tree_beyond_measure_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither depth nor number may hide what is stored, or hold the server up."""
    monkeypatch.setattr(usage, "DEEPEST_FOLDER", 10)
    monkeypatch.setattr(usage, "MOST_FILES", 50)
    deep, wide = tmp_path / "deep", tmp_path / "wide"
    deep.joinpath(*"x" * 12).mkdir(parents=True)
    wide.mkdir()
    for number in range(60):
        (wide / str(number)).touch()
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(Unmeasurable, match="deep"):
        tree_size(deep)
    with pytest.raises(Unmeasurable, match="files"):
        tree_size(wide)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_family_is_everything_below_its_root() -> None:
    """Also what was started by children of children; other families are not touched."""
    processes = {
        pid: Process(parent, 0)
        for pid, parent in {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}.items()
    }

    assert families(processes, [10, 20, 99]) == {10: [10, 11, 12], 20: [20, 21], 99: []}


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (b"/x/bwrap\0--bind\0/s/sandboxes/a/home\0", True),
        (b"/x/bwrap\0--bind\0/s/sandboxes-of-others/a\0", False),
        (b"grep\0/s/sandboxes/a\0", False),
        (b"", False),
    ],
)
def test_only_bubblewraps_on_this_folder_are_taken_for_orphans(command: bytes, found: bool) -> None:
    """The next server ends what it finds: nothing else may look like it."""
    assert is_bubblewrap_on(command, Path("/s/sandboxes")) is found


def test_a_process_that_has_ended_is_no_failure_of_the_look() -> None:
    """Between the list of processes and the look at one it may end; a failed look is no limit."""
    gone = 2**31 - 2
    usage.check_filters([gone, os.getpid(), gone])

    assert usage.maps_of([gone]) == 0
    assert usage.held_by([gone]) == usage.held_by([])
    assert usage.memory_of([gone], {gone: Process(1, 7)}, 0) == 7


def test_too_many_filters_of_one_process_end_its_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel has for their code is all users' together."""
    monkeypatch.setattr(usage, "MOST_FILTERS", -1)
    with pytest.raises(Unmeasurable, match="system call filters"):
        usage.check_filters([os.getpid()])
