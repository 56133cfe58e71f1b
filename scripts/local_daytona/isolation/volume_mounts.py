"""Volumes in a sandbox: where they are mounted, and how the path that was asked for leads there.

A mount point never lies on storage that a sandbox wrote (CVE-2026-87766): a volume is mounted on
the fresh root file system, under the path asked for where that is there, else under /.volumes with
a symlink made inside at the path asked for.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .copying import open_folder
from .host import Owner
from .host_etc import HOME
from .rootfs import BOUND, VOLUMES

PLACE = f"/{VOLUMES}"
ALLOWED = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]{1,128}){1,16}")
# Top-level names that the sandbox's own system uses; everything else is free for mount points.
SYSTEM = tuple("bin boot dev etc lib lib32 lib64 libx32 proc python run sbin sys usr var".split())
FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,127}")
# The first bubblewrap that binds an open folder, and checks that it was not swapped meanwhile.
BIND_DESCRIPTOR = (0, 10)


@dataclass(frozen=True)
class Mount:
    """One volume of one sandbox.

    The folder of its storage, the part of it that is shown ("" for all), the mount point, and the
    path that is a link to it, if any.
    """

    volume: Path
    subpath: str
    point: str
    link: str | None = None


def place_of(path: str, volume_id: str, subpath: str) -> tuple[str, str | None]:
    """The mount point for a wanted path, and the link that is needed.

    Raises ValueError with the allowed form.
    """
    path = path.rstrip("/")
    top = path.split("/")[1] if path.startswith("/") else ""
    taken = top in SYSTEM or top.startswith(".") or path == HOME or path.strip("/") in BOUND
    if taken or not ALLOWED.fullmatch(path):
        allowed = ", ".join(f"/{name}/NAME" for name in BOUND if name != "home")
        raise ValueError(
            f"mountPath must be like /home/daytona/NAME, {allowed}"
            " or a new folder such as /data, of [A-Za-z0-9._-]"
        )
    if top in BOUND:
        part = ":" + subpath.replace("/", ":") if subpath else ""
        return f"{PLACE}/{volume_id}{part}", path
    return path, None


def top_of(mount: Mount) -> str:
    """The folder of the root that holds a mount point, or is it."""
    return mount.point.split("/")[1]


def checked_subpath(subpath: str) -> str:
    """A relative path of plain names; raises ValueError."""
    subpath = subpath.strip("/")
    if subpath and not all(FOLDER.fullmatch(name) for name in subpath.split("/")):
        raise ValueError("subpath must be folder names of [A-Za-z0-9._ -] joined by /")
    return subpath


def open_source(mount: Mount, owner: Owner) -> int:
    """A descriptor of the folder to mount, made if need be; raises OSError for a link in the way.

    By descriptors, since sandboxes write there.
    """
    fd = open_folder(str(mount.volume), None)
    for name in mount.subpath.split("/"):
        try:
            below = open_or_make(fd, name, owner)
        finally:
            os.close(fd)
        fd = below
    return fd


def open_or_make(beside: int, name: str, owner: Owner) -> int:
    try:
        os.mkdir(name, 0o755, dir_fd=beside)
    except FileExistsError:
        return open_folder(name, beside)
    fd = open_folder(name, beside)
    if owner.dropped:
        os.chown(fd, owner.uid, owner.gid)
    return fd


# Run inside: a link or an empty folder at the path gives way; anything else stays, and the mount is
# refused.
LINK_SCRIPT = """
mkdir -p "$(dirname "$2")" || exit 1
if [ -L "$2" ]; then rm "$2" || exit 1; elif [ -d "$2" ]; then rmdir "$2" || exit 1; fi
[ ! -e "$2" ] && ln -s "$1" "$2"
"""
