"""Where bubblewrap may not isolate: which case it is, and the one line that opens it.

By its own words, and by what this machine says of itself (PROTOCOL.md, "Where namespaces are
missing"). There is no weaker mode.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

CLOUD = "or use Daytona's cloud (export DAYTONA_API_KEY=...)"
OTHER_MACHINE = f"use a Linux machine with user namespaces, {CLOUD}"
# Docker's defaults forbid namespaces by seccomp, mounts by AppArmor, and hide parts of /proc.
CONTAINER_FLAGS = (
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    " --security-opt systempaths=unconfined"
)
FOR_PROC = f"docker run --security-opt systempaths=unconfined (podman: unmask=ALL), {CLOUD}"
OPEN_CONTAINER = f"docker run {CONTAINER_FLAGS}, {CLOUD}"
MORE_NAMESPACES = "sudo sysctl -w user.max_user_namespaces=10000"
FOR_EVERYBODY = "sudo sysctl -w kernel.unprivileged_userns_clone=1"
CLONE_SWITCH = Path("/proc/sys/kernel/unprivileged_userns_clone")  # of Debian's and Arch's kernels
PROFILE = "daytona-sandbox-bwrap"
PROFILE_TEXT = (
    r"abi <abi/4.0>,\ninclude <tunables/global>\nprofile "
    + PROFILE
    + r' "%s" flags=(unconfined) { userns, }\n'
)


def explain(said: str, bwrap: Path) -> str:
    """What to type, from what bubblewrap said."""
    return next((fix(bwrap) for words, fix in REMEDIES if words in said), OTHER_MACHINE)


def apparmor_profile(bwrap: Path) -> str:
    """The profile that lets this one program make user namespaces, as Ubuntu ships for others."""
    file = f"/etc/apparmor.d/{PROFILE}"
    return (
        f"printf {shlex.quote(PROFILE_TEXT)} {shlex.quote(str(bwrap))} | sudo tee {file}"
        f" && sudo apparmor_parser -r {file}"
    )


def without_namespaces(_bwrap: Path) -> str:
    """A container's filter, or a kernel that keeps them for root."""
    try:
        is_off = CLONE_SWITCH.read_text().strip() == "0"
    except OSError:
        is_off = False
    return FOR_EVERYBODY if is_off else OPEN_CONTAINER


def always(fix: str) -> Callable[[Path], str]:
    return lambda _bwrap: fix


# The first words that stand in what it said decide.
REMEDIES: tuple[tuple[str, Callable[[Path], str]], ...] = (
    ("setting up uid map", apparmor_profile),
    ("Failed RTM_NEWADDR", apparmor_profile),
    ("nesting depth or", always(MORE_NAMESPACES)),
    ("No permissions to creat", without_namespaces),
    ("mount proc", always(FOR_PROC)),
    ("Operation not permitted", always(OPEN_CONTAINER)),
)
