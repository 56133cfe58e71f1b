"""What a sandbox has in /etc: which of this host's files, copied, and which that are its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

HOME = "/home/daytona"
# An allow list: host configuration that programs need, nothing that can hold a secret. Only what
# everyone may read is copied.
ETC_ALLOWED = tuple(
    """
        alternatives bash.bashrc ca-certificates ca-certificates.conf chromium.d/default-flags
        chromium.d/dev-shm debian_version
        fonts gai.conf host.conf inputrc issue ld.so.cache ld.so.conf ld.so.conf.d
        locale.alias locale.conf lsb-release magic mime.types networks nsswitch.conf
        os-release pki profile profile.d protocols python3 python3.10 python3.11
        python3.12 python3.13 python3.14 rpc security/limits.conf services shells skel
        ssl/certs ssl/openssl.cnf terminfo xattr.conf
    """.split()
)
PASSWD = (
    f"daytona:x:0:0:daytona:{HOME}:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
GROUP = "daytona:x:0:\nnogroup:x:65534:\n"
HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
# isolation.namespace listens there where it may; elsewhere nobody does: lookups fail at once.
RESOLVER = "nameserver 127.0.0.53\n"
# Where links into /etc are looked for, how deep, and in which folders nobody has any.
LINKING = {"/usr/lib": 4, "/usr/lib/jvm": 6, "/usr/share": 4, "/usr/local": 4}
WITHOUT_LINKS = frozenset(
    """
        man doc locale zoneinfo icons i18n info help licenses terminfo modules firmware
        node_modules site-packages dist-packages
    """.split()
)
WITH_PASSWORDS = ("environment", "private")
PASSWORD = re.compile(rb"<(password|passphrase)>\s*[^<\s]|://[^/\s:@]+:[^/\s:@]+@")
ETC_WRITTEN = {
    "passwd": PASSWD,
    "group": GROUP,
    "hosts": HOSTS,
    "machine-id": "",
    "resolv.conf": RESOLVER,
}


def fill_etc(etc: Path) -> None:
    """The read-only starting point of a sandbox's /etc."""
    for name in ETC_ALLOWED:
        copy_readable(Path("/etc") / name, etc / name)
    for name, text in ETC_WRITTEN.items():
        (etc / name).write_text(text)
        (etc / name).chmod(0o644)
    add_linked_settings(etc)


def add_linked_settings(etc: Path) -> None:
    """What /usr links to in /etc, such as Java's and Maven's settings: programs fail without it.

    Only what everybody may read, and without passwords.
    """
    for folder, depth in LINKING.items():
        for target in linked_into_etc(Path(folder), depth):
            place = etc / target.relative_to("/etc")
            if not os.path.lexists(place) and target.name not in WITH_PASSWORDS:
                with contextlib.suppress(OSError):
                    copy_readable(target, place, holds_password)


def linked_into_etc(folder: Path, depth: int) -> Iterator[Path]:
    """Targets of links below `folder`, in /etc."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink():
            target = Path(os.path.normpath(folder / os.readlink(entry.path)))
            if Path("/etc") in target.parents:
                yield target
        elif depth and entry.name not in WITHOUT_LINKS and entry.is_dir(follow_symlinks=False):
            yield from linked_into_etc(Path(entry.path), depth - 1)


def holds_password(path: Path) -> bool:
    """Maven's settings may, and addresses of proxies; what an XML comment shows is an example."""
    text = re.sub(rb"<!--.*?-->", b"", path.read_bytes(), flags=re.DOTALL)
    return PASSWORD.search(text) is not None


def copy_readable(
    source: Path, target: Path, unless: Callable[[Path], bool] = lambda _: False
) -> None:
    """Copy what everyone may read below `source`; symlinks stay, anything special is left out."""
    status = source.lstat() if os.path.lexists(source) else None
    if status is None:
        return
    if stat.S_ISLNK(status.st_mode):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.readlink(source))
    elif stat.S_ISDIR(status.st_mode) and status.st_mode & 0o005 == 0o005:
        target.mkdir(parents=True, exist_ok=True, mode=0o755)
        for entry in source.iterdir():
            copy_readable(entry, target / entry.name, unless)
    elif stat.S_ISREG(status.st_mode) and status.st_mode & 0o004 and not unless(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if status.st_mode & 0o001 else 0o644)
