"""Files in and out through the unmodified SDK, and what hostile paths cannot do."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any

import pytest

from tests.local_server import LocalServer

ODD_NAMES = [
    "a b.txt",
    "ünï-✓.txt",
    'quo"te.txt',
    "semi;colon.txt",
    "new\nline.txt",
    "percent%41.txt",
]


@pytest.fixture
def fs(sdk: Any, sandbox: str) -> Any:
    """The file calls of a sandbox."""
    return sdk.get(sandbox).fs


@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(range(256)) * 5000], ids=["empty", "text", "binary"]
)
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

    fs.upload_files(
        [FileUpload(source=str(n).encode(), destination=f"many/{n}") for n in range(1200)]
    )
    answers = fs.download_files(
        [FileDownloadRequest(source="many/7"), FileDownloadRequest(source="many/none")]
    )

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


def test_new_files_are_plain_and_existing_ones_keep_their_mode(
    fs: Any, sdk: Any, sandbox: str
) -> None:
    """0644 for a new file; a second upload truncates in place."""
    fs.upload_file(b"first, longer", "f")
    mode = fs.get_file_info("f").permissions
    sdk.get(sandbox).process.exec("chmod 755 f")
    fs.upload_file(b"second", "f")

    assert (mode, fs.get_file_info("f").permissions, fs.download_file("f")) == (
        "0644",
        "0755",
        b"second",
    )


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

    assert [entry.path for entry in fs.list_files("top", depth=2)] == [
        "/home/daytona/top/mid",
        "/home/daytona/top/mid/low",
    ]


def test_a_tilde_is_only_a_name(fs: Any) -> None:
    """Neither `~` nor a variable is expanded by file calls."""
    fs.upload_file(b"x", "~/f")

    assert fs.get_file_info("/home/daytona/~/f").name == "f"


def test_symlinks_are_resolved_inside(
    server: LocalServer, fs: Any, sandbox: str, tmp_path: Path
) -> None:
    """A planted link to a host path leads to the sandbox's own path, for reading and writing."""
    secret = tmp_path / "secret"
    secret.write_text("host secret")
    server.exec(
        sandbox,
        (
            f"ln -s {secret} link; ln -s /etc/shadow shadow; "
            f"mkdir -p {tmp_path} && echo inside > {secret}"
        ),
    )

    assert fs.download_file("link") == b"inside\n"
    fs.upload_file(b"written inside", "link")
    assert secret.read_text() == "host secret"
    answer = server.request(
        "POST", f"/toolbox/{sandbox}/files/bulk-download", body={"paths": ["shadow"]}
    ).body.count(b"NOT_FOUND")
    assert answer == 1


def test_devices_and_pipes_are_refused_at_once(server: LocalServer, fs: Any, sandbox: str) -> None:
    """A FIFO would block a reader for ever, /dev/zero would never end."""
    from daytona import DaytonaError

    server.exec(sandbox, "mkfifo pipe")
    for path in ("pipe", "/dev/zero"):
        with pytest.raises(DaytonaError):
            fs.download_file(path)


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/ns_last_pid",
        "/proc/self/oom_score_adj",
        "/proc/1/timerslack_ns",
        "planted",
    ],
)
def test_the_kernels_files_are_not_written_with_the_servers_rights(
    server: LocalServer, fs: Any, sandbox: str, path: str
) -> None:
    """procfs asks who writes, and the server may be root: a confused deputy."""
    from daytona import DaytonaError

    server.exec(sandbox, "ln -s /proc/1/oom_score_adj planted")
    with pytest.raises(DaytonaError):
        fs.upload_file(b"5", path)
    with pytest.raises(DaytonaError):
        fs.download_file(path)


def test_a_path_that_is_no_text_is_400_and_the_sandbox_lives(
    server: LocalServer, sandbox: str
) -> None:
    """It ended the agent, and with it an ephemeral sandbox."""
    for path, body in (
        ("files/bulk-download", {"paths": ["\ud800"]}),
        ("process/execute", {"command": "true", "envs": {"A": "\ud800"}}),
        ("process/code-run", {"code": "1", "argv": ["\ud800"]}),
    ):
        assert server.request("POST", f"/toolbox/{sandbox}/{path}", body=body).status == 400
    assert server.exec(sandbox, "echo alive")["result"] == "alive\n"


def test_odd_times_and_closed_folders_do_not_break_a_listing(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """Metadata is the sandbox's own making."""
    server.exec(
        sandbox,
        "mkdir -p odd/closed; touch -d @99999999999999 /dev/shm/z; touch odd/f; chmod 0 odd/closed",
    )

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


def test_texts_and_names_are_found(sdk: Any) -> None:
    """find looks into files for literal text, search at names by a glob."""
    box = sdk.create()
    for path, text in (
        ("src/a.py", b"x = 1\nold.call()\n"),
        ("src/deep/b.py", b"oldXcall\n"),
        ("src/c.bin", b"\0old.call"),
        ("src/a.txt", b""),
    ):
        box.fs.upload_file(text, path)
    box.process.exec("mkfifo src/pipe; ln -s . src/loop")
    found, names = box.fs.find_files("src", "old.call"), box.fs.search_files("src", "*.py").files
    missing = box.fs.find_files("nowhere", "x")
    box.delete()

    assert [(match.file, match.line, match.content) for match in found] == [
        ("/home/daytona/src/a.py", 2, "old.call()")
    ]
    assert names == ["/home/daytona/src/a.py", "/home/daytona/src/deep/b.py"]
    assert missing == []


def test_replace_tells_of_each_file(sdk: Any) -> None:
    """One that fails does not stop the others."""
    box = sdk.create()
    box.fs.upload_file(b"a+a\n", "one")
    answers = box.fs.replace_in_files(["one", "missing"], "a", "b")
    content = box.fs.download_file("one")
    box.delete()

    assert [answer.success for answer in answers] == [True, False]
    assert content == b"b+b\n"


def test_move_keeps_what_is_there(sdk: Any) -> None:
    """Also across file systems; an existing target is a conflict, a missing parent not found."""
    from daytona import DaytonaConflictError, DaytonaNotFoundError

    box = sdk.create()
    for name in ("one", "two"):
        box.fs.upload_file(name.encode(), name)
    with pytest.raises(DaytonaConflictError):
        box.fs.move_files("one", "two")
    with pytest.raises(DaytonaNotFoundError):
        box.fs.move_files("one", "no/where")
    box.fs.move_files("one", "/tmp/one")
    content = box.fs.download_file("/tmp/one")
    box.delete()

    assert content == b"one"


def test_permissions_are_set(sdk: Any) -> None:
    """Octal, as in chmod."""
    box = sdk.create()
    box.fs.upload_file(b"", "tool")
    box.fs.set_file_permissions("tool", mode="755", owner="daytona")
    found = box.fs.get_file_info("tool")
    box.delete()

    assert (found.permissions, found.owner) == ("0755", "0")


GLOBS = [
    ("*.py", ["a.py"]),
    ("[ab]?py", ["a.py"]),
    ("[^a-c]*", ["d.txt", "ünï", "glob", "*"]),
    ("\\*", ["*"]),
    ("*a*a*a*a*a*a*a*a*a*a*b", []),
    ("a" * 60, ["a" * 60]),
    ("ün?", ["ünï"]),
    ("a.p", []),
]


def test_globs_are_gos_and_none_takes_long(fs: Any) -> None:
    """Base names only; ^ negates a class; a wrong pattern is a 400, and stars do not multiply."""
    from daytona import DaytonaBadRequestError

    for name in ("a.py", "d.txt", "ünï", "*", "a" * 60):
        fs.upload_file(b"", f"glob/{name}")
    for pattern, names in GLOBS:
        assert sorted(
            path.rpartition("/")[2] for path in fs.search_files("glob", pattern).files
        ) == sorted(names), pattern
    for pattern in ("[", "[a", "[]", "a\\", "[a-"):
        with pytest.raises(DaytonaBadRequestError):
            fs.search_files("glob", pattern)


def test_a_hostile_tree_is_searched_listed_and_deleted(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """Deeper than any path or stack: pipes, loops, closed folders, odd names, one endless line."""
    made = server.exec(
        sandbox,
        "mkdir /dev/shm/t; cd /dev/shm/t; "
        "python3 -c \"import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\"; "
        "mkfifo pipe; ln -s .. loop; ln -s /dev/zero zero; mkdir closed; "
        "touch closed/needle; chmod 0 closed; "
        "touch \"$(printf 'needle-\\377')\"; "
        "(head -c 3M /dev/zero | tr '\\0' x; echo needle; echo needle) > long",
    )
    assert made["exitCode"] == 0
    tree = "/dev/shm/t"
    found, names, listed = (
        fs.find_files(tree, "xneedle"),
        fs.search_files(tree, "needle*").files,
        fs.list_files(tree, depth=100),
    )
    server.exec(sandbox, f"chmod 700 {tree}/closed")
    fs.delete_file(tree, recursive=True)

    assert [(match.line, len(match.content)) for match in found] == [(1, 4096)]
    assert names == ["/dev/shm/t/needle-\ufffd"]
    assert len(listed) > 100
    assert server.exec(sandbox, "ls /dev/shm")["result"] == ""


def test_more_matches_than_an_answer_holds_are_a_400(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """Neither silently cut nor without end."""
    from daytona import DaytonaBadRequestError

    server.exec(sandbox, "yes needle | head -n 60000 > many")
    with pytest.raises(DaytonaBadRequestError, match="matches"):
        fs.find_files(".", "needle")
    assert server.exec(sandbox, "echo alive")["result"] == "alive\n"


def test_searching_everything_comes_to_an_end(fs: Any) -> None:
    """/proc is endless, and belongs to no search."""
    assert not [path for path in fs.search_files("/", "cmdline").files if path.startswith("/proc/")]


def test_replace_refuses_what_is_no_file_and_keeps_the_rest(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """Pipes, folders, the kernel's files and very large ones fail one by one; mode and link stay.

    Many files are no problem.
    """
    server.exec(
        sandbox,
        "mkfifo pipe; mkdir folder; truncate -s 65M huge; printf 'aa\\377a' > f; "
        "chmod 751 f; ln f link; "
        "mkdir many; for n in $(seq 1500); "
        "do echo a > many/a-rather-long-name-so-that-it-takes-more-than-one-message-$n; done",
    )
    bad = fs.replace_in_files(
        ["pipe", "folder", "/proc/self/oom_score_adj", "huge", "/usr/bin/env"], "a", "b"
    )
    good = fs.replace_in_files(["f"], "a", "longer")
    paths = [entry.path for entry in fs.list_files("many")]
    many = fs.replace_in_files(paths, "a", "b")

    assert [answer.success for answer in bad] == [False] * 5
    assert (good[0].success, fs.download_file("link"), fs.get_file_info("f").permissions) == (
        True,
        b"longerlonger\xfflonger",
        "0751",
    )
    assert [answer.file for answer in many if answer.success] == paths
    assert server.exec(sandbox, "cat many/* | sort -u")["result"] == "b\n"


def test_a_replacement_that_does_not_fit_changes_nothing(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """Room is taken first: a full disk must not cost the file."""
    server.exec(
        sandbox,
        (
            "yes a | head -c 20M > /dev/shm/f; "
            "head -c 900M /dev/zero > /dev/shm/rest 2>/dev/null; md5sum /dev/shm/f > sum"
        ),
    )
    answers = fs.replace_in_files(["/dev/shm/f"], "a", "bbb")

    assert [answer.success for answer in answers] == [False]
    assert server.exec(sandbox, "md5sum -c sum")["exitCode"] == 0


def test_a_folder_moves_between_file_systems_whole(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """Daytona's /tmp and home are one file system; a failed copy leaves the source as it was."""
    from daytona import DaytonaError

    server.exec(
        sandbox,
        (
            "mkdir -p d/e; echo x > d/e/f; ln -s e/f d/link; chmod 700 d/e; mkdir odd; "
            "echo 1 > odd/a; mkfifo odd/pipe"
        ),
    )
    fs.move_files("d", "/tmp/moved")
    with pytest.raises(DaytonaError):
        fs.move_files("odd", "/tmp/odd")

    look = "readlink link; stat -c %a e; cat link; cd; ls odd; ls d /tmp/odd"
    seen = server.exec(sandbox, f"cd /tmp/moved; {look}")["result"]
    assert seen.split("\n")[:5] == ["e/f", "700", "x", "a", "pipe"]


def test_a_path_of_two_thousand_parts_does_not_end_the_sandbox(
    server: LocalServer, sandbox: str
) -> None:
    """The agent made its folders by recursion."""
    deep = "/dev/shm/" + "a/" * 2000 + "f"
    for method, path in (
        ("POST", f"files/folder?path={deep}&mode=755"),
        ("POST", f"files/upload-v2?path={deep}"),
        ("DELETE", "files?path=/dev/shm/a&recursive=true"),
    ):
        body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n--x--\r\n'
        reply = server.request(
            method,
            f"/toolbox/{sandbox}/{path}",
            body=body,
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert reply.status in (200, 201, 204, 400), reply.body

    assert server.exec(sandbox, "ls /dev/shm; echo alive")["result"] == "alive\n"


@pytest.mark.parametrize(
    "query",
    [
        "mode=8",
        "mode=755&owner=nobody-here",
        "owner=²",
        "owner=99999999999",
        "path=/usr/bin/env&mode=777",
    ],
    ids=str,
)
def test_permissions_that_make_no_sense_are_refused(
    server: LocalServer, fs: Any, sandbox: str, query: str
) -> None:
    """With a 400 or 403, never a 500."""
    fs.upload_file(b"", "f")
    from urllib.parse import quote

    reply = server.request(
        "POST",
        (
            f"/toolbox/{sandbox}/files/permissions?{'' if 'path' in query else 'path=f&'}"
            f"{quote(query, safe='=&/')}"
        ),
    )

    assert reply.status in (400, 403), reply.body


def test_a_file_that_shrinks_while_it_is_read_breaks_the_connection_off_and_leaves_the_log_alone(
    server: LocalServer, sandbox: str
) -> None:
    """Nobody takes half a file for the whole, and code inside cannot fill the server's log."""
    server.exec(sandbox, "truncate -s 300M big")
    before = len((server.state_dir / "server.log").read_text())
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request(
        "GET",
        f"/toolbox/{sandbox}/files/download?path=big",
        headers={"Authorization": f"Bearer {server.api_key}"},
    )
    answer = connection.getresponse()
    answer.read(1000)
    server.exec(sandbox, "truncate -s 0 big")  # while the server waits until we read on
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()

    assert answer.status == 200
    assert "Traceback" not in (server.state_dir / "server.log").read_text()[before:]
