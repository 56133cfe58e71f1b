"""Previews, by the SDK's links and raw HTTP: who gets in, what is carried, what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.local_server import LocalServer, Reply, running_server, until

from .previewing import PORT, start_app

KEY = "DAYTONA_SANDBOX_AUTH_KEY"
MIB = 1024 * 1024


NAVIGATION = {"Sec-Fetch-Mode": "navigate"}  # as a browser says that it shows a page


def ask(
    url: str,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    chunked: bool = False,
) -> Reply:
    """One request to a preview's address, no redirect followed."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request(
            method, path, body=body, headers=dict(headers or {}), encode_chunked=chunked
        )
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())


def converse(host: str, data: bytes) -> bytes:
    """Raw bytes to a preview, then all that it says until it hangs up."""
    address, port = host.split(":")
    with socket.create_connection((address, int(port)), timeout=60) as connection:
        connection.sendall(data)
        said = b""
        while part := connection.recv(65536):
            said += part
        return said


@dataclass(frozen=True)
class Preview:
    """A sandbox with the application on PORT, and its plain link."""

    server: LocalServer
    id: str
    url: str
    token: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def link(self, port: int = PORT) -> dict[str, str]:
        found: dict[str, str] = self.server.request(
            "GET", f"/api/sandbox/{self.id}/ports/{port}/preview-url"
        ).json()
        return found

    def sign(self, port: int = PORT, seconds: int = 600) -> str:
        path = f"/api/sandbox/{self.id}/ports/{port}/signed-preview-url?expiresInSeconds={seconds}"
        token: str = self.server.request("GET", path).json()["token"]
        return token

    def revoke(self, token: str, port: int = PORT) -> int:
        return self.server.request(
            "POST", f"/api/sandbox/{self.id}/ports/{port}/signed-preview-url/{token}/expire"
        ).status

    def set_public(self, public: bool) -> None:
        answer = self.server.request(
            "POST", f"/api/sandbox/{self.id}/public/{str(public).lower()}"
        ).json()["public"]
        assert answer is public

    def ask(self, path: str = "/", **more: Any) -> Reply:
        """With the standard token."""
        more["headers"] = {"x-daytona-preview-token": self.token, **more.get("headers", {})}
        return ask(self.url, path, **more)


@pytest.fixture
def preview(server: LocalServer, sandbox: str) -> Preview:
    """A fresh sandbox whose application listens."""
    start_app(server, sandbox)
    found = Preview(server, sandbox, "", "").link()
    return Preview(server, sandbox, found["url"], found["token"])


# The SDK's three calls


def start_web_server(sandbox: Any) -> None:
    """Python's own on port 3000, in a session; returns when it listens."""
    from daytona import SessionExecuteRequest

    serve = SessionExecuteRequest(command="python3 -m http.server 3000", run_async=True)
    sandbox.process.create_session("web")
    sandbox.process.execute_session_command("web", serve)
    listens = "grep -q ':0BB8 .* 0A ' /proc/net/tcp /proc/net/tcp6"
    until(lambda: sandbox.process.exec(listens).exit_code == 0)


def test_the_sdk_shows_a_plain_web_server_to_who_has_the_token(sdk: Any) -> None:
    """The documented way: http.server in a session, get_preview_link, token header or the key."""
    sandbox = sdk.create()
    try:
        sandbox.fs.upload_file(b"hello from inside", "index.html")
        start_web_server(sandbox)
        link = sandbox.get_preview_link(3000)

        by_token = ask(link.url, headers={"x-daytona-preview-token": link.token}).body
        assert by_token == b"hello from inside"
        by_key = ask(link.url, headers={"Authorization": f"Bearer {sdk._api_key}"}).body
        assert by_key == b"hello from inside"
        assert urlsplit(link.url).port == 3000
        assert (ask(link.url).status, ask(link.url).json()["statusCode"]) == (401, 401)
        assert ask(link.url, headers={"x-daytona-preview-token": "0" * 32}).status == 401
    finally:
        sandbox.delete()


def test_the_sdks_signed_link_opens_by_itself_until_it_is_expired(sdk: Any) -> None:
    """What a person gets: one link, and its revocation."""
    sandbox = sdk.create()
    try:
        start_web_server(sandbox)
        signed = sandbox.create_signed_preview_url(3000, 3600)
        opened = ask(signed.url, "/?" + urlsplit(signed.url).query)
        cookie = {"Cookie": opened.headers["Set-Cookie"].partition(";")[0]}

        assert (signed.port, signed.sandbox_id) == (3000, sandbox.id)
        assert re.fullmatch("[a-z0-9]{16}", signed.token) is not None
        assert opened.status == 200
        assert ask(signed.url, headers=cookie).status == 200

        sandbox.expire_signed_preview_url(3000, signed.token)
        assert ask(signed.url, "/?" + urlsplit(signed.url).query).status == 401
        assert ask(signed.url, headers=cookie).status == 401
    finally:
        sandbox.delete()


# Who gets in


def test_the_query_becomes_a_cookie_and_leaves_the_address(preview: Preview) -> None:
    """The token stays out of history and Referer; scripts of the page cannot read it."""
    token = preview.sign()
    reply = ask(preview.url, f"//evil.example/?a=1&{KEY}={token}&b=%20", headers=NAVIGATION)
    name, _, attributes = reply.headers["Set-Cookie"].partition("=")

    assert (reply.status, reply.headers["Location"]) == (
        302,
        f"http://{preview.host}//evil.example/?a=1&b=%20",
    )
    assert name.startswith(f"daytona-sandbox-auth-{preview.id}")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {
        part.strip() for part in attributes.split(";")
    }
    assert ask(preview.url, f"/?{KEY}={token}", method="POST", body=b"x").status == 200


@pytest.mark.parametrize("port", [22, 80, 443, 3128])
def test_what_this_server_listens_on_inside_is_no_preview(preview: Preview, port: int) -> None:
    """Its proxy would answer, and a link would look as if the sandbox's own server did."""
    link = preview.link(port)
    reply = ask(link["url"], headers={"x-daytona-preview-token": link["token"]})

    assert (reply.status, "nothing serves" in reply.json()["message"]) == (502, True)


def test_a_client_that_keeps_no_cookies_gets_the_page_at_once(preview: Preview) -> None:
    """curl, urlopen, and whoever checks a link before it is shown; the key stays outside."""
    reply = ask(preview.url, f"/echo?a=1&{KEY}={preview.sign()}")

    assert (reply.status, reply.json()["line"]) == (200, "GET /echo?a=1 HTTP/1.1")
    assert reply.headers["Set-Cookie"].startswith(f"daytona-sandbox-auth-{preview.id}")


def test_links_of_two_ports_live_side_by_side_in_one_browser(preview: Preview) -> None:
    """Ports share the cookies of an address: the link of one must not log out the other."""
    start_app(preview.server, preview.id, 8001)
    tokens = {port: preview.sign(port) for port in (PORT, 8001)}
    urls = {port: preview.link(port)["url"] for port in tokens}
    cookies = [
        ask(urls[port], f"/?{KEY}={token}").headers["Set-Cookie"].partition(";")[0]
        for port, token in tokens.items()
    ]

    assert [ask(url, headers={"Cookie": "; ".join(cookies)}).status for url in urls.values()] == [
        200,
        200,
    ]


def test_a_signed_token_opens_its_own_port_only(preview: Preview) -> None:
    """A link to one server is not a link to all."""
    start_app(preview.server, preview.id, 8001)
    token, other = preview.sign(PORT), preview.link(8001)["url"]
    cookie = ask(preview.url, f"/?{KEY}={token}").headers["Set-Cookie"].partition(";")[0]

    assert ask(other, f"/?{KEY}={token}").status == 401
    assert ask(other, headers={"Cookie": cookie}).status == 401
    assert ask(other, headers={"Cookie": cookie.replace(str(PORT), "8001")}).status == 401
    assert ask(other, headers={"x-daytona-preview-token": token}).status == 401
    assert preview.revoke(token, port=8001) == 200, "of what is not there, nothing is revoked"
    assert ask(preview.url, f"/?{KEY}={token}").status == 200


def test_no_token_of_one_sandbox_opens_another(preview: Preview, server: LocalServer) -> None:
    """Each sandbox has an address and tokens of its own."""
    other = server.create()["id"]
    try:
        start_app(server, other)
        theirs = Preview(server, other, "", "").link()
        signed = preview.sign()

        assert urlsplit(theirs["url"]).hostname != urlsplit(preview.url).hostname
        for token, status in ((theirs["token"], 200), (preview.token, 401)):
            header = {"x-daytona-preview-token": token}
            assert ask(theirs["url"], headers=header).status == status
        for shown in (signed, preview.token):
            cookie = {"Cookie": f"daytona-sandbox-auth-{other}-{PORT}={shown}"}
            assert ask(theirs["url"], f"/?{KEY}={shown}").status == 401
            assert ask(theirs["url"], headers=cookie).status == 401
    finally:
        server.request("DELETE", f"/api/sandbox/{other}")


def test_no_credential_reaches_the_program_inside(preview: Preview) -> None:
    """It would otherwise hold the server's key; what is the program's own arrives unchanged."""
    token = preview.sign()
    headers = {
        "Authorization": f"Bearer {preview.server.api_key}",
        "X-Daytona-Preview-Token": preview.token,
        "Cookie": f"mine=1; daytona-sandbox-auth-{preview.id}-{PORT}={token}; theirs=2",
        "Referer": f"{preview.url}/?{KEY}={token}",
        "Proxy-Authorization": "Basic eDp5",
        "X-Own": "kept",
    }
    told = ask(
        preview.url, f"/tell?a=1&{KEY}={token}&b", headers=headers, method="POST", body=b"x"
    ).json()
    seen = dict(told["headers"])

    assert told["line"] == "POST /tell?a=1&b HTTP/1.1"
    assert (seen["cookie"], seen["x-own"], seen["host"]) == (
        "mine=1; theirs=2",
        "kept",
        preview.host,
    )
    ours = {"authorization", "x-daytona-preview-token", "referer", "proxy-authorization"}
    assert not ours & seen.keys()
    assert preview.server.api_key not in json.dumps(told)


def test_an_authorization_of_the_program_itself_arrives(preview: Preview) -> None:
    """A private application inside has logins of its own."""
    told = preview.ask("/tell", headers={"Authorization": "Basic eDp5"}).json()
    assert dict(told["headers"])["authorization"] == "Basic eDp5"


def test_public_needs_nothing_and_private_again_closes_what_was_open(preview: Preview) -> None:
    """set_public works at once in both directions; Daytona's own ports stay closed."""
    start_app(preview.server, preview.id, 22222)
    preview.set_public(True)
    address, port = preview.host.split(":")
    with socket.create_connection((address, int(port)), timeout=60) as stream:
        stream.sendall(f"GET /endless HTTP/1.1\r\nHost: {preview.host}\r\n\r\n".encode())

        assert stream.recv(100)
        assert ask(preview.url).status == 200
        assert ask(preview.link(22222)["url"]).status == 401
        preview.set_public(False)
        assert ask(preview.url).status == 401
        until(lambda: has_ended(stream))


def has_ended(stream: socket.socket) -> bool:
    try:
        return not stream.recv(65536)
    except ConnectionResetError:
        return True


@pytest.mark.thorough
@pytest.mark.parametrize("way", ["revoked", "expired", "stopped"])
def test_an_open_websocket_ends_with_what_let_it_in(preview: Preview, way: str) -> None:
    """A link that has ended must not leave a door open."""
    token = preview.sign(seconds=8 if way == "expired" else 600)

    async def hold() -> aiohttp.WSMsgType:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://{preview.host}/ws?{KEY}={token}") as channel,
        ):
            await channel.send_str("still here")
            assert (await channel.receive()).data == "still here"
            if way == "revoked":
                await asyncio.to_thread(preview.revoke, token)
            elif way == "stopped":
                await asyncio.to_thread(
                    preview.server.request, "POST", f"/api/sandbox/{preview.id}/stop"
                )
            return (await channel.receive(timeout=60)).type

    assert asyncio.run(hold()) in (
        aiohttp.WSMsgType.CLOSE,
        aiohttp.WSMsgType.CLOSED,
        aiohttp.WSMsgType.ERROR,
    )
    if way != "stopped":
        assert ask(preview.url, f"/?{KEY}={token}").status == 401


def test_a_websocket_carries_what_both_sides_say(preview: Preview) -> None:
    """The cookie opens it, as in a browser; so does no other Origin's page, which has no cookie."""
    token = preview.sign()
    cookie = ask(preview.url, f"/?{KEY}={token}").headers["Set-Cookie"].partition(";")[0]

    async def talk() -> list[str]:
        async with (
            aiohttp.ClientSession(headers={"Cookie": cookie}) as session,
            session.ws_connect(f"ws://{preview.host}/ws") as channel,
        ):
            for number in range(50):
                await channel.send_str(f"message {number}")
            return [(await channel.receive_str()) for _ in range(50)]

    assert asyncio.run(talk()) == [f"message {number}" for number in range(50)]
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert ask(preview.url, "/ws", headers=upgrade).status == 401


# What is carried


@pytest.mark.parametrize("path", ["/204", "/304", "/404", "/500"])
def test_statuses_arrive_as_they_are(preview: Preview, path: str) -> None:
    """Also those without a body, from a program that would keep the connection."""
    assert (preview.ask(path).status, preview.ask(path, method="HEAD").body) == (int(path[1:]), b"")


def test_chunked_bodies_go_both_ways(preview: Preview) -> None:
    """Answers and requests whose length nobody knows beforehand; hop-by-hop headers end here."""
    reply = preview.ask("/chunked")

    assert (reply.body, reply.headers["Connection"]) == (b"one two three", "close")
    body = iter([b"x" * 1000] * 7)
    counted = preview.ask("/count", method="POST", body=body, chunked=True).json()
    assert counted["body"] == 7000
    assert "Keep-Alive" not in preview.ask("/").headers


def test_a_client_that_waits_for_100_continue_gets_it(preview: Preview) -> None:
    """curl asks so before a large upload."""
    head = (
        "POST /count HTTP/1.1\r\n"
        f"Host: {preview.host}\r\n"
        f"x-daytona-preview-token: {preview.token}\r\n"
    )
    address, port = preview.host.split(":")
    with socket.create_connection((address, int(port)), timeout=60) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"abc")
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 200 ")


def test_large_bodies_pass_in_bounded_memory(preview: Preview) -> None:
    """512 MiB down to a late reader, 256 MiB up: the server does not grow by a tenth of it."""
    preview.ask("/big?8")
    before = peak_memory(preview.server.pid)
    connection = http.client.HTTPConnection(preview.host, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", "/big?512", headers={"x-daytona-preview-token": preview.token})
        answer = connection.getresponse()
        time.sleep(2)  # for the server to take in what it should not
        received = sum(len(part) for part in iter(lambda: answer.read(MIB), b""))
    body = iter([bytes(MIB)] * 256)
    sent = preview.ask("/count", method="POST", body=body, chunked=True).json()

    assert (received, sent["body"]) == (512 * MIB, 256 * MIB)
    assert peak_memory(preview.server.pid) - before < 25 * MIB


def peak_memory(pid: int) -> int:
    line = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


def test_a_port_that_nobody_serves_is_502_and_named(preview: Preview) -> None:
    """The reader learns which server is missing."""
    reply = ask(preview.link(4567)["url"], headers={"x-daytona-preview-token": preview.token})

    assert (reply.status, reply.json()["code"]) == (502, "BAD_GATEWAY")
    assert "port 4567" in reply.json()["message"]


@pytest.mark.parametrize("path", ["/not-http", "/silent"])
def test_what_does_not_answer_http_is_502(preview: Preview, path: str) -> None:
    """Whatever a program inside says, the client gets an answer."""
    assert preview.ask(path).status == 502


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n",
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX : y\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\n folded: y\r\n",
        "GET / HTTP/1.1\nHost: {host}\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\rHost: b\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\nHost: b\r\n",
        "GET //evil.example/ HTTP/1.1 HTTP/1.1\r\nHost: {host}\r\n",
        (
            "POST / HTTP/1.1\r\n"
            "Host: {host}\r\n"
            "Transfer-Encoding: chunked\r\n"
            "Transfer-Encoding: chunked\r\n"
        ),
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n",
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding:\x0bchunked\r\n",
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: +1\r\n",
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1, 1\r\n",
        "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: {host}\r\n",
        "PRI * HTTP/2.0\r\nHost: {host}\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: " + "y" * 70000 + "\r\n",
    ],
)
def test_what_is_not_a_plain_request_is_400(preview: Preview, head: str) -> None:
    """Nothing that two readers could understand differently goes inside."""
    auth = f"x-daytona-preview-token: {preview.token}\r\n\r\n"
    with contextlib.suppress(ConnectionResetError):  # after 64 KiB it stops reading
        assert converse(preview.host, (head.format(host=preview.host) + auth).encode()).startswith(
            b"HTTP/1.1 400 "
        )


@pytest.mark.parametrize(
    "body",
    [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcXX0\r\n\r\n",
    ],
    ids=[
        "bare line feed",
        "longer",
        "return in an extension",
        "negative",
        "hexadecimal",
        "no line end",
    ],
)
def test_a_chunked_body_that_two_readers_count_differently_ends_the_exchange(
    preview: Preview, body: str
) -> None:
    """Neither a second request nor a whole first one comes out of it."""
    head = (
        "POST /rest HTTP/1.1\r\n"
        f"Host: {preview.host}\r\n"
        f"x-daytona-preview-token: {preview.token}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    said = converse(preview.host, (head + body).encode())

    assert not said.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /rest HTTP/1.1\r\n{head}\r\n",
        "POST /rest HTTP/1.1\r\n{head}Content-Length: 3\r\n\r\nabc",
        "POST /rest HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_one_connection_serves_one_request(preview: Preview, request_line: str) -> None:
    """A second one in its wake, with the key in it, is not handed to the program."""
    first = request_line.format(
        head=f"Host: {preview.host}\r\nx-daytona-preview-token: {preview.token}\r\n"
    )
    second = (
        "GET /stolen HTTP/1.1\r\n"
        f"Host: {preview.host}\r\n"
        f"Authorization: Bearer {preview.server.api_key}\r\n\r\n"
    )
    said = converse(preview.host, (first + second).encode())

    assert (said.count(b"HTTP/1.1 200"), b"Connection: close" in said) == (1, True)
    assert said.endswith(b"after the request: b''")


def test_a_name_that_leads_here_by_dns_is_refused(preview: Preview) -> None:
    """A page of evil.example, rebound to this address, reads nothing, not even what is public."""
    preview.set_public(True)

    assert ask(preview.url, headers={"Host": f"evil.example:{PORT}"}).status == 403


def test_a_flood_of_connections_is_bounded(preview: Preview) -> None:
    """Idle ones count; the caller beyond the limit is told, and gets in when they are gone."""
    address, port = preview.host.split(":")
    with contextlib.ExitStack() as held:
        for _ in range(256):
            held.enter_context(socket.create_connection((address, int(port)), timeout=60))
        assert until(lambda: preview.ask().status == 503)
        assert preview.server.exec(preview.id, "echo alive")["result"] == "alive\n"
    assert until(lambda: preview.ask().status == 200)


def test_a_request_is_activity_and_a_refused_one_is_not(preview: Preview) -> None:
    """What a person looks at is not stopped under them; strangers cannot keep it running."""

    def last_activity() -> str:
        found = preview.server.get(preview.id)
        assert found is not None
        return str(found["lastActivityAt"])

    before = last_activity()
    assert ask(preview.url).status == 401
    assert last_activity() == before
    assert preview.ask().status == 200
    assert last_activity() > before


# Addresses


@pytest.fixture
def taken(preview: Preview) -> Iterator[int]:
    """A port that something else on this host has at the preview's address."""
    with socket.create_server((urlsplit(preview.url).hostname, 0)) as other:
        yield other.getsockname()[1]


def test_a_port_that_cannot_be_had_gets_another_that_the_link_names(
    preview: Preview, taken: int
) -> None:
    """Low ports need rights, some are in use, and browsers refuse to open 6000."""
    for port in (80, taken, 6000):
        start_app(preview.server, preview.id, port) if port != 80 else None
        found = preview.link(port)

        assert urlsplit(found["url"]).port not in (port, None)
        assert ask(found["url"], headers={"x-daytona-preview-token": found["token"]}).status == (
            502 if port == 80 else 200
        )


@pytest.mark.parametrize(
    "path",
    [
        "ports/0/preview-url",
        "ports/65536/preview-url",
        "ports/x/preview-url",
        "ports/80/signed-preview-url?expiresInSeconds=0",
        "ports/80/signed-preview-url?expiresInSeconds=86401",
        "ports/80/signed-preview-url?expiresInSeconds=x",
    ],
)
def test_impossible_ports_and_times_are_400(server: LocalServer, sandbox: str, path: str) -> None:
    """As Daytona answers them."""
    assert server.request("GET", f"/api/sandbox/{sandbox}/{path}").status == 400


def test_nothing_listens_while_a_sandbox_is_stopped_and_its_links_work_again_after(
    preview: Preview,
) -> None:
    """The standard token is a new one after every start, a signed link stays good."""
    token = preview.sign()
    assert preview.server.request("POST", f"/api/sandbox/{preview.id}/stop").status == 200
    with pytest.raises(ConnectionRefusedError):
        ask(preview.url)
    assert preview.server.request("POST", f"/api/sandbox/{preview.id}/start").status == 200
    start_app(preview.server, preview.id)

    assert ask(preview.url, headers={"x-daytona-preview-token": preview.token}).status == 401
    assert preview.link()["token"] != preview.token
    assert ask(preview.url, f"/?{KEY}={token}").status == 200


def test_a_signed_link_outlives_the_server(state_dir: Path) -> None:
    """Address, port and token are on disk; after a restart of everything the same link opens."""
    with running_server(state_dir) as first:
        created = first.create()["id"]
        signed = first.request(
            "GET", f"/api/sandbox/{created}/ports/{PORT}/signed-preview-url?expiresInSeconds=3600"
        ).json()
    with running_server(state_dir) as second:
        assert second.request("POST", f"/api/sandbox/{created}/start").status == 200
        start_app(second, created)

        assert ask(signed["url"], "/?" + urlsplit(signed["url"]).query).status == 200
        assert signed["token"].encode() not in b"".join(
            path.read_bytes() for path in state_dir.glob("local.sqlite*")
        )
        second.request("DELETE", f"/api/sandbox/{created}")
        with pytest.raises(ConnectionRefusedError):
            ask(signed["url"])


# The main port


def test_the_main_port_serves_previews_by_host_name(preview: Preview) -> None:
    """Daytona's own form of address; the token in the name is enough, the id needs credentials."""
    port = preview.server.url.rpartition(":")[2]
    by_id, by_token = (
        f"{PORT}-{preview.id}.localhost:{port}",
        f"{PORT}-{preview.sign()}.localhost:{port}",
    )

    def status(host: str, **headers: str) -> int:
        return ask(preview.server.url, headers={"Host": host, **headers}).status

    assert status(by_id) == 401
    assert status(by_id, **{"x-daytona-preview-token": preview.token}) == 200
    assert status(by_token) == 200
    assert status(by_token.replace(str(PORT), "8001", 1)) == 401
    assert status(f"{PORT}-{'0' * 16}.localhost:{port}") == 404


def test_under_a_previews_host_there_is_no_api(preview: Preview) -> None:
    """The path means the program inside, even with the key; no API connection becomes a preview."""
    port = preview.server.url.rpartition(":")[2]
    host = f"{PORT}-{preview.id}.localhost:{port}"
    told = ask(
        preview.server.url,
        "/api/sandbox",
        headers={"Host": host, "Authorization": f"Bearer {preview.server.api_key}"},
    )
    connection = http.client.HTTPConnection(urlsplit(preview.server.url).netloc, timeout=60)
    with contextlib.closing(connection):
        statuses = []
        for headers in ({}, {"Host": host}):
            connection.request(
                "GET",
                "/api/sandbox",
                headers={"Authorization": f"Bearer {preview.server.api_key}", **headers},
            )
            statuses.append(read_status(connection))

    assert told.json()["line"] == "GET /api/sandbox HTTP/1.1"
    assert statuses == [200, 403]


def read_status(connection: http.client.HTTPConnection) -> int:
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize(
    "host",
    [
        "{port}-{id}.localhost:1",
        "{port}-{id}.evil.example:{main}",
        "{port}-{id}.localhost",
        "x.localhost:{main}",
    ],
)
def test_other_hosts_are_still_refused_on_the_main_port(preview: Preview, host: str) -> None:
    """The door for previews is no hole for DNS rebinding."""
    name = host.format(port=PORT, id=preview.id, main=preview.server.url.rpartition(":")[2])

    assert preview.server.request("GET", "/api/sandbox", headers={"Host": name}).status == 403


def test_a_page_of_a_preview_cannot_call_the_api(preview: Preview) -> None:
    """Its origin is a foreign one, by address and by name."""
    port = preview.server.url.rpartition(":")[2]
    for origin in (preview.url, f"http://{PORT}-{preview.id}.localhost:{port}"):
        reply = preview.server.request("GET", "/api/sandbox", headers={"Origin": origin})
        assert reply.status == 403


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_the_main_port_answers_whatever_it_is_told(server: LocalServer, data: bytes) -> None:
    """The door waits for the end of a head only where there may be one."""
    assert re.match(rb"HTTP/1\.[01] 40[03] ", first_line(server, data))


def first_line(server: LocalServer, data: bytes) -> bytes:
    with socket.create_connection(
        ("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60
    ) as connection:
        connection.sendall(data)
        return connection.makefile("rb").readline()


def test_a_head_that_comes_letter_by_letter_finds_its_side(preview: Preview) -> None:
    """The door decides by the whole head, however it was cut."""
    port = preview.server.url.rpartition(":")[2]
    for host, wanted in (
        (f"127.0.0.1:{port}", b"200"),
        (f"{PORT}-{preview.id}.localhost:{port}", b"200"),
    ):
        with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for letter in (
                "GET /api/sandbox HTTP/1.1\r\n"
                f"Host: {host}\r\n"
                f"Authorization: Bearer {preview.server.api_key}\r\n\r\n"
            ).encode():
                connection.sendall(bytes([letter]))
            assert connection.makefile("rb").readline().split()[1] == wanted
