"""Programs that know no proxy: what they reach, and that the same rules hold.

On a server whose outside is this machine.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_server import is_alive, new_state_dir, until

from .test_egress import World, own_addresses, resident, world_on

PLAIN = "env -i PATH=$PATH HOME=$HOME "  # no proxy variable is left
INSIDE = '''
import contextlib, json, socket, sys
def reach(host, port=443, say=b"ping"):
    """What came back, or the name of the error."""
    try:
        with socket.create_connection((host, port), 30) as s:
            s.sendall(say)
            with contextlib.suppress(OSError):  # it may be reset by now: reading says so
                s.shutdown(socket.SHUT_WR)
            came = b""
            while data := s.recv(65536):
                came += data
            return came.decode()
    except OSError as error:
        return type(error).__name__
def web(host):
    """The status line and the body of a plain request."""
    answer = reach(host, 80, b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n").split("\\r\\n")
    return answer[0][9:12] + " " + answer[-1].strip()
'''
CLOSED = ("ConnectionResetError", "")  # nothing of anybody's came
CAP_NET_ADMIN = 1 << 12


class Echo(socketserver.BaseRequestHandler):
    """Says what it hears, until the other side ends."""

    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Web(socketserver.BaseRequestHandler):
    """Answers HTTP with hello; a requested tunnel is an echo, as a proxy's way to one would be."""

    heard: list[bytes] = []  # noqa: RUF012  (all of them, for the test that looks)

    def handle(self) -> None:
        head = self.request.recv(65536)
        self.heard.append(head)
        if head.startswith(b"CONNECT"):
            self.request.sendall(b"HTTP/1.1 200 fine\r\n\r\n")
            Echo.handle(self)  # type: ignore[arg-type]
        else:
            self.request.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
            )


class Upstream(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no error here."""


@pytest.fixture(scope="module")
def outside() -> Iterator[dict[str, int]]:
    """Servers of the world outside, as the ports under which sandboxes know them."""
    with Upstream(("127.0.0.1", 0), Echo) as echo, Upstream(("127.0.0.1", 0), Web) as web:
        for each in (echo, web):
            threading.Thread(target=each.serve_forever, daemon=True).start()
        yield {
            "22": echo.server_address[1],
            "443": echo.server_address[1],
            "80": web.server_address[1],
        }
        echo.shutdown()
        web.shutdown()


@pytest.fixture(scope="module")
def world(outside: dict[str, int]) -> Iterator[World]:
    """One server for the tests that only need one; without the mode there is nothing to test."""
    with world_on(new_state_dir(), {"OUTSIDE_PORTS": json.dumps(outside)}) as running:
        skip_without(running)
        yield running


def skip_without(world: World) -> None:
    mode = world.server.status()["engine"]["egress_transparent"]
    if mode.startswith("no"):
        pytest.skip(f"this host has no transparent egress: {mode}")


@pytest.fixture
def box(world: World) -> Iterator[str]:
    """The id of a fresh sandbox of that server."""
    created = world.server.create()
    yield created["id"]
    world.server.request("DELETE", f"/api/sandbox/{created['id']}")


def inside(world: World, sandbox: str, expression: str) -> Any:
    """An expression's value by Python in the sandbox, with no variable that names a proxy."""
    encoded = base64.b64encode(f"{INSIDE}\nprint(json.dumps({expression}))".encode()).decode()
    done = world.server.exec(sandbox, f"echo {encoded} | base64 -d | {PLAIN} python3 -")
    assert done["exitCode"] == 0, done["result"]
    return json.loads(done["result"])


def test_the_status_says_which_ways_out_hold(world: World) -> None:
    """An operator sees that both do."""
    engine = world.server.status()["engine"]

    assert (engine["egress"], engine["egress_transparent"]) == (
        "proxy",
        "ports 22, 80, 443, and names",
    )


def test_a_plain_connection_carries_bytes_both_ways_and_a_half_close(
    world: World, box: str
) -> None:
    """By name and by address, on every port of the mode; nobody reads or changes what is in it."""
    assert inside(
        world, box, "[reach('site.test'), reach('203.0.113.20', 22), web('site.test')]"
    ) == ["ping", "ping", "200 hello"]
    assert inside(world, box, "len(reach('SITE.test.', 443, b'x' * 5_000_000))") == 5_000_000
    assert {"203.0.113.10", "203.0.113.20"} <= world.noted("dialled")


@pytest.mark.skipif(
    shutil.which("node", path="/usr/bin:/bin") is None, reason="this host has no node"
)
def test_nodes_fetch_needs_no_proxy_variables(world: World, box: str) -> None:
    """Before 22.21 it knows none."""
    fetch = 'fetch("http://site.test/").then(answer => answer.text()).then(console.log)'

    assert world.server.exec(box, f"{PLAIN} node -e '{fetch}'")["result"] == "hello\n"


def test_curl_needs_no_proxy_variables(world: World, box: str) -> None:
    """Nor does anything else that opens sockets itself."""
    assert world.server.exec(box, f"{PLAIN} curl -sS http://site.test/")["result"] == "hello"


def test_a_lookup_leaves_nothing_outside(world: World, box: str) -> None:
    """A name is data: it is resolved when a connection that is allowed needs it, and not before."""
    look_up = "[socket.gethostbyname(f'{n}.secret.test')[:7] for n in range(3)] + [socket.has_ipv6]"
    assert inside(world, box, look_up)[:3] == ["198.18."] * 3
    found = world.server.exec(box, "getent ahostsv6 only6.secret.test | grep -vc ffff:")["result"]
    assert found == "0\n"
    assert not [name for name in world.noted("resolved") if "secret" in name]


def test_what_the_filter_denies_is_refused_and_never_dialled(world: World, box: str) -> None:
    """Loopback, private, metadata, the host's own, the stand-ins, and names for any of them."""
    hosts = [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.77.77",
        "198.19.255.255",
        "inner.test",
        "mixed.test",
        "six.test",
        *own_addresses(),
    ]
    answers = inside(
        world, box, f"[[web(host), reach(host), reach(host, 22)] for host in {hosts!r}]"
    )

    for host, (plain, tls, ssh) in zip(hosts, answers, strict=True):
        assert plain.startswith("403 local Daytona: "), (host, plain)
        assert tls in CLOSED, host
        assert ssh in CLOSED, host
    assert all(address.startswith("203.0.113.") for address in world.noted("dialled"))


def test_a_name_that_changes_its_meaning_is_refused(world: World, box: str) -> None:
    """DNS rebinding: the stand-in stays the same, what it means is checked at each connection."""
    first, second = inside(world, box, "[web('rebind.test'), web('rebind.test')]")

    assert first == "200 hello"
    assert second == "403 local Daytona: rebind.test:80 refused: 127.0.0.1 is a loopback address"


def test_other_ports_and_udp_reach_nothing(world: World, box: str) -> None:
    """They stay in the sandbox, where nobody listens."""
    datagram = (
        "[s := socket.socket(type=socket.SOCK_DGRAM), s.settimeout(5), "
        "s.connect(('203.0.113.10', 443)), s.send(b'x'), s.recv(1)]"
    )
    reached = inside(world, box, "[reach('203.0.113.10', port) for port in (25, 853, 8443)]")
    assert reached == ["ConnectionRefusedError"] * 3
    sent = world.server.exec(box, f'python3 -c "import socket; {datagram}" 2>&1')["result"]
    assert "ConnectionRefusedError" in sent


def test_block_all_at_create_and_lifted_at_runtime(world: World) -> None:
    """While it holds no name is answered, and for an address learned before nothing listens."""
    created = world.server.create(networkBlockAll=True)["id"]
    blocked = inside(
        world, created, "[reach('other.test'), reach('203.0.113.20', 22), reach('203.0.113.20')]"
    )
    world.set_network(created, networkBlockAll=False)
    stand_in, lifted = inside(
        world, created, "[socket.gethostbyname('other.test'), reach('other.test')]"
    )
    world.set_network(created, networkBlockAll=True)
    again = inside(world, created, f"[reach('other.test'), reach({stand_in!r})]")
    world.server.request("DELETE", f"/api/sandbox/{created}")

    assert blocked == ["gaierror", "ConnectionRefusedError", "ConnectionRefusedError"]
    assert lifted == "ping"
    assert again == ["gaierror", "ConnectionRefusedError"]


def test_a_domain_list_is_strict(world: World) -> None:
    """Only its names are answered and reached, no bare address; nothing else leaves as a query."""
    created = world.server.create(domainAllowList="other.test, *.site.test")["id"]
    allowed = inside(
        world, created, "[reach('other.test'), reach('deep.site.test'), web('SITE.test')]"
    )
    refused = inside(
        world,
        created,
        "[reach('strict.test'), reach('xsite.test'), web('203.0.113.20'), reach('203.0.113.20')]",
    )
    world.server.request("DELETE", f"/api/sandbox/{created}")

    assert allowed == ["ping", "ping", "200 hello"]
    assert refused[:3] == [
        "gaierror",
        "gaierror",
        "403 local Daytona: 203.0.113.20:80 refused: not on domainAllowList",
    ]
    assert refused[3] in CLOSED
    assert not {"strict.test", "xsite.test"} & world.noted("resolved")


def test_a_cidr_list_is_strict(world: World) -> None:
    """It holds for addresses, written out or behind a name."""
    created = world.server.create(networkAllowList="203.0.113.16/28")["id"]
    answers = inside(
        world,
        created,
        "[web(host)[:3] for host in ('other.test', '203.0.113.20', 'site.test', '203.0.113.10')]",
    )
    world.server.request("DELETE", f"/api/sandbox/{created}")

    assert answers == ["200", "200", "403", "403"]


def test_new_settings_cut_the_open_connections_that_they_forbid(world: World, box: str) -> None:
    """An open connection must not outlive the permission."""
    hold = (
        "s = socket.create_connection(('other.test', 443)); open('/tmp/open', 'w').close(); "
        "s.recv(1)"
    )
    client = threading.Thread(
        target=lambda: world.server.exec(
            box, f'{PLAIN} python3 -c "import socket; {hold}"; touch /tmp/cut'
        )
    )
    client.start()
    until(lambda: world.server.exec(box, "test -e /tmp/open")["exitCode"] == 0)
    world.set_network(box, domainAllowList="site.test")
    client.join(60)

    assert world.server.exec(box, "test -e /tmp/cut")["exitCode"] == 0


def test_refusals_are_logged_and_counted(world: World) -> None:
    """Connections and lookups, as those of the proxy are."""
    created = world.server.create(domainAllowList="site.test")["id"]
    before = world.server.status()["engine"]["egress_refused"]
    inside(world, created, "[reach('counted.test')] + [web('10.9.8.7') for _ in range(99)]")
    after = world.server.status()["engine"]["egress_refused"]
    world.server.request("DELETE", f"/api/sandbox/{created}")

    assert after == before + 100
    assert "refused: not on domainAllowList" in world.log
    assert 1 <= world.log.count("10.9.8.7") <= 25


def test_own_servers_work_on_every_port_that_was_theirs(world: World, box: str) -> None:
    """0.0.0.0:8000 is free, loopback leads to it, low ports are nobody's, as without the mode."""
    world.server.exec(
        box, "setsid python3 -m http.server -d /tmp 8000 >/dev/null 2>&1 </dev/null &"
    )
    fetch = (
        f"{PLAIN} curl -sS --retry 50 --retry-delay 1 --retry-connrefused "
        "-o /dev/null -w '%{http_code} '"
    )
    done = world.server.exec(
        box, f"{fetch} http://localhost:8000/ 2>/dev/null; {fetch} http://127.0.0.1:8000/"
    )
    low = [
        world.server.exec(box, f"python3 -m http.server {port} 2>&1")["result"]
        for port in (80, 81, 443)
    ]

    assert done["result"] == "200 200 "
    assert all("PermissionError" in said for said in low), low


def test_no_process_has_rights_over_the_network(world: World, box: str) -> None:
    """All sets are empty: the routes were made from outside."""
    sets = world.server.exec(box, "grep -h ^Cap /proc/self/status | cut -f2 | sort -u")["result"]
    assert sets == "0" * 16 + "\n"


def test_a_flood_of_lookups_costs_neither_memory_nor_the_neighbours(world: World, box: str) -> None:
    """The table is bounded, and whoever asks without end waits."""
    flood = (
        "import socket, struct, itertools\n"
        "s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('127.0.0.53', 53))\n"
        "for n in itertools.count():\n"
        "    name = b'%063d' % n\n"
        "    head = struct.pack('!6H', 1, 256, 1, 0, 0, 0)\n"
        "    try: s.send(head + b'\\x3f' + name + b'\\0\\0\\1\\0\\1')\n"
        "    except OSError: pass\n    if n == 30000: open('/tmp/flooded', 'w').close()\n"
    )
    before = resident(world.server.pid)
    world.server.exec(
        box,
        (
            "cat > /tmp/flood.py <<'END'\n"
            f"{flood}\n"
            "END\n"
            "setsid python3 /tmp/flood.py >/dev/null 2>&1 </dev/null &"
        ),
    )
    until(lambda: world.server.exec(box, "test -e /tmp/flooded")["exitCode"] == 0, seconds=60)
    neighbour = world.server.create()["id"]
    got_out = inside(world, neighbour, "reach('site.test')")
    world.server.request("DELETE", f"/api/sandbox/{neighbour}")
    world.server.exec(box, "pkill -f flood.py")

    assert got_out == "ping"
    assert resident(world.server.pid) - before < 40 * 1024 * 1024


def test_packets_that_are_no_queries_end_nothing(world: World, box: str) -> None:
    """Whatever comes, the next question is answered."""
    junk = [
        b"",
        b"\0" * 11,
        b"\0" * 12,
        b"\xff" * 512,
        b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",
        b"\0\1\1\0\0\1\0\0\0\0\0\0\3a.",
        b"x" * 5000,
    ]
    send = (
        "[socket.socket(type=socket.SOCK_DGRAM).sendto(each, ('127.0.0.53', 53)) "
        f"for each in {junk!r}]"
    )

    assert inside(world, box, f"[{send}, reach('site.test')]")[1] == "ping"


def test_the_servers_own_proxy_is_used_here_too(outside: dict[str, int]) -> None:
    """As a tunnel to the name; what the filter denies is not asked of it."""
    Web.heard.clear()
    url = f"http://parent.test:{outside['80']}"
    with world_on(new_state_dir(), {"http_proxy": url, "https_proxy": url}) as world:
        skip_without(world)
        created = world.server.create()["id"]
        answers = inside(world, created, "[reach('only-there.test'), reach('10.0.0.1')]")

    assert (answers[0], answers[1] in CLOSED) == ("ping", True)
    assert [head.split(b"\r\n")[0] for head in Web.heard] == [
        b"CONNECT only-there.test:443 HTTP/1.1"
    ]


def helpers(server: int) -> list[int]:
    """Pids of the program that opens sockets, as a server's children."""
    children = [
        int(stat.parent.name)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if parent_of(stat) == server
    ]
    return [
        pid
        for pid in children
        if is_alive(pid) and b"namespace.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def parent_of(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_the_helper_is_one_is_replaced_and_ends_with_the_server(outside: dict[str, int]) -> None:
    """Killing it costs no sandbox its way out; killing the server leaves nothing of it behind."""
    with world_on(new_state_dir(), {"OUTSIDE_PORTS": json.dumps(outside)}) as world:
        skip_without(world)
        (first,) = helpers(world.server.pid)
        os.kill(first, signal.SIGKILL)
        until(lambda: not is_alive(first))
        answer = inside(world, world.server.create()["id"], "reach('site.test')")
        (second,) = helpers(world.server.pid)
        os.kill(world.server.pid, signal.SIGKILL)
        until(lambda: not is_alive(second))

    assert answer == "ping"


def test_a_host_that_refuses_leaves_the_proxy(outside: dict[str, int]) -> None:
    """The status says why, lookups fail at once, and what knows proxies gets out."""
    with world_on(
        new_state_dir(), {"OUTSIDE_PORTS": json.dumps(outside), "NO_TRANSPARENT": "1"}
    ) as world:
        created = world.server.create()["id"]
        plain = inside(world, created, "[reach('site.test'), reach('203.0.113.10')]")
        proxied = world.server.exec(created, "curl -sS http://site.test/")["result"]
        mode = world.server.status()["engine"]["egress_transparent"]

    assert plain == ["gaierror", "OSError"]
    assert proxied == "hello"
    assert mode == "no: not on this host"
