"""What of a git work tree travels: what the real git calls the user's, whatever is in `.git`."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from sandbox_kit.archive import selection
from sandbox_kit.archive.ignore_rules import read_ignore_lines
from sandbox_kit.archive.packing import PackedUpload, pack_uploads, temporary_tar
from sandbox_kit.archive.pairs import Upload, read_upload
from sandbox_kit.archive.selection import (
    IGNORED,
    OWN_REPOSITORY,
    OWN_STATE,
    SUBMODULE,
    Selection,
)
from sandbox_kit.archive.work_tree import BAD_INDEX, NO_LIBRARY
from sandbox_kit.errors import Failure, UsageFailure
from sandbox_kit.host_access.gate import HostAccess
from sandbox_kit.host_access.keys import BY_CONTENT, BY_NAME, DOTFILE

from .git_trees import KINDS, GitTree


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without settings of git's."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return folder


def write(folder: Path, **texts: str) -> None:
    """Files by path, and `.gitignore` under that name without its dot."""
    for name, text in texts.items():
        path = folder / (".gitignore" if name == "gitignore" else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True
    )


def repository(folder: Path, *tracked: str, **texts: str) -> Path:
    """A work tree of these files, some of them tracked."""
    write(folder, **texts)
    git(folder, "init", "-q")
    if tracked:
        git(folder, "add", "-f", *tracked)
    return folder


def pack(folder: Path, *uploads: str) -> tuple[dict[str, tarfile.TarInfo], PackedUpload]:
    """The files in the tar by name, and what is told."""
    access = HostAccess.of({}, folder)
    with temporary_tar() as path:
        found = pack_uploads(path, [read_upload(text, access) for text in uploads], access)
        with tarfile.open(path) as archive:
            return {member.name: member for member in archive}, found


def sent(folder: Path, *uploads: str) -> tuple[list[str], dict[str, str]]:
    """(files that travel, {path: reason} of what stays)."""
    members, found = pack(folder, *uploads)
    files = sorted(name for name, member in members.items() if not member.isdir())
    return files, {left.path: left.reason for left in found.left}


def compare_with_git(folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = GitTree(folder, KINDS[seed % len(KINDS)], random.Random(seed)).make()
    monkeypatch.setenv("HOME", str(tree.home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tree.home / ".config"))
    monkeypatch.setattr(selection, "why_name_stays", lambda *_, **__: None)
    chosen = Selection(tree.top)
    found = {
        (part.folder / name).relative_to(tree.top).as_posix()
        for part in chosen.walk()
        for name in part.names
    }

    assert chosen.problem is None
    assert found == tree.expected(), (seed, tree.kind)


@pytest.mark.parametrize("seed", range(63))
def test_what_travels_is_what_git_says(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Indexes of every kind, ignore files in every place, patterns good and bad."""
    compare_with_git(tmp_path, seed, monkeypatch)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(63, 1063))
def test_what_travels_is_what_git_says_of_a_thousand(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, many times."""
    compare_with_git(tmp_path, seed, monkeypatch)


@pytest.mark.parametrize("flag", ["dist", "dist/deep", "dist/a.js", "dist:there", "own"])
def test_what_a_flag_names_goes_even_when_ignored(tmp_path: Path, flag: str) -> None:
    """The folder, one in it, a file in it; secrets still stay."""
    top = repository(
        tmp_path, gitignore="dist/\n*.js\nown\n", **{"dist/a.js": "1", "dist/deep/b.js": "2"}
    )
    write(top, **{"dist/.env": "K=1", "dist/deep/id_rsa": "x", "own/gitignore": "", "own/c.js": ""})
    files, left = sent(top, flag)

    assert any(name.endswith(".js") for name in files)
    assert set(left.values()) <= {DOTFILE, BY_NAME}
    assert not [name for name in files if name.endswith((".env", "id_rsa"))]


@pytest.mark.parametrize("kind", ["empty", "secret", "ignored"])
def test_no_files_is_a_usage_error(tmp_path: Path, kind: str) -> None:
    """With what stays, and what to type."""
    top = repository(tmp_path, gitignore="*.log\n", **{"a/x.log": "", "b/.env": ""})
    (top / "c").mkdir()
    with pytest.raises(UsageFailure) as caught:
        sent(top, {"ignored": "a", "secret": "b", "empty": "c"}[kind])

    assert "no files" in caught.value.message
    assert {"ignored": "--upload a/x.log", "secret": "b/.env", "empty": "holds files"}[
        kind
    ] in caught.value.fix


@pytest.mark.parametrize("where", ["mark", "exclude", "user", "config"])
def test_what_git_ignores_stays_and_is_told(tmp_path: Path, home: Path, where: str) -> None:
    """A byte order mark, info/exclude, the user's own ignore file, core.excludesFile."""
    top = repository(tmp_path, **{"a.log": "", "a.py": ""})
    if where == "mark":
        (top / ".gitignore").write_bytes(b"\xef\xbb\xbf*.log\n")
    elif where == "exclude":
        (top / ".git" / "info" / "exclude").write_text("*.log\n")
    elif where == "user":
        write(home, **{".config/git/ignore": "*.log\n"})
    else:
        write(home, mine="*.log\n", **{".gitconfig": "[core]\nexcludesfile = ~/mine\n"})
    files, left = sent(top, ".")

    assert "a.py" in files
    assert left == {"a.log": IGNORED}


def test_tracked_files_go_though_a_line_ignores_them(tmp_path: Path) -> None:
    """Also below an ignored folder, whose other files stay."""
    top = repository(
        tmp_path,
        *("a.log", "dist/deep/kept"),
        gitignore="*.log\ndist/\n",
        **{"a.log": "", "b.log": "", "dist/deep/kept": "", "dist/new": "", "dist/deep/new": ""},
    )

    assert sent(top, ".") == (
        [".gitignore", "a.log", "dist/deep/kept"],
        dict.fromkeys(("b.log", "dist/new", "dist/deep/new"), IGNORED),
    )


CODE = ("auth/credentials.py", "auth/credentials/load.go", "secrets.rs", "secrets/__init__.py")
NO_CODE = ("auth/credentials.json", "secrets/prod.yaml", ".env", "server.pem", "id_rsa.py")


def test_code_that_git_tracks_is_no_key(tmp_path: Path) -> None:
    """Nothing else is lifted by that; untracked code is told how."""
    texts = dict.fromkeys((*CODE, *NO_CODE, "credentials_new.py"), "x = 1\n")
    write(tmp_path, **{"key.py": "-----BEGIN PRIVATE KEY-----\n"})
    top = repository(tmp_path, *CODE, *NO_CODE, "key.py", **texts)
    files, left = sent(top, ".")
    _, found = pack(top, ".")

    assert files == sorted(CODE)
    assert set(left) == {*NO_CODE, "credentials_new.py", "key.py"}
    assert left["key.py"] == BY_CONTENT
    assert any(
        "git --literal-pathspecs add -- credentials_new.py" in fix
        for _, fix in found.describe_left()
    )


BUILD_FILES = {
    ".mvn/jvm.config": "-Xmx1g",
    ".mvn/wrapper/maven-wrapper.properties": "distributionUrl=https://repo.maven.apache.org/x",
    ".yarn/releases/yarn.cjs": "password = 1",
    ".yarnrc.yml": 'npmAuthToken: "${TOKEN}"\n',
    ".cargo/config.toml": "[build]\njobs = 1\n",
    ".github/workflows/test.yml": "with:\n  token: x\n",
    ".gitlab-ci.yml": "script:\n  - login --password-stdin --token $TOKEN # the token: $X\n",
    ".devcontainer/devcontainer.json": '{"containerEnv": {"TOKEN": "${localEnv:TOKEN}"}}',
    ".circleci/config.yml": "environment:\n  PASSWORD: << parameters.password >>\n",
    ".travis.yml": "env:\n  global:\n    - secure: abc\napi_key:\n  secure: abc\n",
}
CLOSED_FILES = {
    ".npmrc": DOTFILE,
    ".netrc": DOTFILE,
    ".pypirc": DOTFILE,
    ".env.local": DOTFILE,
    ".docker/": DOTFILE,
    ".cargo/credentials.toml": DOTFILE,
    ".cargo/registry/": DOTFILE,
    "sub/.cargo/config.toml": BY_CONTENT,
    "sub/.yarnrc.yml": BY_CONTENT,
    "sub/.mvn/settings.xml": BY_CONTENT,
    "sub/.gitmodules": BY_CONTENT,
    "sub/.mvn/jvm.config": BY_CONTENT,
    "sub/.bazelrc": BY_CONTENT,
    "sub/.devcontainer/devcontainer.json": BY_CONTENT,
    "sub/.gitlab-ci.yml": BY_CONTENT,
}


def test_what_a_build_needs_goes_without_tokens(tmp_path: Path) -> None:
    """Tools' own folders, with their tokens taken for keys."""
    write(tmp_path, **BUILD_FILES)
    write(
        tmp_path,
        **{f"{name}x" if name.endswith("/") else name: "" for name in CLOSED_FILES},
    )
    write(tmp_path, **{"sub/.cargo/config.toml": '[registry]\ntoken = "abc"\n'})
    write(tmp_path, **{"sub/.yarnrc.yml": "npmRegistries:\n  x:\n    npmAuthToken: abc\n"})
    write(tmp_path, **{"sub/.mvn/settings.xml": "<password>abc</password>"})
    write(tmp_path, **{"sub/.mvn/jvm.config": "-Xmx1g -Dgithub.token=abc"})
    write(tmp_path, **{"sub/.bazelrc": "build --remote_header=x-buildbuddy-api-key=abc"})
    write(tmp_path, **{"sub/.devcontainer/devcontainer.json": '{"e": {"API_TOKEN": "abc"}}'})
    write(tmp_path, **{"sub/.gitlab-ci.yml": "variables:\n  DEPLOY_TOKEN: abc\n"})
    address = f"https://ghp_{'0' * 36}@github.com/x/y"
    write(tmp_path, **{"sub/.gitmodules": f'[submodule "y"]\n\turl = {address}\n'})
    files, left = sent(tmp_path, ".")

    assert files == sorted(BUILD_FILES)
    assert left == CLOSED_FILES


def test_submodules_and_other_repositories_are_told(tmp_path: Path) -> None:
    """With the flag that sends them, which works."""
    other = repository(tmp_path / "other", "f", f="x")
    git(other, "commit", "-qm", "1")
    top = tmp_path / "top"
    top.mkdir()
    repository(top, "a", a="x")
    git(
        top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "module"
    )
    git(top, "clone", "-q", str(other), "clone")
    files, left = sent(top, ".")
    _, found = pack(top, ".:app")

    assert files == [".gitmodules", "a"]
    assert left == {"module/": SUBMODULE, "clone/": OWN_REPOSITORY}
    assert any("--upload module:app/module" in fix for _, fix in found.describe_left())
    assert sent(top, "module") == (["module/f"], {})


@pytest.mark.parametrize("tool", ["setuptools_scm", "hatch-vcs", "versioningit"])
def test_that_git_stays_is_told_where_a_build_asks_it(tmp_path: Path, tool: str) -> None:
    """And not where none does."""
    top = repository(tmp_path, **{"pyproject.toml": "[project]\n"})
    assert sent(top, ".")[1] == {}
    write(top, **{"pyproject.toml": f"requires = ['{tool}']\n"})
    _, found = pack(top, ".")

    assert [left.path for left in found.left] == [".git"]
    assert "SETUPTOOLS_SCM_PRETEND_VERSION" in found.describe_left()[0][1]


def test_files_folders_and_links_keep_their_time(tmp_path: Path) -> None:
    """Zip knows none before 1980."""
    write(tmp_path, **{"p/deep/a": "x"})
    (tmp_path / "p" / "link").symlink_to("deep/a")
    for name in ("p/deep/a", "p/link", "p/deep", "p"):
        os.utime(tmp_path / name, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    members, _ = pack(tmp_path, "p")

    assert {member.mtime for member in members.values()} == {1_600_000_000}
    assert set(members) == {"p", "p/deep", "p/deep/a", "p/link"}


@pytest.mark.parametrize("name", ["2026-07-20T10:30:00.log", "a:b", "d:e/f"])
def test_a_whole_name_with_colons_wins(tmp_path: Path, name: str) -> None:
    """Over HERE:THERE, which is meant where no such thing is."""
    write(tmp_path, a="x", **{name: "y"})
    access = HostAccess.of({}, tmp_path)

    assert read_upload(name, access) == Upload(name, name)
    assert read_upload(f"{name}:there", access) == Upload(name, "there")
    assert read_upload("a:c", access) == Upload("a", "c")


@pytest.mark.parametrize(
    "pattern", ["*a" * 12 + "b", "**/a/" * 30 + "b", "*a*/" * 30 + "b", "*?" * 40]
)
def test_hostile_patterns_take_no_time(pattern: str) -> None:
    """Each star may be tried in each place, which multiplies."""
    began = time.monotonic()
    for line in read_ignore_lines(pattern.encode()):
        for name in ("a" * 250, "/".join("a" * 200)):
            line.matches(name.encode() + b"c/", folder=False)

    assert time.monotonic() - began < 2


@pytest.mark.parametrize("text", ["[z-a]", "[", "a[", "\\", "[[:nonsense:]]", "[a-\\"])
def test_a_line_that_is_none_ignores_nothing(tmp_path: Path, text: str) -> None:
    """As git has it, and no error."""
    write(tmp_path, gitignore=f"{text}\n*.log\n", a="", **{"b.log": ""})

    assert sent(tmp_path, ".") == ([".gitignore", "a"], {"b.log": IGNORED})


HOSTILE_SETTINGS = (
    "[include]\n\tpath = /dev/zero\n",
    "[include]\n\tpath = {pipe}\n",
    "[core]\n\texcludesFile = {pipe}\n",
    "[core]\n\texcludesFile = /dev/zero\n",
    "[core]\n\tfsmonitor = touch {ran}\n\thooksPath = {pipe}\n\tpager = touch {ran}\n",
    '[filter "x"]\n\tclean = touch {ran}\n\tprocess = touch {ran}\n\trequired = true\n',
    "not a config at all = [\n",
)


@pytest.mark.parametrize("settings", HOSTILE_SETTINGS)
def test_a_hostile_configuration_runs_nothing_and_waits_for_nothing(
    tmp_path: Path, settings: str
) -> None:
    """A repository under test is a stranger's."""
    top = repository(tmp_path / "top", "a", a="x", gitignore="*.log\n", **{"b.log": ""})
    pipe, ran = tmp_path / "pipe", tmp_path / "ran"
    os.mkfifo(pipe)
    (top / ".git" / "config").write_text(settings.format(pipe=pipe, ran=ran))
    (top / ".gitattributes").write_text("* filter=x\n")
    files, left = sent(top, ".")

    assert files == [".gitattributes", ".gitignore", "a"]
    assert left == {"b.log": IGNORED}
    assert not ran.exists()


@pytest.mark.parametrize("damage", ["pipe", "garbage", "half", "gitdir"])
def test_a_damaged_index_is_told_and_costs_nothing_else(tmp_path: Path, damage: str) -> None:
    """A pipe is no index; what cannot be read leaves the ignore files in force."""
    top = repository(tmp_path, "a.log", a="x", gitignore="*.log\n", **{"a.log": "x"})
    index = top / ".git" / "index"
    whole = index.read_bytes()
    index.unlink()
    if damage == "pipe":
        os.mkfifo(index)
    elif damage == "gitdir":
        (top / ".git").rename(top / "away")
        (top / ".git").write_text("gitdir: /dev/zero\n")
        (top / "away").rename(tmp_path.parent / f"{tmp_path.name}-away")
    else:
        index.write_bytes(b"DIRC\0\0\0\2" + b"\xff" * 99 if damage == "garbage" else whole[:40])
    _, found = pack(top, ".")

    assert [left.path for left in found.left] == ["a.log"]
    assert found.problems == ([BAD_INDEX] if damage in ("garbage", "half") else [])


def test_a_few_bytes_cannot_say_that_a_billion_entries_are_gone(tmp_path: Path) -> None:
    """A stranger's split index: each entry that is gone would take memory of this machine."""
    top = repository(tmp_path, "a.log", a="x", gitignore="*.log\n", **{"a.log": "x"})
    index = top / ".git" / "index"
    words = 2**17  # of 64 bits, all set, in one word of eight bytes
    bitmap = struct.pack(">IIQI", words * 64, 1, words << 1 | 1, 0)
    body = bytes(20) + bitmap
    index.write_bytes(index.read_bytes()[:-20] + b"link" + struct.pack(">I", len(body)) + body)
    with index.open("ab") as file:
        file.write(bytes(20))
    _, found = pack(top, ".")

    assert found.problems == [BAD_INDEX]


def test_without_the_library_the_walk_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like a key stays all the same, and `.git` too."""
    monkeypatch.setitem(sys.modules, "dulwich.ignore", None)
    top = repository(tmp_path, gitignore="*.log\n", **{"a.log": "", ".env": ""})
    members, found = pack(top, ".")

    assert sorted(members) == [".gitignore", "a.log"]
    assert found.problems == [NO_LIBRARY]
    assert [left.path for left in found.left] == [".env"]


def test_the_skills_own_state_stays_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder may lie, not hidden, below the one that is sent: it holds a key."""
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", str(tmp_path / "work" / "engine"))
    write(tmp_path, **{"work/a.txt": "a", "work/engine/server.json": "{}"})

    members, left = sent(tmp_path, "work")

    assert members == ["work/a.txt"]
    assert left == {"work/engine/": OWN_STATE}


def test_a_bare_repository_goes_without_its_token(tmp_path: Path) -> None:
    """Nothing hidden lies around it."""
    git(tmp_path, "init", "-q", "--bare", "mirror.git")
    config = ("--git-dir", "mirror.git", "config", "remote.origin.url")
    git(tmp_path, *config, "https://me:ghp_token@example.org/a.git")

    members, left = sent(tmp_path, "mirror.git")

    assert "mirror.git/HEAD" in members
    assert left["mirror.git/config"] == BY_CONTENT


def test_no_line_opens_a_second_folder(tmp_path: Path) -> None:
    """A name with the mark that parts paths would, and a stranger chose it."""
    write(tmp_path, **{"work/.x:/etc/y": "a", "work/b": "b"})

    _, found = pack(tmp_path, "work")

    assert [left.fix for left in found.left] == [None]


def test_no_line_opens_where_a_link_leads(tmp_path: Path) -> None:
    """Its end is a stranger's choice: `.root` may be the root of this machine."""
    write(tmp_path, **{"work/a": "a", "work/.plain": "x"})
    (tmp_path / "work" / ".root").symlink_to("/")
    (tmp_path / "work" / "my-credentials").symlink_to("..")
    _, found = pack(tmp_path, "work")

    fixes = {left.path: left.fix for left in found.left}
    assert (fixes["work/.root"], fixes["work/my-credentials"]) == (None, None)
    assert "export DAYTONA_SANDBOX_PATHS=" in str(fixes["work/.plain"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".circleci/config.yml", "AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI\n"),
        (".bazelrc", "build --remote_header=Authorization=Bearer abc\n"),
        (".devcontainer/devcontainer.json", '{"x": "ghp_abcdefghijklmnopqrstuvwxyz0123"}'),
        (".mvn/settings.xml", "<privateKey>/home/me/key</privateKey>"),
        ("notes.json", '{"tlsKey": "-----BEGIN RSA PRIVATE KEY-----"}'),
        ("settings.ini", "KEY='-----BEGIN EC PRIVATE KEY-----"),
        ("krb5cc_1000", "x"),
        ("token.txt", "x"),
    ],
)
def test_more_settings_with_tokens_stay(tmp_path: Path, name: str, text: str) -> None:
    """Whatever the tool calls its token."""
    write(tmp_path, **{"work/a": "a", f"work/{name}": text})

    assert sent(tmp_path, "work")[0] == ["work/a"]


def test_a_key_that_a_flag_names_stays(tmp_path: Path) -> None:
    """Ignored or not: naming lifts no secret."""
    top = repository(tmp_path, gitignore="*\n", **{"notes.txt": "-----BEGIN PRIVATE KEY-----\n"})
    with pytest.raises(Failure) as caught:
        sent(top, "notes.txt")

    assert caught.value.kind == "host_access"
