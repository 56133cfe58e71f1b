"""Bind an interpreter under root's closed home into reach, drop root, and start bubblewrap.

Usage: hidden_python.py UID PREFIX PLACE COMMAND...

Run by a root server that has no other interpreter. The mount lives in a mount namespace of its own
and ends with the sandbox.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18


def check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def bind(prefix: str, place: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    check(libc.unshare(CLONE_NEWNS), "unshare")
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "make mounts private")
    mounted = libc.mount(prefix.encode(), place.encode(), None, MS_BIND | MS_REC, None)
    check(mounted, f"bind {prefix}")


def main(argv: Sequence[str] | None = None) -> int:
    uid, prefix, place, *command = sys.argv[1:] if argv is None else argv
    bind(prefix, place)
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    os.execv(command[0], command)


if __name__ == "__main__":
    raise SystemExit(main())
