"""What the agent gives up before it starts anything: capabilities, dumpability, new privileges."""

from __future__ import annotations

import ctypes

PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522
LAST_POSSIBLE_CAPABILITY = 63
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# The kernel counts them by the host's user as well, of whom each sandbox gets a part (by default
# 128 instances, so 8).
INSTANCES = "/proc/sys/fs/inotify/max_user_instances"
LEAST_INSTANCES, PARTS = 8, 16
WATCHES = 16384


class NotConfined(RuntimeError):
    """The kernel did not confine this process as asked; nothing may run in it."""


def limit_namespace() -> None:
    """Bound what the kernel counts by the host's user, who has other sandboxes.

    Only where this process may still do so.
    """
    limits = (("max_inotify_instances", instances()), ("max_inotify_watches", WATCHES))
    for name, most in limits:
        try:
            with open("/proc/sys/user/" + name, "w") as limit:
                limit.write(str(most))
        except OSError:
            pass


def instances() -> int:
    try:
        with open(INSTANCES) as limit:
            return max(LEAST_INSTANCES, int(limit.read()) // PARTS)
    except (OSError, ValueError):
        return LEAST_INSTANCES


def drop_everything() -> None:
    """Drop every capability and verify that the kernel agrees; raises NotConfined."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(LAST_POSSIBLE_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    empty = (ctypes.c_uint32 * 6)()
    libc.capset(header, empty)
    verify()


def verify() -> None:
    """Read back from the kernel that this process holds nothing and is filtered.

    Raises NotConfined.
    """
    status = {}
    with open("/proc/self/status") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            status[name] = value.strip()
    held = [name for name in CAPABILITY_SETS if int(status[name], 16)]
    if held or status["NoNewPrivs"] != "1" or status["Seccomp"] != "2":
        raise NotConfined(
            f"held {held}, no_new_privs {status['NoNewPrivs']}, seccomp {status['Seccomp']}"
        )
