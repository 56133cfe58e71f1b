"""What a flag may touch here: the working directory's tree, and what the user's variables open."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path, PurePath

import pytest

from sandbox_kit.errors import Failure
from sandbox_kit.host_access.gate import MORE_PATHS, PASSED_NAMES, HostAccess
from sandbox_kit.host_access.keys import KEY_LIKE, holds_a_secret
from sandbox_kit.host_access.written import WrittenRecord

LIMIT = 1 << 20


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a plain file, and a secret beside it."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("print(1)")
    (tmp_path / "outside.txt").write_text("secret")
    return folder


def access(project: Path, **environ: str) -> HostAccess:
    return HostAccess.of(environ, project)


def refusal(gate: HostAccess, given: str) -> Failure:
    with pytest.raises(Failure) as caught:
        gate.read("--file", given, limit=LIMIT)
    return caught.value


@pytest.mark.parametrize(
    "given", ["src/main.py", "./src/../src/main.py", "ABSOLUTE/src/main.py", "alias.py"]
)
def test_files_of_the_working_directory_are_open(project: Path, given: str) -> None:
    """However they are spelt, also through a link that stays inside."""
    (project / "alias.py").symlink_to("src/main.py")

    read = access(project).read("--file", given.replace("ABSOLUTE", str(project)), limit=LIMIT)
    assert read == b"print(1)"


@pytest.mark.parametrize(
    "given",
    [
        "../outside.txt",
        "OUTSIDE",
        "src/../../outside.txt",
        "link",
        "folder/outside.txt",
        "/etc/passwd",
        "/proc/self/environ",
    ],
)
def test_nothing_outside_is(project: Path, given: str) -> None:
    """Neither by `..`, nor whole paths, nor links to files or folders."""
    (project / "link").symlink_to("../outside.txt")
    (project / "folder").symlink_to("..")
    failure = refusal(
        access(project), given.replace("OUTSIDE", str(project.parent / "outside.txt"))
    )

    assert (failure.kind, failure.exit_code) == ("host_access", 125)
    assert MORE_PATHS in failure.fix


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".ssh/config",
        "src/.git/config",
        "server.pem",
        "ID_RSA",
        "id_ed25519.pub",
        "credentials.json",
        "terraform.tfstate",
    ],
)
def test_dotfiles_and_keys_are_not_read_even_inside(project: Path, name: str) -> None:
    """A project's secrets lie in its own tree; case is no way round."""
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text("x")
    (project / "plain.txt").symlink_to(name)

    assert refusal(access(project), name).kind == "host_access"
    assert refusal(access(project), "plain.txt").kind == "host_access"


def test_every_pattern_is_in_lower_case() -> None:
    """Names are compared in lower case, so another pattern would never match."""
    assert [pattern for pattern in KEY_LIKE if pattern != pattern.lower()] == []


def test_the_users_variable_opens_a_folder_but_not_its_dotfiles(project: Path) -> None:
    """Exported before the session, so no approved command line can set it."""
    more = project.parent / "data"
    more.mkdir()
    (more / "in.txt").write_text("in")
    (more / ".env").write_text("SECRET=1")
    gate = access(project, **{MORE_PATHS: f"{more}{os.pathsep}relative"})

    assert gate.read("--file", str(more / "in.txt"), limit=LIMIT) == b"in"
    assert refusal(gate, str(more / ".env")).kind == "host_access"


def test_a_file_that_is_named_whole_is_open_whatever_its_name(project: Path) -> None:
    """The user said exactly this one."""
    (project / ".env.test").write_text("A=1")

    opened = access(project, **{MORE_PATHS: str(project / ".env.test")})
    assert opened.read("--env-file", ".env.test", limit=LIMIT) == b"A=1"


@pytest.mark.parametrize("folder", ["/", "/etc", "/proc"])
def test_the_machine_itself_is_no_project(folder: str) -> None:
    """Started in /, everything would lie inside the working directory."""
    path = "/etc/passwd" if folder != "/proc" else "/proc/version"
    assert refusal(HostAccess.of({}, Path(folder)), path).kind == "host_access"


@pytest.mark.parametrize("given", ["missing.py", "src", "pipe", "large.py", "x" * 5000, "a\0b"])
def test_what_is_no_readable_file_is_a_usage_error(project: Path, given: str) -> None:
    """One line that says so; a pipe must not hang the run."""
    os.mkfifo(project / "pipe")
    (project / "large.py").write_bytes(b"x" * (LIMIT + 1))
    failure = refusal(access(project), given)

    assert (failure.kind, failure.exit_code) == ("usage", 2)
    assert len(failure.message) < 400


def test_existence_outside_is_not_told(project: Path) -> None:
    """The same words for what is there and what is not."""
    there, missing = (
        refusal(access(project), given).message for given in ("../outside.txt", "../nothere.txt")
    )

    assert there.replace("outside.txt", "") == missing.replace("nothere.txt", "")


def test_variables_pass_only_by_the_users_word(project: Path) -> None:
    """NAME@host is a git token's and passes to no program; our own credentials never do."""
    gate = access(
        project,
        **{
            PASSED_NAMES: "ALLOWED, TOKEN@github.com DAYTONA_API_KEY",
            "ALLOWED": "yes",
            "TOKEN": "t",
            "OTHER": "o",
            "DAYTONA_API_KEY": "k",
        },
    )

    assert gate.variable("ALLOWED") == "yes"
    for name in ("OTHER", "TOKEN", "DAYTONA_API_KEY", "daytona_api_key"):
        with pytest.raises(Failure) as caught:
            gate.variable(name)
        assert caught.value.kind == "host_access"


def test_an_allowed_variable_that_is_not_set_is_a_usage_error(project: Path) -> None:
    """An empty value in its place would be a riddle."""
    with pytest.raises(Failure) as caught:
        access(project, **{PASSED_NAMES: "MISSING"}).variable("MISSING")

    assert caught.value.kind == "usage"


TOKEN = {"GH_TOKEN": "s3cret-token", PASSED_NAMES: "GH_TOKEN@GitHub.com,OTHER"}


def test_a_git_token_goes_to_the_host_it_was_bound_to(tmp_path: Path) -> None:
    """Whatever the case of its name."""
    token = HostAccess.of(TOKEN, tmp_path).git_token("GH_TOKEN", "https://github.COM/a/b.git")
    assert token == "s3cret-token"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("GH_TOKEN", "https://evil.org/a.git"),
        ("GH_TOKEN", "https://github.com.evil.org/a.git"),
        ("GH_TOKEN", "https://evil.org/github.com"),
        ("GH_TOKEN", "https://evil.org\\@github.com/a.git"),
        ("OTHER", "https://github.com/a.git"),
        ("HOME", "https://github.com/a.git"),
    ],
)
def test_a_git_token_goes_nowhere_else(tmp_path: Path, name: str, url: str) -> None:
    """A name alone binds nothing; and the message holds no value."""
    with pytest.raises(Failure) as caught:
        HostAccess.of({**TOKEN, "OTHER": "s3cret-other"}, tmp_path).git_token(name, url)

    assert caught.value.kind == "host_access"
    assert "s3cret" not in caught.value.message + caught.value.fix


def test_a_bound_token_is_no_variable_of_the_programs(tmp_path: Path) -> None:
    """It is for git alone."""
    with pytest.raises(Failure):
        HostAccess.of(TOKEN, tmp_path).variable("GH_TOKEN")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gradle.properties", "repoPassword=x1y2z3\n"),
        ("backup.txt", f"\n\nx\n-----BEGIN PRIVATE KEY-----\n{'A' * 64}\n"),
    ],
)
@pytest.mark.parametrize("link", ["notes.txt", "mod.py"])
def test_a_links_name_lifts_nothing_of_its_targets(
    project: Path, name: str, content: str, link: str
) -> None:
    """What may hold a token, or is no source, is judged as such by whatever name it is read."""
    (project / name).write_text(content)
    (project / link).symlink_to(name)
    gate = access(project)

    assert "holds a key" in refusal(gate, name).message
    assert "holds a key" in refusal(gate, link).message


def why(gate: HostAccess, given: str, *, force: bool = False) -> str | None:
    return gate.why_not_written(
        "--download", given, force=force, written=WrittenRecord("20261126-010203-0123abcd")
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("new.png", None),
        ("new.csv", "not straight"),
        ("results/er/new.csv", None),
        ("../new.csv", "outside"),
        ("/tmp/new.csv", "outside"),
        ("link/new.csv", "outside"),
        (".git/new.csv", "dotfile"),
        (".claude/new.csv", "dotfile"),
        ("src/main.py", "code"),
        ("conftest.py", "code"),
        ("CLAUDE.md", "code"),
        ("Makefile", "code"),
        ("package.json", "not straight"),
        ("results/package.json", "obey"),
        ("templates/x.csv", "obey"),
        ("src/new.csv", "src"),
        ("src/new/new.csv", "src"),
        ("src/new.png", "src"),
        ("there.csv/x.csv", "odd name"),
        ("output/x.csv", "output"),
        ("credentials.csv", "key"),
        ("there.png", "there already"),
        ("x" * 300 + ".csv", "odd name"),
        ("a\0b.csv", "not a path"),
        ("CON.csv", "odd name"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_granted_line_writes_new_results_of_the_project(
    project: Path, given: str, reason: str | None
) -> None:
    """The where, the what and the over what, each with its own words."""
    for name in ("there.csv", "there.png"):
        (project / name).write_text("mine")
    (project / "link").symlink_to("..")
    (project / "output").mkdir()
    found = why(access(project), given)

    assert (found is None) if reason is None else (reason in str(found)), found


def test_text_does_not_go_into_a_folder_that_people_made(project: Path) -> None:
    """Folders that tools read stay closed, from within too; what runs made is open to runs.

    An inventory, a role, vendored packages.
    """
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    below = access(project / "src")
    written = WrittenRecord("20261126-010203-0123abcd")
    (project / "output").mkdir()
    written.note_folder(project / "output", (project / "output").stat())

    for name in ("new.png", "results/new.csv", "results/new.xlsx"):
        assert "only pictures" in str(why(below, name))
    assert why(below, "results/new.png") is None
    reason = access(project).why_not_written(
        "--download", "output/deep/new.csv", force=False, written=written
    )
    assert reason is None
    (project / "other").mkdir()  # while the first has its number: a new one may get it again
    (project / "output").rmdir()
    (project / "other").rename(project / "output")
    reason = access(project).why_not_written(
        "--download", "output/new.csv", force=False, written=written
    )
    assert "name a new folder" in str(reason), "another folder by now"


def test_the_working_directory_itself_is_judged(project: Path) -> None:
    """`cd .git && … --download c:config` does not move the gate along.

    Reading is closed there too, and the refusal says why.
    """
    (project / ".git" / "objects").mkdir(parents=True)
    (project / ".git" / "config").write_text("[core]\n")
    gate = access(project / ".git")

    assert "hidden folder" in str(why(gate, "new.csv"))
    assert "hidden folder" in refusal(gate, "config").message
    assert refusal(gate, "config").kind == "host_access"


def test_the_users_variable_opens_where_not_what(project: Path) -> None:
    """A named folder takes results, no code; also when the working directory is none."""
    (project / ".hidden").mkdir()
    more = project.parent / "data"
    more.mkdir()
    gate = access(project / ".hidden", **{MORE_PATHS: str(more)})

    assert why(gate, str(more / "new.png")) is None
    assert "code" in str(why(gate, str(more / "new.py")))


@pytest.mark.parametrize("name", ["scripts", "state", "alias"])
def test_the_skill_and_its_state_are_closed_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The skill and its state are closed inside a project too; a link is no way round.

    A plugin may lie below it, or a state that the user put there.
    """
    monkeypatch.setattr("skill_env.SKILL", tmp_path / "plugin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for folder in ("plugin/scripts", "state/daytona-sandbox"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "alias").symlink_to("plugin")
    given = {
        "scripts": "plugin/scripts/x.csv",
        "state": "state/daytona-sandbox/x.csv",
        "alias": "alias/scripts/x.csv",
    }[name]

    assert "skill's own folders" in str(why(access(tmp_path), given))
    with pytest.raises(Failure) as caught:
        access(tmp_path).open_folder(
            "--download", given, tmp_path / "plugin" / "scripts", write=True
        )
    assert "skill's own folders" in caught.value.message


def test_the_state_is_not_read_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """server.json holds a key, logs another run's output."""
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", str(tmp_path / "local"))
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "server.json").write_text("{}")

    assert "skill's own folders" in refusal(access(tmp_path), "local/server.json").message


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
        b"\n-----BEGIN PRIVATE KEY-----",
        b"-----BEGIN RSA PRIVATE KEY-----\r\n",
        b"PuTTY-User-Key-File-3: ssh",
        b'{"type": "service_account",\n "private_key": "-----BEGIN PRIVATE KEY-----\\n"}',
        b"AGE-SECRET-KEY-1QQQ",
        b"[default]\naws_access_key_id = A\naws_secret_access_key = B\n",
        b"export AWS_SECRET_ACCESS_KEY=x\n",
        b'{"aws_secret_access_key": "x"}',
        b"x: 1\n  client-key-data: LS0t\n",
        b"x" * 9000 + b"\n-----BEGIN PRIVATE KEY-----\n",
        "\ufeff-----BEGIN PRIVATE KEY-----\n".encode("utf-16-le"),
        b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n",
        b"[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n",
        b"\xef\xbb\xbfAccess key ID,Secret access key\nAKIA0,x\n",
        b"User name,Password,Access key ID,Secret access key,Console login link\nbob,,A,B,\n",
        b"untrusted comment: minisign encrypted secret key\n",
        b"Bag Attributes\n  friendlyName: x\n-----BEGIN PRIVATE KEY-----\n",
    ],
    ids=lambda value: ascii(value[:20]),
)
def test_a_key_is_known_by_its_beginning(project: Path, content: bytes) -> None:
    """Whatever it is called."""
    (project / "notes.txt").write_bytes(content)

    assert "holds a key" in refusal(access(project), "notes.txt").message


@pytest.mark.parametrize(
    "content",
    [
        b"# How to make a -----BEGIN PRIVATE KEY----- file\n",
        b"KEY = '''-----BEGIN PRIVATE KEY-----'''",
        b"x",
    ],
)
def test_a_text_about_keys_is_none(project: Path, content: bytes) -> None:
    """A test's source may hold one as a constant."""
    (project / "notes.txt").write_bytes(content)

    assert access(project).read("--file", "notes.txt", limit=LIMIT) == content


@pytest.mark.parametrize(
    "name",
    """
        prod.env main.tfvars serviceAccountKey.json
        application_default_credentials.json AuthKey.p8 http.keytab pgpass.conf
        x-firebase-adminsdk-1.json client_secret_1.json
        terraform.tfstate.1700000000.backup rootkey.csv local.settings.json token.json
        prod_credentials.json env.production x.env.bak secrets/db env secret.yaml
        app-secrets.json passwords.txt deploy_key api_key.txt vault_pass.txt
    """.split(),
)
def test_more_names_of_keys(project: Path, name: str) -> None:
    """They left with `--upload .`."""
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text("x")

    assert refusal(access(project), name).kind == "host_access"


def test_a_key_in_source_is_a_constant(project: Path) -> None:
    """A file that begins as a key is one whatever its ending; a key quoted in a test is none.

    A test's certificate in a string stands at the beginning of a line too.
    """
    (project / "test_x.py").write_bytes(b'KEY = """\n-----BEGIN RSA PRIVATE KEY-----\nMII\n"""\n')
    (project / "key.py").write_bytes(b"-----BEGIN RSA PRIVATE KEY-----\n")

    assert access(project).read("--file", "test_x.py", limit=LIMIT).startswith(b"KEY")
    assert "holds a key" in refusal(access(project), "key.py").message


A_KEY = b"-----BEGIN RSA PRIVATE KEY-----\n" + b"MIIEpAIBAAKCAQEA" * 4 + b"\n"


@pytest.mark.parametrize("before", [1, 65_536, 262_100, 900_000])
@pytest.mark.parametrize("name", ["data.txt", "notes.md", "page.html"])
def test_a_key_is_found_wherever_it_stands(project: Path, name: str, before: int) -> None:
    """In a log of many megabytes, on the edge of what is looked at together, below some prose."""
    (project / name).write_bytes((b"All is well.\n" * (before // 13 + 1))[:before] + b"\n" + A_KEY)

    assert "holds a key" in refusal(access(project), name).message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hosts.yml", "github.com:\n    oauth_token: gho_" + "a" * 36),
        ("book.ipynb", '{"source": ["KEY = \\"sk-ant-api03-' + "a" * 30 + '\\""]}'),
        ("page.md", "Use glpat-" + "a" * 20),
        ("aws.yaml", "aws:\n  aws_secret_access_key: " + "a" * 40),
        ("config.json", '{"auths": {"https://a.b/": {"auth": "dXNlcjpwYXNz"}}}'),
        ("saml.xml", "<KeyInfo>-----BEGIN RSA PRIVATE KEY-----"),
        ("gradle.properties", "signing.password=abc"),
        ("settings.xml", "<server><password>x</password></server>"),
        ("env.txt", "DAYTONA_API_KEY=dtn_" + "a1" * 20),
    ],
)
def test_tokens_as_their_issuers_made_them_are_found(project: Path, name: str, text: str) -> None:
    """In whatever data they stand; what tools keep of passwords in their own settings."""
    (project / name).write_text(text)

    assert "holds a key" in refusal(access(project), name).message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lock.json", '{"npm_config_user_agent": "npm/10", "hf_hub_download": 1}'),
        ("a.yaml", "token: ${TOKEN}\nuse: ghp_xxx\naws_secret_access_key: ${{ secrets.X }}"),
        ("auth.yml", "auths: here\nsk-ant-hill: x"),
        ("log.txt", "dtn_region glpat-short xoxo-kisses"),
    ],
)
def test_what_only_looks_like_a_token_is_read(project: Path, name: str, text: str) -> None:
    """Or half of the projects could not be sent."""
    (project / name).write_text(text)

    assert access(project).read("--file", name, limit=LIMIT).decode() == text


def test_prose_about_keys_is_read(project: Path) -> None:
    """A page says how a key begins, and has none."""
    page = "Put it between these:\n\n-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n"
    (project / "page.md").write_text(page)

    assert access(project).read("--file", "page.md", limit=LIMIT).decode() == page


def test_a_wide_file_is_looked_through_too(project: Path) -> None:
    """As PowerShell writes it."""
    (project / "out.txt").write_text("x\n" * 200_000 + A_KEY.decode(), encoding="utf-16")

    assert "holds a key" in refusal(access(project), "out.txt").message


@pytest.mark.parametrize("where", ["README.md", "config.yml"])
def test_a_token_in_prose_of_a_tool_is_found(where: str) -> None:
    """As its issuer made it; what only sounds like one is prose."""
    text = b"word\n" * 60_000 + b"ghp_" + b"a" * 36

    assert holds_a_secret(PurePath(".circleci", where), io.BytesIO(text))
    assert holds_a_secret(PurePath(".github", where), io.BytesIO(text))
    assert not holds_a_secret(PurePath(".circleci/x.md"), io.BytesIO(b"The password: see below\n"))


@pytest.mark.parametrize("name", ["secret_store.py", "passwords_test.go", "api_keys.ts"])
def test_source_that_sounds_like_a_key_is_source(project: Path, name: str) -> None:
    """A project's tests import it."""
    (project / name).write_text("x")

    assert access(project).read("--file", name, limit=LIMIT) == b"x"


def test_text_lies_below_a_folder_for_results_only(project: Path) -> None:
    """Straight in the top folder tools look for tables and JSON of their own, by any name."""
    for name in ("results.json", "results.csv", "partitions.csv"):
        assert "not straight" in str(why(access(project), name))
    assert why(access(project), "results/results.json") is None
    assert why(access(project), "chart.png") is None


@pytest.mark.parametrize("mark", [".hg", ".svn", ".jj", ".git"])
def test_below_another_version_control_only_pictures_are_written(project: Path, mark: str) -> None:
    """It says where the project's top is, also as a `.git` file that leads nowhere."""
    (project / mark).write_text("gitdir: /gone\n")

    assert "only pictures" in str(why(access(project / "src"), "results/a.csv"))
    assert why(access(project / "src"), "plots/a.png") is None


def test_a_link_in_the_way_is_not_written_through(project: Path) -> None:
    """A dangling one would make a file of another name."""
    (project / "out.png").symlink_to("newtop.png")

    assert "link" in str(why(access(project), "out.png"))


@pytest.mark.parametrize("name", ["secrets", "credentials", "my-secret-files"])
def test_a_folder_of_keys_is_closed_from_within_too(project: Path, name: str) -> None:
    """`cd secrets` is no way round; a project may be called so."""
    folder = project / name
    folder.mkdir()
    (folder / "db.txt").write_text("db=x")

    assert "looks like" in refusal(access(folder), "db.txt").message
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    assert access(folder).read("--file", "db.txt", limit=LIMIT) == b"db=x"


def test_a_bare_repository_is_no_project(project: Path) -> None:
    """A table below refs/heads would be a branch, and break every clone."""
    subprocess.run(["git", "init", "-q", "--bare", "store"], cwd=project, check=True)

    assert "repository" in str(why(access(project / "store" / "refs" / "heads"), "a.csv"))


def test_a_folder_that_people_made_below_one_of_ours_is_theirs(project: Path) -> None:
    """`results` may be a run's, and what somebody put into it is not."""
    written = WrittenRecord("20261126-010203-0123abcd")
    (project / "results" / "mine").mkdir(parents=True)
    written.note_folder(project / "results", (project / "results").stat())

    def reason(name: str) -> str | None:
        return access(project).why_not_written("--download", name, force=False, written=written)

    assert "mine" in str(reason("results/mine/a.csv"))
    assert reason("results/new/a.csv") is None


def test_a_secret_of_the_vault_is_the_users_to_open(project: Path) -> None:
    """Whatever the organization stored there: a sandbox with a network could send it anywhere."""
    with pytest.raises(Failure) as caught:
        access(project).vault_secret("prod-db")

    assert caught.value.kind == "host_access"
    assert f"export {PASSED_NAMES}=vault:prod-db" in caught.value.fix
    opened = access(project, **{PASSED_NAMES: "vault:prod-db"})
    assert opened.vault_secret("prod-db") == "prod-db"


def test_a_secret_of_the_vault_and_a_variable_are_opened_apart(project: Path) -> None:
    """Both may have one name, and only one of them is this machine's plain text."""
    name = "AWS_SECRET_ACCESS_KEY"
    for_the_vault = access(project, **{PASSED_NAMES: f"vault:{name}", name: "x"})
    for_the_variable = access(project, **{PASSED_NAMES: name, name: "x"})

    with pytest.raises(Failure):
        for_the_vault.variable(name)
    with pytest.raises(Failure):
        for_the_variable.vault_secret(name)


def test_a_name_of_the_vault_is_one_word_of_the_line_that_opens_it(project: Path) -> None:
    """Whoever talks to Claude chose it, and the user pastes the line into a shell."""
    with pytest.raises(Failure) as caught:
        access(project).vault_secret("x; touch pwned")

    assert f"export {PASSED_NAMES}='vault:x; touch pwned' before" in caught.value.fix


@pytest.mark.parametrize(
    "token",
    [
        '[remote "origin"]\n\turl = https://me:ghp_x@example.org/a.git\n',
        '[http "https://example.org/"]\n\textraheader = AUTHORIZATION: basic eDp5\n',
        '[credential]\n\thelper = "!f() { echo password=x; }; f"\n',
    ],
)
def test_settings_of_git_with_a_token_are_no_plain_file(project: Path, token: str) -> None:
    """A bare repository has them under no hidden name."""
    (project / "config").write_text(token)

    assert "holds a key" in refusal(access(project), "config").message


def test_settings_of_git_without_one_are_read(project: Path) -> None:
    """A repository may be what a test is about."""
    text = '[core]\n\tbare = true\n[remote "origin"]\n\turl = https://example.org/a.git\n'
    (project / "config").write_text(text)

    assert access(project).read("--file", "config", limit=LIMIT) == text.encode()


def test_a_named_folder_opens_nothing_of_the_machines(project: Path) -> None:
    """Its name may be a link, or become one, that leads to the root."""
    (project / "all").symlink_to("/")
    gate = access(project, **{MORE_PATHS: str(project / "all")})

    assert "is the machine's" in refusal(gate, "/proc/self/environ").message
    assert "is the machine's" in refusal(gate, "/etc/hostname").message
    named_itself = access(project, **{MORE_PATHS: "/etc/hostname"})
    assert named_itself.allowed("--file", "/etc/hostname") == Path("/etc/hostname").resolve()


def test_a_token_is_bound_to_a_port_too(project: Path) -> None:
    """What listens on another port of the host is another service."""
    bound = access(project, **{PASSED_NAMES: "T@git.example,T@git.example:8443", "T": "x"})

    assert bound.git_token("T", "https://git.example:443/a.git") == "x"
    assert bound.git_token("T", "https://git.example:8443/a.git") == "x"
    with pytest.raises(Failure):
        bound.git_token("T", "https://git.example:9443/a.git")


def test_a_folder_that_somebody_made_anew_is_theirs(project: Path) -> None:
    """Its inode is often the one that went; the mark of the run went with the folder."""
    written = WrittenRecord("20261126-010203-0123abcd")
    (project / "results").mkdir()
    written.note_folder(project / "results", (project / "results").stat())
    if "20261126" not in written.made[str(project / "results")]:
        pytest.skip("no attributes of folders here")
    assert written.made_folder(project / "results")
    for _ in range(20):
        (project / "results").rmdir()
        (project / "results").mkdir()

        assert not written.made_folder(project / "results")
