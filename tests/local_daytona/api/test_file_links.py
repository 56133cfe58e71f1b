"""Signed links to files: what one opens, what not, how long; large files in bounded memory."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.local_server import LocalServer, Reply, running_server

LARGE = 300 * 1024 * 1024
MEMORY_LIMIT_KIB = 64 * 1024  # how much a transfer of LARGE bytes may add to the server
UPLOAD = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="ignored"\r\n\r\nup\r\n--x--\r\n'
)
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture
def box(sdk: Any, sandbox: str) -> Any:
    """A sandbox with one file in it."""
    found = sdk.get(sandbox)
    found.fs.upload_file(b"content", "dir/r\u00e9port.html")
    return found


def visit(
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """As a browser or curl: without the key."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(
            method,
            f"{parts.path}?{parts.query}",
            body=body,
            headers={**(MULTIPART if body else {}), **(headers or {})},
        )
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def test_the_sdks_links_work_without_a_key(server: LocalServer, box: Any) -> None:
    """Both directions, for curl and browsers; a file is never served as a page of this server."""
    down = visit(box.download_url("dir/r\u00e9port.html"))
    up = visit(box.upload_url("new/file.bin", ttl_seconds=0), "POST", UPLOAD)

    assert (down.status, down.body, down.headers["Content-Type"]) == (
        200,
        b"content",
        "application/octet-stream",
    )
    disposition = down.headers["Content-Disposition"]
    assert disposition == "attachment; filename=\"r_port.html\"; filename*=utf-8''r%C3%A9port.html"
    assert down.headers["X-Content-Type-Options"] == "nosniff"
    assert (up.status, up.json()) == (
        200,
        {"name": "file.bin", "path": "/home/daytona/new/file.bin", "type": "file"},
    )
    assert box.fs.download_file("new/file.bin") == b"up"


def test_a_link_opens_its_path_and_its_method_only(server: LocalServer, box: Any) -> None:
    """Another path, method, sandbox, expiry, a second path, no signature: 401, as without a key."""
    url = box.download_url("dir/r\u00e9port.html")
    other = server.create()["id"]
    changed = [
        url.replace("dir%2F", "dur%2F"),
        url.replace(box.id, other),
        url.replace("signature=v1_", "signature=v1_A"),
        url + "&path=/etc/passwd",
        re.sub(r"expires=\d+", "expires=0", url),
        re.sub(r"expires=(\d+)", r"expires=0\1", url),
        url.partition("&signature")[0],
        url.replace("signature=v1_", "signature="),
        url.replace("/files/download", "/files/info"),
        url.replace("/files/download", "/files"),
        url.replace("/files/download", "/files%2Fdownload"),
        re.sub(r"signature=.*", "signature=%ED%A0%80\u00e9", url.replace("\u00e9", "e"))
        .encode("ascii", "ignore")
        .decode(),
    ]
    statuses = {visit(each).status for each in changed} | {
        visit(url.replace("/files/download", "/files/upload-v2"), "POST", UPLOAD).status
    }
    server.request("DELETE", f"/api/sandbox/{other}")

    assert statuses == {401}
    assert visit(url).status == 200


def test_a_link_ends_when_it_says_and_when_the_key_is_rotated(box: Any) -> None:
    """Also those that never expire die with the key."""
    from daytona._utils.file_url_signing import compute_file_url_signature

    forever = box.download_url("dir/r\u00e9port.html", ttl_seconds=0)
    past = int(time.time()) - 1
    signature = compute_file_url_signature(
        box._ensure_signing_key(), "GET", "dir/r\u00e9port.html", past
    )
    expired = (
        forever.partition("?")[0]
        + "?"
        + urlencode({"path": "dir/r\u00e9port.html", "expires": past, "signature": signature})
    )
    before = (visit(forever).status, visit(expired).status)
    box.rotate_signing_key()

    assert (before, visit(forever).status) == ((200, 401), 401)
    assert visit(box.download_url("dir/r\u00e9port.html")).status == 200


def test_a_signature_does_not_open_the_gate_for_web_pages(box: Any) -> None:
    """A page elsewhere may link to a download but read none, and no rebound name is served.

    A link sends no Origin.
    """
    url = box.download_url("dir/r\u00e9port.html")

    assert visit(url, headers={"Origin": "http://evil.example"}).status == 403
    assert visit(url, headers={"Host": "evil.example"}).status == 403
    navigation = {
        "Referer": "http://evil.example/",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Site": "cross-site",
    }
    assert visit(url, headers=navigation).status == 200


def test_the_signing_key_is_shown_to_the_owner_only_and_survives_a_restart(state_dir: Path) -> None:
    """In the record, and in no sandbox's JSON, list, status or log; none without the key."""
    with running_server(state_dir) as first:
        box = first.create()["id"]
        key = first.request("GET", f"/api/sandbox/{box}/signing-key").body.decode()
        shown = [
            first.request("GET", path).body
            for path in ("/local/status", "/api/sandbox", f"/api/sandbox/{box}")
        ]
        refused = first.request("GET", f"/api/sandbox/{box}/signing-key", key="")
    with running_server(state_dir) as second:
        again = second.request("GET", f"/api/sandbox/{box}/signing-key").body.decode()

    assert (len(key) >= 32, again, refused.status) == (True, key, 401)
    assert not [
        text for text in [*shown, (state_dir / "server.log").read_bytes()] if key.encode() in text
    ]


def test_the_calls_work_with_the_key_too_and_fail_as_the_others(
    server: LocalServer, box: Any
) -> None:
    """The status and code of any file call."""
    call = f"/toolbox/{box.id}/files"

    assert server.request("GET", f"{call}/download?path=dir/r%C3%A9port.html").body == b"content"
    assert server.request("GET", f"{call}/download?path=none").json()["code"] == "FILE_NOT_FOUND"
    assert server.request("GET", f"{call}/download?path=dir").json()["code"] == "BAD_REQUEST"
    assert server.request("POST", f"{call}/upload-v2?path=x", body=b"raw").status == 200
    assert box.fs.download_file("x") == b"raw"
    misnamed = server.request(
        "POST",
        f"{call}/upload-v2?path=x",
        body=UPLOAD.replace(b'"file"', b'"other"'),
        headers=MULTIPART,
    ).status
    assert misnamed == 400
    denied = server.request(
        "POST", f"{call}/upload-v2?path=/usr/x", body=UPLOAD, headers=MULTIPART
    ).json()["code"]
    assert denied == "FILE_ACCESS_DENIED"


@pytest.mark.thorough
def test_large_files_go_both_ways_in_bounded_memory(state_dir: Path, tmp_path: Path) -> None:
    """Streams, in bulk calls and behind links, by the server's peak memory as the kernel has it."""
    from daytona import Daytona, DaytonaConfig

    with open(tmp_path / "large", "wb") as file:
        file.truncate(LARGE)
    with running_server(state_dir) as server:
        box = Daytona(DaytonaConfig(api_key=server.api_key, api_url=server.api_url)).create()
        box.fs.upload_file(b"warm", "warm")
        before = highest_memory(server.pid)
        box.fs.upload_file(str(tmp_path / "large"), "large")
        box.fs.download_file("large", str(tmp_path / "down"))
        length = read_slowly(box.download_url("large"))
        grown = highest_memory(server.pid) - before

    assert ((tmp_path / "down").stat().st_size, length) == (LARGE, LARGE)
    assert grown < MEMORY_LIMIT_KIB


def highest_memory(pid: int) -> int:
    """KiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def read_slowly(url: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.request("GET", f"{parts.path}?{parts.query}")
    answer = connection.getresponse()
    length = 0
    while chunk := answer.read(1 << 20):
        length += len(chunk)
    connection.close()
    return length
