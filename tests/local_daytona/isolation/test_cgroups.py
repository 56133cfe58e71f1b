"""Which control groups a server may divide, and what is written there, by the kernel's texts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local_daytona.isolation.cgroups import (
    first_version,
    mounted,
    own_groups,
    second_version,
    values,
)
from local_daytona.isolation.limits import Resources

MOUNTS = """\
30 25 0:26 / {v1} rw,relatime - cgroup cgroup rw,{controller}
31 25 0:27 / /sys/fs/cgroup/cpu ro,relatime - cgroup cgroup ro,cpu
32 25 0:28 {top} {v2} rw,relatime - cgroup2 cgroup2 rw
"""


def mounts(folder: Path, *, controller: str = "pids", top: str = "/") -> str:
    return MOUNTS.format(v1=folder, v2=folder, controller=controller, top=top)


def test_the_top_of_a_writable_hierarchy_may_be_divided(tmp_path: Path) -> None:
    """Where this server's own group is the whole hierarchy, nobody else has a plan for it."""
    assert first_version(mounted(mounts(tmp_path)), own_groups("1:pids:/\n2:cpu:/\n0::/\n")) == {
        "pids": tmp_path
    }


def test_a_group_that_somebody_else_made_is_left_alone(tmp_path: Path) -> None:
    """A login session's or a service manager's: its maker counts on what is in it."""
    groups = first_version(
        mounted(mounts(tmp_path)), own_groups("1:pids:/user.slice/user-0.slice\n")
    )
    assert groups == {}


@pytest.mark.parametrize("top", ["/", "/docker/abc"])
def test_a_delegated_group_of_version_2_is_divided(tmp_path: Path, top: str) -> None:
    """All three controllers have been handed down, so sandboxes' groups can be limited."""
    group = tmp_path / "mine"
    group.mkdir()
    for name in ("cgroup.controllers", "cgroup.subtree_control"):
        (group / name).write_text("cpu memory pids\n")

    found = second_version(
        mounted(mounts(tmp_path, top=top)), own_groups(f"0::{top.rstrip('/')}/mine\n")
    )

    assert found == dict.fromkeys(("memory", "pids", "cpu"), group)


@pytest.mark.parametrize(
    ("controllers", "procs"),
    [("hugetlb", f"{os.getpid()}"), ("cpu memory pids", f"{os.getpid()} 1")],
    ids=["controllers", "others"],
)
def test_a_group_of_version_2_without_controllers_or_with_others_in_it_is_left_alone(
    tmp_path: Path, controllers: str, procs: str
) -> None:
    """Processes of others must not be moved to make room."""
    (tmp_path / "cgroup.controllers").write_text(controllers)
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text(procs)

    assert second_version(mounted(mounts(tmp_path)), own_groups("0::/\n")) == {}
    assert (tmp_path / "cgroup.subtree_control").read_text() == ""


def test_both_versions_get_the_same_size() -> None:
    """The files differ, the sandbox does not."""
    size = Resources(cpu=2, memory=4, disk=8)
    memory = (4 << 30) + (64 << 20)

    assert values(1, "memory", size) == {"memory.limit_in_bytes": str(memory)}
    assert values(2, "memory", size) == {"memory.max": str(memory)}
    assert values(1, "cpu", size) == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "200000"}
    assert values(2, "cpu", size) == {"cpu.max": "200000 100000"}
    assert values(1, "pids", size) == values(2, "pids", size) == {"pids.max": "520"}
