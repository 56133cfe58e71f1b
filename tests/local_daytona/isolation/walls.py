"""Attacks on the host, each with the bubblewrap options that stop it; without them it succeeds.

A probe is Python that prints `got` when it reached the host, with {file}, {port}, {name}, {pid} of
things that a test made there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local_daytona.isolation.host import Owner
from local_daytona.isolation.installation import find_bwraps
from local_daytona.isolation.seccomp import program

SYSTEM_PYTHON = "/usr/bin/python3"
VARIABLE = "DAYTONA_WALL_PROBE"


@dataclass(frozen=True)
class Attack:
    """One probe, which of WALLS must be off for it, and whether bubblewrap must be root's."""

    name: str
    code: str
    off: str
    as_root: bool = False


WALLS: dict[str, list[str]] = {
    "own root": """
        --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 /lib64 --symlink
        usr/bin /bin --tmpfs /tmp
    """.split(),
    "own network": ["--unshare-net"],
    "own processes": ["--unshare-pid"],
    "no capabilities": ["--cap-drop", "ALL"],
    "no nested namespaces": ["--disable-userns"],
    "empty environment": ["--clearenv"],
    "filter": [],  # --seccomp FD
    "not root": [],  # bubblewrap run by a spare uid
    "no descriptors": [],  # pass_fds
}
# Bubblewrap itself gives capabilities up unless told not to; in a nested namespace they would be
# worth nothing.
OFF = {"own root": ["--ro-bind", "/", "/"], "no capabilities": ["--cap-add", "ALL"]}
LIBC = "import ctypes, os, socket\nc = ctypes.CDLL(None, use_errno=True)\n"

ATTACKS = (
    Attack("read a file of the host", "print(open({file!r}).read())", "own root"),
    Attack(
        "reach a server on the host's loopback",
        "import socket\nsocket.create_connection(('127.0.0.1', {port}), 3); print('got')",
        "own network",
    ),
    Attack(
        "reach an abstract socket",
        "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0' + {name!r}); print('got')",
        "own network",
    ),
    Attack(
        "signal a process of the host",
        "import os\nos.kill({pid}, 0); print('got')",
        "own processes",
    ),
    Attack(
        "mount",
        LIBC + "assert c.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0; print('got')",
        "no capabilities",
    ),
    Attack(
        "make a user namespace",
        LIBC + "assert c.unshare(0x10000000) == 0; print('got')",
        "no nested namespaces",
    ),
    Attack(
        "read the environment",
        f"import os\nassert os.environ['{VARIABLE}']; print('got')",
        "empty environment",
    ),
    Attack(
        "use the kernel's keyring",
        LIBC + "assert c.syscall(250, 0, -3, 1) != -1; print('got')",
        "filter",
    ),
    Attack(
        "set up io_uring",
        LIBC + "assert c.syscall(425, 1, ctypes.create_string_buffer(256)) != -1; print('got')",
        "filter",
    ),
    Attack(
        "open an exotic socket",
        "import socket\nsocket.socket(40, socket.SOCK_STREAM); print('got')",
        "filter",
    ),
    Attack(
        "take memory that no process has",
        LIBC + "assert c.shmget(0, ctypes.c_size_t(4096), 0o1600) != -1; print('got')",
        "filter",
    ),
    Attack(
        "type into a terminal",
        (
            "import fcntl, os, termios\n"
            "m, s = os.openpty()\n"
            "os.setsid()\n"
            "fcntl.ioctl(s, termios.TIOCSCTTY, 0)\n"
            "fcntl.ioctl(s, termios.TIOCSTI, b'x'); print('got')"
        ),
        "filter",
    ),
    Attack(
        "write how the host's kernel handles crashes",
        "import os\nos.close(os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY)); print('got')",
        "not root",
        as_root=True,
    ),
    Attack(
        "use a descriptor of the server's",
        (
            "import os\n"
            "assert [n for n in range(3, 200) if os.path.exists(f'/proc/self/fd/{{n}}') and "
            "os.path.isfile(f'/proc/self/fd/{{n}}')]; print('got')"
        ),
        "no descriptors",
    ),
)


@contextlib.contextmanager
def host_side(folder: Path) -> Iterator[dict[str, object]]:
    """Host things out of a sandbox's reach: a file, a loopback and an abstract socket, a process.

    The process has the sandbox's own uid.
    """
    owner = Owner.of_this_server()
    secret = folder / "secret"
    secret.write_text("got\n")
    secret.chmod(0o644)
    name = f"daytona-wall-{os.getpid()}"
    command = ["sleep", "600"]
    process = subprocess.Popen(command, **owner.popen_options())  # type: ignore[call-overload]
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind("\0" + name)
        abstract.listen()
        try:
            yield {
                "folder": folder,
                "file": str(secret),
                "port": server.getsockname()[1],
                "name": name,
                "pid": process.pid,
            }
        finally:
            process.kill()
            process.wait()


def with_a_wall_off(attack: Attack, installed: Path, code: str) -> str:
    """Run a probe under bubblewrap with all of WALLS but one; what it printed, or its error."""
    owner = Owner.of_this_server()
    bwrap = find_bwraps(installed, owner)[0].path
    words = [
        str(bwrap),
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-uts",
        "--uid",
        "0",
        "--gid",
        "0",
    ]
    for name, options in WALLS.items():
        if name == attack.off:
            words += OFF.get(name, [])
        elif not (name == "no nested namespaces" and attack.off == "no capabilities"):
            words += options
    filter_r, filter_w = os.pipe()
    os.write(filter_w, program())
    os.close(filter_w)
    leaked = os.open(SYSTEM_PYTHON, os.O_RDONLY)
    if attack.off not in ("filter", "no capabilities", "no nested namespaces"):
        words += ["--seccomp", str(filter_r)]
    words += [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--new-session",
        "--",
        SYSTEM_PYTHON,
        "-I",
        "-c",
        code,
    ]
    identity = {} if attack.as_root else owner.popen_options()
    descriptors = (filter_r, leaked) if attack.off == "no descriptors" else (filter_r,)
    try:
        done = subprocess.run(
            words,
            pass_fds=descriptors,
            env={VARIABLE: "secret"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **identity,
        )  # type: ignore[call-overload]
    finally:
        os.close(filter_r)
        os.close(leaked)
    return str(done.stdout.strip() or done.stderr.strip())
