"""git of the toolbox (wire-protocol, section 3.6): each call is the sandbox's own git, run inside it."""

from __future__ import annotations

import asyncio
import contextlib
import re

from aiohttp import web

from ..engine.errors import FileProblem, SandboxGone
from ..engine.rootfs import HOME
from ..wire import DAEMON, ApiError, Fields, answer, nothing
from . import gitanswers
from .gitfailures import failure
from .gitprogram import REMOTE_S, Credential, checked, credential_for, git, without_password
from .toolbox import Toolbox

MOST_COMMITS = 10_000
KEY = re.compile(r"[A-Za-z0-9-]+\.([^\x00\n]+\.)?[A-Za-z][A-Za-z0-9-]*")
BRANCH = re.compile(r"(?!-)[^\x00-\x20\x7f~^:?*\[\\]+")
RESET_MODES = ("soft", "mixed", "hard", "merge", "keep")
SCOPES = ("global", "local", "system")


async def clone(toolbox: Toolbox, request: web.Request) -> web.Response:
    """One branch; files are written only when the credential is gone, because filters of the sandbox's own may run then."""
    fields = await Fields.of_body(request)
    url, user, password = without_password(word(fields, "url"))
    path, commit, depth = (
        repository(toolbox, fields),
        optional(fields, "commit_id"),
        fields.integer("depth", 0),
    )
    login = credential_for(
        url, fields.text("username", "") or user, fields.text("password", "") or password
    )
    before = ["-c", "http.sslVerify=false"] if fields.boolean("insecure_skip_tls") else []
    words = [
        "clone",
        "--quiet",
        "--no-checkout",
        "--single-branch",
        *([f"--depth={depth}"] if depth else []),
    ]
    branch = [f"--branch={optional(fields, 'branch')}"] if optional(fields, "branch") else []
    await checked(
        toolbox,
        *before,
        *words,
        *branch,
        "--",
        url,
        path,
        cwd=HOME,
        credential=login,
        timeout_s=REMOTE_S,
    )
    try:
        if commit:
            await fetch_commit(
                toolbox, path, commit, [*before, "fetch", "--quiet", *words[4:]], login
            )
        await check_out_files(toolbox, path, commit)
    except BaseException:
        with contextlib.suppress(FileProblem, SandboxGone):
            await toolbox.box.files(
                "delete", path=f"{path}/.git", recursive=True
            )  # so that it may be cloned again
        raise
    return nothing(200)


async def fetch_commit(
    toolbox: Toolbox, path: str, commit: str, fetch: list[str], login: Credential | None
) -> None:
    """A commit outside the branch or beyond the depth may be had by its full name."""
    known = await git(toolbox, "cat-file", "-e", commit + "^{commit}", cwd=path)
    if known.code:
        await checked(
            toolbox, *fetch, "--", "origin", commit, cwd=path, credential=login, timeout_s=REMOTE_S
        )


async def check_out_files(toolbox: Toolbox, path: str, commit: str) -> None:
    """The commit, else the branch, of which an empty repository has none."""
    if commit:
        await checked(
            toolbox, "checkout", "--quiet", "--detach", commit, "--", cwd=path, timeout_s=REMOTE_S
        )
    elif (await git(toolbox, "rev-parse", "--quiet", "--verify", "HEAD", cwd=path)).code == 0:
        await checked(toolbox, "reset", "--quiet", "--hard", cwd=path, timeout_s=REMOTE_S)


async def status(toolbox: Toolbox, request: web.Request) -> web.Response:
    words = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--renames")
    done = await checked(toolbox, *words, cwd=repository(toolbox, Fields.of_query(request)))
    return answer(await asyncio.to_thread(gitanswers.status, done.text))


async def branches(toolbox: Toolbox, request: web.Request) -> web.Response:
    path = repository(toolbox, Fields.of_query(request))
    names = await checked(
        toolbox, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", cwd=path
    )
    return answer(
        {
            "branches": [name for name in names.text.split("\n") if name],
            "current": await current_branch(toolbox, path),
        }
    )


async def current_branch(toolbox: Toolbox, path: str) -> str:
    """ "" when HEAD is detached."""
    return (await git(toolbox, "symbolic-ref", "--short", "--quiet", "HEAD", cwd=path)).text.strip()


async def create_branch(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Creates and checks out, as Daytona's does."""
    fields = await Fields.of_body(request)
    await checked(
        toolbox, "checkout", "--quiet", "-b", word(fields, "name"), cwd=repository(toolbox, fields)
    )
    return nothing(201)


async def delete_branch(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    await checked(
        toolbox,
        "branch",
        "--quiet",
        "-D",
        "--",
        word(fields, "name"),
        cwd=repository(toolbox, fields),
    )
    return nothing(204)


async def checkout(toolbox: Toolbox, request: web.Request) -> web.Response:
    """A branch, or detached a commit."""
    fields = await Fields.of_body(request)
    await checked(
        toolbox,
        "checkout",
        "--quiet",
        word(fields, "branch"),
        "--",
        cwd=repository(toolbox, fields),
    )
    return nothing(200)


async def add(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    await checked(toolbox, "add", "--", *file_names(fields), cwd=repository(toolbox, fields))
    return nothing(200)


async def commit(toolbox: Toolbox, request: web.Request) -> web.Response:
    """What is staged, by the given author; the message goes through stdin, so that it may be long."""
    fields = await Fields.of_body(request)
    path, message = repository(toolbox, fields), fields.text("message")
    if not message.strip():
        raise ApiError(400, "message is required", source=DAEMON)
    identity = [
        "-c",
        f"user.name={word(fields, 'author')}",
        "-c",
        f"user.email={word(fields, 'email')}",
    ]
    words = ["commit", "--quiet", "--no-verify", "--cleanup=verbatim", "--file=-"]
    words += ["--allow-empty"] if fields.boolean("allow_empty") else []
    await checked(toolbox, *identity, *words, cwd=path, stdin=message.encode())
    return answer({"hash": (await checked(toolbox, "rev-parse", "HEAD", cwd=path)).text.strip()})


async def push(toolbox: Toolbox, request: web.Request) -> web.Response:
    """The branch to its own name at the remote; never forced."""
    fields = await Fields.of_body(request)
    path, remote = repository(toolbox, fields), optional(fields, "remote") or "origin"
    branch = optional(fields, "branch") or await current_branch(toolbox, path)
    if not BRANCH.fullmatch(branch):
        raise ApiError(
            404,
            "there is no such branch, or HEAD is on none",
            code="GIT_BRANCH_NOT_FOUND",
            source=DAEMON,
        )
    login = await login_for(
        toolbox, path, fields, ("remote", "get-url", "--push", "--", remote), remote
    )
    words = [
        "push",
        "--quiet",
        "--no-verify",
        *(["--set-upstream"] if fields.boolean("set_upstream") else []),
        "--",
        remote,
    ]
    await checked(
        toolbox,
        *words,
        f"refs/heads/{branch}:refs/heads/{branch}",
        cwd=path,
        credential=login,
        timeout_s=REMOTE_S,
    )
    if fields.boolean("set_upstream"):
        await track(toolbox, path, remote, branch)
    return nothing(200)


async def track(toolbox: Toolbox, path: str, remote: str, branch: str) -> None:
    """A clone of one branch follows no other, so its status would not know the upstream that the push has just set."""
    known = await git(
        toolbox, "rev-parse", "--verify", "--quiet", f"refs/remotes/{remote}/{branch}", cwd=path
    )
    if (
        known.code
        and (await git(toolbox, "remote", "set-branches", "--add", remote, branch, cwd=path)).code
        == 0
    ):
        await git(
            toolbox,
            "update-ref",
            f"refs/remotes/{remote}/{branch}",
            f"refs/heads/{branch}",
            cwd=path,
        )


async def login_for(
    toolbox: Toolbox, path: str, fields: Fields, ask: tuple[str, ...], remote: str
) -> Credential | None:
    """The request's credential for wherever the remote leads, which the repository says."""
    username, password = fields.text("username", ""), fields.text("password", "")
    if not password:
        return None
    said = await git(toolbox, *ask, cwd=path)
    return credential_for(said.text.strip() if said.code == 0 else remote, username, password)


async def pull(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Fast-forward only: a fetch with the credential, then a merge without it, because a merge runs filters of the sandbox's own."""
    fields = await Fields.of_body(request)
    path, remote = repository(toolbox, fields), optional(fields, "remote") or "origin"
    branch = optional(fields, "branch") or await upstream_branch(toolbox, path)
    login = await login_for(toolbox, path, fields, ("ls-remote", "--get-url", "--", remote), remote)
    await checked(
        toolbox,
        "fetch",
        "--quiet",
        "--",
        remote,
        branch,
        cwd=path,
        credential=login,
        timeout_s=REMOTE_S,
    )
    await checked(
        toolbox,
        "merge",
        "--quiet",
        "--ff-only",
        "--no-stat",
        "FETCH_HEAD",
        cwd=path,
        timeout_s=REMOTE_S,
    )
    return nothing(200)


async def upstream_branch(toolbox: Toolbox, path: str) -> str:
    """What the current branch follows, else the branch of its own name; raises the 404 when HEAD is on none."""
    branch = await current_branch(toolbox, path)
    found = (
        (await git(toolbox, "config", "--get", f"branch.{branch}.merge", cwd=path)).text.strip()
        if branch
        else ""
    )
    if not BRANCH.fullmatch(found or branch):
        await checked(
            toolbox, "rev-parse", "--git-dir", cwd=path
        )  # no repository at all is the better reason
        raise ApiError(
            404,
            "HEAD is on no branch; name the branch to pull",
            code="GIT_BRANCH_NOT_FOUND",
            source=DAEMON,
        )
    return found or branch


async def history(toolbox: Toolbox, request: web.Request) -> web.Response:
    words = (
        "log",
        "-z",
        f"--max-count={MOST_COMMITS}",
        f"--format={gitanswers.COMMIT_FORMAT}",
        "--no-show-signature",
        "--no-color",
    )
    done = await checked(toolbox, *words, cwd=repository(toolbox, Fields.of_query(request)))
    return answer(await asyncio.to_thread(gitanswers.commits, done.text))


async def init(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    branch = optional(fields, "initial_branch")
    words = [
        "init",
        "--quiet",
        *(["--bare"] if fields.boolean("bare") else []),
        *([f"--initial-branch={branch}"] if branch else []),
    ]
    await checked(toolbox, *words, "--", repository(toolbox, fields), cwd=HOME)
    return nothing(201)


async def reset(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    mode, target, files = (
        optional(fields, "mode"),
        optional(fields, "target"),
        fields.list_of_texts("files"),
    )
    if (mode and mode not in RESET_MODES) or (files and mode not in ("", "mixed")):
        raise ApiError(
            400, f"mode must be one of {', '.join(RESET_MODES)}, with files mixed", source=DAEMON
        )
    words = [
        "reset",
        "--quiet",
        *([f"--{mode}"] if mode and not files else []),
        *([target] if target else []),
        "--",
        *files,
    ]
    await checked(toolbox, *words, cwd=repository(toolbox, fields))
    return nothing(200)


async def restore(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    staged, source = fields.boolean("staged"), optional(fields, "source")
    places = [
        *(["--staged"] if staged else []),
        *(["--worktree"] if fields.boolean("worktree", not staged) else []),
    ]
    if not places:
        raise ApiError(400, "one of staged and worktree must be true", source=DAEMON)
    words = [
        "restore",
        "--quiet",
        *places,
        *([f"--source={source}"] if source else []),
        "--",
        *file_names(fields),
    ]
    await checked(toolbox, *words, cwd=repository(toolbox, fields))
    return nothing(200)


async def remotes(toolbox: Toolbox, request: web.Request) -> web.Response:
    path = repository(toolbox, Fields.of_query(request))
    await checked(toolbox, "rev-parse", "--git-dir", cwd=path)
    done = await git(
        toolbox, "config", "--local", "-z", "--get-regexp", r"^remote\..*\.url$", cwd=path
    )
    return answer({"remotes": gitanswers.remotes(done.text)})


async def add_remote(toolbox: Toolbox, request: web.Request) -> web.Response:
    """An address with a password is refused: it would stay in .git/config, where any code of the sandbox reads it."""
    fields = await Fields.of_body(request)
    path, name, url = repository(toolbox, fields), word(fields, "name"), word(fields, "url")
    if without_password(url)[2]:
        raise ApiError(
            400,
            "the url holds a password; leave it out, and pass username and password to push and pull",
            source=DAEMON,
        )
    known = (await checked(toolbox, "remote", cwd=path)).text.split("\n")
    replaces = name in known and fields.boolean("overwrite")
    await checked(toolbox, "remote", "set-url" if replaces else "add", "--", name, url, cwd=path)
    if fields.boolean("fetch"):
        await checked(toolbox, "fetch", "--quiet", "--", name, cwd=path, timeout_s=REMOTE_S)
    return nothing(201)


async def get_config(toolbox: Toolbox, request: web.Request) -> web.Response:
    """A key that is not set has the value null."""
    fields = Fields.of_query(request)
    scope, path = scope_of(toolbox, fields)
    done = await git(toolbox, "config", scope, "-z", "--get", key_of(fields), cwd=path)
    if done.code not in (0, 1):
        raise failure(done.code, done.said)
    return answer({"value": done.text.rstrip("\0") if done.code == 0 else None})


async def set_config(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    scope, path = scope_of(toolbox, fields)
    await checked(
        toolbox, "config", scope, "--replace-all", key_of(fields), fields.text("value"), cwd=path
    )
    return nothing(200)


async def configure_user(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    scope, path = scope_of(toolbox, fields)
    values = {"user.name": fields.text("name"), "user.email": fields.text("email")}
    for key, value in values.items():
        await checked(toolbox, "config", scope, "--replace-all", key, value, cwd=path)
    return nothing(200)


async def authenticate(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Stores the password in plain text in the sandbox's ~/.git-credentials, as the API says; it gets there through stdin."""
    fields = await Fields.of_body(request)
    host, protocol = (
        optional(fields, "host") or "github.com",
        optional(fields, "protocol") or "https",
    )
    login = credential_for(
        f"{protocol}://{host}", word(fields, "username"), fields.text("password")
    )
    if login is None or login.origin != f"{protocol}://{host}" or re.search(r"[\s/@]", host):
        raise ApiError(
            400,
            "password, host and protocol (http or https) must be those of a git server",
            source=DAEMON,
        )
    await checked(
        toolbox, "config", "--global", "--replace-all", "credential.helper", "store", cwd=HOME
    )
    lines = f"protocol={protocol}\nhost={host}\n".encode() + login.lines + b"\n"
    done = await git(toolbox, "credential", "approve", cwd=HOME, stdin=lines)
    if done.code:
        raise failure(done.code, done.said, [login.password, login.username])
    return nothing(200)


def repository(toolbox: Toolbox, fields: Fields) -> str:
    return toolbox.absolute(fields.text("path"))


def word(fields: Fields, name: str) -> str:
    """What stands alone in git's arguments; raises the 400 when git would take it for an option."""
    value = fields.text(name)
    if not value or value.startswith("-") or re.search(r"[\x00-\x1f\x7f]", value):
        raise ApiError(
            400, f"{name} must be one line that does not begin with a dash", source=DAEMON
        )
    return value


def optional(fields: Fields, name: str) -> str:
    """ "" when it was not given."""
    return word(fields, name) if fields.text(name, "") else ""


def file_names(fields: Fields) -> list[str]:
    files = fields.list_of_texts("files")
    if not files or "" in files:
        raise ApiError(400, "files must name at least one file", source=DAEMON)
    return files


def scope_of(toolbox: Toolbox, fields: Fields) -> tuple[str, str]:
    """(git's option, the folder to run in); a local one is of the repository at `path`."""
    scope = fields.text("scope", "") or "global"
    if scope not in SCOPES:
        raise ApiError(400, f"scope must be one of {', '.join(SCOPES)}", source=DAEMON)
    return f"--{scope}", repository(toolbox, fields) if scope == "local" else HOME


def key_of(fields: Fields) -> str:
    key = fields.text("key")
    if not KEY.fullmatch(key) or key.startswith("-"):
        raise ApiError(400, "key has a section and a name, such as user.name", source=DAEMON)
    return key


TABLE = (
    ("POST", "/git/clone", clone),
    ("GET", "/git/status", status),
    ("GET", "/git/branches", branches),
    ("POST", "/git/branches", create_branch),
    ("DELETE", "/git/branches", delete_branch),
    ("POST", "/git/checkout", checkout),
    ("POST", "/git/add", add),
    ("POST", "/git/commit", commit),
    ("POST", "/git/push", push),
    ("POST", "/git/pull", pull),
    ("GET", "/git/history", history),
    ("POST", "/git/init", init),
    ("POST", "/git/reset", reset),
    ("POST", "/git/restore", restore),
    ("GET", "/git/remotes", remotes),
    ("POST", "/git/remotes", add_remote),
    ("GET", "/git/config", get_config),
    ("POST", "/git/config", set_config),
    ("POST", "/git/config/user", configure_user),
    ("POST", "/git/credentials", authenticate),
)
