"""Showing a server of the sandbox: wait until its port listens inside, then a link with its end."""

from __future__ import annotations

import asyncio
import datetime
import http
import re
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from .console import quote_path
from .defaults import PREVIEW_S
from .errors import Failure
from .host_checks import NEXT, NEXT_PATH, NEXT_SIGN, describe_host_check, find_host_check
from .remote_process import LastingProgram
from .sdk import Sandbox

SLICE_S = 10  # one look inside lasts so long, then the server's own end is asked for
TRIES_A_SLICE = SLICE_S * 5
ANSWER_S = 20  # for the first page, which a dev server may have to build
SETTLE_S = 1.0  # after the first answer: a server that dies of it takes a moment
NOT_OURS = 3
# The kernel's table needs no tool that an image may lack; 0A is LISTEN. The socket's owner is who
# has its inode among his descriptors; he is of this run if the server's first process is above him,
# or if he has its mark, which a daemon inherits. An owner that cannot be seen (sudo) is, if the
# socket is newer than the server.
FIND = """\
exec 2>/dev/null
inodes() {{
  cat "$@" | while read -r _ here _ state _ _ _ _ _ inode _; do
    case $here:$state in *:{port:04X}:0A) echo "$inode" ;; esac
  done
}}
is_ours() {{
  case $(tr '\\0' ' ' </proc/"$1"/environ) in *{mark}*) return 0 ;; esac
  at=$1
  while [ "${{at:-0}}" -gt 1 ]; do
    [ "$at" = "$root" ] && return 0
    above=0
    while read -r key value; do
      [ "$key" = PPid: ] && above=$value
    done </proc/"$at"/status
    at=$above
  done
  return 1
}}
look() {{
  seen='' other='' root=$(cat {pid_file})
  while read -r line; do
    case $line in
    /proc/*/fd:) owner=${{line#/proc/}} owner=${{owner%/fd:}} ;;
    *"socket:[$1]") seen=1; is_ours "$owner" && return 0; other=$owner ;;
    esac
  done <<END
$(ls -l /proc/[0-9]*/fd)
END
  [ -n "$seen" ] && return 1
  case " $(inodes {before} | tr '\\n' ' ') " in *" $1 "*) return 1 ;; esac
  return 0
}}
i=0 other=''
while [ $i -lt {tries} ]; do
  verdict=1
  for inode in $(inodes /proc/net/tcp /proc/net/tcp6); do
    {decide} && exit 0
    verdict={not_ours}
  done
  i=$((i+1)); sleep 0.2
done
[ -n "$other" ] && echo "$other" && tr '\\0' ' ' </proc/"$other"/cmdline
exit $verdict
"""
# A page as a browser would ask for it by the link; what has neither python3 nor bash says nothing.
PYTHON_ASKS = """\
import socket, sys, time
port, request = int(sys.argv[1]), sys.argv[2].encode()
end, said = time.monotonic() + {seconds}, b""
try:
    with socket.create_connection(("localhost", port), {seconds}) as s:
        s.sendall(request)
        while time.monotonic() < end and len(said) < 20000:
            s.settimeout(max(0.1, end - time.monotonic()))
            part = s.recv(20000)
            if not part:
                break
            if b"\\r\\n\\r\\n" not in said and b"\\r\\n\\r\\n" in said + part:
                end = min(end, time.monotonic() + 2)
            said += part
except OSError:
    pass
sys.stdout.buffer.write(said)
"""
ASK = """\
if command -v python3 >/dev/null; then exec python3 -c {python} {port} {request}; fi
command -v bash >/dev/null || exit 0
exec bash -c 'exec 3<>/dev/tcp/localhost/{port} && printf %s "$0" >&3 && \
timeout {seconds} head -c 20000 <&3' {request} 2>/dev/null
"""


@dataclass(frozen=True)
class FirstAnswer:
    """What the link's first page was: its status, None for none, and what to set for its host."""

    status: int | None
    advice: str | None = None

    def describe(self) -> str:
        if self.status is None:
            return f"nothing answered by HTTP within {ANSWER_S} s"
        try:
            return f"{self.status} {http.HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)

    @property
    def is_page(self) -> bool:
        return self.status is not None and self.status < 400 and self.advice is None


@dataclass(frozen=True)
class PreviewLink:
    """A link to a port of the sandbox, and its end."""

    url: str
    port: int
    expires_at: str

    def as_json(self, answer: FirstAnswer) -> dict[str, object]:
        return {
            "url": self.url,
            "port": self.port,
            "expires_at": self.expires_at,
            "status": answer.status,
            "advice": answer.advice,
        }


async def wait_for_port(
    sandbox: Sandbox,
    port: int,
    *,
    timeout_s: int,
    server: LastingProgram | None,
    flag: str = "--preview",
) -> None:
    """Return when the `server` listens, or anything does where there is none.

    Raises Failure when it ends before, or the time does.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        left = deadline - loop.time()
        tries = max(1, min(TRIES_A_SLICE, int(left * 5))) if server is None else 5
        code, said = await sandbox.exec(
            find_listener(port, tries=tries, server=server), timeout_s=SLICE_S * 3
        )
        if code == 0:
            return
        holder = describe_holder(port, said) if code == NOT_OURS else ""
        if server is not None:
            await require_alive(sandbox, server, f"before it listened on port {port}", holder)
        if left <= 0:  # looked at after the deadline: our clock runs on while this machine sleeps
            raise Failure(
                "timeout",
                f"nothing listened on port {port} within {timeout_s} s"
                f"{f', but {holder}' if holder else ''}; what the server printed is above",
                fix=f"--timeout {timeout_s * 3},"
                f" or {flag} with the port that the server really uses",
            )


def find_listener(port: int, *, tries: int, server: LastingProgram | None) -> str:
    """A script for a plain sh: 0 for a listener, 3 for one that is not the server's."""
    return FIND.format(
        port=port,
        tries=tries,
        not_ours=NOT_OURS,
        decide='look "$inode"' if server else "true",
        mark=server.mark if server else "",
        pid_file=server.pid_file if server else "/dev/null",
        before=server.listening_before if server else "/dev/null",
    )


def describe_holder(port: int, said: str) -> str:
    """Who else has the port, as far as he can be seen."""
    pid, _, line = said.strip().partition("\n")
    who = f" (pid {pid}: {quote_path(line.strip())})" if pid.isdigit() else ""
    return f"another process than --serve's has port {port}{who}"


async def require_alive(
    sandbox: Sandbox, server: LastingProgram, when: str, holder: str = ""
) -> None:
    """Raises Failure when the server has ended."""
    code = await sandbox.exit_code(server.session, server.command)
    if code is None:
        return
    fix = "mend --serve; it must stay in the foreground and listen on that port"
    pid = re.search(r"\(pid (\d+)", holder)
    if holder:
        end = f"end that one first: --command 'kill {pid[1]}'" if pid else "end that one first"
        fix = f"{end} in this sandbox, or use another port"
    raise Failure(
        "exec_failed",
        f"the server ended with exit code {code} {when};"
        f" {f'{holder}; ' if holder else ''}its output is above",
        fix=fix,
    )


async def make_preview_link(sandbox: Sandbox, port: int) -> PreviewLink:
    """A signed link for an hour; raises Failure."""
    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=PREVIEW_S)
    return PreviewLink(
        await sandbox.signed_preview_url(port, PREVIEW_S), port, ends.isoformat(timespec="seconds")
    )


async def look_at_first_page(sandbox: Sandbox, link: PreviewLink) -> FirstAnswer:
    """Asked inside, with the host that the link has; raises Failure."""
    answer = await ask_inside(sandbox, link)
    status = read_status(answer)
    advice = find_host_check(answer, link.url)
    if advice is None and status is not None and re.search(NEXT_SIGN, answer, re.MULTILINE):
        refused = read_status(await ask_inside(sandbox, link, path=NEXT_PATH, from_link=True))
        if refused == http.HTTPStatus.FORBIDDEN:
            advice = describe_host_check(*NEXT, link.url)
    return FirstAnswer(status, advice)


async def ask_inside(
    sandbox: Sandbox, link: PreviewLink, *, path: str = "/", from_link: bool = False
) -> str:
    """The beginning of the answer, with plain line ends; "" for none."""
    parts = urlsplit(link.url)
    lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", "Accept: text/html,*/*;q=0.8"]
    if from_link:
        lines.append(f"Origin: {parts.scheme}://{parts.netloc}")
    request = "\r\n".join([*lines, "Connection: close", "", ""])
    _, answer = await sandbox.exec(page_script(link.port, request), timeout_s=ANSWER_S + 5)
    return answer.replace("\r\n", "\n")


def page_script(port: int, request: str) -> str:
    """For a plain sh: the beginning of the answer to a request, by what the image has."""
    return ASK.format(
        python=shlex.quote(PYTHON_ASKS.format(seconds=ANSWER_S)),
        port=port,
        request=shlex.quote(request),
        seconds=ANSWER_S,
    )


def read_status(answer: str) -> int | None:
    found = re.match(r"HTTP/1\.[01] ([1-5]\d\d)\b", answer)
    return int(found[1]) if found else None
