"""Where sandboxes cannot be isolated: each case is told apart, with the line that opens it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_daytona.errors import EngineUnavailable
from local_daytona.isolation import host
from local_daytona.isolation import host_refusals as refusals
from local_daytona.isolation.host import Owner
from tests.local_server import ORDINARY_UID, SCRIPTS, new_state_dir

STATUS = """
import sys
sys.path[:0] = sys.argv[1:3]
from local_daytona.commands import main
raise SystemExit(main(["status", "--state-dir", sys.argv[3]]))
"""


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("bwrap: setting up uid map: Permission denied", "/etc/apparmor.d/daytona-sandbox-bwrap"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "apparmor_parser -r"),
        ("Creating new namespace failed: nesting depth or /proc/sys/user/max_*", "max_user_names"),
        (
            "bwrap: No permissions to creating new namespace, likely",
            "docker run --security-opt sec",
        ),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "systempaths=unconf"),
        ("bwrap: Creating new namespace failed: Operation not permitted", "apparmor=unconfined"),
        ("bwrap: something new", "a Linux machine with user namespaces"),
    ],
)
def test_what_bubblewrap_says_leads_to_the_line_that_opens_it(said: str, fix: str) -> None:
    """Sysctl, profile or flag of the container, to be typed as it stands."""
    assert fix in refusals.explain(said, Path("/opt/a b/bwrap"))


def test_the_apparmor_profile_is_for_the_program_that_was_tried() -> None:
    """A shell makes the very profile of it, also where its path has blanks."""
    line = refusals.apparmor_profile(Path("/opt/a b/bwrap")).partition(" | ")[0]
    made = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout

    assert made.splitlines()[2] == (
        'profile daytona-sandbox-bwrap "/opt/a b/bwrap" flags=(unconfined) { userns, }'
    )
    assert shlex.split(line)[2] == "/opt/a b/bwrap"


def test_a_kernel_that_keeps_namespaces_for_root_is_no_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's switch has a sysctl of its own."""
    (tmp_path / "switch").write_text("0\n")
    monkeypatch.setattr(refusals, "CLONE_SWITCH", tmp_path / "switch")

    assert refusals.explain("No permissions to creating", Path("/x")) == refusals.FOR_EVERYBODY


def test_the_machines_root_alone_in_a_namespace_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other user to run bubblewrap as; a user's own root is an ordinary user."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host, "is_mapped", lambda _uid: False)
    monkeypatch.setattr(host, "is_the_machines_root", lambda: True)
    with pytest.raises(EngineUnavailable) as caught:
        Owner.of_this_server()
    monkeypatch.setattr(host, "is_the_machines_root", lambda: False)

    assert "outside this namespace" in caught.value.fix
    assert Owner.of_this_server() == Owner(uid=0, gid=0, dropped=False)


def status_of_an_ordinary_user(wrapped: Callable[[str], str]) -> dict[str, Any]:
    """What `status` says of the engine, by a shell's line that `wrapped` makes of that command."""
    state = new_state_dir()
    state.mkdir(mode=0o700)
    python = sys.executable
    if os.geteuid() == 0:
        os.chown(state, ORDINARY_UID, ORDINARY_UID)
        python = "/usr/bin/python3"  # root's own may be out of reach
    packages = str(Path(pytest.__file__).parents[1])
    status = shlex.join([python, "-c", STATUS, str(SCRIPTS), packages, str(state)])
    done = subprocess.run(
        ["sh", "-c", wrapped(status)],
        capture_output=True,
        text=True,
        cwd="/",
        env={"HOME": str(state), "PATH": os.environ["PATH"]},
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["engine"]
    return found


AS_ORDINARY = (
    f"setpriv --reuid {ORDINARY_UID} --regid {ORDINARY_UID} --clear-groups"
    if os.geteuid() == 0
    else ""
)
OWN_NAMESPACE = f"{AS_ORDINARY} unshare --user --map-root-user"
needs_unshare = pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare here")


@needs_unshare
@pytest.mark.usefixtures("isolating")
def test_without_user_namespaces_the_sysctl_is_named() -> None:
    """As in a namespace that may have none below it."""
    none_below = "echo 0 > /proc/sys/user/max_user_namespaces; "
    found = status_of_an_ordinary_user(
        lambda status: f"{OWN_NAMESPACE} sh -c {shlex.quote(none_below + status)}"
    )

    assert found["fix"] == refusals.MORE_NAMESPACES


@needs_unshare
@pytest.mark.usefixtures("isolating")
def test_root_of_a_users_own_namespace_has_sandboxes() -> None:
    """That is how rootless containers run."""
    found = status_of_an_ordinary_user(lambda status: f"{OWN_NAMESPACE} {status}")

    assert "bwrap" in found


@needs_unshare
@pytest.mark.usefixtures("isolating")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root hides parts of /proc")
def test_hidden_parts_of_proc_lead_to_the_flag_that_shows_them() -> None:
    """Docker hides some; the kernel then refuses a new /proc below."""
    hidden = "mount -t tmpfs none /proc/tty; "
    found = status_of_an_ordinary_user(
        lambda status: f"unshare --mount sh -c {shlex.quote(f'{hidden}{AS_ORDINARY} {status}')}"
    )

    assert found["fix"] == refusals.FOR_PROC
