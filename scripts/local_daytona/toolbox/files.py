"""Files in and out of a sandbox: multipart both ways, listings, folders (wire-protocol, section 3.5)."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
import uuid
from typing import Any

from aiohttp import BodyPartReader, hdrs, web

from ..wire import DAEMON, ApiError, Fields, answer, nothing
from .toolbox import WORK_DIR, Toolbox, absolute, inside, write_all

CHUNK = 1024 * 1024
LONGEST_PATH = 4096
MOST_FILES = 100_000
FIELD = re.compile(r"files\[(\d+)\]\.(path|file)")


async def upload(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/bulk-upload: `files[N].path` names where `files[N].file` goes; one failure makes it a 400 that lists all."""
    if not request.content_type.startswith("multipart/"):
        raise ApiError(400, "the body must be multipart/form-data", source=DAEMON)
    paths: dict[str, str] = {}
    written: list[dict[str, Any]] = []
    errors: list[str] = []
    async for part in await request.multipart():
        match = FIELD.fullmatch(getattr(part, "name", None) or "")
        if match is None or not isinstance(part, BodyPartReader):
            errors.append("unexpected field in the upload")
        elif match[2] == "path":
            paths[match[1]] = await path_of(part)
        else:
            await receive(toolbox, paths.get(match[1], ""), part, written=written, errors=errors)
    if errors:
        return answer({"errors": errors, "files": written}, status=400)
    return answer({"files": written})


async def path_of(part: BodyPartReader) -> str:
    """The field's text; one that no path can be comes back too long, and is refused where it is opened."""
    data = b""
    while len(data) <= LONGEST_PATH and (chunk := await part.read_chunk(LONGEST_PATH)):
        data += chunk
    return data.decode(errors="replace")


async def receive(toolbox: Toolbox, path: str, part: BodyPartReader, *, written: list[dict[str, Any]], errors: list[str]) -> None:
    try:
        async with inside(path):
            fd = await toolbox.box.open_file(absolute(path), "w")
    except ApiError as error:
        errors.append(error.message)
        return
    try:
        size = 0
        while chunk := await part.read_chunk(CHUNK):
            write_all(fd, chunk)
            size += len(chunk)
        written.append({"path": absolute(path), "bytes": size})
    except OSError as error:
        errors.append(f"{path}: {error.strerror}")
    finally:
        os.close(fd)


async def download(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """POST /files/bulk-download: one part a path, files as they are, failures as JSON parts named `error`."""
    paths = (await Fields.of_body(request)).list_of_texts("paths")
    if not paths or len(paths) > MOST_FILES:
        raise ApiError(400, "paths must name at least one file", source=DAEMON)
    boundary = uuid.uuid4().hex
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: f"multipart/form-data; boundary={boundary}"})
    await response.prepare(request)
    for path in paths:
        await send_part(toolbox, request, response, path, boundary=boundary)
    await response.write(f"--{boundary}--\r\n".encode())
    await response.write_eof()
    return response


async def send_part(toolbox: Toolbox, request: web.Request, response: web.StreamResponse, path: str, *, boundary: str) -> None:
    try:
        async with inside(path):
            fd = await toolbox.box.open_file(absolute(path), "r")
    except ApiError as error:
        body = json.dumps(error.envelope(request)).encode()
        await response.write(part_head(boundary, "error", path, "application/json", len(body)) + body + b"\r\n")
        return
    try:
        size = os.fstat(fd).st_size
        await response.write(part_head(boundary, "file", path, "application/octet-stream", size))
        await send_exactly(response, fd, size)
        await response.write(b"\r\n")
    finally:
        os.close(fd)


async def send_exactly(response: web.StreamResponse, fd: int, size: int) -> None:
    """`size` bytes, as promised in the head; a file that shrank meanwhile ends the connection, so nobody takes it for whole."""
    left = size
    while left:
        chunk = os.read(fd, min(CHUNK, left))
        if not chunk:
            raise ConnectionResetError("the file became shorter while it was read")
        left -= len(chunk)
        await response.write(chunk)


def part_head(boundary: str, name: str, path: str, content_type: str, size: int) -> bytes:
    """Headers of one part; the path is echoed as it was asked for, also where it is not latin-1."""
    plain = re.sub(r"[^ !#-\[\]-~]", "_", path)
    encoded = urllib.parse.quote(path, safe="/", errors="replace")
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{plain}"; filename*=utf-8\'\'{encoded}\r\n'
        f"Content-Type: {content_type}\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


async def list_folder(toolbox: Toolbox, request: web.Request) -> web.Response:
    query = Fields.of_query(request)
    path = absolute(query.text("path", "") or WORK_DIR)
    async with inside(path):
        return answer(await toolbox.box.files("list", path=path, depth=query.integer("depth", 1, least=1, most=100)))


async def info(toolbox: Toolbox, request: web.Request) -> web.Response:
    path = absolute(Fields.of_query(request).text("path"))
    async with inside(path):
        return answer(await toolbox.box.files("info", path=path))


async def make_folder(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/folder?path&mode: `mode` in octal, as in chmod."""
    query = Fields.of_query(request)
    path, text = absolute(query.text("path")), query.text("mode", "0755") or "0755"
    if not re.fullmatch(r"[0-7]{3,4}", text):
        raise ApiError(400, "mode must be octal, such as 0755", source=DAEMON)
    async with inside(path):
        await toolbox.box.files("mkdir", path=path, mode=int(text, 8))
    return nothing(201)


async def delete(toolbox: Toolbox, request: web.Request) -> web.Response:
    query = Fields.of_query(request)
    path = absolute(query.text("path"))
    async with inside(path):
        await toolbox.box.files("delete", path=path, recursive=query.boolean("recursive"))
    return nothing(204)
