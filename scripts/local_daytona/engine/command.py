"""The bubblewrap command line of a sandbox (local-isolation, section 8), and the environment its processes start from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .certificates import CA_BUNDLE, has_certificates
from .cgroups import Groups
from .host import Owner
from .installation import PYTHON_INSIDE, Bwrap, Python
from .limits import RUN_FOLDER, SHARED_MEMORY
from .mounts import Mount
from .rootfs import BOUND, HOME, LAYERED, SandboxFolders

EXTRA = "/run/bin"  # names that Daytona's image has and this host has not; last on the PATH
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AGENT_INSIDE = "/run/agent"
# Held by pid 1 until it has limited what all users of the host's uid share, never by what it starts: engine.agent.privileges.
OWN_LIMITS = ("--cap-add", "CAP_SYS_RESOURCE", "--cap-add", "CAP_SETPCAP")
PROXY = "http://127.0.0.1:3128"  # where engine.egress.service listens
OWN_HOSTS = "localhost,127.0.0.1,::1"
PROXIES = {
    "http_proxy": PROXY,
    "https_proxy": PROXY,
    "all_proxy": PROXY,
    "no_proxy": OWN_HOSTS,
    "HTTP_PROXY": PROXY,
    "HTTPS_PROXY": PROXY,
    "ALL_PROXY": PROXY,
    "NO_PROXY": OWN_HOSTS,
    "NODE_USE_ENV_PROXY": "1",
}
# Whoever brings certificates of its own (pip, node) is told to use the host's.
CERTIFICATES = dict.fromkeys(
    (
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        "NODE_EXTRA_CA_CERTS",
        "GIT_SSL_CAINFO",
        "CURL_CA_BUNDLE",
    ),
    f"/{CA_BUNDLE}",
)


@dataclass(frozen=True)
class Host:
    """What all sandboxes of this server share."""

    owner: Owner
    bwrap: Bwrap
    python: Python
    agent: Path
    template: Path
    python_place: Path  # where a hidden interpreter is bound, when there is one
    overlay: bool
    groups: Groups | None = None
    inotify_limits: bool = True  # whether pid 1 can set limits for its user namespace before it gives its capabilities up


def bwrap_command(
    host: Host,
    folders: SandboxFolders,
    *,
    name: str,
    control: int,
    seccomp: int,
    info: int,
    volumes: Sequence[tuple[Mount, int | None]] = (),
) -> list[str]:
    """The whole command; `control`, `seccomp`, `info` and a volume's opened part are descriptors that the child inherits."""
    return [
        *_drop_root(host),
        str(host.bwrap.path),
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--unshare-net",
        "--uid",
        "0",
        "--gid",
        "0",
        "--hostname",
        name,
        "--clearenv",
        "--setenv",
        "PATH",
        PATH,
        *(["--setenv", "LD_LIBRARY_PATH", f"{PYTHON_INSIDE}/lib"] if host.python.prefix else []),
        "--cap-drop",
        "ALL",
        *(OWN_LIMITS if host.inotify_limits else ()),
        "--disable-userns",
        *_system(host),
        *_storage(host, folders),
        *_kernel_views(host),
        *_volumes(volumes),
        "--remount-ro",
        "/",
        "--new-session",
        "--as-pid-1",
        "--chdir",
        "/",
        "--seccomp",
        str(seccomp),
        "--info-fd",
        str(info),
        "--",
        host.python.path,
        "-I",
        "-S",
        "-B",
        AGENT_INSIDE,
        str(control),
    ]


def _drop_root(host: Host) -> list[str]:
    if not host.python.hidden:
        return []
    helper = Path(__file__).with_name("hidden_python.py")
    return [
        sys.executable,
        "-I",
        str(helper),
        str(host.owner.uid),
        str(host.python.prefix),
        str(host.python_place),
    ]


def _system(host: Host) -> list[str]:
    """/usr and the links into it, read-only; a host with real /bin or /lib folders gets those bound too."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/") / name
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
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
            arguments += ["--overlay-src", str(host.template / name)]
            arguments += [
                "--overlay",
                str(folders.layer(name, "up")),
                str(folders.layer(name, "work")),
                f"/{name}",
            ]
        else:
            arguments += ["--bind", str(folders.layer(name, "copy")), f"/{name}"]
    return arguments


def _volumes(volumes: Sequence[tuple[Mount, int | None]]) -> list[str]:
    """A whole volume by its path, which only the server names; a part of one by descriptor, since sandboxes wrote the way to it."""
    arguments = []
    for mount, fd in volumes:
        arguments += (
            ["--bind", str(mount.volume), mount.point]
            if fd is None
            else ["--bind-fd", str(fd), mount.point]
        )
    return arguments


def _kernel_views(host: Host) -> list[str]:
    return [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--size",
        str(SHARED_MEMORY),
        "--perms",
        "1777",
        "--tmpfs",
        "/dev/shm",
        "--remount-ro",
        "/dev",
        "--size",
        str(RUN_FOLDER),
        "--perms",
        "0755",
        "--tmpfs",
        "/run",
        "--ro-bind",
        str(host.agent),
        AGENT_INSIDE,
        "--dir",
        EXTRA,
        "--symlink",
        host.python.path,
        f"{EXTRA}/python",
    ]


def base_environment(host: Host, *, sandbox_id: str) -> dict[str, str]:
    """What every process of a sandbox sees before the sandbox's and the request's own variables; nothing of the host's."""
    path = f"{HOME}/.local/bin:{PATH}"
    environment = {
        "HOME": HOME,
        "USER": "daytona",
        "LOGNAME": "daytona",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "PATH": f"{path}:{PYTHON_INSIDE}/bin:{EXTRA}" if host.python.prefix else f"{path}:{EXTRA}",
        "DAYTONA_SANDBOX_ID": sandbox_id,
        "PIP_BREAK_SYSTEM_PACKAGES": "1",  # /usr is read-only: pip falls back to ~/.local, if it may
        "PIP_ROOT_USER_ACTION": "ignore",  # uid 0 is the sandbox's only user
        "NPM_CONFIG_PREFIX": f"{HOME}/.local",
        "TAR_OPTIONS": "--no-same-owner",  # the one user is uid 0, for whom tar would restore owners that do not exist here
        **PROXIES,
        **(CERTIFICATES if has_certificates(host.template) else {}),
    }
    if host.python.prefix:
        environment["LD_LIBRARY_PATH"] = f"{PYTHON_INSIDE}/lib"
    return environment
