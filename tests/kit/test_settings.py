"""Where endpoint and key come from, and that a stranger's folder cannot redirect them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_kit.errors import Failure
from sandbox_kit.settings import DEFAULT_ENDPOINT, settings_from_environment

KEY = "dtn_secret_key_value"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No local server is known here."""
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", str(tmp_path / "none"))


def test_the_environment_comes_before_the_files(tmp_path: Path) -> None:
    """In the SDK's own order: environment, .env.local, .env."""
    (tmp_path / ".env").write_text("DAYTONA_API_KEY=from-env-file\nDAYTONA_TARGET=eu\n")
    (tmp_path / ".env.local").write_text("DAYTONA_API_KEY=from-env-local\n")

    in_files = settings_from_environment({}, tmp_path)
    in_environment = settings_from_environment({"DAYTONA_API_KEY": KEY}, tmp_path)

    assert (in_files.api_key, in_files.key_source, in_files.target) == (
        "from-env-local",
        ".env.local",
        "eu",
    )
    assert (in_environment.api_key, in_environment.key_source) == (KEY, "the environment")


STRANGERS = (
    "DAYTONA_API_KEY=dtn_theirs\n"
    "DAYTONA_JWT_TOKEN=theirs\n"
    "DAYTONA_ORGANIZATION_ID=theirs\n"
    "DAYTONA_TARGET=theirs\n"
)
LOGIN = {"DAYTONA_JWT_TOKEN": "jwt", "DAYTONA_ORGANIZATION_ID": "org"}


@pytest.mark.parametrize("exported", [{"DAYTONA_API_KEY": KEY}, LOGIN], ids=["key", "login"])
def test_whoever_exports_a_credential_gets_nothing_from_a_file(
    tmp_path: Path, exported: dict[str, str]
) -> None:
    """A stranger's .env can neither beat the token with a key nor complete the user's key.

    An organization and a region of its own would complete it.
    """
    (tmp_path / ".env").write_text(STRANGERS)
    found = settings_from_environment(exported, tmp_path)

    assert "theirs" not in str(
        (found.api_key, found.jwt_token, found.organization_id, found.target)
    )
    assert found.key_source == "the environment"


@pytest.mark.parametrize("name", LOGIN)
def test_half_a_login_is_not_completed_by_a_file(tmp_path: Path, name: str) -> None:
    """Somebody else's token with one's own organization is neither's account."""
    (tmp_path / ".env").write_text(STRANGERS)
    with pytest.raises(Failure) as caught:
        settings_from_environment({name: LOGIN[name]}, tmp_path)

    assert caught.value.kind == "no_credentials"


@pytest.mark.parametrize("name", [".env", ".env.local"])
@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("latin-1", "another encoding"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_named_with_its_encoding(
    tmp_path: Path, name: str, encoding: str, named: str
) -> None:
    """PowerShell's `echo … > .env` writes UTF-16; the user was told that there is no key."""
    (tmp_path / name).write_bytes(f"# gr\u00f6\u00dfe\nDAYTONA_API_KEY={KEY}\n".encode(encoding))
    with pytest.raises(Failure) as caught:
        settings_from_environment({}, tmp_path)

    assert caught.value.kind == "no_credentials"
    assert f"{name} here is" in caught.value.message
    assert named in caught.value.message
    assert caught.value.fix == f"save {name} as UTF-8, or export DAYTONA_API_KEY"


def test_a_file_that_cannot_be_decoded_is_nobodys_business_once_there_is_a_key(
    tmp_path: Path,
) -> None:
    """From the environment or from the file before it."""
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    assert settings_from_environment({"DAYTONA_API_KEY": KEY}, tmp_path).api_key == KEY
    (tmp_path / ".env.local").write_text(f"DAYTONA_API_KEY={KEY}\n")
    assert settings_from_environment({}, tmp_path).key_source == ".env.local"


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    """Windows' editors write one before UTF-8."""
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfDAYTONA_API_KEY=" + KEY.encode() + b"\r\n")

    assert settings_from_environment({}, tmp_path).api_key == KEY


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not taken for one without a key."""

    def denied(path: Path, *_: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / ".env").write_text(f"DAYTONA_API_KEY={KEY}\n")
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(Failure) as caught:
        settings_from_environment({}, tmp_path)

    assert caught.value.message == ".env here cannot be read: Permission denied"


def test_another_users_file_is_named_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key would make sandboxes, with what is sent to them, in their account."""
    (tmp_path / ".env").write_text(f"DAYTONA_API_KEY={KEY}\n")
    monkeypatch.setattr("os.geteuid", lambda: 4242)
    with pytest.raises(Failure) as caught:
        settings_from_environment({}, tmp_path)

    assert caught.value.message == ".env here cannot be read: it is another user's"


def test_a_file_cannot_say_where_the_key_is_sent(tmp_path: Path) -> None:
    """The working directory is often a stranger's repository."""
    (tmp_path / ".env").write_text("DAYTONA_API_URL=https://evil.example/api\n")

    assert (
        settings_from_environment({"DAYTONA_API_KEY": KEY}, tmp_path).endpoint == DEFAULT_ENDPOINT
    )


def test_a_file_cannot_read_the_environment(tmp_path: Path) -> None:
    """No expansion: ${HOME} in a .env is text."""
    (tmp_path / ".env").write_text("DAYTONA_API_KEY=${HOME}\n")

    assert settings_from_environment({}, tmp_path).api_key == "${HOME}"


def test_a_jwt_needs_its_organization(tmp_path: Path) -> None:
    """As in the SDK."""
    both = settings_from_environment(
        {"DAYTONA_JWT_TOKEN": "jwt", "DAYTONA_ORGANIZATION_ID": "org"}, tmp_path
    )

    assert (both.jwt_token, both.organization_id, both.api_key) == ("jwt", "org", None)
    with pytest.raises(Failure) as caught:
        settings_from_environment({"DAYTONA_JWT_TOKEN": "jwt"}, tmp_path)
    assert caught.value.kind == "no_credentials"


def test_secrets_are_in_no_repr_and_no_description(tmp_path: Path) -> None:
    """Both end up in tracebacks and on terminals."""
    settings = settings_from_environment({"DAYTONA_API_KEY": KEY}, tmp_path)

    assert KEY not in repr(settings) + settings.describe()


@pytest.mark.parametrize("endpoint", ["app.daytona.io/api", "file:///etc/passwd", "ftp://x"])
def test_an_endpoint_that_is_no_web_address_is_refused(tmp_path: Path, endpoint: str) -> None:
    """Before anything is sent."""
    with pytest.raises(Failure) as caught:
        settings_from_environment({"DAYTONA_API_KEY": KEY, "DAYTONA_API_URL": endpoint}, tmp_path)

    assert "DAYTONA_API_URL" in caught.value.message


def test_a_trailing_slash_of_the_endpoint_is_taken_off(tmp_path: Path) -> None:
    """The SDK would send doubled slashes."""
    endpoint = settings_from_environment(
        {"DAYTONA_API_KEY": KEY, "DAYTONA_API_URL": "https://x.example/api/"}, tmp_path
    ).endpoint
    assert endpoint == "https://x.example/api"


@pytest.mark.parametrize(
    "url", ["https://u:p4ssword@host/api", "https://token@host", "http://u:p@127.0.0.1:1/api"]
)
def test_an_endpoint_carries_no_password(tmp_path: Path, url: str) -> None:
    """It is named in every run's first line."""
    with pytest.raises(Failure) as caught:
        settings_from_environment({"DAYTONA_API_KEY": KEY, "DAYTONA_API_URL": url}, tmp_path)

    assert "p4ssword" not in caught.value.message + caught.value.fix
    endpoint = settings_from_environment(
        {"DAYTONA_API_KEY": KEY, "DAYTONA_API_URL": "https://host/a@b"}, tmp_path
    ).endpoint
    assert endpoint == "https://host/a@b"
