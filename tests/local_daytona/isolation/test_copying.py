"""Copying trees that hostile code wrote: what is kept, what is left out, and what ends it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from local_daytona.errors import CopyStopped
from local_daytona.isolation.copying import MOST_DEPTH, Budget, TreeCopy
from local_daytona.isolation.host import Owner

MIB = 1024 * 1024


@pytest.fixture
def me() -> Owner:
    """The tests' own user, as an ordinary server's owner."""
    return Owner(uid=os.getuid(), gid=os.getgid(), dropped=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The folder to copy."""
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def copied(tree: Path, me: Owner, *, budget: Budget | None = None, layer: bool = False) -> Path:
    target = tree.parent / "copy"
    TreeCopy(target, me, budget or Budget(bytes=MIB), layer=layer).run(tree)
    return target


def test_links_modes_times_and_hard_links_are_kept(tree: Path, me: Owner) -> None:
    """A virtual environment of hard links and symlinks works in the copy and takes no more room."""
    (tree / "bin").mkdir(mode=0o750)
    (tree / "bin" / "run").write_text("#!/bin/sh\n")
    (tree / "bin" / "run").chmod(0o4755)
    os.utime(tree / "bin" / "run", ns=(1, 2_000_000_000))
    os.link(tree / "bin" / "run", tree / "again")
    (tree / "link").symlink_to("/etc/passwd")

    copy = copied(tree, me)

    status = (copy / "bin" / "run").stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns, status.st_nlink) == (
        0o755,
        2_000_000_000,
        2,
    )
    assert (copy / "again").samefile(copy / "bin" / "run")
    assert os.readlink(copy / "link") == "/etc/passwd"
    assert (copy / "bin").stat().st_mode & 0o777 == 0o750


def test_pipes_sockets_and_devices_are_left_out(tree: Path, me: Owner) -> None:
    """A FIFO would hang whoever opens it, a device would be one on the host."""
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        (tree / "file").write_text("x")
        assert os.listdir(copied(tree, me)) == ["file"]


def test_holes_stay_holes(tree: Path, me: Owner) -> None:
    """A file of a terabyte with nothing in it neither fills the disk nor uses up the budget."""
    with (tree / "sparse").open("wb") as file:
        file.seek(200 * MIB)
        file.write(b"end")

    copy = copied(tree, me) / "sparse"

    assert copy.stat().st_size == 200 * MIB + 3
    assert copy.stat().st_blocks * 512 < MIB
    with copy.open("rb") as file:
        file.seek(200 * MIB)
        assert file.read() == b"end"


def test_a_deleted_file_of_the_template_stays_deleted(tree: Path, me: Owner) -> None:
    """Overlayfs marks it with a whiteout; elsewhere the same device is left out."""
    os.mknod(tree / "gone", 0o020000, 0)

    assert os.listdir(copied(tree, me, layer=True)) == ["gone"]
    (tree.parent / "copy").rename(tree.parent / "first")
    assert os.listdir(copied(tree, me, layer=False)) == []


@pytest.mark.parametrize(
    "budget", [Budget(bytes=10), Budget(bytes=MIB, entries=1)], ids=["bytes", "entries"]
)
def test_a_tree_beyond_the_budget_is_an_error(tree: Path, me: Owner, budget: Budget) -> None:
    """The host's disk is not filled by one snapshot."""
    (tree / "a").write_bytes(b"x" * 20)
    (tree / "b").write_bytes(b"x" * 20)

    with pytest.raises(OSError, match="more than"):
        copied(tree, me, budget=budget)


def test_folders_nested_without_end_are_an_error(tree: Path, me: Owner) -> None:
    """Neither the stack nor the server's descriptors are used up."""
    below = tree
    for _ in range(MOST_DEPTH + 2):
        below = below / "d"
        below.mkdir()

    with pytest.raises(OSError, match="nested"):
        copied(tree, me)


def test_a_copy_is_stopped_from_outside(tree: Path, me: Owner) -> None:
    """The server can end in the middle of one."""
    (tree / "a").write_text("x")
    budget = Budget(bytes=MIB)
    budget.stop.set()

    with pytest.raises(CopyStopped):
        copied(tree, me, budget=budget)


def test_a_link_in_place_of_the_top_is_not_followed(tree: Path, me: Owner) -> None:
    """Every folder is opened as the folder it claims to be."""
    (tree.parent / "link").symlink_to(tree)

    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        copied(tree.parent / "link", me)
