"""Files in and out of a sandbox: multipart both ways, listings, folders (PROTOCOL.md, "Files")."""

from __future__ import annotations

import asyncio
import json
import os
import posixpath
import re
import urllib.parse
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from aiohttp import BodyPartReader, hdrs, web

from ..engine.errors import FileProblem
from ..wire import DAEMON, ApiError, Fields, answer, nothing
from .toolbox import Toolbox, inside, problem, write_all

CHUNK = 1024 * 1024
LONGEST_PATH = 4096
MOST_FILES = 100_000
BATCH = 48 * 1024  # bytes of paths in one message to the agent, which is 128 KiB at most
DOWNLOAD = {
    hdrs.CONTENT_TYPE: "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
    hdrs.CACHE_CONTROL: "no-store",
}
FIELD = re.compile(r"files\[(\d+)\]\.(path|file)")
NOT_MULTIPART = "the body must be multipart/form-data"


async def upload(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/bulk-upload: `files[N].path` names where `files[N].file` goes.

    One failure makes it a 400 that lists all.
    """
    if not request.content_type.startswith("multipart/"):
        raise ApiError(400, NOT_MULTIPART, source=DAEMON)
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


async def upload_one(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/upload-v2?path and the older /files/upload: the field `file` becomes that path.

    Signed upload links lead here.
    """
    path = toolbox.absolute(Fields.of_query(request).text("path"))
    if not request.content_type.startswith("multipart/"):
        raise ApiError(400, f"{NOT_MULTIPART} with a field named file", source=DAEMON)
    async for part in await request.multipart():
        if isinstance(part, BodyPartReader) and part.name == "file":
            await write_part(toolbox, path, part)
            return answer({"name": posixpath.basename(path), "path": path, "type": "file"})
    raise ApiError(400, "the upload has no field named file", source=DAEMON)


async def download_one(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """GET /files/download?path: a download for browsers too.

    Never a page, which would run as this server's own.
    """
    path = toolbox.absolute(Fields.of_query(request).text("path"))
    disposition = f"attachment; {file_name(posixpath.basename(path))}"
    async with inside(path):
        fd = await toolbox.box.open_file(path, "r")
    try:
        size = os.fstat(fd).st_size
        headers = {**DOWNLOAD, hdrs.CONTENT_DISPOSITION: disposition}
        response = web.StreamResponse(headers=headers)
        response.content_length = size
        await response.prepare(request)
        await send_exactly(response, fd, size)
        await response.write_eof()
        return response
    finally:
        os.close(fd)


async def path_of(part: BodyPartReader) -> str:
    """The field's text; cut a little above LONGEST_PATH, which is refused where it is opened."""
    data = b""
    while len(data) <= LONGEST_PATH and (chunk := await part.read_chunk(LONGEST_PATH)):
        data += chunk
    return data.decode(errors="replace")


async def receive(
    toolbox: Toolbox,
    path: str,
    part: BodyPartReader,
    *,
    written: list[dict[str, Any]],
    errors: list[str],
) -> None:
    try:
        size = await write_part(toolbox, path, part)
        written.append({"path": toolbox.absolute(path), "bytes": size})
    except ApiError as error:
        errors.append(error.message)


async def write_part(toolbox: Toolbox, path: str, part: BodyPartReader) -> int:
    """Write the part's bytes to the file at `path`; how many.

    Raises the ApiError, with whatever was written left there.
    """
    async with inside(path):
        fd = await toolbox.box.open_file(toolbox.absolute(path), "w")
    try:
        size = 0
        while chunk := await part.read_chunk(CHUNK):
            # In a thread: code inside that writes to the same file makes this wait.
            await asyncio.to_thread(write_all, fd, chunk)
            size += len(chunk)
        return size
    except OSError as error:
        raise problem(FileProblem(error.errno or 0, error.strerror or ""), path) from None
    finally:
        os.close(fd)


async def download(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """POST /files/bulk-download: one part a path, failures as JSON parts named `error`."""
    paths = (await Fields.of_body(request)).list_of_texts("paths")
    if not paths or len(paths) > MOST_FILES:
        raise ApiError(400, "paths must name at least one file", source=DAEMON)
    boundary = uuid.uuid4().hex
    headers = {hdrs.CONTENT_TYPE: f"multipart/form-data; boundary={boundary}"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for path in paths:
        await send_part(toolbox, request, response, path, boundary=boundary)
    await response.write(f"--{boundary}--\r\n".encode())
    await response.write_eof()
    return response


async def send_part(
    toolbox: Toolbox,
    request: web.Request,
    response: web.StreamResponse,
    path: str,
    *,
    boundary: str,
) -> None:
    try:
        async with inside(path):
            fd = await toolbox.box.open_file(toolbox.absolute(path), "r")
    except ApiError as error:
        body = json.dumps(error.envelope(request)).encode()
        head = part_head(boundary, "error", path, "application/json", len(body))
        await response.write(head + body + b"\r\n")
        return
    try:
        size = os.fstat(fd).st_size
        await response.write(part_head(boundary, "file", path, "application/octet-stream", size))
        await send_exactly(response, fd, size)
        await response.write(b"\r\n")
    finally:
        os.close(fd)


async def send_exactly(response: web.StreamResponse, fd: int, size: int) -> None:
    """Send `size` bytes, as promised in the head.

    A file that shrank meanwhile ends the connection, so that nobody takes it for whole.
    """
    left = size
    while left:
        chunk = await asyncio.to_thread(os.read, fd, min(CHUNK, left))
        if not chunk:
            raise ConnectionResetError("the file became shorter while it was read")
        left -= len(chunk)
        await response.write(chunk)


def part_head(boundary: str, name: str, path: str, content_type: str, size: int) -> bytes:
    """Headers of one part; the path is echoed as it was asked for."""
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; {file_name(path)}\r\n'
        f"Content-Type: {content_type}\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


def file_name(path: str) -> str:
    """A header's filename, also where it is not latin-1."""
    plain = re.sub(r"[^ !#-\[\]-~]", "_", path)
    # busboy, the TypeScript SDK's parser, drops a part with a slash in it.
    encoded = urllib.parse.quote(path, safe="", errors="replace")
    return f"filename=\"{plain}\"; filename*=utf-8''{encoded}"


async def list_folder(toolbox: Toolbox, request: web.Request) -> web.Response:
    query = Fields.of_query(request)
    path = toolbox.absolute(query.text("path", "") or toolbox.work_dir)
    async with inside(path):
        depth = query.integer("depth", 1, least=1, most=100)
        return answer(await toolbox.box.files("list", path=path, depth=depth))


async def info(toolbox: Toolbox, request: web.Request) -> web.Response:
    path = toolbox.absolute(Fields.of_query(request).text("path"))
    async with inside(path):
        return answer(await toolbox.box.files("info", path=path))


async def make_folder(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/folder?path&mode: `mode` in octal, as in chmod."""
    query = Fields.of_query(request)
    path, text = toolbox.absolute(query.text("path")), query.text("mode", "0755") or "0755"
    mode = octal(text)
    async with inside(path):
        await toolbox.box.files("mkdir", path=path, mode=mode)
    return nothing(201)


async def find(toolbox: Toolbox, request: web.Request) -> web.Response:
    """GET /files/find?path&pattern: literal text in the contents; [] for a missing path."""
    query = Fields.of_query(request)
    path = toolbox.absolute(query.text("path"))
    async with inside(path):
        pattern = required(query, "pattern")
        return answer(await toolbox.box.files("find", path=path, pattern=pattern))


async def search(toolbox: Toolbox, request: web.Request) -> web.Response:
    """GET /files/search?path&pattern: a glob on base names."""
    query = Fields.of_query(request)
    path = toolbox.absolute(query.text("path"))
    async with inside(path):
        pattern = required(query, "pattern")
        return answer({"files": await toolbox.box.files("search", path=path, pattern=pattern)})


def required(fields: Fields, name: str) -> str:
    value = fields.text(name)
    if not value:
        raise ApiError(400, f"{name} is required", source=DAEMON)
    return value


async def replace(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/replace: literal text in each of `files`.

    The answer is a 200 that says for each file whether it failed.
    """
    fields = await Fields.of_body(request)
    files = fields.list_of_texts("files")
    old, new = required(fields, "pattern"), fields.text("newValue")
    if not files or len(files) > MOST_FILES:
        raise ApiError(400, f"files must name 1 to {MOST_FILES} files", source=DAEMON)
    results: list[dict[str, Any]] = []
    for batch in batches(toolbox, files):
        async with inside(batch[0]):
            paths = [toolbox.absolute(name) for name in batch]
            failures = await toolbox.box.files("replace", paths=paths, pattern=old, value=new)
        results += replaced(batch, failures)
    return answer(results)


def batches(toolbox: Toolbox, files: Sequence[str]) -> Iterator[list[str]]:
    """Parts that fit into one message to the agent, with room for the texts."""
    batch: list[str] = []
    size = 0
    for name in files:
        length = len(json.dumps(toolbox.absolute(name)))
        if batch and size + length > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += length
    yield batch


def replaced(names: Sequence[str], failures: Any) -> list[dict[str, Any]]:
    """ReplaceResults of what the agent said, if it is what an agent says."""
    if not isinstance(failures, list) or len(failures) != len(names):
        raise ApiError(502, "the sandbox gave no sensible answer", source=DAEMON)
    return [
        {"file": name, "success": True}
        if failure is None
        else {"file": name, "success": False, "error": str(failure)[:500]}
        for name, failure in zip(names, failures, strict=True)
    ]


async def move(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/move?source&destination: the destination must not exist, its folder must."""
    query = Fields.of_query(request)
    source = toolbox.absolute(query.text("source"))
    destination = toolbox.absolute(query.text("destination"))
    async with inside(f"{source} to {destination}"):
        await toolbox.box.files("move", path=source, destination=destination)
    return nothing(200)


async def permissions(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/permissions?path&mode&owner&group, what is left out stays."""
    query = Fields.of_query(request)
    path, text = toolbox.absolute(query.text("path")), query.text("mode", "")
    owner, group = query.text("owner", ""), query.text("group", "")
    async with inside(path):
        mode = octal(text) if text else None
        await toolbox.box.files("permissions", path=path, mode=mode, owner=owner, group=group)
    return nothing(200)


def octal(text: str) -> int:
    """As in chmod; raises the 400."""
    if not re.fullmatch(r"[0-7]{3,4}", text):
        raise ApiError(400, "mode must be octal, such as 0755", source=DAEMON)
    return int(text, 8)


async def delete(toolbox: Toolbox, request: web.Request) -> web.Response:
    query = Fields.of_query(request)
    path = toolbox.absolute(query.text("path"))
    async with inside(path):
        await toolbox.box.files("delete", path=path, recursive=query.boolean("recursive"))
    return nothing(204)
