"""The bubblewrap command line of a sandbox, and the environment that its processes start from."""

from __future__ import annotations

import functools
import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .certificates import CA_BUNDLE, CERTIFICATE_VARIABLES, has_certificates
from .cgroups import Groups
from .helper import PROXY, Helper
from .host import Owner
from .host_etc import HOME
from .installation import PYTHON_INSIDE, Bwrap, Python
from .limits import RUN_FOLDER, SHARED_MEMORY
from .rootfs import BOUND, EXTRA, LAYERED, LINKS, OWN_PROGRAMS, TOP, SandboxFolders
from .volume_mounts import Mount, top_of

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AGENT_INSIDE = "/run/agent"
NAMESPACES = tuple(
    "--unshare-user --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup-try"
    " --unshare-net --uid 0 --gid 0".split()
)
# Held by pid 1 until it has limited what all users of the host's uid share, never by what it
# starts: isolation.agent.privileges.
OWN_LIMITS = ("--cap-add", "CAP_SYS_RESOURCE", "--cap-add", "CAP_SETPCAP")
# Of pid 1's interpreter: nothing from the environment, no site packages, no bytecode written.
ISOLATED = ("-I", "-S", "-B")
PROXY_URL = f"http://{PROXY[0]}:{PROXY[1]}"
OWN_HOSTS = "localhost,127.0.0.1,::1"
PROXIES = {
    "http_proxy": PROXY_URL,
    "https_proxy": PROXY_URL,
    "all_proxy": PROXY_URL,
    "no_proxy": OWN_HOSTS,
    "HTTP_PROXY": PROXY_URL,
    "HTTPS_PROXY": PROXY_URL,
    "ALL_PROXY": PROXY_URL,
    "NO_PROXY": OWN_HOSTS,
    "NODE_USE_ENV_PROXY": "1",
}
# Whoever brings certificates of its own (pip, node) is told to use the host's.
CERTIFICATES = dict.fromkeys(CERTIFICATE_VARIABLES, f"/{CA_BUNDLE}")


@dataclass(frozen=True)
class Host:
    """What all sandboxes of this server share."""

    owner: Owner
    bwrap: Bwrap
    python: Python
    agent: Path
    programs: Path
    replaced: tuple[str, ...]  # of the programs, those that the host has in /usr/bin
    template: Path
    python_place: Path  # where a hidden interpreter is bound, when there is one
    overlay: bool
    helper: Helper
    groups: Groups | None = None
    # Whether pid 1 can set limits for its user namespace before it gives its capabilities up.
    inotify_limits: bool = True


def bwrap_command(
    host: Host,
    folders: SandboxFolders,
    *,
    name: str,
    control: int,
    seccomp: int,
    info: int,
    block: int,
    volumes: Sequence[tuple[Mount, int | None]] = (),
) -> list[str]:
    """The whole command.

    `control`, `seccomp`, `info`, `block` and a volume's opened part are descriptors that the child
    inherits. It waits for `block` before its first exec.
    """
    command = [*_drop_root(host), str(host.bwrap.path)]
    command += [*NAMESPACES, "--hostname", name]
    command += ["--clearenv", "--setenv", "PATH", PATH, *_libraries(host)]
    command += ["--cap-drop", "ALL", *(OWN_LIMITS if host.inotify_limits else ())]
    command += ["--disable-userns"]
    command += [*_top(host, folders), *_system(host), *_storage(host, folders)]
    command += [*_kernel_views(host), *_programs(host), *_volumes(volumes)]
    command += [] if host.overlay else ["--remount-ro", "/"]
    command += ["--new-session", "--as-pid-1", "--chdir", "/"]
    command += ["--seccomp", str(seccomp), "--info-fd", str(info), "--block-fd", str(block)]
    return [*command, "--", host.python.path, *ISOLATED, AGENT_INSIDE, str(control)]


def _drop_root(host: Host) -> list[str]:
    """What a root server starts before bubblewrap to reach an interpreter that its owner cannot."""
    if not host.python.hidden:
        return []
    helper = Path(__file__).with_name("hidden_python.py")
    prefix, place = str(host.python.prefix), str(host.python_place)
    return [sys.executable, "-I", str(helper), str(host.owner.uid), prefix, place]


def _libraries(host: Host) -> list[str]:
    """Where pid 1 finds its libraries before /etc/ld.so.cache is read, which is the sandbox's own.

    What it starts gets an environment from the server.
    """
    own = [f"{PYTHON_INSIDE}/lib"] if host.python.prefix else []
    return ["--setenv", "LD_LIBRARY_PATH", ":".join([*own, *system_libraries()])]


@functools.cache
def system_libraries() -> tuple[str, ...]:
    """This host's folders of libraries, which sandboxes see read-only."""
    several = sorted(glob.glob("/usr/lib/*-linux-*"))
    return tuple(path for path in (*several, "/usr/lib64", "/usr/lib") if os.path.isdir(path))


def _top(host: Host, folders: SandboxFolders) -> list[str]:
    """The root: the sandbox may make folders there, where overlays work."""
    return _overlay(host, folders, TOP, "/") if host.overlay else []


def _overlay(host: Host, folders: SandboxFolders, name: str, point: str) -> list[str]:
    up, work = str(folders.layer(name, "up")), str(folders.layer(name, "work"))
    return ["--overlay-src", str(host.template / name), "--overlay", up, work, point]


def _system(host: Host) -> list[str]:
    """/usr and the links into it, read-only, and what the host has of real /bin or /lib folders."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in LINKS:
        path = Path("/") / name
        if path.is_symlink():
            arguments += [] if host.overlay else ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    if host.python.prefix:
        source = host.python_place if host.python.hidden else host.python.prefix
        arguments += ["--ro-bind", str(source), PYTHON_INSIDE]
    return arguments


def _storage(host: Host, folders: SandboxFolders) -> list[str]:
    arguments = []
    for name in BOUND:
        arguments += ["--bind", str(folders.bound(name)), f"/{name}"]
    for name in LAYERED:
        if host.overlay:
            arguments += _overlay(host, folders, name, f"/{name}")
        else:
            arguments += ["--bind", str(folders.layer(name, "copy")), f"/{name}"]
    return arguments


def _volumes(volumes: Sequence[tuple[Mount, int | None]]) -> list[str]:
    """A whole volume by its path, which only the server names; a part of one by descriptor.

    Sandboxes wrote the way to a part.
    """
    below = {"/" + top_of(mount) for mount, _ in volumes if mount.point.count("/") > 1}
    arguments = [word for top in below for word in ("--tmpfs", top)]
    for mount, fd in volumes:
        source = ["--bind", str(mount.volume)] if fd is None else ["--bind-fd", str(fd)]
        arguments += [*source, mount.point]
    return [*arguments, *(word for top in below for word in ("--remount-ro", top))]


def _kernel_views(host: Host) -> list[str]:
    """/proc, /dev and /run, with the agent in it."""
    arguments = ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--size", str(SHARED_MEMORY), "--perms", "1777", "--tmpfs", "/dev/shm"]
    arguments += ["--remount-ro", "/dev"]
    arguments += ["--size", str(RUN_FOLDER), "--perms", "0755", "--tmpfs", "/run"]
    arguments += ["--ro-bind", str(host.agent), AGENT_INSIDE]
    return arguments


def _programs(host: Host) -> list[str]:
    """Ours, in the place of those of the host's that need its other users or a /usr of one's own.

    Where the host has none, last on the PATH.
    """
    arguments = ["--ro-bind", str(host.programs), EXTRA]
    for name in host.replaced:
        arguments += ["--ro-bind", str(host.programs / name), f"/usr/bin/{name}"]
    return arguments


def base_environment(host: Host, *, sandbox_id: str) -> dict[str, str]:
    """What every process of a sandbox sees; nothing of it is the host's.

    The sandbox's and the request's own variables are laid over it.
    """
    path = f"{OWN_PROGRAMS}:{PATH}"
    environment = {
        "HOME": HOME,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "PATH": f"{path}:{PYTHON_INSIDE}/bin:{EXTRA}" if host.python.prefix else f"{path}:{EXTRA}",
        "DAYTONA_SANDBOX_ID": sandbox_id,
        "DAYTONA_SANDBOX_USER": "daytona",
        # /usr is read-only: pip falls back to ~/.local, if it may.
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_ROOT_USER_ACTION": "ignore",  # uid 0 is the sandbox's only user
        "NPM_CONFIG_PREFIX": f"{HOME}/.local",
        # The one user is uid 0, for whom tar would restore owners that do not exist here.
        "TAR_OPTIONS": "--no-same-owner",
        **PROXIES,
        **(CERTIFICATES if has_certificates(host.template) else {}),
    }
    if host.python.prefix:
        environment["LD_LIBRARY_PATH"] = f"{PYTHON_INSIDE}/lib"
    return environment
