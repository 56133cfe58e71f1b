"""Files in and out through the unmodified SDK, and what hostile paths cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import LocalServer

ODD_NAMES = ["a b.txt", "ünï-✓.txt", 'quo"te.txt', "semi;colon.txt", "new\nline.txt", "percent%41.txt"]


@pytest.fixture
def fs(sdk: Any, sandbox: str) -> Any:
    """The file calls of a sandbox."""
    return sdk.get(sandbox).fs


@pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 5000], ids=["empty", "text", "binary"])
def test_bytes_come_back_as_they_went(fs: Any, content: bytes) -> None:
    """Uploads and downloads are exact."""
    fs.upload_file(content, "file.bin")

    assert fs.download_file("file.bin") == content


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_survive_both_ways(fs: Any, name: str) -> None:
    """Paths travel in multipart headers, where they are easily mangled."""
    fs.upload_file(b"x", f"odd/{name}")

    assert [entry.name for entry in fs.list_files("odd")] == [name]
    assert fs.download_file(f"odd/{name}") == b"x"


def test_a_local_path_is_streamed_from_and_to_disk(fs: Any, tmp_path: Path) -> None:
    """What the SDK recommends for large files."""
    (tmp_path / "up").write_bytes(b"z" * 20_000_000)
    fs.upload_file(str(tmp_path / "up"), "big")
    fs.download_file("big", str(tmp_path / "down"))

    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()


def test_many_files_in_one_request(fs: Any) -> None:
    """A batch is one POST each way, and errors are per file."""
    from daytona import FileDownloadRequest, FileUpload

    fs.upload_files([FileUpload(source=str(n).encode(), destination=f"many/{n}") for n in range(1200)])
    answers = fs.download_files([FileDownloadRequest(source="many/7"), FileDownloadRequest(source="many/none")])

    assert answers[0].result == b"7"
    assert answers[1].result is None
    assert answers[1].error_details.code == "FILE_NOT_FOUND"


def test_a_missing_file_and_a_folder_have_their_own_errors(fs: Any) -> None:
    """The SDK maps code and source to its classes."""
    from daytona import DaytonaError, DaytonaFileNotFoundError

    with pytest.raises(DaytonaFileNotFoundError):
        fs.download_file("none")
    fs.create_folder("folder", "755")
    with pytest.raises(DaytonaError, match="directory"):
        fs.download_file("folder")


def test_an_upload_that_cannot_be_written_fails_with_the_path(fs: Any) -> None:
    """/usr is read-only inside."""
    from daytona import DaytonaError

    with pytest.raises(DaytonaError, match="/usr/nope"):
        fs.upload_file(b"x", "/usr/nope")


def test_new_files_are_plain_and_existing_ones_keep_their_mode(fs: Any, sdk: Any, sandbox: str) -> None:
    """0644 for a new file; a second upload truncates in place."""
    fs.upload_file(b"first, longer", "f")
    mode = fs.get_file_info("f").permissions
    sdk.get(sandbox).process.exec("chmod 755 f")
    fs.upload_file(b"second", "f")

    assert (mode, fs.get_file_info("f").permissions, fs.download_file("f")) == ("0644", "0755", b"second")


def test_folders_are_made_listed_and_deleted(fs: Any) -> None:
    """A folder needs recursive=True, as in Daytona."""
    from daytona import DaytonaBadRequestError

    fs.create_folder("a/b", "700")
    info = fs.get_file_info("a/b")
    with pytest.raises(DaytonaBadRequestError):
        fs.delete_file("a")
    fs.delete_file("a", recursive=True)

    assert (info.is_dir, info.permissions, info.path) == (True, "0700", "/home/daytona/a/b")
    assert [entry.name for entry in fs.list_files(".")] == []


def test_listing_goes_as_deep_as_asked(fs: Any) -> None:
    """Each item carries its full path."""
    fs.upload_file(b"", "top/mid/low")

    assert [entry.path for entry in fs.list_files("top", depth=2)] == ["/home/daytona/top/mid", "/home/daytona/top/mid/low"]


def test_a_tilde_is_only_a_name(fs: Any) -> None:
    """Neither `~` nor a variable is expanded by file calls."""
    fs.upload_file(b"x", "~/f")

    assert fs.get_file_info("/home/daytona/~/f").name == "f"


def test_symlinks_are_resolved_inside(server: LocalServer, fs: Any, sandbox: str, tmp_path: Path) -> None:
    """A planted link to a host path leads to the sandbox's own path, for reading and for writing."""
    secret = tmp_path / "secret"
    secret.write_text("host secret")
    server.exec(sandbox, f"ln -s {secret} link; ln -s /etc/shadow shadow; mkdir -p {tmp_path} && echo inside > {secret}")

    assert fs.download_file("link") == b"inside\n"
    fs.upload_file(b"written inside", "link")
    assert secret.read_text() == "host secret"
    assert server.request("POST", f"/toolbox/{sandbox}/files/bulk-download", body={"paths": ["shadow"]}).body.count(b"NOT_FOUND") == 1


def test_devices_and_pipes_are_refused_at_once(server: LocalServer, fs: Any, sandbox: str) -> None:
    """A FIFO would block a reader for ever, /dev/zero would never end."""
    from daytona import DaytonaError

    server.exec(sandbox, "mkfifo pipe")
    for path in ("pipe", "/dev/zero"):
        with pytest.raises(DaytonaError):
            fs.download_file(path)


@pytest.mark.parametrize("path", ["/proc/sys/kernel/ns_last_pid", "/proc/self/oom_score_adj", "/proc/1/timerslack_ns", "planted"])
def test_the_kernels_files_are_not_written_with_the_servers_rights(server: LocalServer, fs: Any, sandbox: str, path: str) -> None:
    """procfs asks who writes, and the server may be root: a confused deputy."""
    from daytona import DaytonaError

    server.exec(sandbox, "ln -s /proc/1/oom_score_adj planted")
    with pytest.raises(DaytonaError):
        fs.upload_file(b"5", path)
    with pytest.raises(DaytonaError):
        fs.download_file(path)


def test_a_path_that_is_no_text_is_400_and_the_sandbox_lives(server: LocalServer, sandbox: str) -> None:
    """It ended the agent, and with it an ephemeral sandbox."""
    for path, body in (
        ("files/bulk-download", {"paths": ["\ud800"]}),
        ("process/execute", {"command": "true", "envs": {"A": "\ud800"}}),
        ("process/code-run", {"code": "1", "argv": ["\ud800"]}),
    ):
        assert server.request("POST", f"/toolbox/{sandbox}/{path}", body=body).status == 400
    assert server.exec(sandbox, "echo alive")["result"] == "alive\n"


def test_odd_times_and_closed_folders_do_not_break_a_listing(server: LocalServer, fs: Any, sandbox: str) -> None:
    """Metadata is the sandbox's own making."""
    server.exec(sandbox, "mkdir -p odd/closed; touch -d @99999999999999 /dev/shm/z; touch odd/f; chmod 0 odd/closed")

    assert [entry.name for entry in fs.list_files("/dev/shm")] == ["z"]
    assert sorted(entry.name for entry in fs.list_files("odd", depth=3)) == ["closed", "f"]


def test_a_folder_of_ten_thousand_entries_lists(server: LocalServer, fs: Any, sandbox: str) -> None:
    """An answer larger than one control message still arrives whole."""
    server.exec(sandbox, "mkdir n && cd n && seq 1 10000 | xargs touch")

    assert len(fs.list_files("n")) == 10_000


def test_a_file_beyond_the_disk_size_is_refused(fs: Any, server: LocalServer, sandbox: str) -> None:
    """The size limit ends a runaway file with an error inside, not with a full host."""
    ended = server.exec(sandbox, "truncate -s 4G big || echo refused")

    assert "refused" in ended["result"]
