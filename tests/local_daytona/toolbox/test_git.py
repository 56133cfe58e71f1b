"""git of the toolbox through the SDK: bare repositories inside, and one behind a password."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.local_server import LocalServer, until

USER, PASSWORD = "me@example", "hunter2/t%ken-7f3a"
URL = "http://127.0.0.1:8642/o.git"
# A git server with a password: `git http-backend` as a CGI program. It keeps no log.
BACKEND = """
import base64, http.server, os, subprocess
KNOWN = "Basic " + os.environ["KNOWN"]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/elsewhere"):
            return self.answer(302, {"Location": "http://localhost:8642" + self.path[10:]})
        if self.path.startswith("/forbidden"):
            return self.answer(403, {})
        if self.headers.get("Authorization") != KNOWN:
            return self.answer(401, {"WWW-Authenticate": "Basic realm=git"})
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = self.headers.get
        env = dict(os.environ, GIT_PROJECT_ROOT="/tmp/srv", GIT_HTTP_EXPORT_ALL="1",
            PATH_INFO=path, QUERY_STRING=query, REMOTE_USER="me", REQUEST_METHOD=self.command,
            CONTENT_TYPE=sent("Content-Type", ""), CONTENT_LENGTH=str(len(body)),
            HTTP_CONTENT_ENCODING=sent("Content-Encoding", ""),
            HTTP_GIT_PROTOCOL=sent("Git-Protocol", ""))
        git = ["git", "http-backend"]
        out = subprocess.run(git, input=body, capture_output=True, env=env).stdout
        head, _, rest = out.partition(b"\\r\\n\\r\\n")
        lines = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.answer(int(lines.pop("Status", "200").split()[0]), lines, rest)
    do_POST = do_GET
    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8642), Handler).serve_forever()
"""
# Looks at every process again and again, and writes what shows the password, whose text this file
# does not hold.
WATCHER = """
import os, sys
words = ["hunter2" + end for end in ("/t%ken-7f3a", "%2Ft%25ken-7f3a")]
open("watching", "w").close()
while not os.path.exists("stop"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try: text = open("/proc/%s/%s" % (pid, name), "rb").read()
            except OSError: continue
            if any(word.encode() in text for word in words):
                open("seen", "a").write(name + text.decode(errors="replace"))
open("watched", "w").close()
"""
ORIGIN = (
    "set -e; git init -q -b main /tmp/src; cd /tmp/src; git config user.name a; "
    "git config user.email a@b; echo one > f; git add f; "
    "git commit -q -m first; git checkout -q -b side; echo two > g; git add g; "
    "git commit -q -m second; git checkout -q main; "
    "mkdir -p /tmp/srv; git clone -q --bare . /tmp/srv/o.git; "
    "git -C /tmp/srv/o.git config http.receivepack true; "
    "git rev-parse main; git rev-parse side"
)

Shell = Callable[[str], str]


@pytest.fixture
def shell(server: LocalServer, sandbox: str) -> Shell:
    """Run a command inside that must succeed; its output."""

    def run(command: str) -> str:
        ended = server.exec(sandbox, command)
        assert ended["exitCode"] == 0, ended["result"]
        return str(ended["result"])

    return run


@pytest.fixture
def git(sdk: Any, sandbox: str) -> Any:
    """The git calls of a sandbox."""
    return sdk.get(sandbox).git


@pytest.fixture
def commits(shell: Shell) -> list[str]:
    """/tmp/srv/o.git inside, bare, with one commit on main and one more on side: their names."""
    return shell(ORIGIN).split()


@pytest.fixture
def behind_password(server: LocalServer, sandbox: str, commits: list[str], shell: Shell) -> str:
    """The same repository over HTTP, for whoever knows the password."""
    known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    shell(
        "cat > /tmp/backend.py <<'E'\n"
        f"{BACKEND}\n"
        "E\n"
        f"KNOWN={known} python3 /tmp/backend.py >/dev/null 2>&1 </dev/null &"
    )
    reach = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8642))'"
    until(lambda: server.exec(sandbox, reach)["exitCode"] == 0)
    return URL


def test_clone_change_commit_push_pull(git: Any, shell: Shell, commits: list[str]) -> None:
    """The whole round between two clones, as an agent works."""
    git.clone("/tmp/srv/o.git", "a", branch="main")
    git.clone("/tmp/srv/o.git", "b")
    shell("echo more >> a/f; echo new > 'a/n ä.txt'")
    git.add("a", ["."])
    made = git.commit("a", "third\n\nwith a body", "An Author", "an@author.example")
    git.push("a")
    git.pull("b")

    first, last = git._api_client.get_commit_history(path="b")[::-1]
    assert (first.hash, last.hash) == (commits[0], made.sha)
    assert (last.author, last.email, last.message.strip()) == (
        "An Author",
        "an@author.example",
        "third\n\nwith a body",
    )
    assert shell("cat b/f 'b/n ä.txt'") == "one\nmore\nnew\n"


def test_status_names_every_kind_of_change(git: Any, shell: Shell, commits: list[str]) -> None:
    """The words are Daytona's: a rename is a deletion and an addition; ahead is counted.

    A user's own list of what to ignore does not count.
    """
    git.clone("/tmp/srv/o.git", "r", branch="main")
    shell(
        "echo '*.own' > own; git config --global core.excludesFile ~/own; "
        "cd r; git config user.name a; git config user.email a@b; seq 9 > old; echo 1 > kept; "
        "git add .; git commit -q -m x; git mv old renamed; git rm -q --cached kept; echo > x.own; "
        "echo x >> f; mkdir d; echo u > 'd/un tracked'; echo s > staged; git add staged"
    )
    status = git.status("r")

    assert (status.current_branch, status.ahead, status.behind, status.branch_published) == (
        "main",
        1,
        0,
        True,
    )
    assert {
        (file.name, file.extra, file.staging.value, file.worktree.value)
        for file in status.file_status
    } == {
        ("f", "", "Unmodified", "Modified"),
        ("old", "", "Deleted", "Unmodified"),
        ("renamed", "", "Added", "Unmodified"),
        ("kept", "", "Untracked", "Untracked"),
        ("x.own", "", "Untracked", "Untracked"),
        ("staged", "", "Added", "Unmodified"),
        ("d/un tracked", "", "Untracked", "Untracked"),
    }


def test_branches_are_made_checked_out_and_deleted(git: Any, commits: list[str]) -> None:
    """create checks out, as Daytona's does; each failure has its own class."""
    from daytona import (
        DaytonaConflictError,
        DaytonaGitBranchExistsError,
        DaytonaGitBranchNotFoundError,
    )

    git.clone("/tmp/srv/o.git", "r")
    git.create_branch("r", "topic/one")
    assert (git.branches("r").current, sorted(git.branches("r").branches)) == (
        "topic/one",
        ["main", "topic/one"],
    )
    with pytest.raises(DaytonaGitBranchExistsError):
        git.create_branch("r", "topic/one")
    with pytest.raises(DaytonaConflictError):
        git.delete_branch("r", "topic/one")
    git.checkout_branch("r", "main")
    git.delete_branch("r", "topic/one")
    with pytest.raises(DaytonaGitBranchNotFoundError):
        git.checkout_branch("r", "topic/one")
    git.checkout_branch("r", commits[0])

    assert (git.branches("r").branches, git.status("r").detached) == (["main"], True)


def test_only_local_branches_and_full_commits_are_checked_out(
    git: Any, shell: Shell, commits: list[str]
) -> None:
    """What Daytona's git does not know by that name is not found here either."""
    from daytona import DaytonaGitBranchNotFoundError, DaytonaGitRepoNotFoundError

    git.clone("/tmp/srv/o.git", "r", branch="side")
    shell("cd r; git tag v1; git fetch -q origin main:refs/remotes/origin/main")
    for name in ("v1", "main", "origin/main", "HEAD~1", "side~1", "-", commits[0][:8], "0" * 40):
        with pytest.raises(DaytonaGitBranchNotFoundError):
            git.checkout_branch("r", name)
    with pytest.raises(DaytonaGitRepoNotFoundError):
        git.checkout_branch("/tmp", "main")
    shell("git -C r branch other; git -C r pack-refs --all; git -C r branch zeta")

    assert git.branches("r").branches == ["zeta", "other", "side"]
    assert git.branches("r").current == "side"


def test_a_change_that_is_not_staged_is_refused(git: Any, shell: Shell, commits: list[str]) -> None:
    """By create_branch, checkout_branch and pull, as in Daytona; HEAD moves to no other commit."""
    from daytona import DaytonaGitDirtyWorktreeError

    git.clone("/tmp/srv/o.git", "r", branch="main")
    shell(f"git -C r fetch -q origin side; git -C r branch side {commits[1]}")
    shell("echo new > r/untracked")
    git.create_branch("r", "clean")
    shell("echo mine > r/f")
    with pytest.raises(DaytonaGitDirtyWorktreeError):
        git.create_branch("r", "fix")
    made = git.status("r").current_branch
    with pytest.raises(DaytonaGitDirtyWorktreeError):
        git.checkout_branch("r", "side")
    with pytest.raises(DaytonaGitDirtyWorktreeError):
        git.checkout_branch("r", "clean")
    with pytest.raises(DaytonaGitDirtyWorktreeError):
        git.pull("r", branch="side")
    stayed = shell("git -C r rev-parse HEAD; git -C r status --short; cat r/f")
    git.add("r", ["f"])
    git.create_branch("r", "staged")

    assert (made, stayed) == ("fix", f"{commits[0]}\n M f\n?? untracked\nmine\n")
    assert git.status("r").current_branch == "staged"


def test_a_file_that_git_does_not_know_is_not_overwritten(
    git: Any, shell: Shell, commits: list[str]
) -> None:
    """Daytona's checkout and pull overwrite it, and its clone mixes with what is in the folder."""
    import daytona as sdk

    git.clone("/tmp/srv/o.git", "r", branch="main")
    shell(f"cd r; git fetch -q origin side; git branch side {commits[1]}; echo mine > g")
    shell("mkdir full; echo mine > full/g")
    with pytest.raises(sdk.DaytonaGitDirtyWorktreeError):
        git.checkout_branch("r", "side")
    with pytest.raises(sdk.DaytonaGitDirtyWorktreeError):
        git.pull("r", branch="side")
    with pytest.raises(sdk.DaytonaConflictError):
        git.clone("/tmp/srv/o.git", "full", branch="side")

    assert shell("cat r/g full/g; git -C r rev-parse HEAD") == f"mine\nmine\n{commits[0]}\n"


def test_a_plain_clone_knows_no_remote_branch(git: Any, shell: Shell, commits: list[str]) -> None:
    """As Daytona's: nothing is published or counted; it pulls what the remote's HEAD is."""
    git.clone("/tmp/srv/o.git", "r")
    git.commit("r", "mine", "A", "a@b", allow_empty=True)
    git.push("r")
    git.clone("/tmp/srv/o.git", "other")
    git.commit("other", "theirs", "A", "a@b", allow_empty=True)
    git.push("other")
    shell("git -C r checkout -q --detach")
    git.pull("r")
    status = git.status("other")

    assert (status.branch_published, status.ahead, status.upstream) == (False, 0, None)
    assert shell("git -C r log -1 --format=%s; git -C r for-each-ref --format='%(refname)'") == (
        "theirs\nrefs/heads/main\nrefs/remotes/origin/HEAD\n"
    )


def test_a_repository_without_a_commit_is_not_found(
    server: LocalServer, sandbox: str, git: Any, shell: Shell
) -> None:
    """For status, a new branch and a clone of it, as in Daytona; init of one that is there: 409."""
    import daytona as sdk

    git.init("r")
    calls: list[Callable[[], Any]] = [
        lambda: git.status("r"),
        lambda: git.create_branch("r", "x"),
        lambda: git.clone("/home/daytona/r", "c"),
    ]
    for call in calls:
        with pytest.raises(sdk.DaytonaNotFoundError) as failed:
            call()
        assert failed.value.code == "NOT_FOUND"
    with pytest.raises(sdk.DaytonaConflictError):
        git.init("r")
    assert shell("ls -A c") == ""


def test_history_goes_along_the_first_parents(git: Any, shell: Shell, commits: list[str]) -> None:
    """Daytona's order: what was merged comes after all that it was merged into."""
    shell(
        "git init -q r; cd r; git config user.name a; git config user.email a@b; "
        "commit() { GIT_COMMITTER_DATE=2020-01-0$1T00:00:00Z git commit -q --allow-empty -m $1; }; "
        "commit 1; git branch o; commit 2; git checkout -q o; commit 3; git checkout -q -; "
        "git merge -q -m merge o"
    )
    history = git._api_client.get_commit_history(path="r")

    assert [entry.message.strip() for entry in history] == ["merge", "2", "1", "3"]


def test_a_conflict_is_a_change_and_a_merge_has_two_parents(
    git: Any, shell: Shell, commits: list[str]
) -> None:
    """Daytona's status has one word for both; its commit forgets what was merged, ours does not."""
    git.clone("/tmp/srv/o.git", "r")
    shell(
        "cd r; git config user.name a; git config user.email a@b; git checkout -q -b o; "
        "echo o > f; git commit -qam o; git checkout -q main; echo m > f; git commit -qam m; "
        "git merge o >/dev/null || true"
    )
    states = [(file.staging.value, file.worktree.value) for file in git.status("r").file_status]
    git.add("r", ["f"])
    git.commit("r", " \n", "A", "a@b")

    assert states == [("Modified", "Modified")]
    assert shell("git -C r log -1 --format=%P | wc -w") == "2\n"


def test_files_are_added_by_their_names(
    server: LocalServer, sandbox: str, git: Any, shell: Shell, commits: list[str]
) -> None:
    """No patterns, no absolute paths; an empty list adds nothing; line ends stay, filters run."""
    from daytona import DaytonaInternalServerError

    git.clone("/tmp/srv/o.git", "r")
    shell(
        "cd r; git config core.autocrlf input; git config filter.up.clean 'tr a-z A-Z'; "
        "echo '*.up filter=up' > .gitattributes; printf 'a\\r\\n' > w; echo a > a.up"
    )
    for names in (["*.up"], ["none"], ["/home/daytona/r/w"], ["../x"]):
        with pytest.raises(DaytonaInternalServerError):
            git.add("r", names)
    git.add("r", [])
    before = shell("git -C r diff --cached --name-only")
    git.add("r", ["w", "a.up"])

    assert before == ""
    assert shell("cd r; git show :w | od -An -c; git show :a.up").split() == [
        "a",
        "\\r",
        "\\n",
        "A",
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("clone", {"path": "x"}, 400, "INVALID_REQUEST_BODY"),
        ("branches", {"path": "r", "name": ""}, 400, "INVALID_REQUEST_BODY"),
        ("checkout", {"path": "r", "branch": ""}, 400, "INVALID_REQUEST_BODY"),
        ("commit", {"path": "r", "message": "m", "author": "a"}, 400, "INVALID_REQUEST_BODY"),
        ("commit", {"path": "r", "message": "m", "author": "a", "email": "e"}, 500, None),
        ("reset", {"path": "r", "mode": "sideways"}, 500, None),
        ("restore", {"path": "r", "files": []}, 500, None),
        ("restore", {"path": "r", "files": ["none"]}, 500, None),
        ("config", {"key": "nodot", "value": "x"}, 500, None),
        ("config", {"key": "a.b", "value": "x", "scope": "none"}, 500, None),
        ("add", {"path": "bare", "files": ["x"]}, 500, None),
        ("push", {"path": "/tmp"}, 404, "GIT_REPO_NOT_FOUND"),
        ("clone", {"path": "x", "url": "git@127.0.0.1:x.git"}, 401, "GIT_AUTH_FAILED"),
    ],
    ids=str,
)
def test_refusals_have_daytonas_status_and_code(
    server: LocalServer,
    sandbox: str,
    shell: Shell,
    path: str,
    body: dict[str, Any],
    status: int,
    code: str | None,
) -> None:
    """The SDK makes its classes of them."""
    shell("git init -q r; cd r; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x")
    shell("git init -q --bare bare")
    reply = server.request("POST", f"/toolbox/{sandbox}/git/{path}", body=body)

    assert (reply.status, reply.json()["code"]) == (status, code or "INTERNAL_SERVER_ERROR")


def test_what_daytonas_own_git_cannot_is_left_to_this_machines(
    git: Any, shell: Shell, commits: list[str]
) -> None:
    """A tag as the branch of a clone, a short commit, a local path, a repository in another."""
    shell("git -C /tmp/srv/o.git tag v1 main")
    git.clone("/tmp/srv/o.git", "tag", branch="v1")
    git.clone("/tmp/srv/o.git", "short", branch="side", commit_id=commits[0][:8])
    shell("cd tag; git init -q inner; touch inner/y")

    assert shell("git -C tag rev-parse HEAD; git -C short rev-parse HEAD").split() == [
        commits[0],
        commits[0],
    ]
    assert [file.name for file in git.status("tag").file_status] == ["inner/"]


def test_a_branch_pushed_with_its_upstream_is_published_and_followed(
    git: Any, shell: Shell, commits: list[str]
) -> None:
    """Also from a clone of one branch, whose git follows no other; status counts a later commit."""
    git.clone("/tmp/srv/o.git", "r", branch="main")
    git.create_branch("r", "topic")
    before = git.status("r").branch_published
    git.push("r", set_upstream=True)
    git.commit("r", "more", "A", "a@b", allow_empty=True)
    status = git.status("r")

    assert (before, status.branch_published, status.upstream, status.ahead) == (
        False,
        True,
        "origin/topic",
        1,
    )
    assert shell("git -C r config --get-all remote.origin.fetch").count("topic") == 2


@pytest.mark.parametrize("depth", [None, 1])
def test_a_commit_outside_the_branch_is_cloned_detached(
    git: Any, shell: Shell, commits: list[str], depth: int | None
) -> None:
    """Also when the clone is shallow; a commit that is not there does not hinder a second try."""
    from daytona import DaytonaGitBranchNotFoundError

    source = "file:///tmp/srv/o.git"
    with pytest.raises(DaytonaGitBranchNotFoundError):
        git.clone(source, "r", commit_id="0" * 39 + "1", depth=depth)
    git.clone(source, "r", commit_id=commits[1], depth=depth)

    assert (git.status("r").detached, shell("cat r/g"), git.branches("r").current) == (
        True,
        "two\n",
        "",
    )


def test_failures_have_the_sdks_own_classes(git: Any, shell: Shell, commits: list[str]) -> None:
    """What a program would catch; none of them is a plain error."""
    import daytona as sdk

    cases: list[tuple[type[Exception], Callable[[], Any]]] = [
        (sdk.DaytonaGitRepoNotFoundError, lambda: git.clone("/tmp/none.git", "x")),
        (sdk.DaytonaGitRepoNotFoundError, lambda: git.status("/tmp/srv")),
        (sdk.DaytonaGitRepoNotFoundError, lambda: git.status("nowhere")),
        (
            sdk.DaytonaGitBranchNotFoundError,
            lambda: git.clone("/tmp/srv/o.git", "x", branch="none"),
        ),
        (sdk.DaytonaGitTransportFailedError, lambda: git.clone("http://127.0.0.1:1/x.git", "x")),
        (sdk.DaytonaConflictError, lambda: git.clone("/tmp/srv/o.git", "full")),
        (sdk.DaytonaGitBranchNotFoundError, lambda: git.delete_branch("full", "none")),
        (sdk.DaytonaInternalServerError, lambda: git.commit("full", "nothing", "a", "a@b")),
        (sdk.DaytonaGitBranchNotFoundError, lambda: git.reset("full", target="none")),
    ]
    git.clone("/tmp/srv/o.git", "full")
    for expected, call in cases:
        with pytest.raises(expected):
            call()


def test_a_push_that_is_behind_and_a_pull_that_diverged_are_conflicts(
    git: Any, shell: Shell, commits: list[str]
) -> None:
    """Neither forces nor merges."""
    import daytona as sdk

    for name in ("a", "b"):
        git.clone("/tmp/srv/o.git", name, branch="main")
        shell(f"echo {name} > {name}/f")
        git.add(name, ["f"])
        git.commit(name, name, "a", "a@b")
    git.push("a")
    with pytest.raises(sdk.DaytonaGitPushRejectedError):
        git.push("b")
    with pytest.raises(sdk.DaytonaGitPushRejectedError):
        git.pull("b")
    git.reset("b", mode="hard", target="HEAD~1")
    shell("echo dirty > b/f")
    with pytest.raises(sdk.DaytonaGitDirtyWorktreeError):
        git.pull("b")
    git.reset("b", mode="hard")
    git.reset("b", mode="hard", target="origin/main")
    git.pull("b")
    shell(
        "printf '#!/bin/sh\\nexit 1\\n' > /tmp/srv/o.git/hooks/pre-receive; "
        "chmod +x /tmp/srv/o.git/hooks/pre-receive"
    )
    git.create_branch("b", "refused")
    with pytest.raises(sdk.DaytonaGitRemoteRejectedError):
        git.push("b")

    assert shell("cat b/f") == "a\n"


def test_init_remote_reset_restore_and_config(git: Any, shell: Shell, commits: list[str]) -> None:
    """The rest of the calls, from an empty folder to a published branch."""
    git.init("r", initial_branch="trunk")
    git.remote_add("r", "origin", "/tmp/none.git")
    git.remote_add("r", "origin", "/tmp/srv/o.git", overwrite=True, fetch=True)
    git.set_config("user.name", "Local", scope="local", path="r")
    git.configure_user("Global", "g@example")
    shell("echo 1 > r/x")
    git.add("r", ["x"])
    git.commit("r", "one", "a", "a@b")
    git.push("r", branch="trunk", set_upstream=True)
    shell("echo 2 > r/x")
    git.restore("r", ["x"])
    shell("echo 3 > r/x; git -C r add x")
    git.reset("r", files=["x"])

    assert git.remote_get("r", "origin") == "/tmp/srv/o.git"
    assert (git.get_config("user.name", scope="local", path="r"), git.get_config("user.name")) == (
        "Local",
        "Global",
    )
    assert git.get_config("user.unset") is None
    assert (
        git.status("r").upstream,
        [file.staging.value for file in git.status("r").file_status],
    ) == ("origin/trunk", ["Unmodified"])
    pushed = shell(
        "cat r/x; git -C /tmp/srv/o.git rev-parse --verify -q trunk >/dev/null && echo there"
    )
    assert pushed == "3\nthere\n"


def test_a_password_opens_the_repository(git: Any, shell: Shell, behind_password: str) -> None:
    """clone, push and pull with a password; without, or with a wrong one, the SDK's own error."""
    import daytona as sdk

    for login in ({}, {"username": USER, "password": "wrong"}):
        with pytest.raises(sdk.DaytonaGitAuthFailedError) as failed:
            git.clone(behind_password, "r", **login)
        assert "wrong" not in str(failed.value)
    git.clone(behind_password, "r", username=USER, password=PASSWORD)
    shell("echo more > r/more")
    git.add("r", ["more"])
    git.commit("r", "more", "a", "a@b")
    with pytest.raises(sdk.DaytonaGitAuthFailedError):
        git.push("r")
    git.push("r", username=USER, password=PASSWORD)
    git.pull("r", username=USER, password=PASSWORD)

    assert shell("git -C /tmp/srv/o.git log --format=%s -1 main") == "more\n"
    with pytest.raises(sdk.DaytonaForbiddenError):
        git.clone(behind_password.replace("o.git", "forbidden.git"), "x")


def test_the_password_is_nowhere(
    server: LocalServer, git: Any, shell: Shell, behind_password: str
) -> None:
    """In no argument or environment while git runs, later on no disk and in no server's log."""
    shell("cat > watch.py <<'E'\n" + WATCHER + "\nE\npython3 watch.py >/dev/null 2>&1 </dev/null &")
    until(lambda: "watching" in shell("ls"))
    git.clone(behind_password, "r", username=USER, password=PASSWORD)
    git.pull("r", username=USER, password=PASSWORD)
    embedded = behind_password.replace(
        "//", f"//{USER.replace('@', '%40')}:{PASSWORD.replace('%', '%25').replace('/', '%2F')}@"
    )
    git.clone(embedded, "by-url")
    shell("touch stop")
    until(lambda: "watched" in shell("ls"))

    assert "seen" not in shell("ls").split()
    found = shell(
        "echo hunter2 > planted; grep -rlsa 'hunter[2]' /home /tmp /run /var /etc /root "
        "--exclude=watch.py"
    )
    assert found == "/home/daytona/planted\n"
    assert shell("cat by-url/.git/config | grep url") == f"\turl = {behind_password}\n"
    assert shell("find /run/git -mindepth 1 | wc -l") == "0\n"
    assert PASSWORD not in (server.state_dir / "server.log").read_text()


def test_a_server_that_redirects_is_not_told_the_password(git: Any, behind_password: str) -> None:
    """The credential is for the origin that the caller named; after a redirect git asks anew."""
    from daytona import DaytonaGitAuthFailedError

    with pytest.raises(DaytonaGitAuthFailedError):
        git.clone(
            behind_password.replace("8642/", "8642/elsewhere/"),
            "r",
            username=USER,
            password=PASSWORD,
        )
    git.clone(
        behind_password.replace("127.0.0.1", "localhost"), "named", username=USER, password=PASSWORD
    )


def test_the_repositorys_own_code_does_not_run_beside_the_password(
    git: Any, shell: Shell, behind_password: str
) -> None:
    """Hooks never run; filters do, once the credential is gone."""
    shell(
        "git config --global filter.spy.smudge 'touch /tmp/ran; ls /run/git >> /tmp/seen; cat' && "
        "cd /tmp/src && echo '* filter=spy' > .gitattributes && "
        "git add . && git commit -q -m spy && git push -q /tmp/srv/o.git main"
    )
    git.clone(behind_password, "r", username=USER, password=PASSWORD)
    assert shell("cat /tmp/seen") == ""
    shell(
        "for hook in pre-push post-merge post-checkout reference-transaction; "
        "do printf '#!/bin/sh\\ntouch /tmp/hooked\\n' > r/.git/hooks/$hook;"
        "chmod +x r/.git/hooks/$hook; done; rm /tmp/seen; cd /tmp/src; echo 2 > f; "
        "git commit -q -am 2; git push -q /tmp/srv/o.git main; touch /tmp/seen"
    )
    git.pull("r", username=USER, password=PASSWORD)
    git.push("r", username=USER, password=PASSWORD)

    assert shell("cat r/f /tmp/seen; ls /tmp | grep -E 'hooked|ran' || true") == "2\nran\n"


def test_stored_credentials_are_used_and_an_own_one_goes_first(
    git: Any, shell: Shell, behind_password: str
) -> None:
    """dangerously_authenticate stores in the sandbox's home and replaces no call's own one."""
    from daytona import DaytonaGitAuthFailedError

    git.dangerously_authenticate(USER, "stale", host="127.0.0.1:8642", protocol="http")
    git.clone(behind_password, "explicit", username=USER, password=PASSWORD)
    with pytest.raises(DaytonaGitAuthFailedError):
        git.clone(behind_password, "stored")
    git.dangerously_authenticate(USER, PASSWORD, host="127.0.0.1:8642", protocol="http")
    git.clone(behind_password, "stored")

    assert shell("cat stored/f") == "one\n"


@pytest.mark.parametrize(
    "url", ["ext::sh -c 'touch /tmp/ran'", "--upload-pack=touch /tmp/ran", "foo::bar", "-u x"]
)
def test_an_address_runs_no_program(
    server: LocalServer, sandbox: str, shell: Shell, url: str
) -> None:
    """Neither as a transport nor as an option, even if the sandbox's configuration allows it."""
    shell(
        "git config --global protocol.ext.allow always; git config --global protocol.allow always"
    )
    reply = server.request("POST", f"/toolbox/{sandbox}/git/clone", body={"url": url, "path": "x"})

    assert (reply.status, reply.json()["source"]) == (
        401 if ":" in url and url[0] != "-" else 400,
        "DAYTONA_DAEMON",
    )
    assert shell("ls /tmp | grep ran || true") == ""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("checkout", {"branch": "--help"}),
        ("branches", {"name": "-d"}),
        ("reset", {"target": "--hard"}),
        ("push", {"remote": "--mirror"}),
        ("pull", {"branch": "--upload-pack=x"}),
        ("push", {"branch": "a:b"}),
        ("commit", {"message": "x", "author": "a\nb", "email": "e"}),
        ("remotes", {"name": "n", "url": "https://u:secretpw@h/x"}),
        ("add", {"files": ["a\0b"]}),
        ("branches", {"name": "-x"}),
        ("clone", {"url": "http://h/x", "username": "u", "password": "a\nhost=b"}),
    ],
    ids=str,
)
def test_what_git_would_take_for_something_else_is_refused(
    server: LocalServer, sandbox: str, shell: Shell, path: str, body: dict[str, Any]
) -> None:
    """Options in disguise, forced refspecs, second lines: refused without repeating a secret."""
    shell("git init -q r; cd r; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x")
    reply = server.request("POST", f"/toolbox/{sandbox}/git/{path}", body={"path": "r", **body})

    assert reply.status in (400, 404)
    assert reply.json()["source"] == "DAYTONA_DAEMON" or reply.status == 400
    assert b"secretpw" not in reply.body


def test_a_folder_below_a_repository_is_none_itself(git: Any, shell: Shell) -> None:
    """Otherwise a call on a folder that is no repository would change the one around it."""
    from daytona import DaytonaGitRepoNotFoundError

    shell("git init -q . ; mkdir sub")
    with pytest.raises(DaytonaGitRepoNotFoundError):
        git.add("sub", ["."])


def test_a_sandbox_without_git_says_what_to_do(server: LocalServer) -> None:
    """A 501 with the way out, not a missing repository."""
    created = server.create(env={"PATH": "/nowhere"})
    reply = server.request("POST", f"/toolbox/{created['id']}/git/init", body={"path": "r"})
    server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert (reply.status, bool(re.search("apt install git", reply.json()["message"]))) == (
        501,
        True,
    )


def test_a_git_that_lies_or_floods_ends_in_an_answer(
    server: LocalServer, sandbox: str, shell: Shell
) -> None:
    """A sandbox's own program in git's place: its output is bounded, the unreadable is left out."""
    shell(
        "mkdir -p .local/bin r; printf '#!/bin/sh\\n"
        'printf "# branch.ab +x -y\\\\0002 R\\\\000u\\\\0001 MM\\\\000"\\n\' > .local/bin/git; '
        "chmod +x .local/bin/git"
    )
    lied = server.request("GET", f"/toolbox/{sandbox}/git/status?path=r")
    shell("printf '#!/bin/sh\\nhead -c 99999999 /dev/zero\\n' > .local/bin/git")
    flooded = server.request("GET", f"/toolbox/{sandbox}/git/history?path=r")

    assert (lied.status, lied.json()["fileStatus"]) == (200, [])
    assert flooded.status == 400
