"""git of the toolbox (PROTOCOL.md, "git"): each call is the sandbox's own git, run inside it."""

from __future__ import annotations

import asyncio
import contextlib
import re

from aiohttp import web

from ...errors import ApiError, FileProblem, SandboxGone
from ...http_json import DAEMON, Fields, answer, nothing
from ...isolation.host_etc import HOME
from ..toolbox import Toolbox
from . import answers as gitanswers
from .failures import failure
from .program import REMOTE_S, Credential, checked, credential_for, git, without_password

MOST_COMMITS = 10_000
KEY = re.compile(r"[A-Za-z0-9-]+\.([^\x00\n]+\.)?[A-Za-z][A-Za-z0-9-]*")
BRANCH = re.compile(r"(?!-)[^\x00-\x20\x7f~^:?*\[\\]+")
RESET_MODES = ("soft", "mixed", "hard", "merge", "keep")
SCOPES = ("global", "local", "system")
FULL_HASH = re.compile(r"[0-9a-f]{40}")
# As Daytona's git sees it: without renames, and without a list of the user's own of what to ignore.
STATUS = (
    *("-c", "core.excludesFile=/dev/null", "status", "--porcelain=v2", "--branch", "-z"),
    *("--untracked-files=all", "--no-renames"),
)
UNBORN = "# branch.oid (initial)"
UNSTAGED = ("diff", "--quiet", "--no-ext-diff", "--no-textconv", "--ignore-submodules")
HISTORY = ("log", "-z", f"--max-count={MOST_COMMITS}", "--no-show-signature", "--no-color")


async def clone(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Clone one branch, whose remote one is known only where it was named, as in Daytona.

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
    branch = optional(fields, "branch")
    words += [*option("--branch", branch), "--", url, path]
    await checked(toolbox, *words, cwd=HOME, credential=login, timeout_s=REMOTE_S)
    try:
        if not branch:
            await follow_head(toolbox, path)
        if commit:
            fetch = [*before, "fetch", "--quiet", *depth]
            await fetch_commit(toolbox, path, commit, fetch, login)
        await check_out_files(toolbox, path, commit)
    except BaseException:
        with contextlib.suppress(FileProblem, SandboxGone):
            # So that it may be cloned again.
            await toolbox.agent.files("delete", path=f"{path}/.git", recursive=True)
        raise
    return nothing(200)


async def follow_head(toolbox: Toolbox, path: str) -> None:
    """Make the clone know only the remote's HEAD, as Daytona's does.

    Raises the 404 of a remote without a commit.
    """
    if (await git(toolbox, "rev-parse", "--quiet", "--verify", "HEAD", cwd=path)).code:
        raise ApiError(404, "the remote repository is empty", source=DAEMON)
    branch, head = await current_branch(toolbox, path), "refs/remotes/origin/HEAD"
    fetch = ("config", "--replace-all", "remote.origin.fetch", f"+HEAD:{head}")
    await checked(toolbox, *fetch, cwd=path)
    for words in (
        ("symbolic-ref", "--delete", head),
        ("update-ref", head, "HEAD"),
        ("update-ref", "-d", f"refs/remotes/origin/{branch}"),
        ("config", "--remove-section", f"branch.{branch}"),
    ):
        await git(toolbox, *words, cwd=path)  # a HEAD on no branch has less to forget


async def fetch_commit(
    toolbox: Toolbox, path: str, commit: str, fetch: list[str], login: Credential | None
) -> None:
    """A commit outside the branch or beyond the depth may be had by its full name."""
    known = await git(toolbox, "cat-file", "-e", commit + "^{commit}", cwd=path)
    if known.code:
        words = [*fetch, "--", "origin", commit]
        await checked(toolbox, *words, cwd=path, credential=login, timeout_s=REMOTE_S)


async def check_out_files(toolbox: Toolbox, path: str, commit: str) -> None:
    """The commit, else the branch."""
    words = ["reset", "--quiet", "--hard"]
    if commit:
        words = ["checkout", "--quiet", "--detach", commit, "--"]
    await checked(toolbox, *words, cwd=path, timeout_s=REMOTE_S)


async def status(toolbox: Toolbox, request: web.Request) -> web.Response:
    done = await checked(toolbox, *STATUS, cwd=repository(toolbox, Fields.of_query(request)))
    if done.text.startswith(UNBORN):
        raise ApiError(404, "reference not found: there is no commit yet", source=DAEMON)
    return answer(await asyncio.to_thread(gitanswers.status, done.text))


async def branches(toolbox: Toolbox, request: web.Request) -> web.Response:
    """In Daytona's order: those that have a file of their own, then the packed ones."""
    path = repository(toolbox, Fields.of_query(request))
    words = ("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
    lines = (await checked(toolbox, *words, cwd=path)).text.split("\n")
    current = await current_branch(toolbox, path)
    alone = await own_files(toolbox, f"{path}/.git/refs/heads")
    names = sorted((name for name in lines if name), key=lambda name: name not in alone)
    return answer({"branches": names, "current": current})


async def own_files(toolbox: Toolbox, folder: str) -> set[str]:
    """Names below the folder; none where they are too many for an answer."""
    with contextlib.suppress(FileProblem):
        found = await toolbox.agent.files("search", path=folder, pattern="*")
        if isinstance(found, list):
            return {str(name).removeprefix(f"{folder}/") for name in found}
    return set()


async def current_branch(toolbox: Toolbox, path: str) -> str:
    """An empty string when HEAD is detached."""
    return (await git(toolbox, "symbolic-ref", "--short", "--quiet", "HEAD", cwd=path)).text.strip()


async def create_branch(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Creates and checks out, as Daytona's does; then it refuses a change that is not staged."""
    fields = await Fields.of_body(request)
    name, path = word(fields, "name"), repository(toolbox, fields)
    await checked(toolbox, "rev-parse", "--verify", "HEAD", cwd=path)
    unstaged = await has_unstaged(toolbox, path)
    await checked(toolbox, "checkout", "--quiet", "-b", name, cwd=path)
    if unstaged:
        raise dirty("the branch was made and is checked out, with the changes")
    return nothing(201)


async def has_unstaged(toolbox: Toolbox, path: str) -> bool:
    """Whether a file that git knows is changed or gone and `add` was not told."""
    return (await git(toolbox, *UNSTAGED, cwd=path)).code == 1


def dirty(outcome: str) -> ApiError:
    message = f"the worktree contains unstaged changes; {outcome}. Stage them before, with add"
    return ApiError(409, message, code="GIT_DIRTY_WORKTREE", source=DAEMON)


async def delete_branch(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    name, path = word(fields, "name"), repository(toolbox, fields)
    await checked(toolbox, "branch", "--quiet", "-D", "--", name, cwd=path)
    return nothing(204)


async def checkout(toolbox: Toolbox, request: web.Request) -> web.Response:
    """A local branch, or detached a commit by its full name; no other name, as in Daytona.

    A change that is not staged is refused. Daytona moves HEAD all the same; here it moves only to
    the same commit, where nothing gets mixed up.
    """
    fields = await Fields.of_body(request)
    branch, path = given(fields, "branch"), repository(toolbox, fields)
    commit = await commit_of(toolbox, path, branch)
    unstaged = await has_unstaged(toolbox, path)
    head = (await git(toolbox, "rev-parse", "HEAD", cwd=path)).text.strip()
    if unstaged and commit != head:
        raise dirty("nothing was checked out")
    await checked(toolbox, "checkout", "--quiet", branch, "--", cwd=path)
    if unstaged:
        raise dirty("the branch, which is of the same commit, is checked out")
    return nothing(200)


async def commit_of(toolbox: Toolbox, path: str, name: str) -> str:
    """Where a local branch is, or the commit of this full name; raises the 404."""
    if BRANCH.fullmatch(name):
        words = ("show-ref", "--verify", "--hash", f"refs/heads/{name}")
        found = await git(toolbox, *words, cwd=path)
        if found.code and FULL_HASH.fullmatch(name):
            words = ("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
            found = await git(toolbox, *words, cwd=path)
        if found.code == 0:
            return found.text.strip()
    raise await no_branch(toolbox, path, f"there is no local branch or commit {name!r}")


async def add(toolbox: Toolbox, request: web.Request) -> web.Response:
    """Names, no patterns, below the repository."""
    fields = await Fields.of_body(request)
    path, files = repository(toolbox, fields), fields.list_of_texts("files")
    if not fields.has("files"):
        raise ApiError(400, "files is required", code=fields.code, source=DAEMON)
    if any(name.startswith("/") for name in files):
        raise internal("entry not found: names are relative to the repository")
    words = ["--literal-pathspecs", "add", "--", *(name or "." for name in files)]
    await checked(toolbox, *(words if files else ["rev-parse", "--git-dir"]), cwd=path)
    return nothing(200)


def internal(message: str) -> ApiError:
    """What Daytona answers where it tells no reason by a code."""
    return ApiError(500, message, code="INTERNAL_SERVER_ERROR", source=DAEMON)


async def commit(toolbox: Toolbox, request: web.Request) -> web.Response:
    """What is staged, by the given author; the message goes through stdin: it may be long."""
    fields = await Fields.of_body(request)
    path, message = repository(toolbox, fields), given(fields, "message")
    name, email = word(fields, "author"), word(fields, "email")
    identity = ["-c", f"user.name={name}", "-c", f"user.email={email}"]
    words = ["commit", "--quiet", "--no-verify", "--cleanup=verbatim", "--file=-"]
    words += ["--allow-empty-message"]
    words += ["--allow-empty"] if fields.boolean("allow_empty") else []
    await checked(toolbox, *identity, *words, cwd=path, stdin=message.encode())
    return answer({"hash": (await checked(toolbox, "rev-parse", "HEAD", cwd=path)).text.strip()})


async def push(toolbox: Toolbox, request: web.Request) -> web.Response:
    """The branch to its own name at the remote; never forced."""
    fields = await Fields.of_body(request)
    path, remote = repository(toolbox, fields), optional(fields, "remote") or "origin"
    branch = optional(fields, "branch") or await current_branch(toolbox, path)
    if not BRANCH.fullmatch(branch):
        raise await no_branch(toolbox, path, "there is no such branch, or HEAD is on none")
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

    A merge runs filters of the sandbox's own. A change that is not staged is refused.
    """
    fields = await Fields.of_body(request)
    path, remote = repository(toolbox, fields), optional(fields, "remote") or "origin"
    branch = optional(fields, "branch") or await upstream_branch(toolbox, path)
    login = await login_for(toolbox, path, fields, ("ls-remote", "--get-url", "--", remote), remote)
    fetch = ("fetch", "--quiet", "--", remote, branch)
    await checked(toolbox, *fetch, cwd=path, credential=login, timeout_s=REMOTE_S)
    holds = ("merge-base", "--is-ancestor")
    if (await git(toolbox, *holds, "FETCH_HEAD", "HEAD", cwd=path)).code == 0:
        return nothing(200)
    forward = (await git(toolbox, *holds, "HEAD", "FETCH_HEAD", cwd=path)).code == 0
    if forward and await has_unstaged(toolbox, path):
        raise dirty("nothing was merged")
    merge = ("merge", "--quiet", "--ff-only", "--no-stat", "FETCH_HEAD")
    await checked(toolbox, *merge, cwd=path, timeout_s=REMOTE_S)
    return nothing(200)


async def upstream_branch(toolbox: Toolbox, path: str) -> str:
    """What the current branch follows, else the remote's HEAD, as in Daytona."""
    branch, followed = await current_branch(toolbox, path), ""
    if branch:
        done = await git(toolbox, "config", "--get", f"branch.{branch}.merge", cwd=path)
        followed = done.text.strip()
    return followed if BRANCH.fullmatch(followed) else "HEAD"


async def no_branch(toolbox: Toolbox, path: str, message: str) -> ApiError:
    """The 404; raises that of a path with no repository at all, the better reason."""
    await checked(toolbox, "rev-parse", "--git-dir", cwd=path)
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
    if await is_repository(toolbox, path):
        raise ApiError(409, "the repository exists already", source=DAEMON)
    await checked(toolbox, "init", "--quiet", *bare, *branch, "--", path, cwd=HOME)
    return nothing(201)


async def is_repository(toolbox: Toolbox, path: str) -> bool:
    """False also where there is no such folder."""
    try:
        return (await git(toolbox, "rev-parse", "--git-dir", cwd=path)).code == 0
    except ApiError as error:
        if error.status == 404:
            return False
        raise


async def reset(toolbox: Toolbox, request: web.Request) -> web.Response:
    fields = await Fields.of_body(request)
    mode, target = optional(fields, "mode"), optional(fields, "target")
    files = fields.list_of_texts("files")
    if (mode and mode not in RESET_MODES) or (files and mode not in ("", "mixed")):
        raise internal(f"mode must be one of {', '.join(RESET_MODES)}, with files mixed")
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
        raise internal("one of staged and worktree must be true")
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
    value = given(fields, name)
    if value.startswith("-") or re.search(r"[\x00-\x1f\x7f]", value):
        message = f"{name} must be one line that does not begin with a dash"
        raise ApiError(400, message, source=DAEMON)
    return value


def given(fields: Fields, name: str) -> str:
    value = fields.text(name)
    if not value:
        raise ApiError(400, f"{name} is required", code=fields.code, source=DAEMON)
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
        raise internal("files must name at least one file")
    return files


def scope_of(toolbox: Toolbox, fields: Fields) -> tuple[str, str]:
    """(git's option, the folder to run in); a local one is of the repository at `path`."""
    scope = fields.text("scope", "") or "global"
    if scope not in SCOPES:
        raise internal(f"scope must be one of {', '.join(SCOPES)}")
    return f"--{scope}", repository(toolbox, fields) if scope == "local" else HOME


def key_of(fields: Fields) -> str:
    key = fields.text("key")
    if not KEY.fullmatch(key) or key.startswith("-"):
        raise internal("key has a section and a name, such as user.name")
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
