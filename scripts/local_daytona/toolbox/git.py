"""git of the toolbox (PROTOCOL.md, "git"): each call is the sandbox's own git, run inside it."""

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
STATUS = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--renames")
HISTORY = ("log", "-z", f"--max-count={MOST_COMMITS}", "--no-show-signature", "--no-color")


async def clone(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Clone one branch.

    Files are written only when the credential is gone: filters of the sandbox's own may run then.
    """
    fields = await Fields.of_body(request)
    url, user, password = without_password(word(fields, "url"))
    path, commit = repository(toolbox, fields), optional(fields, "commit_id")
    depth = option("--depth", fields.integer("depth", 0))
    user, password = fields.text("username", "") or user, fields.text("password", "") or password
    login = credential_for(url, user, password)
    before = ["-c", "http.sslVerify=false"] if fields.boolean("insecure_skip_tls") else []
    words = [*before, "clone", "--quiet", "--no-checkout", "--single-branch", *depth]
    words += [*option("--branch", optional(fields, "branch")), "--", url, path]
    await checked(toolbox, *words, cwd=HOME, credential=login, timeout_s=REMOTE_S)
    try:
        if commit:
            fetch = [*before, "fetch", "--quiet", *depth]
            await fetch_commit(toolbox, path, commit, fetch, login)
        await check_out_files(toolbox, path, commit)
    except BaseException:
        with contextlib.suppress(FileProblem, SandboxGone):
            # So that it may be cloned again.
            await toolbox.box.files("delete", path=f"{path}/.git", recursive=True)
        raise
    return nothing(200)


async def fetch_commit(
    toolbox: Toolbox, path: str, commit: str, fetch: list[str], login: Credential | None
) -> None:
    """A commit outside the branch or beyond the depth may be had by its full name."""
    known = await git(toolbox, "cat-file", "-e", commit + "^{commit}", cwd=path)
    if known.code:
        words = [*fetch, "--", "origin", commit]
        await checked(toolbox, *words, cwd=path, credential=login, timeout_s=REMOTE_S)


async def check_out_files(toolbox: Toolbox, path: str, commit: str) -> None:
    """The commit, else the branch, of which an empty repository has none."""
    if commit:
        words = ("checkout", "--quiet", "--detach", commit, "--")
        await checked(toolbox, *words, cwd=path, timeout_s=REMOTE_S)
    elif (await git(toolbox, "rev-parse", "--quiet", "--verify", "HEAD", cwd=path)).code == 0:
        await checked(toolbox, "reset", "--quiet", "--hard", cwd=path, timeout_s=REMOTE_S)


async def status(toolbox: Toolbox, request: web.Request) -> web.Response:
    done = await checked(toolbox, *STATUS, cwd=repository(toolbox, Fields.of_query(request)))
    return answer(await asyncio.to_thread(gitanswers.status, done.text))


async def branches(toolbox: Toolbox, request: web.Request) -> web.Response:
    path = repository(toolbox, Fields.of_query(request))
    words = ("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
    lines = (await checked(toolbox, *words, cwd=path)).text.split("\n")
    current = await current_branch(toolbox, path)
    return answer({"branches": [name for name in lines if name], "current": current})


async def current_branch(toolbox: Toolbox, path: str) -> str:
    """An empty string when HEAD is detached."""
    return (await git(toolbox, "symbolic-ref", "--short", "--quiet", "HEAD", cwd=path)).text.strip()


async def create_branch(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Creates and checks out, as Daytona's does."""
    fields = await Fields.of_body(request)
    name, path = word(fields, "name"), repository(toolbox, fields)
    await checked(toolbox, "checkout", "--quiet", "-b", name, cwd=path)
    return nothing(201)


async def delete_branch(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    name, path = word(fields, "name"), repository(toolbox, fields)
    await checked(toolbox, "branch", "--quiet", "-D", "--", name, cwd=path)
    return nothing(204)


async def checkout(toolbox: Toolbox, request: web.Request) -> web.Response:
    """A branch, or detached a commit."""
    fields = await Fields.of_body(request)
    branch, path = word(fields, "branch"), repository(toolbox, fields)
    await checked(toolbox, "checkout", "--quiet", branch, "--", cwd=path)
    return nothing(200)


async def add(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    await checked(toolbox, "add", "--", *file_names(fields), cwd=repository(toolbox, fields))
    return nothing(200)


async def commit(toolbox: Toolbox, request: web.Request) -> web.Response:
    """What is staged, by the given author; the message goes through stdin: it may be long."""
    fields = await Fields.of_body(request)
    path, message = repository(toolbox, fields), fields.text("message")
    if not message.strip():
        raise ApiError(400, "message is required", source=DAEMON)
    name, email = word(fields, "author"), word(fields, "email")
    identity = ["-c", f"user.name={name}", "-c", f"user.email={email}"]
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
        raise no_branch("there is no such branch, or HEAD is on none")
    ask = ("remote", "get-url", "--push", "--", remote)
    login = await login_for(toolbox, path, fields, ask, remote)
    set_upstream, ref = fields.boolean("set_upstream"), f"refs/heads/{branch}"
    words = ["push", "--quiet", "--no-verify", *(["--set-upstream"] if set_upstream else [])]
    words += ["--", remote, f"{ref}:{ref}"]
    await checked(toolbox, *words, cwd=path, credential=login, timeout_s=REMOTE_S)
    if set_upstream:
        await track(toolbox, path, remote, branch)
    return nothing(200)


async def track(toolbox: Toolbox, path: str, remote: str, branch: str) -> None:
    """Make a clone of one branch follow another, which was pushed.

    Otherwise its status would not know the upstream that the push has just set.
    """
    followed = f"refs/remotes/{remote}/{branch}"
    known = await git(toolbox, "rev-parse", "--verify", "--quiet", followed, cwd=path)
    if not known.code:
        return
    added = await git(toolbox, "remote", "set-branches", "--add", remote, branch, cwd=path)
    if added.code == 0:
        await git(toolbox, "update-ref", followed, f"refs/heads/{branch}", cwd=path)


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
    """Fast-forward only: a fetch with the credential, then a merge without it.

    A merge runs filters of the sandbox's own.
    """
    fields = await Fields.of_body(request)
    path, remote = repository(toolbox, fields), optional(fields, "remote") or "origin"
    branch = optional(fields, "branch") or await upstream_branch(toolbox, path)
    login = await login_for(toolbox, path, fields, ("ls-remote", "--get-url", "--", remote), remote)
    fetch = ("fetch", "--quiet", "--", remote, branch)
    await checked(toolbox, *fetch, cwd=path, credential=login, timeout_s=REMOTE_S)
    merge = ("merge", "--quiet", "--ff-only", "--no-stat", "FETCH_HEAD")
    await checked(toolbox, *merge, cwd=path, timeout_s=REMOTE_S)
    return nothing(200)


async def upstream_branch(toolbox: Toolbox, path: str) -> str:
    """What the current branch follows, else the branch of its own name.

    Raises the 404 when HEAD is on none.
    """
    branch, followed = await current_branch(toolbox, path), ""
    if branch:
        done = await git(toolbox, "config", "--get", f"branch.{branch}.merge", cwd=path)
        followed = done.text.strip()
    if not BRANCH.fullmatch(followed or branch):
        # No repository at all is the better reason.
        await checked(toolbox, "rev-parse", "--git-dir", cwd=path)
        raise no_branch("HEAD is on no branch; name the branch to pull")
    return followed or branch


def no_branch(message: str) -> ApiError:
    return ApiError(404, message, code="GIT_BRANCH_NOT_FOUND", source=DAEMON)


async def history(toolbox: Toolbox, request: web.Request) -> web.Response:
    path, shape = repository(toolbox, Fields.of_query(request)), gitanswers.COMMIT_FORMAT
    done = await checked(toolbox, *HISTORY, f"--format={shape}", cwd=path)
    return answer(await asyncio.to_thread(gitanswers.commits, done.text))


async def init(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    branch = option("--initial-branch", optional(fields, "initial_branch"))
    bare = ["--bare"] if fields.boolean("bare") else []
    path = repository(toolbox, fields)
    await checked(toolbox, "init", "--quiet", *bare, *branch, "--", path, cwd=HOME)
    return nothing(201)


async def reset(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    mode, target = optional(fields, "mode"), optional(fields, "target")
    files = fields.list_of_texts("files")
    if (mode and mode not in RESET_MODES) or (files and mode not in ("", "mixed")):
        message = f"mode must be one of {', '.join(RESET_MODES)}, with files mixed"
        raise ApiError(400, message, source=DAEMON)
    words = ["reset", "--quiet", *([f"--{mode}"] if mode and not files else [])]
    words += [*([target] if target else []), "--", *files]
    await checked(toolbox, *words, cwd=repository(toolbox, fields))
    return nothing(200)


async def restore(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    staged, source = fields.boolean("staged"), optional(fields, "source")
    places = ["--staged"] if staged else []
    places += ["--worktree"] if fields.boolean("worktree", not staged) else []
    if not places:
        raise ApiError(400, "one of staged and worktree must be true", source=DAEMON)
    words = ["restore", "--quiet", *places, *option("--source", source), "--", *file_names(fields)]
    await checked(toolbox, *words, cwd=repository(toolbox, fields))
    return nothing(200)


async def remotes(toolbox: Toolbox, request: web.Request) -> web.Response:
    path = repository(toolbox, Fields.of_query(request))
    await checked(toolbox, "rev-parse", "--git-dir", cwd=path)
    words = ("config", "--local", "-z", "--get-regexp", r"^remote\..*\.url$")
    done = await git(toolbox, *words, cwd=path)
    return answer({"remotes": gitanswers.remotes(done.text)})


async def add_remote(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Raises the 400 for an address with a password.

    It would stay in .git/config, where any code of the sandbox reads it.
    """
    fields = await Fields.of_body(request)
    path, name, url = repository(toolbox, fields), word(fields, "name"), word(fields, "url")
    if without_password(url)[2]:
        message = "the url holds a password; leave it out, and pass username and password"
        raise ApiError(400, f"{message} to push and pull", source=DAEMON)
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
    key, value = key_of(fields), fields.text("value")
    await checked(toolbox, "config", scope, "--replace-all", key, value, cwd=path)
    return nothing(200)


async def configure_user(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    scope, path = scope_of(toolbox, fields)
    values = {"user.name": fields.text("name"), "user.email": fields.text("email")}
    for key, value in values.items():
        await checked(toolbox, "config", scope, "--replace-all", key, value, cwd=path)
    return nothing(200)


async def authenticate(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Stores the password in plain text in the sandbox's ~/.git-credentials, as the API says.

    It gets there through stdin.
    """
    fields = await Fields.of_body(request)
    host = optional(fields, "host") or "github.com"
    protocol = optional(fields, "protocol") or "https"
    origin = f"{protocol}://{host}"
    login = credential_for(origin, word(fields, "username"), fields.text("password"))
    if login is None or login.origin != origin or re.search(r"[\s/@]", host):
        message = "password, host and protocol (http or https) must be those of a git server"
        raise ApiError(400, message, source=DAEMON)
    store = ("config", "--global", "--replace-all", "credential.helper", "store")
    await checked(toolbox, *store, cwd=HOME)
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
        message = f"{name} must be one line that does not begin with a dash"
        raise ApiError(400, message, source=DAEMON)
    return value


def optional(fields: Fields, name: str) -> str:
    """As word(); an empty string when it was not given."""
    return word(fields, name) if fields.text(name, "") else ""


def option(name: str, value: object) -> list[str]:
    """--name=value for git, nothing without a value."""
    return [f"{name}={value}"] if value else []


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
