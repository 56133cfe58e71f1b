"""A sandbox's file system: the template it starts from, its own folders on the host, their removal.

Rule that every function here keeps: no mount point ever lies on storage that a sandbox wrote
(PROTOCOL.md, "Mount points and storage").
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .certificates import add_certificates
from .copying import Budget, TreeCopy
from .host import Owner
from .host_etc import HOME, fill_etc

OWN_PROGRAMS = f"{HOME}/.local/bin"  # where pip and npm put them: /usr is read-only
EXTRA = "/run/bin"  # programs that Daytona's image has and this host has not; last on the PATH
PYTHON_PLACE = "/python"  # of an interpreter outside /usr
# One folder of the sandbox's own for each.
BOUND = ("home", "root", "opt", "srv", "mnt", "media", "tmp")
# Over the template: a copy-on-write layer, or a copy where overlays do not work.
LAYERED = ("etc", "var")
# The root itself, where overlays work; else it is read-only. What is mounted on it, or leads into
# what is, lies in the template, and in no layer that a sandbox wrote.
TOP = "top"
LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
MOUNTED = (*BOUND, *LAYERED, "usr", "proc", "dev", "run")
MADE_AT_START = ("python", VOLUMES := ".volumes")  # by bubblewrap, where they are needed

VAR_FOLDERS = ("cache", "lib", "lib/misc", "lib/dpkg", "local", "log", "mail", "opt", "spool")


@dataclass(frozen=True)
class SandboxFolders:
    """Where one sandbox's storage lies on the host."""

    base: Path

    @property
    def data(self) -> Path:
        return self.base / "data"

    def bound(self, name: str) -> Path:
        return self.data / name

    @property
    def parts(self) -> tuple[Path, ...]:
        """What holds what code inside wrote; one of the last two is not there."""
        return (self.data, self.base / "up", self.base / "copy")

    def layer(self, name: str, part: str) -> Path:
        """`part`: `up` (what the sandbox changed), `work` (of overlayfs) or `copy` (copy mode)."""
        return self.base / part / name

    def set_preload_aside(self) -> None:
        """What code inside wrote to /etc/ld.so.preload runs in no first process at its next start.

        It is kept under another name where that is free; a folder preloads nothing. Raises OSError.
        """
        for part in ("up", "copy"):
            found = self.layer("etc", part) / "ld.so.preload"
            if os.path.lexists(found) and (found.is_symlink() or not found.is_dir()):
                with contextlib.suppress(OSError):  # there is a folder in its place
                    found.rename(found.with_suffix(".aside"))
                found.unlink(missing_ok=True)  # two names of one file cannot be renamed

    def free_mount_points(self, owner: Owner, volumes: Iterable[str]) -> None:
        """Let no name on which something is mounted lie in what the sandbox wrote of its root.

        `volumes` are the top folders of those. Raises OSError, also where files are in the way of
        one.
        """
        for part in ("up", "work"):
            if not os.path.lexists(self.layer(TOP, part)):  # made by a server that had no such one
                owner.make_folder(self.layer(TOP, part), 0o755)
        top = self.layer(TOP, "up")
        for name in {*LINKS, *MOUNTED, *MADE_AT_START} & set(os.listdir(top)):
            remove(top / name)
        for name in set(volumes) & set(os.listdir(top)):
            try:
                (top / name).unlink() if (top / name).is_symlink() else (top / name).rmdir()
            except OSError:
                reason = f"the snapshot has files at /{name}"
                raise OSError(errno.ENOTEMPTY, reason) from None

    @property
    def running(self) -> Path:
        """Where the server notes which sandboxes run."""
        return self.base.parent.parent / "running"

    @property
    def logs(self) -> Path:
        """Session logs: the server's, never visible inside."""
        return self.base.parent.parent / "logs" / self.base.name


def make_template(template: Path, owner: Owner) -> None:
    """Build the read-only starting point of /etc and /var, once per server start."""
    if template.exists():
        remove_tree(template)
    owner.make_folder(template)
    etc = owner.make_folder(template / "etc", 0o755)
    fill_etc(etc)
    add_certificates(template, os.environ)
    add_to_profile(etc / "profile")
    make_top(owner.make_folder(template / TOP, 0o755))
    var = owner.make_folder(template / "var", 0o755)
    for name in VAR_FOLDERS:
        (var / name).mkdir(mode=0o755)
    (var / "tmp").mkdir()
    (var / "tmp").chmod(0o1777)
    (var / "run").symlink_to("/run")
    give_tree(template, owner)


def make_top(top: Path) -> None:
    """The root of every sandbox: mount points, and the host's links into /usr."""
    for name in MOUNTED:
        (top / name).mkdir(mode=0o755)
    for name in LINKS:
        path = Path("/") / name
        if path.is_symlink():
            (top / name).symlink_to(os.readlink(path))
        elif path.is_dir():
            (top / name).mkdir(mode=0o755)


def add_to_profile(profile: Path) -> None:
    """A login shell sets PATH anew, and would not find what only sandboxes have."""
    if profile.is_file() and not profile.is_symlink():
        with profile.open("a") as file:
            file.write(f'\nexport PATH="{OWN_PROGRAMS}:$PATH:{PYTHON_PLACE}/bin:{EXTRA}"\n')


def give_tree(top: Path, owner: Owner) -> None:
    if not owner.dropped:
        return
    owner.give(top)
    for folder, folders, names in os.walk(top):
        for name in folders + names:
            owner.give(Path(folder) / name)


def make_folders(base: Path, template: Path, owner: Owner, *, overlay: bool) -> SandboxFolders:
    """Create a new sandbox's storage; raises OSError (a full disk), then leaves nothing behind."""
    folders = SandboxFolders(base)
    try:
        owner.make_folder(base)
        owner.make_folder(folders.data)
        for name in BOUND:
            owner.make_folder(folders.bound(name), 0o1777 if name == "tmp" else 0o755)
        owner.make_folder(folders.bound("home") / "daytona", 0o755)
        _make_layers(folders, template, owner, overlay=overlay)
    except OSError:
        remove_tree(base)
        raise
    return folders


def kept_parts(*, overlay: bool) -> tuple[str, ...]:
    """The folders of a sandbox that hold what it wrote; the rest is made anew at each start."""
    return ("data", "up") if overlay else ("data", "copy")


def copy_kept(source: Path, target: Path, owner: Owner, budget: Budget, *, overlay: bool) -> None:
    """Copy what a sandbox (or a snapshot) wrote to the new folder `target`.

    Leaves nothing behind when it raises.
    """
    try:
        owner.make_folder(target)
        for part in kept_parts(overlay=overlay):
            TreeCopy(target / part, owner, budget, layer=part == "up").run(source / part)
    except BaseException:
        remove_tree(target)
        raise


def add_work_folders(base: Path, owner: Owner) -> None:
    """What overlayfs needs beside the copied layers."""
    owner.make_folder(base / "work")
    for name in (TOP, *LAYERED):
        owner.make_folder(SandboxFolders(base).layer(name, "work"), 0o755)


def _make_layers(folders: SandboxFolders, template: Path, owner: Owner, *, overlay: bool) -> None:
    if not overlay:
        owner.make_folder(folders.base / "copy")
        for name in LAYERED:
            shutil.copytree(template / name, folders.layer(name, "copy"), symlinks=True)
            give_tree(folders.layer(name, "copy"), owner)
        return
    for part in ("up", "work"):
        owner.make_folder(folders.base / part)
        for name in (TOP, *LAYERED):
            owner.make_folder(folders.layer(name, part), 0o755)


def remove(path: Path) -> None:
    """Delete a file, a link or a tree that hostile code wrote."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        remove_tree(path)


def remove_tree(top: Path) -> None:
    """Delete a tree that hostile code wrote.

    No symlink is followed, no depth overflows the stack, no mode stops it: every folder found is
    first moved up to be a direct child of `top`, so nothing is ever more than two levels deep.
    """
    if top.is_symlink() or not os.path.lexists(top):
        return
    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _empty_folder(root, root)
        while folders := os.listdir(root):
            for name in folders:
                _remove_child(root, name)
    finally:
        os.close(root)
    os.rmdir(top)


def _remove_child(root: int, name: str) -> None:
    os.chmod(name, 0o700, dir_fd=root)
    child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    try:
        _empty_folder(child, root)
    finally:
        os.close(child)
    os.rmdir(name, dir_fd=root)


def _empty_folder(folder: int, root: int) -> None:
    """Unlink the files of `folder` and move its folders to `root` under fresh names."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
        elif folder != root:
            os.chmod(name, 0o700, dir_fd=folder)
            os.rename(name, f".removing-{uuid.uuid4().hex}", src_dir_fd=folder, dst_dir_fd=root)
