"""What one sandbox may take from the host and its neighbours: attacks, and what callers read."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from local_daytona.isolation.cgroups import find_groups
from local_daytona.isolation.usage import all_processes, families
from tests.local_server import LocalServer, Reply, host_processes_of, running_server, until

CAP_SYS_RESOURCE = 24
HOLD = "print('held', flush=True)\nimport time\ntime.sleep(120)"


def attack(server: LocalServer, sandbox_id: str, code: str) -> Reply:
    """Run Python in the sandbox until it ends, whatever the answer."""
    return server.request(
        "POST", f"/toolbox/{sandbox_id}/process/code-run", body={"code": code, "language": "python"}
    )


def is_error(server: LocalServer, sandbox_id: str) -> dict[str, Any]:
    def ended() -> Any:
        found = server.get(sandbox_id)
        return found if found is not None and found["state"] == "error" else None

    found: dict[str, Any] = until(ended)
    return found


def pids_of(server: LocalServer, sandbox_id: str) -> list[int]:
    """Host pids of all processes of a sandbox, bubblewrap's own left out."""
    (monitor,) = host_processes_of(server.state_dir / "sandboxes" / sandbox_id)
    return families(all_processes(), [monitor])[monitor][1:]


def resident(server: LocalServer) -> int:
    """Bytes of the server's own memory."""
    return (
        int(Path(f"/proc/{server.pid}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024
    )


def may_bind_oom_scores() -> bool:
    effective = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    return bool(int(effective, 16) & 1 << CAP_SYS_RESOURCE)


def test_memory_of_many_processes_together_is_bounded(
    server: LocalServer, victim: str, sandbox: str
) -> None:
    """The caller reads what happened, neighbours notice nothing, the sandbox can be used again.

    Each process stays below its own limit.
    """
    answer = attack(
        server,
        victim,
        (
            "import os\n"
            "for _ in range(3):\n"
            "    if os.fork() == 0: break\n"
            "x = b'x' * (600 << 20)\n"
            f"{HOLD}"
        ),
    )
    found = is_error(server, victim)

    assert (answer.status, answer.json()["code"]) == (410, "GONE")
    assert answer.json()["message"] == found["errorReason"]
    assert "of memory, its size is 1 GiB" in found["errorReason"]
    message = server.request(
        "POST", f"/toolbox/{victim}/process/execute", body={"command": "true"}
    ).json()["message"]
    assert found["errorReason"] in message
    assert server.exec(sandbox, "echo fine")["result"] == "fine\n"
    assert server.request("POST", f"/api/sandbox/{victim}/recover").status == 200
    assert server.exec(victim, "echo again")["result"] == "again\n"


def test_memory_files_count_as_memory(server: LocalServer, victim: str) -> None:
    """A memfd is no process's resident memory while nobody maps it."""
    write = "for _ in range(700): os.write(fd, b'x' * (1 << 20))"
    answer = attack(
        server,
        victim,
        f"import os\nfor _ in range(2):\n    fd = os.memfd_create('hog')\n    {write}\n{HOLD}",
    )

    assert answer.status == 410
    assert "of memory" in answer.json()["message"]


def test_shared_memory_is_small(server: LocalServer, victim: str) -> None:
    """/dev/shm and /run are RAM: their size is fixed."""
    reply = server.exec(
        victim,
        (
            "head -c 200M /dev/zero > /dev/shm/x; head -c 200M /dev/zero > /run/x; "
            "stat -c %s /dev/shm/x /run/x; rm -f /dev/shm/x /run/x"
        ),
    )
    sizes = [int(line) for line in reply["result"].split() if line.isdigit()]

    assert len(sizes) == 2
    assert all(size <= 64 << 20 for size in sizes)


@pytest.mark.thorough
def test_pages_that_forked_workers_share_count_once(server: LocalServer, victim: str) -> None:
    """A prefork server is not over its size by its parent's memory, which each worker shows."""
    code = (
        "import os, time\n"
        "x = b'x' * (300 << 20)\n"
        "for _ in range(6):\n"
        "    if os.fork() == 0: time.sleep(4); os._exit(0)\n"
        "time.sleep(4); print('lived')"
    )

    assert attack(server, victim, code).json()["result"] == "lived\n"


@pytest.mark.thorough
def test_many_files_together_are_bounded_and_can_be_deleted_after_recovery(
    server: LocalServer, victim: str, sandbox: str
) -> None:
    """Files within the file size limit; a sandbox over its disk still runs, to be cleaned up."""
    fill = "for i in $(seq 20); do head -c 200M /dev/zero > /home/daytona/big$i; done; sleep 60"
    answer = server.request("POST", f"/toolbox/{victim}/process/execute", body={"command": fill})
    found = is_error(server, victim)

    assert (answer.status, answer.json()["message"]) == (410, found["errorReason"])
    assert "of disk, its size is 3 GiB" in found["errorReason"]
    assert server.exec(sandbox, "echo x > /tmp/x && cat /tmp/x")["result"] == "x\n"
    assert server.request("POST", f"/api/sandbox/{victim}/recover").status == 200
    assert server.exec(victim, "sleep 4; rm /home/daytona/big*; ls /home/daytona")["result"] == ""


@pytest.mark.thorough
def test_files_without_a_name_count_too(server: LocalServer, victim: str) -> None:
    """Deleted but open files take disk that no walk through the folders sees."""
    code = (
        "import os, time\n"
        "for n in '12':\n"
        "    f = open(n, 'w')\n"
        "    os.unlink(n)\n"
        "    os.posix_fallocate(os.dup(f.fileno()), 0, 2000 << 20)\n"
        f"{HOLD}"
    )
    answer = attack(server, victim, code)

    assert (answer.status, "of disk" in answer.json()["message"]) == (410, True)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("c.vmsplice(w, ctypes.byref(ctypes.create_string_buffer(16)), 1, 0)", errno.ENOSYS),
        ("c.fcntl(w, 1031, 1 << 20)", errno.EPERM),
    ],
    ids=["vmsplice", "larger pipes"],
)
def test_pipes_hold_their_usual_pages_and_no_others(
    server: LocalServer, sandbox: str, call: str, code: int
) -> None:
    """A page of a huge one in a pipe keeps all of it; a larger pipe is one less for the user's."""
    done = attack(
        server,
        sandbox,
        "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\nr, w = os.pipe()\n"
        f"print({call}, ctypes.get_errno())",
    ).json()["result"]

    assert done == f"-1 {code}\n"


@pytest.mark.parametrize(
    "call",
    ["c.shmget(0, ctypes.c_size_t(4096), 0o1600)", "c.semget(0, 1, 0o1600)", "c.msgget(0, 0o1600)"],
)
def test_system_v_objects_are_not_there(server: LocalServer, sandbox: str, call: str) -> None:
    """They keep memory in no process or descriptor; programs take ENOSYS and use what POSIX has."""
    code = (
        f"import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nprint({call}, ctypes.get_errno())"
    )

    assert attack(server, sandbox, code).json()["result"] == "-1 38\n"


def test_no_disk_is_taken_without_being_written(server: LocalServer, sandbox: str) -> None:
    """fallocate would fill the disk between two looks; posix_fallocate goes on by writing."""
    code = (
        "import ctypes, os\n"
        "c = ctypes.CDLL(None, use_errno=True)\n"
        "fd = os.open('x', os.O_RDWR | os.O_CREAT)\n"
        "print(c.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(1 << 20)), ctypes.get_errno())\n"
        "import struct; space = struct.pack('hhqqiI4i', 0, 0, 0, 1 << 20, 0, 0, 0, 0, 0, 0)\n"
        "print(c.ioctl(fd, ctypes.c_ulong(0x4030582A), space), ctypes.get_errno())\n"
        "os.posix_fallocate(fd, 0, 1 << 20); print(os.fstat(fd).st_size)"
    )

    assert attack(server, sandbox, code).json()["result"] == "-1 95\n-1 95\n1048576\n"


def test_no_dump_goes_to_a_program_of_the_hosts(server: LocalServer, sandbox: str) -> None:
    """Where core_pattern is a pipe a limit of 0 does not hold, and one of 1 does: core(5)."""
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"

    assert attack(server, sandbox, code).json()["result"] == "(1, 1)\n"


def test_the_first_process_has_no_file_of_the_hosts(server: LocalServer, sandbox: str) -> None:
    """What it was started with is pipes and sockets: a file would be outside the disk's size."""
    [note] = [found for found in server.state_dir.rglob(sandbox) if found.is_file()]
    first = note.read_text().split()[0]
    kinds = [os.stat(found).st_mode for found in Path(f"/proc/{first}/fd").iterdir()]

    assert len(kinds) > 3
    assert not any(stat.S_ISREG(kind) for kind in kinds)


@pytest.mark.parametrize(
    ("argv", "env"),
    [(["x" * 200_000], {}), ([], {"BIG": "x" * 200_000})],
    ids=["arguments", "environment"],
)
def test_arguments_and_variables_beyond_any_process_are_refused(
    server: LocalServer, sandbox: str, argv: list[str], env: dict[str, str]
) -> None:
    """The agent takes 128 KiB in one request, which is what the kernel takes in one argument."""
    body = {"code": "print(1)", "language": "python", "argv": argv, "envs": env}
    reply = server.request("POST", f"/toolbox/{sandbox}/process/code-run", body=body)

    assert (reply.status, "131072" in reply.json()["message"]) == (400, True)
    assert server.exec(sandbox, "echo fine")["result"] == "fine\n"


def test_zombies_are_processes_and_orphans_leave_none(server: LocalServer, victim: str) -> None:
    """Who does not reap its children meets the limit; pid 1 reaps what comes to it."""
    code = (
        "import os, time\n"
        "n = 0\n"
        "try:\n"
        "    while n < 3000:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        n += 1\n"
        "except OSError as error: print(error.errno, n < 520)"
    )
    assert attack(server, victim, code).json()["result"] == "11 True\n"
    assert attack(server, victim, code).json()["result"] == "11 True\n"
    states = server.exec(victim, "sleep 0.5; cat /proc/[0-9]*/stat | cut -d')' -f2 | cut -c2")
    assert "Z" not in states["result"]


@pytest.mark.thorough
def test_a_tree_that_is_too_deep_ends_its_sandbox_and_can_be_deleted(
    server: LocalServer, victim: str
) -> None:
    """Nobody may nest folders until no program can walk them."""
    answer = attack(
        server, victim, f"import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\n{HOLD}"
    )

    assert (answer.status, "nests folders more than 500 deep" in answer.json()["message"]) == (
        410,
        True,
    )
    is_error(server, victim)
    assert server.request("DELETE", f"/api/sandbox/{victim}").status == 200
    until(lambda: not list((server.state_dir / "trash").iterdir()))


def test_a_sparse_file_is_downloaded_in_bounded_memory(server: LocalServer, sandbox: str) -> None:
    """It takes no disk inside and must take no memory here."""
    before = resident(server)
    server.exec(sandbox, "truncate -s 700M hole")
    reply = server.request("GET", f"/toolbox/{sandbox}/files/download?path=hole")

    assert len(reply.body) == 700 << 20
    assert resident(server) - before < 100 << 20


def test_one_file_ends_at_the_size_of_the_disk(server: LocalServer, victim: str) -> None:
    """The kernel's own limit needs no watchdog."""
    assert attack(server, victim, "open('x', 'w').truncate(4 << 30)").json()["exitCode"] != 0


def test_open_files_are_bounded(server: LocalServer, victim: str) -> None:
    """One process cannot take the host's file table."""
    code = (
        "import os\n"
        "n = 0\n"
        "try:\n"
        "    while True: os.dup(0); n += 1\n"
        "except OSError as e: print(e.errno, n < 8192)"
    )

    assert attack(server, victim, code).json()["result"] == "24 True\n"


@pytest.mark.thorough
def test_processes_are_bounded_for_each_sandbox_by_itself(
    server: LocalServer, victim: str, sandbox: str
) -> None:
    """One that holds all it may leaves its neighbour's share alone."""
    fork = (
        "import os, time\n"
        "n = 0\n"
        "try:\n"
        "    while n < 3000:\n"
        "        if os.fork() == 0: time.sleep(30); os._exit(0)\n"
        "        n += 1\n"
        "except OSError as e:\n"
        "    "
    )
    end = "; os.kill(-1, 9)"
    thread = threading.Thread(target=attack, args=(server, victim, f"{fork}time.sleep(10){end}"))
    thread.start()
    until(lambda: len(pids_of(server, victim)) > 300)
    reply = attack(
        server, sandbox, f"{fork}open('/tmp/seen', 'w').write(f'{{e.errno}} {{n}}'){end}"
    )
    seen = server.exec(sandbox, "cat /tmp/seen")["result"]
    thread.join()

    assert reply.status == 200
    number, count = map(int, seen.split())
    assert number == 11
    assert 300 < count <= 520


@pytest.mark.thorough
def test_output_beyond_what_one_answer_holds_is_dropped_with_a_notice(
    server: LocalServer, victim: str
) -> None:
    """A flood costs the server no more memory than the answer does."""
    reply = server.exec(victim, "head -c 400M /dev/zero | tr '\\0' x")
    status = Path(f"/proc/{server.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024

    assert reply["exitCode"] == 0
    assert reply["result"].endswith("MiB of this output]\n")
    assert peak < 1 << 30


def test_a_flooded_log_does_not_stop_the_neighbours(
    server: LocalServer, victim: str, sandbox: str
) -> None:
    """A session's log is on the host's disk: it is bounded, and the server answers meanwhile."""
    server.request("POST", f"/toolbox/{victim}/process/session", body={"sessionId": "flood"})
    server.request(
        "POST",
        f"/toolbox/{victim}/process/session/flood/exec",
        body={"command": "yes " + "x" * 1000, "runAsync": True},
    )
    seen = [server.exec(sandbox, f"echo {number}")["result"] for number in range(20)]
    logs = server.state_dir / "logs" / victim
    size = sum(path.stat().st_size for path in logs.iterdir())

    assert seen == [f"{number}\n" for number in range(20)]
    assert size < 2 << 30


@pytest.mark.thorough
def test_ten_thousand_connections_to_the_proxy_leave_the_server_working(
    server: LocalServer, victim: str, sandbox: str
) -> None:
    """Each one is accepted by the server: it must not run out of descriptors for others."""
    flood = (
        "import os, socket, time\nos.fork()\nheld = [socket.socket() for _ in range(5000)]\n"
        "for s in held: s.setblocking(False); s.connect_ex(('127.0.0.1', 3128))\n"
        "open(f'done{os.getpid()}', 'w').close()\ntime.sleep(10)"
    )
    thread = threading.Thread(target=attack, args=(server, victim, flood))
    thread.start()
    seen = [server.exec(sandbox, f"echo {number}")["result"] for number in range(10)]
    until(lambda: "done" in server.exec(victim, "ls")["result"], seconds=60)
    created = server.create()
    after = server.exec(created["id"], "echo new")["result"]
    server.request("DELETE", f"/api/sandbox/{created['id']}")
    thread.join()

    assert seen == [f"{number}\n" for number in range(10)]
    assert after == "new\n"


def test_thousands_of_idle_connections_to_the_api_leave_it_working(
    server: LocalServer, sandbox: str
) -> None:
    """Whoever is on this machine may open them, without a key."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    where = urlsplit(server.url)
    held: list[socket.socket] = []
    try:
        with contextlib.ExitStack() as opened:
            for _ in range(min(10_000, most // 2 - 500)):
                held.append(
                    opened.enter_context(socket.create_connection((where.hostname, where.port)))
                )
            assert server.exec(sandbox, "echo fine")["result"] == "fine\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)

    assert len(held) > 100
    assert server.exec(sandbox, "echo fine")["result"] == "fine\n"


def test_garbage_without_a_key_leaves_no_traceback_in_the_log(state_dir: Path) -> None:
    """Any local user may send it: it is answered as JSON, and the log does not grow by it."""
    with running_server(state_dir) as server:
        host = urlsplit(server.url).netloc.encode()
        before = (state_dir / "server.log").read_text()
        for data in (
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: " + b"x" * 200_000 + b"\r\n\r\n",
        ):
            with socket.create_connection(
                ("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20
            ) as raw:
                raw.sendall(data)
                answer = raw.recv(65536)
            assert b" 400 " in answer.split(b"\r\n")[0]
            assert b"application/json" in answer
        after = (state_dir / "server.log").read_text()

    assert after == before


@pytest.mark.skipif(
    not may_bind_oom_scores(),
    reason="only CAP_SYS_RESOURCE can raise a score that nobody inside lowers again",
)
def test_nobody_inside_becomes_a_worse_victim_than_the_host(
    server: LocalServer, victim: str
) -> None:
    """When the machine runs out of memory the kernel ends a sandbox's processes first."""
    code = "open('/proc/self/oom_score_adj', 'w', buffering=1).write('{}\\n')"
    raised = attack(server, victim, code.format(400)).json()["exitCode"]
    lowered = attack(server, victim, code.format(0)).json()

    assert raised == 0
    assert lowered["exitCode"] != 0
    assert "PermissionError" in lowered["result"]


class TestControlGroups:
    """Where this server may make groups, each sandbox has its own."""

    @pytest.fixture(autouse=True)
    def groups(self, server: LocalServer) -> Any:
        found = find_groups(server.state_dir)
        if found is None:
            pytest.skip("this server may not make control groups")
        return found

    def test_status_names_the_mechanism(self, server: LocalServer, groups: Any) -> None:
        """Users learn how exact the limits are."""
        mechanism = f"cgroup v{groups.version} ({', '.join(groups.controllers)})"
        assert server.status()["engine"]["limits"] == f"{mechanism}, rlimits and watchdog"

    def test_every_process_is_in_the_sandboxs_group(
        self, server: LocalServer, victim: str, groups: Any
    ) -> None:
        """Pid 1 was in before its first exec, so nothing escaped."""
        server.exec(victim, "setsid sleep 60 >/dev/null 2>&1 </dev/null &")

        for controller in groups.controllers:
            members = (
                (groups.parents[controller] / (groups.prefix + victim) / "cgroup.procs")
                .read_text()
                .split()
            )
            assert sorted(map(int, members)) == sorted(pids_of(server, victim))
        assert len(members) >= 2

    def test_limits_follow_the_size_and_a_resize(
        self, server: LocalServer, victim: str, groups: Any
    ) -> None:
        """Cpu may grow while it runs."""
        if groups.version != 1 or not groups.has("cpu"):
            pytest.skip("no cpu controller of version 1")
        quota = groups.parents["cpu"] / (groups.prefix + victim) / "cpu.cfs_quota_us"
        before = quota.read_text()
        server.request("POST", f"/api/sandbox/{victim}/resize", body={"cpu": 2})

        assert (before, quota.read_text()) == ("100000\n", "200000\n")

    def test_a_stopped_sandbox_has_no_group(
        self, server: LocalServer, victim: str, groups: Any
    ) -> None:
        """Nothing is left in the host's hierarchy."""
        server.request("POST", f"/api/sandbox/{victim}/stop")

        assert [
            parent
            for parent in groups.parents.values()
            if (parent / (groups.prefix + victim)).exists()
        ] == []
