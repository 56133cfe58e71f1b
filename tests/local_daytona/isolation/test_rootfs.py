"""The template, and the removal of trees that hostile code wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local_daytona.isolation.host import Owner
from local_daytona.isolation.host_etc import copy_readable, holds_password, linked_into_etc
from local_daytona.isolation.rootfs import make_folders, make_template, remove_tree

DEEP = 3000  # deeper than Python's recursion limit and than the longest path


@pytest.fixture
def me() -> Owner:
    """The tests' own user, as an ordinary server's owner."""
    return Owner(uid=os.getuid(), gid=os.getgid(), dropped=False)


def make_deep(top: Path, depth: int) -> None:
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    """A sandbox can nest folders until recursion and path names fail."""
    make_deep(tmp_path / "tree", DEEP)

    remove_tree(tmp_path / "tree")

    assert not (tmp_path / "tree").exists()


def test_removal_follows_no_symlink(tmp_path: Path) -> None:
    """A planted link to a host folder is unlinked, its target untouched."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "file").write_text("kept")
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    for place in ("link", "sub/link"):
        (tmp_path / "tree" / place).symlink_to(tmp_path / "host")

    remove_tree(tmp_path / "tree")

    assert (tmp_path / "host" / "file").read_text() == "kept"
    assert not (tmp_path / "tree").exists()


def test_folders_without_any_mode_are_removed(tmp_path: Path) -> None:
    """Overlayfs leaves a mode-000 folder, and hostile code may leave more."""
    (tmp_path / "tree" / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "closed" / "inner" / "file").write_text("")
    (tmp_path / "tree" / "closed" / "inner").chmod(0)
    (tmp_path / "tree" / "closed").chmod(0)

    remove_tree(tmp_path / "tree")

    assert not (tmp_path / "tree").exists()


def test_a_symlink_instead_of_the_tree_is_left_alone(tmp_path: Path) -> None:
    """The top itself must be a folder of ours."""
    (tmp_path / "host").mkdir()
    (tmp_path / "tree").symlink_to(tmp_path / "host")

    remove_tree(tmp_path / "tree")

    assert (tmp_path / "host").is_dir()


def test_the_template_holds_no_secret_place(tmp_path: Path, me: Owner) -> None:
    """/etc is an allow list: nothing that can hold a key or a password is in it."""
    make_template(tmp_path / "template", me)
    names = {path.name for path in (tmp_path / "template" / "etc").iterdir()}

    assert {"passwd", "group", "hosts", "resolv.conf"} <= names
    private = "shadow gshadow sudoers sudoers.d ssh pip.conf npmrc apt environment fstab krb5.conf"
    assert not names & set(private.split())
    assert not (tmp_path / "template" / "etc" / "ssl" / "private").exists()
    assert "root" not in (tmp_path / "template" / "etc" / "passwd").read_text()


def test_only_what_everyone_may_read_is_copied(tmp_path: Path) -> None:
    """A root server reads everything; its sandboxes must not."""
    source = tmp_path / "source"
    source.mkdir(mode=0o755)
    (source / "open").write_text("x")
    (source / "closed").write_text("secret")
    (source / "closed").chmod(0o640)
    (source / "private").mkdir(mode=0o700)
    (source / "private" / "file").write_text("secret")
    (source / "link").symlink_to("open")

    copy_readable(source, tmp_path / "target")

    assert sorted(path.name for path in (tmp_path / "target").rglob("*")) == ["link", "open"]
    assert (tmp_path / "target" / "link").is_symlink()


def test_linked_settings_come_without_passwords(tmp_path: Path) -> None:
    """What /usr links to in /etc may hold some: Maven's servers, a proxy's address."""
    (tmp_path / "example").write_text("<!-- <password>x</password> --> <settings/>")
    (tmp_path / "server").write_text("<server><password>x</password></server>")
    (tmp_path / "proxy").write_text("http://me:x@proxy.example:3128")

    assert [holds_password(tmp_path / name) for name in ("example", "server", "proxy")] == [
        False,
        True,
        True,
    ]


def test_links_into_etc_are_found_to_a_depth(tmp_path: Path) -> None:
    """Also relative ones; whole trees of manuals are not walked."""
    (tmp_path / "lib" / "jvm" / "conf").mkdir(parents=True)
    (tmp_path / "man").mkdir()
    (tmp_path / "lib" / "jvm" / "conf" / "security").symlink_to("/etc/java/security")
    up = "../" * len(tmp_path.parts)
    (tmp_path / "lib" / "relative").symlink_to(f"{up}etc/maven")
    (tmp_path / "lib" / "elsewhere").symlink_to("/usr/share/x")
    (tmp_path / "man" / "page").symlink_to("/etc/alternatives/page")

    assert set(linked_into_etc(tmp_path, 4)) == {Path("/etc/java/security"), Path("/etc/maven")}
    assert set(linked_into_etc(tmp_path, 1)) == {Path("/etc/maven")}


def test_copy_mode_starts_from_the_same_template(tmp_path: Path, me: Owner) -> None:
    """Where overlays do not work, each sandbox gets its own copy."""
    make_template(tmp_path / "template", me)
    folders = make_folders(tmp_path / "box", tmp_path / "template", me, overlay=False)

    assert (folders.layer("etc", "copy") / "passwd").read_text().startswith("daytona:x:0:0")


def test_a_failed_creation_leaves_nothing(tmp_path: Path, me: Owner) -> None:
    """A full disk in the middle must not leave half a sandbox."""
    with pytest.raises(OSError, match="absent"):
        make_folders(tmp_path / "box", tmp_path / "absent", me, overlay=False)

    assert not (tmp_path / "box").exists()
