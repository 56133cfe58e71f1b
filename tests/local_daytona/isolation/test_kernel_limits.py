"""What the kernel counts by account, or for the whole machine, is counted by sandbox.

As root and as an ordinary user, of whom all sandboxes are.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Iterator

import pytest

from local_daytona.isolation import usage
from tests.local_server import ORDINARY_UID, LocalServer, server_of, until

from .test_limits import HOLD, attack, is_error

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module", params=["this user", "ordinary user"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    with server_of(request.param) as running:
        yield running


READ_ONLY_SPACE = """
import ctypes
c = ctypes.CDLL(None)
c.mmap.restype = ctypes.c_void_p
c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
place = c.mmap(None, 1 << 40, 1, 0x4022, -1, 0)
for offset in range(0, 1 << 40, 2 << 20): ctypes.c_char.from_address(place + offset).value
"""
EMPTY_FILES = (
    "import os\n"
    "for n in range(1_400_000): os.close(os.open(f'/dev/shm/{n}', os.O_CREAT | os.O_WRONLY))"
)


SOCKET_BUFFERS = """
import socket
pairs, held = [], 0
while held < 1700 << 20 and len(pairs) < 3900:
    pair = socket.socketpair()
    pairs.append(pair)
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        end.setblocking(False)
        try:
            while True: held += end.send(bytes(30000))
        except BlockingIOError: pass
"""
MEMORY_MAPS = """
import ctypes, os, time
c = ctypes.CDLL(None)
c.mmap.restype = ctypes.c_void_p
c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
c.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
place = c.mmap(None, 64000 * 4096, 0, 0x4022, -1, 0)
for page in range(0, 64000, 2): c.mprotect(place + page * 4096, 4096, 1)
for _ in range(99):
    if os.fork() == 0: break
"""
HIDDEN = {
    "page tables": READ_ONLY_SPACE,
    "empty files in memory": EMPTY_FILES,
    "socket buffers": SOCKET_BUFFERS,
    "memory maps": MEMORY_MAPS,
}


@pytest.mark.parametrize("code", HIDDEN.values(), ids=HIDDEN)
def test_memory_that_nobody_has_resident_counts(
    server: LocalServer, victim: str, code: str
) -> None:
    """Kernel memory is the host's as well: two gigabytes of it came to no process's account."""
    answer = attack(server, victim, f"{code}\n{HOLD}")

    assert answer.status == 410
    assert "of memory, its size is 1 GiB" in answer.json()["message"]


CROWD = (
    "import os, time\n"
    "for _ in range(11):\n"
    "    if os.fork() == 0: break\n"
    "held = [os.open('/dev/null', 0) for _ in range(7000)]"
)
IN_FLIGHT = (
    "import array, socket\npairs = [socket.socketpair() for _ in range(4)]\n"
    "for a, b in pairs: [a.sendmsg([b'x'], [(1, 1, array.array('i', "
    "[0] * 250))]) for _ in range(4)]"
)
PIPES = (
    "import os\nfor _ in range(3):\n    if os.fork() == 0: break\n"
    "held = [os.pipe() for _ in range(2000)]"
)
LOCKS = """
import fcntl, os, struct
for number in range(150):
    file = os.open(f'/tmp/locked{number}', os.O_RDWR | os.O_CREAT)
    for place in range(1000):
        fcntl.fcntl(file, fcntl.F_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 2 * place, 1, 0))
"""
WATCHES = """
import os, select
files = [os.eventfd(0) for _ in range(6000)]
polls = [select.epoll() for _ in range(120)]
for poll in polls:
    for file in files: poll.register(file, 1)
"""
TERMINALS = "import os\nfor _ in range(2000): os.open('/dev/ptmx', os.O_RDWR)"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (CROWD, "65,536 files open"),
        (TERMINALS, "1,024 terminals"),
        (IN_FLIGHT, "512 descriptors waiting in sockets"),
        (PIPES, "4,096 pipes"),
        (LOCKS, "100,000 file locks"),
        (WATCHES, "descriptors watched by epoll"),
    ],
    ids=["files", "terminals", "in flight", "pipes", "locks", "watches"],
)
def test_what_the_machine_has_in_common_is_bounded_for_a_whole_sandbox(
    server: LocalServer, victim: str, sandbox: str, code: str, reason: str
) -> None:
    """Each process is below its limit; together they would empty the host's tables.

    Or hide a file in the crowd.
    """
    answer = attack(server, victim, f"{code}\n{HOLD}")

    assert (answer.status, reason in answer.json()["message"]) == (410, True)
    assert server.exec(sandbox, "echo fine")["result"] == "fine\n"


TAKE = (
    "import ctypes, time\n"
    "c = ctypes.CDLL(None)\n"
    "n = 0\n"
    "while n < 1000 and c.inotify_init() >= 0: n += 1\n"
    "print(n, flush=True)"
)
INSTANCES = "fs/inotify/max_user_instances"


def test_inotify_of_one_sandbox_leaves_the_others_theirs(
    server: LocalServer, victim: str, sandbox: str
) -> None:
    """The host counts instances by user, whom all sandboxes share, and gives 128."""
    receiver = threading.Thread(
        target=attack, args=(server, victim, f"{TAKE}\nopen('taken', 'w')\ntime.sleep(5)")
    )
    receiver.start()
    until(lambda: "taken" in server.exec(victim, "ls")["result"])
    neighbour = attack(server, sandbox, TAKE).json()["result"]
    receiver.join()

    assert 0 < int(neighbour) <= max(8, usage.limit_of_this_host(INSTANCES, otherwise=128) // 16)


CLOSED = (
    "mkdir -p closed/deep; head -c 2500000000 /dev/zero > closed/deep/one;"
    " head -c 2500000000 /dev/zero > closed/deep/two; chmod 000 closed/deep closed; sleep 60"
)


def test_a_folder_that_is_closed_to_its_owner_hides_nothing(
    server: LocalServer, victim: str, sandbox: str
) -> None:
    """It is measured with the right that reads it; an empty one of an honest test ends nothing."""
    server.exec(sandbox, "mkdir /home/daytona/honest; chmod 000 /home/daytona/honest")
    reply = server.request(
        "POST", f"/toolbox/{victim}/process/execute", body={"command": CLOSED, "timeout": 60}
    )

    assert (reply.status, "of disk" in reply.json()["message"]) == (410, True)
    assert "of disk, its size is 3 GiB" in is_error(server, victim)["errorReason"]
    assert server.request("POST", f"/api/sandbox/{victim}/recover").status == 200
    tidied = "sleep 4; chmod 700 closed closed/deep; rm -r closed; ls"
    assert server.exec(victim, tidied)["result"] == ""
    assert server.exec(sandbox, "echo fine")["result"] == "fine\n"


def own_inotify() -> int:
    """How many instances a program of the ordinary user's own still gets."""
    own = subprocess.run(
        ["/usr/bin/python3", "-c", TAKE],
        user=ORDINARY_UID,
        group=ORDINARY_UID,
        extra_groups=[],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return int(own.stdout)


@pytest.fixture
def crowd(server: LocalServer) -> Iterator[list[str]]:
    created = [server.create()["id"] for _ in range(10)]
    yield created
    for one in created:
        server.request("DELETE", f"/api/sandbox/{one}")


def hold_in_each(server: LocalServer, crowd: list[str], code: str) -> None:
    """Run it in each, in the background; it stays."""
    taking = f"{code}\nopen('taken', 'w')\nimport time\ntime.sleep(90)"
    for one in crowd:
        server.exec(one, f"setsid python3 -c {shlex.quote(taking)} >/dev/null 2>&1 </dev/null &")


def ended_of(server: LocalServer, crowd: list[str]) -> list[str]:
    """The reasons of those that were ended."""
    seen = [server.request("GET", f"/api/sandbox/{one}").json() for one in crowd]
    return [one["errorReason"] for one in seen if one["state"] == "error"]


@pytest.mark.xdist_group("the machine's tables")
@pytest.mark.parametrize("server", ["ordinary user"], indirect=True)
def test_a_crowd_leaves_inotify_to_its_users_own_programs(
    server: LocalServer, crowd: list[str]
) -> None:
    """The kernel counts by user, who is the sandboxes' as well as the server's."""
    hold_in_each(server, crowd[:6], TAKE)
    for one in crowd[:6]:
        until(lambda one=one: "taken" in server.exec(one, "ls")["result"])

    assert own_inotify() >= 32


SOME_TERMINALS = "import os\nfor _ in range(500): os.open('/dev/ptmx', os.O_RDWR)"
SOME_IN_FLIGHT = (
    "import array, socket\npairs = [socket.socketpair() for _ in range(2)]\n"
    "for a, b in pairs: a.sendmsg([b'x'], [(1, 1, array.array('i', [0] * 200))])"
)


@pytest.mark.xdist_group("the machine's tables")  # two at once would leave nothing for a third
@pytest.mark.parametrize(
    ("code", "number", "words"),
    [
        (SOME_TERMINALS, 5, "terminals"),
        (SOME_IN_FLIGHT, 2, "descriptors waiting in sockets"),
        (TAKE, 10, "inotify instances"),
    ],
    ids=["terminals", "in flight", "inotify"],
)
def test_a_crowd_is_bounded_where_each_is_within_its_limit(
    server: LocalServer, crowd: list[str], code: str, number: int, words: str
) -> None:
    """Several that each have a part would have it all: some end, and the others go on.

    Just enough of them to be too many, because other tests of this machine need the rest.
    """
    hold_in_each(server, crowd[:number], code)
    until(lambda: ended_of(server, crowd))

    reasons = ended_of(server, crowd)
    assert all(f"{words}, and this one the most" in reason for reason in reasons)
    assert len(reasons) < number
