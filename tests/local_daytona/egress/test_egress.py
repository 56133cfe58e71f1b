"""What gets out of a sandbox, by a real server whose outside is this machine.

loopback_outside.py is that server.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.local_server import SCRIPTS, LocalServer, new_state_dir, until, wait_for_server

NAMES = {
    "site.test": [["203.0.113.10"]],
    "other.test": [["203.0.113.20"]],
    "deep.site.test": [["203.0.113.30"]],
    "localhost": [["127.0.0.1"]],
    "inner.test": [["10.1.2.3"]],
    "mixed.test": [["203.0.113.10", "127.0.0.1"]],
    "six.test": [["::1"]],
    "rebind.test": [["203.0.113.10"], ["127.0.0.1"]],
    "parent.test": [["203.0.113.99"]],
}
INSIDE = '''
import socket, sys, time, hashlib
def connect(target):
    """A tunnel and the status line that the proxy answered."""
    s = socket.create_connection(("127.0.0.1", 3128), 60)
    s.sendall(b"CONNECT " + target.encode() + b" HTTP/1.1\\r\\n\\r\\n")
    head = b""
    while not head.endswith(b"\\r\\n\\r\\n") and (more := s.recv(1)):
        head += more
    return s, head.decode().split("\\r\\n")[0].removeprefix("HTTP/1.1 ")
'''


@dataclass
class World:
    """A server, and what it did outside."""

    server: LocalServer

    def inside(self, sandbox: str, code: str) -> str:
        """What Python code printed in the sandbox."""
        body = {"code": INSIDE + code, "language": "python", "timeout": 120}
        reply = self.server.request("POST", f"/toolbox/{sandbox}/process/code-run", body=body)
        assert reply.status == 200, reply.body
        return str(reply.json()["result"]).strip()

    def status_lines(self, sandbox: str, *targets: str) -> list[str]:
        """What the proxy answers to a CONNECT for each of `targets`."""
        answer = self.inside(
            sandbox, f"print(__import__('json').dumps([connect(t)[1] for t in {targets!r}]))"
        )
        lines: list[str] = json.loads(answer)
        return lines

    def set_network(self, sandbox: str, **fields: Any) -> dict[str, Any]:
        reply = self.server.request("POST", f"/api/sandbox/{sandbox}/network-settings", body=fields)
        assert reply.status == 200, reply.body
        answer: dict[str, Any] = reply.json()
        return answer

    @property
    def log(self) -> str:
        return (self.server.state_dir / "server.log").read_text()

    def noted(self, word: str) -> set[str]:
        """What was `resolved` or `dialled`."""
        return {line.split()[1] for line in self.log.splitlines() if line.startswith(f"{word} ")}


@contextlib.contextmanager
def world_on(
    state: Path, environment: Mapping[str, str] | None = None, *ranges: str
) -> Iterator[World]:
    program = Path(__file__).with_name("loopback_outside.py")
    quiet = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }
    state.mkdir(exist_ok=True)
    with open(state / "server.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(program), str(state), json.dumps(NAMES), *ranges],
            env={**quiet, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield World(wait_for_server(state, process))
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One server for the tests that only need one."""
    with world_on(new_state_dir()) as running:
        yield running


@pytest.fixture
def box(world: World) -> Iterator[str]:
    """The id of a fresh sandbox of that server."""
    created = world.server.create()
    yield created["id"]
    world.server.request("DELETE", f"/api/sandbox/{created['id']}")


@dataclass
class Upstream:
    """A TCP server of the world outside; `received` holds what each connection sent first."""

    port: int
    received: list[bytes] = field(default_factory=list)


@pytest.fixture
def upstream() -> Iterator[Callable[[Callable[[socket.socket, Upstream], None]], Upstream]]:
    """Starts TCP servers whose connections are given to a function."""
    listeners = []

    def start(serve: Callable[[socket.socket, Upstream], None]) -> Upstream:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listeners.append(listener)
        made = Upstream(listener.getsockname()[1])

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=run, args=(connection,), daemon=True).start()

        def run(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                serve(connection, made)

        threading.Thread(target=accept, daemon=True).start()
        return made

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def echo(connection: socket.socket, upstream: Upstream) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def answer_once(connection: socket.socket, upstream: Upstream) -> None:
    """Any HTTP request, answered after its head."""
    upstream.received.append(connection.recv(65536))
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
    while data := connection.recv(65536):
        upstream.received[-1] += data


def test_programs_that_know_proxies_get_out(world: World, box: str, upstream: Any) -> None:
    """It works unconfigured, by the variables that are there; the outside sees a plain request."""
    web = upstream(answer_once)
    done = world.server.exec(box, f"curl -sS http://site.test:{web.port}/path?q=1")

    assert (done["exitCode"], done["result"]) == (0, "hello")
    assert web.received[0].startswith(
        b"GET /path?q=1 HTTP/1.1\r\nHost: site.test:%d\r\n" % web.port
    )
    assert b"Proxy-Connection" not in web.received[0]
    assert "203.0.113.10" in world.noted("dialled")


def test_own_ports_need_no_proxy(world: World, box: str) -> None:
    """A server inside is reached directly, by every name of the sandbox's loopback."""
    world.server.exec(
        box, "setsid python3 -m http.server -d /tmp 8123 >/dev/null 2>&1 </dev/null &"
    )
    fetch = (
        "curl -sS --retry 50 --retry-delay 1 --retry-connrefused -o /dev/null -w '%{http_code} '"
    )
    done = world.server.exec(
        box, f"{fetch} http://localhost:8123/ 2>/dev/null; {fetch} http://127.0.0.1:8123/"
    )

    assert done["result"] == "200 200 "


def test_a_tunnel_carries_bytes_both_ways_and_a_half_close(
    world: World, box: str, upstream: Any
) -> None:
    """The client ends its side, the answer still arrives whole."""

    def count(connection: socket.socket, made: Upstream) -> None:
        total = 0
        while data := connection.recv(65536):
            total += len(data)
        connection.sendall(b"%d " % total + b"y" * 5_000_000)

    target = f"site.test:{upstream(count).port}"
    code = f"""
s, line = connect({target!r})
s.sendall(b"x" * 5_000_000)
s.shutdown(socket.SHUT_WR)
answer = b""
while data := s.recv(65536):
    answer += data
print(line, answer[:8], len(answer))
"""
    assert world.inside(box, code) == "200 Connection established b'5000000 ' 5000008"


def own_addresses() -> list[str]:
    """This machine's address on the way to others, if it has one; connecting UDP sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("203.0.113.1", 9))
        return [str(probe.getsockname()[0])]
    return []


def test_what_the_filter_denies_is_refused_in_every_spelling_and_never_dialled(
    world: World, box: str
) -> None:
    """Loopback, private, metadata, the host's own, and names that mean them."""
    port = world.server.url.rpartition(":")[2]
    hosts = [
        "127.0.0.1",
        "0x7f000001",
        "2130706433",
        "0177.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd00::1]",
        "[fe80::1]",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
        "localhost",
        "LOCALHOST.",
        "inner.test",
        "mixed.test",
        "six.test",
        *own_addresses(),
    ]
    answers = world.status_lines(box, *(f"{host}:{port}" for host in hosts))

    assert [answer[:3] for answer in answers] == ["403"] * len(hosts), answers
    assert all(address.startswith("203.0.113.") for address in world.noted("dialled"))


def test_the_operator_opens_a_private_range(upstream: Any) -> None:
    """What `serve --allow-range` names is reachable, nothing beside it, and `status` says so."""
    port = upstream(echo).port
    with world_on(new_state_dir(), None, "10.1.0.0/16") as world:
        lines = world.status_lines(
            world.server.create()["id"],
            f"inner.test:{port}",
            f"10.1.9.9:{port}",
            f"10.2.0.1:{port}",
            "127.0.0.1:80",
        )
        ranges = world.server.status()["engine"]["egress_allow_ranges"]

    assert [line[:3] for line in lines] == ["200", "200", "403", "403"]
    assert ranges == ["10.1.0.0/16"]


def test_serve_takes_the_ranges_and_refuses_this_machine(state_dir: Path) -> None:
    """The command line's flag; loopback stays closed, because this server's own API is there."""
    serve = [
        sys.executable,
        str(SCRIPTS / "local_daytona"),
        "serve",
        "--state-dir",
        str(state_dir),
        "--allow-range",
    ]
    refused = subprocess.run(
        [*serve, "127.0.0.0/8"], capture_output=True, text=True, timeout=60, check=False
    )
    state_dir.mkdir(exist_ok=True)
    with open(state_dir / "server.log", "wb") as log:
        process = subprocess.Popen(
            [*serve, "10.1.0.0/16", "--allow-range", "fd12::/16"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        ranges = wait_for_server(state_dir, process).status()["engine"]["egress_allow_ranges"]
    finally:
        process.terminate()
        process.wait(timeout=30)

    assert (
        refused.returncode,
        "127.0.0.0/8 (loopback), which cannot be opened" in refused.stderr,
    ) == (2, True)
    assert ranges == ["10.1.0.0/16", "fd12::/16"]


def test_a_name_that_changes_its_meaning_is_refused(world: World, box: str, upstream: Any) -> None:
    """DNS rebinding: the address that was checked is dialled, the next request checked anew."""
    target = f"rebind.test:{upstream(echo).port}"

    first, second = world.status_lines(box, target, target)

    assert first == "200 Connection established"
    assert second == f"403 local Daytona: {target} refused: 127.0.0.1 is a loopback address"


def test_refusals_are_said_once_logged_and_counted(world: World, box: str) -> None:
    """The caller gets one line, the operator a log that a loop cannot fill."""
    before = world.server.status()["engine"]["egress_refused"]
    body = world.server.exec(
        box,
        "curl -sS http://10.9.8.7/; for i in $(seq 99); do curl -s http://10.9.8.7/; done | wc -l",
    )["result"]

    assert body == "local Daytona: 10.9.8.7:80 refused: private address\n99\n"
    assert world.server.status()["engine"]["egress_refused"] == before + 100
    assert 1 <= world.log.count("10.9.8.7") <= 25


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n",
        b"CONNECT site.test HTTP/1.1\r\n\r\n",
        b"CONNECT site.test:0 HTTP/1.1\r\n\r\n",
        b"GET https://site.test/ HTTP/1.1\r\n\r\n",
        b"GET http://a@site.test/ HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        (
            b"POST http://site.test/ HTTP/1.1\r\n"
            b"Content-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        ),
        (
            b"POST http://site.test/ HTTP/1.1\r\n"
            b"Transfer-Encoding: chunked\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        ),
        b"POST http://site.test/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET http://site.test/ HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        b"GET http://site.test/ HTTP/1.1\r\nX: a\nHost: b\r\n\r\n",
        b"GET http://site.test/ HTTP/1.1\r\nX: a\rHost: b\r\n\r\n",
        b"GET http://site.test/ HTTP/1.1\nX: a\n\r\n\r\n",
        b"GET http://site.test/ HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"GET http://site.test/ HTTP/1.1\r\nX: " + b"x" * 60000,
    ],
    ids=[
        "origin form",
        "no port",
        "port 0",
        "https",
        "userinfo",
        "tls",
        "smuggling",
        "coded twice",
        "two lengths",
        "folded",
        "line feed",
        "return",
        "bare line feeds",
        "header",
        "too long",
    ],
)
def test_what_is_no_proxy_request_gets_a_clear_answer(
    world: World, box: str, request_bytes: bytes
) -> None:
    """Nothing hangs, nothing is dialled."""
    code = (
        f"s = socket.create_connection(('127.0.0.1', 3128), 60); s.sendall({request_bytes!r}); "
        "print(s.recv(3000).decode().split()[1])"
    )

    assert world.inside(box, code) in ("400", "431")


def test_block_all_at_create_and_lifted_at_runtime(world: World, upstream: Any) -> None:
    """Nothing is even resolved while it holds."""
    target = f"other.test:{upstream(echo).port}"
    created = world.server.create(networkBlockAll=True)
    resolved = world.log.count("resolved other.test")
    blocked = world.status_lines(created["id"], target)
    resolved_after = world.log.count("resolved other.test")
    lifted = world.set_network(created["id"], networkBlockAll=False)
    open_now = world.status_lines(created["id"], target)
    world.server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert created["networkBlockAll"] is True
    assert blocked == [f"403 local Daytona: {target} refused: networkBlockAll is on"]
    assert resolved_after == resolved
    assert lifted["networkBlockAll"] is False
    assert open_now == ["200 Connection established"]


def test_a_domain_list_is_strict(world: World, upstream: Any) -> None:
    """The names and what `*.` covers, no other name, not even as a query, and no bare address."""
    port = upstream(echo).port
    created = world.server.create(domainAllowList="other.test, *.site.test")
    allowed = world.status_lines(
        created["id"], f"other.test:{port}", f"deep.site.test:{port}", f"SITE.test:{port}"
    )
    refused = world.status_lines(
        created["id"],
        f"evil.test:{port}",
        f"203.0.113.20:{port}",
        f"xsite.test:{port}",
        f"xother.test:{port}",
    )
    world.server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert created["domainAllowList"] == "other.test,*.site.test"
    assert [line[:3] for line in allowed] == ["200"] * 3
    assert refused[0] == f"403 local Daytona: evil.test:{port} refused: not on domainAllowList"
    assert [line[:3] for line in refused] == ["403"] * 4
    assert not {"evil.test", "xsite.test", "xother.test"} & world.noted("resolved")


def test_an_allowed_name_may_still_not_mean_a_denied_address(world: World) -> None:
    """The user's list does not open this machine."""
    created = world.server.create(domainAllowList="inner.test")
    by_name = world.status_lines(created["id"], "inner.test:80")
    world.set_network(created["id"], networkAllowList="10.0.0.0/8,127.0.0.0/8")
    by_address = world.status_lines(created["id"], "10.1.2.3:80", "127.0.0.1:80", "inner.test:80")
    world.server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert [line[:3] for line in by_name + by_address] == ["403"] * 4


def test_a_cidr_list_is_strict(world: World, upstream: Any) -> None:
    """It holds for addresses, written out or behind a name."""
    port = upstream(echo).port
    created = world.server.create(networkAllowList="203.0.113.16/28")
    lines = world.status_lines(
        created["id"],
        *(f"{host}:{port}" for host in ("other.test", "203.0.113.20", "site.test", "203.0.113.10")),
    )
    world.server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert created["networkAllowList"] == "203.0.113.16/28"
    assert [line[:3] for line in lines] == ["200", "200", "403", "403"]
    assert lines[2].endswith("refused: not on networkAllowList")


def test_new_settings_cut_the_open_connections_that_they_forbid(
    world: World, box: str, upstream: Any
) -> None:
    """An open tunnel must not outlive the permission; one that is still allowed goes on."""
    port = upstream(echo).port
    code = f"""
forbidden, allowed = connect("other.test:{port}")[0], connect("site.test:{port}")[0]
open("/tmp/connected", "w").close()
try:
    print("cut" if forbidden.recv(1) == b"" else "data", flush=True)
except ConnectionError:
    print("cut", flush=True)
allowed.sendall(b"x")
print(allowed.recv(1), flush=True)
"""
    said: list[str] = []
    client = threading.Thread(target=lambda: said.append(world.inside(box, code)))
    client.start()
    until(lambda: world.server.exec(box, "test -e /tmp/connected")["exitCode"] == 0)
    world.set_network(box, domainAllowList="site.test")
    client.join(60)

    assert said == ["cut\nb'x'"]


def test_settings_survive_the_server_and_a_stop(upstream: Any) -> None:
    """A sandbox that was blocked is blocked when it starts again."""
    state = new_state_dir()
    with world_on(state) as first:
        made = first.server.create(networkBlockAll=True)["id"]
    with world_on(state) as second:
        found = second.server.get(made)
        second.server.request("POST", f"/api/sandbox/{made}/start")
        line = second.status_lines(made, "site.test:80")[0]

    assert found is not None
    assert (found["state"], found["networkBlockAll"]) == ("stopped", True)
    assert line.startswith("403")


BAD_SETTINGS: dict[str, dict[str, Any]] = {
    "block and list": {"networkBlockAll": True, "networkAllowList": "203.0.113.0/24"},
    "two lists": {"networkAllowList": "203.0.113.0/24", "domainAllowList": "a.test"},
    "name as cidr": {"networkAllowList": "github.com"},
    "no prefix": {"networkAllowList": "203.0.113.1"},
    "IPv6": {"networkAllowList": "2001:db8::/32"},
    "prefix": {"networkAllowList": "203.0.113.0/33"},
    "eleven": {"networkAllowList": ",".join(["203.0.113.0/24"] * 11)},
    "url": {"domainAllowList": "https://a.test"},
    "port": {"domainAllowList": "a.test:443"},
    "star": {"domainAllowList": "*"},
    "inner star": {"domainAllowList": "a.*.test"},
    "address": {"domainAllowList": "203.0.113.1"},
    "twenty-one": {"domainAllowList": ",".join(["a.test"] * 21)},
    "hole": {"domainAllowList": "a.test,,b.test"},
    "type": {"domainAllowList": ["a.test"]},
    "boolean": {"networkBlockAll": "perhaps"},
}


@pytest.mark.parametrize("fields", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_make_no_sense_are_refused(
    world: World, box: str, fields: dict[str, Any]
) -> None:
    """At create and at runtime, with a sentence that names the field; nothing changes."""
    at_create = world.server.request("POST", "/api/sandbox", body=fields)
    at_runtime = world.server.request("POST", f"/api/sandbox/{box}/network-settings", body=fields)

    assert (at_create.status, at_runtime.status) == (400, 400)
    assert next(iter(fields)) in at_create.json()["message"]
    now = world.server.get(box)
    assert now is not None
    assert (now["networkBlockAll"], "networkAllowList" in now, "domainAllowList" in now) == (
        False,
        False,
        False,
    )


def test_the_sdk_changes_settings(world: World, box: str) -> None:
    """Each call replaces what held before, and an empty list is none."""
    from daytona import Daytona, DaytonaConfig

    sandbox = Daytona(
        DaytonaConfig(api_key=world.server.api_key, api_url=world.server.api_url)
    ).get(box)
    seen = []
    for change in (
        {"network_block_all": True},
        {"domain_allow_list": "a.test"},
        {"network_allow_list": "203.0.113.0/24"},
        {"network_allow_list": ""},
        {"domain_allow_list": "a.test"},
        {"network_block_all": False},
    ):
        sandbox.update_network_settings(**change)
        sandbox.refresh_data()
        seen.append(
            (sandbox.network_block_all, sandbox.network_allow_list, sandbox.domain_allow_list)
        )

    nothing = (False, None, None)
    listed = (False, None, "a.test")
    assert seen == [
        (True, None, None),
        listed,
        (False, "203.0.113.0/24", None),
        nothing,
        listed,
        nothing,
    ]


def test_ten_thousand_connections_hurt_nobody_else(world: World, box: str, upstream: Any) -> None:
    """The server keeps few; another sandbox gets out, and the flooding one when its flood ends."""
    web = upstream(answer_once)
    flood = """
import os
for _ in range(2):
    if os.fork() == 0:
        held = []
        for _ in range(5000):
            s = socket.socket(); s.setblocking(False); held.append(s)
            s.connect_ex(("127.0.0.1", 3128))
        open("/tmp/flooded%d" % os.getpid(), "w").close()
        time.sleep(1000)
"""
    world.server.exec(
        box,
        (
            "cat > /tmp/flood.py <<'END'\n"
            f"{INSIDE}{flood}\n"
            "END\n"
            "setsid python3 /tmp/flood.py >/dev/null 2>&1 </dev/null &"
        ),
    )
    flooding = "ls /tmp/flooded* 2>/dev/null | wc -l"
    until(lambda: world.server.exec(box, flooding)["result"].strip() == "2", seconds=60)
    neighbour = world.server.create()
    fetch = f"curl -sS -m 60 http://site.test:{web.port}/"
    got_out = world.server.exec(neighbour["id"], fetch)["result"]
    open_connections = world.server.status()["engine"]["egress_connections"]
    world.server.exec(box, "pkill -f flood.py")
    again = until(lambda: world.server.exec(box, fetch)["result"] == "hello", seconds=60)
    world.server.request("DELETE", f"/api/sandbox/{neighbour['id']}")

    assert got_out == "hello"
    assert 0 < open_connections <= 300
    assert again


def resident(pid: int) -> int:
    """Bytes of resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_reader_that_does_not_read_costs_no_memory(world: World, box: str, upstream: Any) -> None:
    """The relay waits; it never holds more than a chunk."""
    sent = []

    def pour(connection: socket.socket, made: Upstream) -> None:
        connection.settimeout(3)
        with contextlib.suppress(TimeoutError):
            for _ in range(2000):
                connection.sendall(bytes(1024 * 1024))
                sent.append(1)
        made.received.append(b"stalled")

    made = upstream(pour)
    before = resident(world.server.pid)
    code = (
        f"s, _ = connect('site.test:{made.port}'); "
        "open('/tmp/holding', 'w').close(); time.sleep(60)"
    )
    world.server.exec(
        box,
        (
            "cat > /tmp/hold.py <<'END'\n"
            f"{INSIDE}{code}\n"
            "END\n"
            "setsid python3 /tmp/hold.py >/dev/null 2>&1 </dev/null &"
        ),
    )
    until(lambda: made.received, seconds=60)

    assert len(sent) < 100
    assert resident(world.server.pid) - before < 40 * 1024 * 1024


def test_a_deleted_sandbox_leaves_no_connection(world: World, upstream: Any) -> None:
    """Its open tunnels end with it, and so do the server's descriptors."""
    ended = threading.Event()

    def wait_for_the_end(connection: socket.socket, made: Upstream) -> None:
        connection.sendall(b"x")
        with contextlib.suppress(ConnectionError):
            connection.recv(1)
        ended.set()

    made = upstream(wait_for_the_end)
    descriptors = Path(f"/proc/{world.server.pid}/fd")
    before = len(list(descriptors.iterdir()))
    created = world.server.create()
    code = (
        f"s, _ = connect('site.test:{made.port}'); s.recv(1); "
        "open('/tmp/holding', 'w').close(); time.sleep(600)"
    )
    hold = (
        "cat > /tmp/hold.py <<'END'\n"
        f"{INSIDE}{code}\n"
        "END\n"
        "setsid python3 /tmp/hold.py >/dev/null 2>&1 </dev/null &"
    )
    world.server.exec(created["id"], hold)
    until(lambda: world.server.exec(created["id"], "test -e /tmp/holding")["exitCode"] == 0)
    world.server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert ended.wait(20)
    until(lambda: len(list(descriptors.iterdir())) <= before)


def as_parent(connection: socket.socket, upstream: Upstream) -> None:
    """A proxy that answers every request itself, and echoes in tunnels."""
    head = connection.recv(65536)
    upstream.received.append(head)
    if head.startswith(b"CONNECT"):
        connection.sendall(b"HTTP/1.1 200 fine\r\n\r\n")
        echo(connection, upstream)
    else:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nproxy")
        while data := connection.recv(65536):
            upstream.received[-1] += data


@pytest.fixture
def behind(upstream: Any) -> Iterator[tuple[World, Upstream, str]]:
    """A server that must itself use a proxy, the proxy, and a sandbox."""
    parent = upstream(as_parent)
    url = f"http://user:secret@parent.test:{parent.port}"
    with world_on(
        new_state_dir(), {"http_proxy": url, "https_proxy": url, "no_proxy": "other.test"}
    ) as world:
        yield world, parent, world.server.create()["id"]


def test_the_servers_own_proxy_is_used_with_its_password(
    behind: tuple[World, Upstream, str],
) -> None:
    """Names that only it can resolve get out; the password shows nowhere."""
    world, parent, box = behind
    tunnel = world.inside(
        box, "s, line = connect('only-there.test:443'); s.sendall(b'ping'); print(line, s.recv(4))"
    )
    plain = world.server.exec(box, "curl -sS http://only-there.test/x")["result"]
    status = world.server.status()["engine"]["egress"]

    assert tunnel == "200 Connection established b'ping'"
    assert plain == "proxy"
    assert parent.received[0].startswith(b"CONNECT only-there.test:443 HTTP/1.1\r\n")
    assert parent.received[1].startswith(
        b"GET http://only-there.test/x HTTP/1.1\r\nHost: only-there.test\r\n"
    )
    assert all(
        b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in head for head in parent.received
    )
    assert status == f"proxy, through http://parent.test:{parent.port}"
    assert "secret" not in world.log


def test_the_policy_holds_in_front_of_the_servers_own_proxy(
    behind: tuple[World, Upstream, str], upstream: Any
) -> None:
    """It is asked for nothing that is denied; hosts of NO_PROXY are dialled, as checked as ever."""
    world, parent, box = behind
    direct = f"other.test:{upstream(echo).port}"
    refused = world.status_lines(
        box,
        "127.0.0.1:80",
        "10.0.0.1:80",
        "inner.test:80",
        "localhost:80",
        f"parent.localhost:{parent.port}",
    )
    passed = world.status_lines(box, direct)
    world.set_network(box, networkAllowList="203.0.113.16/28")
    unknown = world.status_lines(box, "only-there.test:443")

    assert [line[:3] for line in refused] == ["403", "403", "403", "403", "502"]
    assert passed == ["200 Connection established"]
    assert unknown[0].endswith("refused: not on networkAllowList")
    assert parent.received == []


def test_a_second_request_does_not_ride_on_a_checked_one(
    behind: tuple[World, Upstream, str],
) -> None:
    """Bytes after the first request never reach the parent, which would take them for another."""
    world, parent, box = behind
    second = "GET http://127.0.0.1/secret HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
    for head, body in (
        ("Content-Length: 4", "abcd"),
        ("Transfer-Encoding: chunked", "4;x=y\\r\\nabcd\\r\\n0\\r\\n\\r\\n"),
    ):
        request = f"POST http://site.test/ HTTP/1.1\\r\\n{head}\\r\\n\\r\\n{body}{second}"
        code = (
            "s = socket.create_connection(('127.0.0.1', 3128), 60)\n"
            f"s.sendall(b'{request}')\n"
            "while s.recv(999): pass"
        )
        world.inside(box, code)
    until(lambda: len(parent.received) == 2 and all(b"abcd" in data for data in parent.received))

    assert [data.rpartition(b"\r\n\r\n")[0].count(b"HTTP/1.1") for data in parent.received] == [
        1,
        1,
    ]
    assert all(b"/secret" not in data for data in parent.received)


@pytest.fixture
def https_site(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a TLS site with a git repository, and the file that alone names its authority."""
    run = functools.partial(subprocess.run, check=True, capture_output=True, cwd=tmp_path)
    run(
        """
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out
            ca.pem -subj /CN=site.test -addext subjectAltName=DNS:site.test
        """.split()
    )
    run(["git", "init", "-q", "-b", "main", "work"])
    (tmp_path / "work" / "README").write_text("from outside\n")
    commit = ["git", "-C", "work", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    run([*commit, "add", "."])
    run([*commit, "commit", "-q", "-m", "first"])
    run(["git", "clone", "-q", "--bare", "work", "www/repo.git"])
    run(["git", "-C", "www/repo.git", "update-server-info"])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args: Any, **_more: Any) -> None:
            """The test's output is not an access log."""

    site = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "www"))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    site.socket = context.wrap_socket(site.socket, server_side=True)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    yield site.server_port, tmp_path / "ca.pem"
    site.shutdown()
    site.server_close()


def test_git_and_python_trust_what_the_servers_environment_trusts(
    https_site: tuple[int, Path],
) -> None:
    """A company's own authority, named by SSL_CERT_FILE on the host, works inside unconfigured."""
    port, bundle = https_site
    with world_on(new_state_dir(), {"SSL_CERT_FILE": str(bundle)}) as world:
        box = world.server.create()["id"]
        cloned = world.server.exec(
            box, f"git clone -q https://site.test:{port}/repo.git && cat repo/README"
        )
        fetch = (
            "import urllib.request as u; "
            f"print(u.urlopen('https://site.test:{port}/repo.git/HEAD').read())"
        )
        fetched = world.inside(box, fetch)
        keys = world.server.exec(box, "grep -c 'PRIVATE KEY' $SSL_CERT_FILE")["result"]

    assert (cloned["exitCode"], cloned["result"]) == (0, "from outside\n")
    assert fetched == "b'ref: refs/heads/main\\n'"
    assert keys == "0\n"
