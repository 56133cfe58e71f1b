"""Files in and out of a sandbox: multipart both ways, listings, folders (PROTOCOL.md, "Files")."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import errno
import json
import mimetypes
import os
import posixpath
import re
import urllib.parse
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from aiohttp import BodyPartReader, hdrs, web

from ..errors import ApiError, FileProblem, envelope
from ..http_json import DAEMON, Fields, answer, nothing
from .toolbox import Toolbox, inside, problem, write_all

Read = Callable[[int], Awaitable[bytes | bytearray]]
CHUNK = 1024 * 1024
LONGEST_PATH = 4096
PERMISSIONS = 0o777
MOST_FILES = 100_000
BATCH = 48 * 1024  # bytes of paths in one message to the agent, which is 128 KiB at most
DOWNLOAD = {
    hdrs.CONTENT_TYPE: "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
    hdrs.CACHE_CONTROL: "no-store",
    hdrs.ACCEPT_RANGES: "bytes",
}
UNREADABLE = {
    errno.ENOENT: (404, "FILE_NOT_FOUND", "file not found: "),
    errno.EACCES: (403, "FILE_ACCESS_DENIED", "file access denied: "),
    errno.EISDIR: (400, "INVALID_FILE_PATH", "invalid file path: path points to a directory: "),
    errno.EINVAL: (400, "INVALID_FILE_PATH", "invalid file path: no regular file: "),
}
TYPES = mimetypes.MimeTypes(filenames=()).types_map[True]  # the same on every machine
FIELD = re.compile(r"files\[(\d+)\]\.(path|file)")
NOT_MULTIPART = "the body must be multipart/form-data"


async def upload(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/bulk-upload: `files[N].path` names where `files[N].file` goes.

    One failure makes it a 400 that lists all; other fields are passed over.
    """
    if not request.content_type.startswith("multipart/"):
        raise ApiError(400, NOT_MULTIPART, source=DAEMON)
    paths: dict[str, str] = {}
    written: list[dict[str, Any]] = []
    errors: list[str] = []
    try:
        async for part in await request.multipart():
            match = FIELD.fullmatch(getattr(part, "name", None) or "")
            if match is None or not isinstance(part, BodyPartReader):
                continue
            if match[2] == "path":
                paths[match[1]] = (await path_of(part)).strip()
            else:
                path = paths.get(match[1], "")
                await receive(toolbox, path, part, written=written, errors=errors)
    except ValueError as error:  # a body that ends too early
        errors.append(str(error))
    if errors:
        return answer({"errors": errors, "files": written}, status=400)
    return answer({"files": written or None})


async def upload_one(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/upload-v2?path and the older /files/upload: the field `file`, or the body.

    Signed upload links lead here.
    """
    path = toolbox.absolute(Fields.of_query(request).text("path"))
    if request.content_type.startswith("multipart/"):
        part = await file_field(request)
        await write_from(toolbox, path, part.read_chunk)
    else:
        await write_from(toolbox, path, request.content.read)
    return answer({"name": posixpath.basename(path), "path": path, "type": "file"})


async def file_field(request: web.Request) -> BodyPartReader:
    async for part in await request.multipart():
        if isinstance(part, BodyPartReader) and part.name == "file":
            return part
    raise ApiError(400, "the upload has no field named file", source=DAEMON)


async def download_one(toolbox: Toolbox, request: web.Request) -> web.StreamResponse:
    """GET /files/download?path: a download for browsers too.

    Never a page, which would run as this server's own.
    """
    path = toolbox.absolute(Fields.of_query(request).text("path"))
    async with inside(path):
        fd = await toolbox.agent.open_file(path, "r")
    try:
        return await send_file(request, fd, posixpath.basename(path))
    finally:
        os.close(fd)


async def send_file(request: web.Request, fd: int, name: str) -> web.StreamResponse:
    """The part of the file that was asked for; to a HEAD only what it would be."""
    status = os.fstat(fd)
    changed = http_date(status.st_mtime)
    headers = {**DOWNLOAD, hdrs.CONTENT_DISPOSITION: f"attachment; {file_name(name)}"}
    if changed:
        headers[hdrs.LAST_MODIFIED] = changed
    since = request.if_modified_since
    if changed and since and int(status.st_mtime) <= since.timestamp():
        return web.Response(status=304, headers=headers)
    size = status.st_size
    first, behind = wanted_part(request, size, changed)
    response = web.StreamResponse(headers=headers)
    if first >= behind and size:
        raise ApiError(416, f"the file has {size} bytes", source=DAEMON)
    if behind - first < size:
        response.set_status(206)
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {first}-{behind - 1}/{size}"
    response.content_length = behind - first
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        os.lseek(fd, first, os.SEEK_SET)
        await send_exactly(response, fd, behind - first)
    await response.write_eof()
    return response


def http_date(seconds: float) -> str:
    """An empty string for a time of the sandbox's own making, beyond the calendar."""
    try:
        return email.utils.formatdate(int(seconds), usegmt=True)
    except (OverflowError, ValueError, OSError):
        return ""


def wanted_part(request: web.Request, size: int, changed: str) -> tuple[int, int]:
    """(first byte, the one behind the last); all for a range that is none, or of an older file."""
    try:
        asked = request.http_range
    except ValueError:  # several ranges, or none that makes sense
        return 0, size
    if request.headers.get(hdrs.IF_RANGE, changed) != changed:
        return 0, size
    first, behind, _ = asked.indices(size)
    return first, behind


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
        size = await write_from(toolbox, path, part.read_chunk)
        written.append({"path": path, "bytes": size})
    except ApiError as error:
        errors.append(error.message)


async def write_from(toolbox: Toolbox, path: str, read: Read) -> int:
    """Write what `read` gives until it is empty to the file at `path`; how many bytes.

    Raises the ApiError, with whatever was written left there.
    """
    async with inside(path):
        fd = await toolbox.agent.open_file(toolbox.joined(path), "w")
    try:
        size = 0
        while chunk := await read(CHUNK):
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
        raise ApiError(400, f"paths must name 1 to {MOST_FILES} files", source=DAEMON)
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
        fd = await opened(toolbox, path)
    except ApiError as error:
        body = json.dumps(part_error(error, request)).encode()
        head = part_head(boundary, "error", path, "application/json", len(body))
        await response.write(head + body + b"\r\n")
        return
    try:
        size = os.fstat(fd).st_size
        await response.write(part_head(boundary, "file", path, content_type(path), size))
        await send_exactly(response, fd, size)
        await response.write(b"\r\n")
    finally:
        os.close(fd)


def part_error(error: ApiError, request: web.Request) -> dict[str, Any]:
    """Within a download an error has no `error`, as in Daytona's."""
    return {key: value for key, value in envelope(error, request).items() if key != "error"}


async def opened(toolbox: Toolbox, path: str) -> int:
    """Raises the ApiError in Daytona's words for a download."""
    async with inside(path):
        try:
            return await toolbox.agent.open_file(toolbox.absolute(path or "."), "r")
        except FileProblem as error:
            raise not_readable(error, path) from None


def not_readable(error: FileProblem, path: str) -> ApiError:
    """The answer for a file that cannot be sent."""
    found = UNREADABLE.get(error.errno or 0)
    if not path:
        found = (400, "INVALID_FILE_PATH", "invalid file path: path is empty")
    if found is None:
        reason = f"failed to open file: open {path}: {(error.strerror or '').lower()}"
        return ApiError(500, reason, code="FILE_READ_FAILED", source=DAEMON)
    status, code, message = found
    return ApiError(status, message + path, code=code, source=DAEMON)


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
    """Headers of one part; the path is echoed as it was asked for, but for control characters."""
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", path)
    quoted = re.sub(r'(["\\])', r"\\\1", plain)
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; '
        f'filename="{quoted}"; {extended_name(path)}\r\n'
        f"Content-Type: {content_type}\r\nContent-Length: {size}\r\n\r\n"
    ).encode("latin-1", errors="replace")


def file_name(path: str) -> str:
    """A header's filename, also where it is not ASCII."""
    plain = re.sub(r"[^ !#-\[\]-~]", "_", path)
    return f'filename="{plain}"; {extended_name(path)}'


def extended_name(path: str) -> str:
    # busboy, the TypeScript SDK's parser, drops a part with a slash in it.
    encoded = urllib.parse.quote(path, safe="", errors="replace")
    return f"filename*=utf-8''{encoded}"


def content_type(path: str) -> str:
    """By the name's ending."""
    found = TYPES.get(posixpath.splitext(path)[1].lower(), "application/octet-stream")
    return f"{found}; charset=utf-8" if found.startswith("text/") else found


async def list_folder(toolbox: Toolbox, request: web.Request) -> web.Response:
    query = Fields.of_query(request)
    path = clean(toolbox, query.text("path", "") or ".")
    async with inside(path):
        depth = query.integer("depth", 1, least=1, most=100)
        cwd = toolbox.work_dir
        return answer(await toolbox.agent.files("list", path=path, cwd=cwd, depth=depth))


def clean(toolbox: Toolbox, path: str) -> str:
    """As it was given, absolute or not, for what is echoed below it; raises the 400."""
    toolbox.joined(path)
    return posixpath.normpath(path)


async def info(toolbox: Toolbox, request: web.Request) -> web.Response:
    given = Fields.of_query(request).text("path")
    path, name = toolbox.absolute(given), posixpath.basename(given.rstrip("/")) or "/"
    async with inside(path):
        return answer(await toolbox.agent.files("info", path=path, name=name))


async def make_folder(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/folder?path&mode: `mode` in octal, as in chmod."""
    query = Fields.of_query(request)
    path, text = toolbox.absolute(query.text("path")), query.text("mode", "0755") or "0755"
    mode = octal(text)
    async with changing(path):
        await toolbox.agent.files("mkdir", path=path, mode=mode)
    return nothing(201)


async def find(toolbox: Toolbox, request: web.Request) -> web.Response:
    """GET /files/find?path&pattern: literal text in the contents; [] for a missing path."""
    return answer(await look(toolbox, request, "find"))


async def search(toolbox: Toolbox, request: web.Request) -> web.Response:
    """GET /files/search?path&pattern: a glob on base names; [] for a missing path."""
    return answer({"files": await look(toolbox, request, "search")})


async def look(toolbox: Toolbox, request: web.Request, action: str) -> Any:
    query = Fields.of_query(request)
    path = clean(toolbox, query.text("path"))
    async with inside(path):
        pattern, cwd = required(query, "pattern"), toolbox.work_dir
        return await toolbox.agent.files(action, path=path, cwd=cwd, pattern=pattern)


def required(fields: Fields, name: str) -> str:
    value = fields.text(name)
    if not value:
        raise ApiError(400, f"{name} is required", code=fields.code, source=DAEMON)
    return value


@contextlib.asynccontextmanager
async def changing(path: str) -> AsyncIterator[None]:
    """As inside(); what may not be changed is a plain 400, as Daytona has it."""
    try:
        async with inside(path):
            yield
    except ApiError as error:
        if error.status == 403:
            raise ApiError(400, error.message, source=DAEMON) from None
        raise


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
            failures = await toolbox.agent.files("replace", paths=paths, pattern=old, value=new)
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
        else {"file": name, "success": False, "error": why(name, str(failure)[:500])}
        for name, failure in zip(names, failures, strict=True)
    ]


def why(name: str, failure: str) -> str:
    """In Go's words: a folder can be opened, but not read."""
    verb = "read" if failure == os.strerror(errno.EISDIR) else "open"
    return f"{verb} {name}: {failure[:1].lower()}{failure[1:]}"


async def move(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/move?source&destination: the destination must not exist, its folder must."""
    query = Fields.of_query(request)
    source = toolbox.absolute(query.text("source"))
    destination = toolbox.absolute(query.text("destination"))
    async with inside(f"{source} to {destination}"):
        await toolbox.agent.files("move", path=source, destination=destination)
    return nothing(200)


async def permissions(toolbox: Toolbox, request: web.Request) -> web.Response:
    """POST /files/permissions?path&mode&owner&group, what is left out stays."""
    query = Fields.of_query(request)
    path, text = toolbox.absolute(query.text("path")), query.text("mode", "")
    owner, group = query.text("owner", ""), query.text("group", "")
    async with changing(path):
        mode = octal(text) if text else None
        await toolbox.agent.files("permissions", path=path, mode=mode, owner=owner, group=group)
    return nothing(200)


def octal(text: str) -> int:
    """As in chmod, without setuid, setgid and sticky; raises the 400."""
    if not re.fullmatch(r"[0-7]{1,10}", text):
        raise ApiError(400, "mode must be octal, such as 0755", source=DAEMON)
    return int(text, 8) & PERMISSIONS


async def delete(toolbox: Toolbox, request: web.Request) -> web.Response:
    query = Fields.of_query(request)
    path = toolbox.absolute(query.text("path"))
    async with changing(path):
        await toolbox.agent.files("delete", path=path, recursive=query.boolean("recursive"))
    return nothing(204)
