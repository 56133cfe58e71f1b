"""What code in a sandbox cannot see, reach or change on the host; probes say what they found."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_daytona.isolation.bubblewrap import CERTIFICATES, PROXIES
from local_daytona.isolation.seccomp import ARCHES
from tests.local_server import (
    LocalServer,
    host_processes_of,
    new_state_dir,
    server_of,
)

from .walls import ATTACKS, Attack, host_side, with_a_wall_off


@pytest.fixture(scope="module", params=["this user", "ordinary user"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """The suite's own server for each test; where that is root's, an ordinary user's as well."""
    with server_of(request.param) as running:
        yield running


@pytest.fixture
def sandbox(server: LocalServer) -> Iterator[str]:
    """The id of a fresh sandbox on the module's server."""
    created = server.create()
    yield created["id"]
    server.request("DELETE", f"/api/sandbox/{created['id']}")


@pytest.fixture(scope="module")
def inside(server: LocalServer) -> Iterator[Any]:
    """Runs Python code in one sandbox and returns what it printed."""
    created = server.create()

    def run(code: str) -> str:
        reply = server.request(
            "POST",
            f"/toolbox/{created['id']}/process/code-run",
            body={"code": code, "language": "python"},
        )
        assert reply.status == 200, reply.body
        return str(reply.json()["result"]).strip()

    yield run
    server.request("DELETE", f"/api/sandbox/{created['id']}")


def try_to(action: str) -> str:
    """Code that prints `got` when `action` works, else the error's name."""
    body = "\n    ".join(action.splitlines())
    return (
        "import os, socket, ctypes\n"
        "try:\n"
        f"    {body}\n"
        "    print('got')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)"
    )


@pytest.mark.parametrize(
    "path",
    [
        str(Path.home()),
        "/etc/shadow",
        "/etc/sudoers",
        "/etc/ssh",
        "/boot",
        "/sys/kernel",
        "/var/lib/dpkg/status",
        "/var/run/docker.sock",
        "/run/dbus",
        "/run/systemd",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/kvm",
        "/dev/vda",
        "/dev/sda",
        "/dev/fuse",
        "/dev/net/tun",
        "/dev/loop-control",
        "/proc/kcore.real",
        "/oldroot",
    ],
)
def test_host_places_are_not_there(inside: Any, path: str) -> None:
    """Home folders, secrets, sockets and devices of the host do not exist inside."""
    listing = inside(
        f"import os; path = {path!r}; "
        "print(os.path.exists(path) and (not os.path.isdir(path) or os.listdir(path)))"
    )

    assert listing in ("False", "[]", "['.bashrc', '.profile']")


def test_a_file_of_the_hosts_tmp_is_not_visible(inside: Any, tmp_path: Path) -> None:
    """/tmp inside is the sandbox's own."""
    (tmp_path / "secret").write_text("x")

    assert inside(f"import os; print(os.path.exists({str(tmp_path / 'secret')!r}))") == "False"


def test_writes_do_not_reach_the_host(inside: Any) -> None:
    """What a program writes under familiar names stays in the sandbox."""
    name = f"daytona-isolation-{os.getpid()}"
    for folder in ("/tmp", "/home", "/root", "/opt", "/etc", "/var/tmp", "/srv"):
        assert inside(f"open('{folder}/{name}', 'w').write('x'); print('written')") == "written"
        assert not os.access(folder, os.X_OK) or not Path(folder, name).exists()


@pytest.mark.parametrize("path", ["/usr/bin/planted", "/dev/planted", "/bin/planted"])
def test_the_system_is_read_only(inside: Any, path: str) -> None:
    """The host's programs are shared, so nobody inside may change them."""
    assert inside(try_to(f"open({path!r}, 'w')")) in ("OSError", "PermissionError")


def test_only_the_sandboxs_own_processes_exist(inside: Any) -> None:
    """No host process can be seen, so none can be signalled or traced."""
    names = inside(
        "import os; pids = filter(str.isdigit, os.listdir('/proc')); "
        "print(sorted(open(f'/proc/{p}/comm').read().strip() for p in pids))"
    )

    assert names == "['python3', 'python3']"


def test_the_host_cannot_be_signalled(inside: Any) -> None:
    """Pid numbers of the host mean nothing inside."""
    assert inside(try_to(f"os.kill({os.getpid()}, 0)")) == "ProcessLookupError"


OWN_VARIABLES = """
    DAYTONA_EXEC DAYTONA_SANDBOX_ID DAYTONA_SANDBOX_SNAPSHOT DAYTONA_SANDBOX_USER HOME LANG
    LD_LIBRARY_PATH NPM_CONFIG_PREFIX TAR_OPTIONS PATH PIP_BREAK_SYSTEM_PACKAGES
    PIP_ROOT_USER_ACTION SHELL PWD SHLVL _
""".split()


def test_nothing_of_the_hosts_environment_is_inherited(inside: Any) -> None:
    """Keys in the server's environment stay there: neither programs nor pid 1 have it."""
    names = inside("import os; print(' '.join(sorted(os.environ)))").split()
    pid_1 = inside(try_to("open('/proc/1/environ').read()"))

    assert set(names) <= {*OWN_VARIABLES, *PROXIES, *CERTIFICATES}
    assert pid_1 == "PermissionError"


def test_no_capability_is_held_and_none_can_be_gained(inside: Any) -> None:
    """Every exec inherits the empty sets, no_new_privs and the filter."""
    status = inside("print(open('/proc/self/status').read())")
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    assert [values[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [
        "0" * 16
    ] * 5
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize(
    "action",
    [
        "os.unshare(0x10000000)"
        if hasattr(os, "unshare")
        else "assert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "assert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0",
        "os.chroot('/tmp')",
        "assert ctypes.CDLL(None).syscall(321, 0, 0, 0) != -1",
        "assert ctypes.CDLL(None).syscall(425, 1, 0) != -1",
        "assert ctypes.CDLL(None).syscall(250, 0, 0) != -1",
        "import fcntl, termios; m, s = os.openpty(); fcntl.ioctl(s, termios.TIOCSTI, b'x')",
        "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/x')",
        "open('/proc/sysrq-trigger', 'w').write('h')",
        "open('/proc/1/mem', 'rb').read(1)",
        "os.mknod('/tmp/dev', 0o60666, os.makedev(8, 0))",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(40, socket.SOCK_STREAM)",
        "socket.socket(38, socket.SOCK_SEQPACKET)",
        "socket.socket(16, socket.SOCK_RAW, 12)",
        "socket.socket(socket.AF_INET, 10, 768)",
        "import fcntl; m, s = os.openpty(); fcntl.ioctl(s, 0x5423, bytes(4))",
        "os.setuid(1)",
        "import fcntl; m, s = os.openpty(); fcntl.ioctl(s, 0x541C, b'x')",
        (
            "pid = ctypes.CDLL(None).syscall(56, 0x10000000 | 17, 0, 0, 0, 0); "
            "pid or os._exit(0); assert pid > 0"
        ),
        "assert ctypes.CDLL(None).syscall(435, ctypes.create_string_buffer(88), 88) != -1",
        "assert ctypes.CDLL(None).setns(os.open('/proc/self/ns/net', os.O_RDONLY), 0) == 0",
        "assert ctypes.CDLL(None).socketpair(30, 1, 0, (ctypes.c_int * 2)()) == 0",
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "open('/proc/kcore', 'rb').read(1)",
        "open('/proc/self/oom_score_adj', 'w', buffering=1).write('-1000\\n')",
        "os.nice(-1)",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        "open('/proc/sys/user/max_user_namespaces', 'w', buffering=1).write('1000\\n')",
        "open('/proc/sys/user/max_inotify_instances', 'w', buffering=1).write('1000\\n')",
        "open('/proc/sys/vm/overcommit_memory', 'w')",
        "open('/proc/sys/net/core/bpf_jit_enable', 'w')",
        "os.mkdir('/sys/fs/cgroup/x')",
        (
            "s = socket.socket(16, socket.SOCK_RAW, 0); "
            "s.send(bytes.fromhex('1c0000001800050501000000000000000200000003020001000000000')"
            "[:28]); assert s.recv(99)[16:20] == bytes(4)"
        ),
    ],
)
def test_dangerous_calls_are_refused(inside: Any, action: str) -> None:
    """Namespaces, mounts, keyrings, bpf, io_uring, terminal injection, raw and exotic sockets."""
    assert inside(try_to(action)) != "got"


def test_every_call_of_the_table_is_refused_by_the_kernel(inside: Any) -> None:
    """As this machine's kernel runs it: a call let through would complain of its arguments."""
    arch = ARCHES[platform.machine()]
    table = [(n, 1) for n in arch.denied] + list(arch.absent) + [(470, 38), (999, 38)]
    code = (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        f"print([(n, ctypes.get_errno()) for n, wanted in {table}"
        " if c.syscall(n, -1, -1, -1, -1, -1, -1) != -1 or ctypes.get_errno() != wanted])"
    )

    assert inside(code) == "[]"


@pytest.mark.parametrize("who", ["host", "pid 1"])
@pytest.mark.parametrize(
    "action",
    [
        "assert c.ptrace(16, {pid}, 0, 0) == 0",
        "assert c.process_vm_readv({pid}, b, 1, b, 1, 0) > 0",
        "open('/proc/{pid}/maps').read(1)",
        "open('/proc/{pid}/mem', 'rb')",
        "os.open('/proc/{pid}/fd/3', os.O_RDONLY)",
        "os.readlink('/proc/{pid}/exe')",
    ],
)
def test_neither_the_host_nor_pid_1_can_be_traced_or_read(
    inside: Any, action: str, who: str
) -> None:
    """The server's memory has the key, pid 1's the control socket."""
    code = action.format(pid=os.getpid() if who == "host" else 1)

    assert inside(try_to(f"c = ctypes.CDLL(None); b = (ctypes.c_long * 2)()\n{code}")) != "got"


def test_the_hosts_loopback_and_the_servers_api_are_unreachable(
    inside: Any, server: LocalServer
) -> None:
    """The sandbox's loopback is its own."""
    port = int(server.url.rpartition(":")[2])

    dialled = inside(try_to(f"socket.create_connection(('127.0.0.1', {port}), 3)"))
    assert dialled == "ConnectionRefusedError"


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "192.0.2.1", "8.8.8.8"])
def test_there_is_no_network(inside: Any, address: str) -> None:
    """No route leads anywhere: the ways out are the server's own, at the server's ports only.

    test_egress and test_transparent test those.
    """
    for port in (25, 53, 853, 8080):
        assert inside(try_to(f"socket.create_connection(({address!r}, {port}), 3)")) in (
            "ConnectionRefusedError",
            "OSError",
        )
    send = (
        f"s = socket.socket(type=socket.SOCK_DGRAM); s.connect(({address!r}, 53)); "
        "s.settimeout(3); s.send(b'x'); s.recv(1)"
    )
    assert inside(try_to(send)) in ("ConnectionRefusedError", "OSError")


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254"])
def test_what_nobody_may_reach_says_nothing(inside: Any, address: str) -> None:
    """Where any address accepts a connection, these end before a byte of anyone else's."""
    assert inside(
        try_to(f"s = socket.create_connection(({address!r}, 443), 3); assert s.recv(1)")
    ) in (
        "ConnectionResetError",
        "OSError",
    )


@pytest.mark.parametrize("action", ["NEWROUTE", "DELROUTE", "NEWLINK", "NEWADDR"])
def test_nobody_inside_changes_the_network(inside: Any, action: str) -> None:
    """Routes, devices and addresses: the kernel is asked, and says EPERM."""
    kind, body = {
        "NEWROUTE": (
            24,
            b"\x02\x08\0\0\xfe\x04\xfd\x01"
            + bytes(4)
            + b"\x08\0\x01\0\x0a\0\0\0"
            + b"\x08\0\x04\0\x01\0\0\0",
        ),
        "DELROUTE": (25, b"\x02\x01\0\0\xff\x04\xfe\x02" + bytes(4) + b"\x08\0\x01\0\x80\0\0\0"),
        "NEWLINK": (16, bytes(4) + b"\x01\0\0\0" + bytes(8)),
        "NEWADDR": (20, b"\x02\x08\0\0\x01\0\0\0" + b"\x08\0\x02\0\x0a\0\0\1"),
    }[action]
    code = (
        "import socket, struct, errno\nk = socket.socket(16, 3, 0)\n"
        f"k.send(struct.pack('=IHHII', {16 + len(body)}, {kind}, 0x405, 1, 0) + {body!r})\n"
        "print(errno.errorcode.get(-struct.unpack_from('=i', k.recv(9999), 16)[0]))"
    )
    assert inside(code) == "EPERM"


def test_abstract_sockets_of_the_host_are_unreachable(inside: Any) -> None:
    """They belong to the network namespace, not to the file system."""
    name = f"\0daytona-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        reached = inside(try_to(f"socket.socket(socket.AF_UNIX).connect({name!r})"))
        assert reached == "ConnectionRefusedError"


def test_bubblewrap_never_runs_as_root(server: LocalServer, sandbox: str) -> None:
    """A root bubblewrap would leave the host's core_pattern writable from inside."""
    pids = host_processes_of(server.state_dir / "sandboxes" / sandbox)

    assert pids
    assert all(os.stat(f"/proc/{pid}").st_uid != 0 for pid in pids)


def test_a_symlink_planted_for_the_next_start_touches_nothing(
    server: LocalServer, tmp_path: Path
) -> None:
    """CVE-2026-87766: in a persisted root, mounts would follow it and write on the host."""
    victim = tmp_path / "victim"
    victim.mkdir()
    victim.chmod(0o777)
    tmp_path.chmod(0o777)
    created = server.create()
    plant = " ; ".join(
        f"rm -rf {place} 2>/dev/null; ln -s /oldroot{victim} {place}"
        for place in (
            "/etc/alternatives",
            "/home/daytona",
            "/var/tmp",
            "/var/run",
            "/etc/hosts",
            "/tmp/x",
            "/run/agent",
            "/home/x",
        )
    )
    server.exec(created["id"], plant)
    server.request("POST", f"/api/sandbox/{created['id']}/stop")
    server.request("POST", f"/api/sandbox/{created['id']}/start")
    server.exec(created["id"], "true", cwd="/")
    server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert list(victim.iterdir()) == []


def test_one_sandbox_cannot_see_another(server: LocalServer, sandbox: str) -> None:
    """Neither files nor processes nor ports are shared."""
    other = server.create()["id"]
    server.exec(
        other, "echo private > /tmp/note; python3 -m http.server 8000 >/dev/null 2>&1 </dev/null &"
    )

    seen = server.exec(
        sandbox,
        (
            "cat /tmp/note; pgrep -f http.server; "
            "python3 -c \"import socket; socket.create_connection(('127.0.0.1', 8000))\""
        ),
    )
    server.request("DELETE", f"/api/sandbox/{other}")

    assert "private" not in seen["result"]
    assert "ConnectionRefusedError" in seen["result"]


def test_a_fork_bomb_stays_in_its_sandbox(server: LocalServer, sandbox: str) -> None:
    """The process limit is per sandbox: the host and the other sandboxes go on."""
    bomb = server.create()["id"]
    body = {"command": "bomb() { bomb | bomb & }; bomb; sleep 2; true"}
    thread = threading.Thread(
        target=lambda: server.request("POST", f"/toolbox/{bomb}/process/execute", body=body)
    )
    thread.start()
    neighbour = server.exec(sandbox, "echo fine")
    host = subprocess.run(["true"], timeout=20, check=False).returncode
    server.request("DELETE", f"/api/sandbox/{bomb}")
    thread.join()

    assert (neighbour["result"], host) == ("fine\n", 0)


def test_memory_beyond_the_size_is_refused_to_a_process(inside: Any) -> None:
    """A small sandbox cannot take the host's memory in one allocation."""
    assert inside(try_to("bytearray(3 * 1024**3)")) == "MemoryError"


def test_the_agent_survives_what_its_own_code_may_do_to_it(
    server: LocalServer, sandbox: str
) -> None:
    """pid 1 cannot be killed, stopped or traced from inside."""
    server.exec(sandbox, "kill -9 1; kill -STOP 1; kill -TERM 1; kill -CHLD 1; kill -SEGV 1")

    assert server.exec(sandbox, "echo alive")["result"] == "alive\n"


@pytest.fixture(scope="module")
def host() -> Iterator[dict[str, object]]:
    """Things on the host that a sandbox must not reach."""
    folder = new_state_dir().parent
    with host_side(folder) as found:
        yield found


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_an_attack_that_works_without_its_wall_fails_here(
    inside: Any, host: dict[str, object], server: LocalServer, attack: Attack
) -> None:
    """The probe can tell the difference: with one wall taken off, it reaches the host."""
    if attack.as_root and os.geteuid() != 0:
        pytest.skip("only root can run bubblewrap as root")
    code = attack.code.format(**host)
    open_door = with_a_wall_off(attack, Path(str(host["folder"])), code)

    assert open_door == "got"
    assert "got" not in inside(
        f"try:\n    exec({code!r})\nexcept BaseException as error: print(type(error).__name__)"
    )


def test_other_homes_keys_and_the_servers_state_are_not_there(
    inside: Any, server: LocalServer
) -> None:
    """The key of the server's API lies in its state folder, which no sandbox sees."""
    paths = [
        str(server.state_dir),
        str(server.state_dir / "server.json"),
        str(server.state_dir / "local.sqlite"),
        "/proc/1/root",
        "/proc/1/cwd",
    ]

    assert inside(f"import os; print([p for p in {paths!r} if os.access(p, os.R_OK)])") == "[]"


def test_the_servers_key_is_nowhere_inside(inside: Any, server: LocalServer) -> None:
    """Neither in a process's environment or arguments, nor in a file that code can read."""
    search = (
        f"grep -rsl {server.api_key[10:40]} /etc /run /home /root /var /opt /srv /mnt /media "
        "/proc/[0-9]*/environ /proc/[0-9]*/cmdline"
    )
    found = inside(
        f"import subprocess; print(subprocess.run({search!r}, shell=True, "
        "capture_output=True, text=True).stdout)"
    )

    assert [
        line for line in found.splitlines() if "environ" not in line and "cmdline" not in line
    ] == []


@pytest.mark.parametrize("order", ["kill(1, 9)", "kill(1, 19)", "killpg(1, 9)"])
def test_pid_1_survives_signals_from_inside(inside: Any, order: str) -> None:
    """It is the sandbox's life, and cannot be stopped or killed by what it started."""
    inside(f"import os\ntry: os.{order}\nexcept OSError: pass")

    assert inside("print('alive')") == "alive"


def test_a_descriptor_of_pid_1_cannot_be_taken(inside: Any) -> None:
    """The control socket is what an attacker would want first."""
    assert inside(try_to("os.readlink('/proc/1/fd/3')")) == "PermissionError"
    taken = inside(
        try_to("fd = os.pidfd_open(1); assert ctypes.CDLL(None).syscall(438, fd, 3, 0) >= 0")
    )
    assert taken != "got"


def test_32_bit_calls_do_not_pass_the_filter(inside: Any) -> None:
    """Their numbers differ, so the filter ends whoever makes one."""
    code = (
        "import ctypes, mmap, os, platform\n"
        "if platform.machine() != 'x86_64': print('other'); raise SystemExit\n"
        "code = b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'\n"
        "m = mmap.mmap(-1, 4096, prot=7)\n"
        "m.write(code)\n"
        "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n"
        "p = os.fork()\nif p == 0: f(); os._exit(0)\nprint(os.WTERMSIG(os.waitpid(p, 0)[1]))"
    )

    assert inside(code) in ("31", "other")
