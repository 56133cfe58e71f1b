"""Files in and out through the unmodified SDK, and what hostile paths cannot do."""

from __future__ import annotations

import http.client
from collections.abc import Callable
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
    """Each item carries its path, below the one that was asked for as it was given."""
    fs.upload_file(b"", "top/mid/low")
    listed = {
        top: [entry.path for entry in fs.list_files(top, depth=2)]
        for top in ("top", ".", "/home/daytona/top")
    }

    assert listed == {
        "top": ["top/mid", "top/mid/low"],
        ".": ["top", "top/mid"],
        "/home/daytona/top": ["/home/daytona/top/mid", "/home/daytona/top/mid/low"],
    }


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
    for path in ("pipe", "/dev/zero", "/dev/null", "/proc/version"):
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
        ("src/a.py", 2, "old.call()")
    ]
    assert names == ["src/a.py", "src/deep/b.py"]
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
    """Base names only; ^ negates a class; a wrong pattern is a 400, and stars do not multiply.

    Daytona finds nothing by a wrong one.
    """
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
        "(echo needle; head -c 3M /dev/zero | tr '\\0' x; echo needle; echo needle) > long",
    )
    assert made["exitCode"] == 0
    tree = "/dev/shm/t"
    found, names, listed = (
        fs.find_files(tree, "needle"),
        fs.search_files(tree, "needle*").files,
        fs.list_files(tree, depth=100),
    )
    server.exec(sandbox, f"chmod 700 {tree}/closed")
    fs.delete_file(tree, recursive=True)

    assert [(match.line, match.content) for match in found] == [(1, "needle")]
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
    """With a plain 400, never a 500."""
    fs.upload_file(b"", "f")
    from urllib.parse import quote

    reply = server.request(
        "POST",
        (
            f"/toolbox/{sandbox}/files/permissions?{'' if 'path' in query else 'path=f&'}"
            f"{quote(query, safe='=&/')}"
        ),
    )

    assert (reply.status, reply.json()["code"]) == (400, "BAD_REQUEST"), reply.body


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


def test_uploads_are_named_as_they_were_asked_for(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """White space around a path is cut; `..` is the kernel's, and a slash at the end a folder's."""
    replies = [
        bulk_upload(server, sandbox, path) for path in ("./a ", "none/../b", "new/", "/usr/c")
    ]

    assert [reply.status for reply in replies] == [200, 400, 400, 400]
    assert replies[0].json() == {"files": [{"path": "./a", "bytes": 1}]}
    assert server.exec(sandbox, "ls -F")["result"] == "a\nnew/\n"


def bulk_upload(server: LocalServer, sandbox: str, path: str, end: str = "--x--\r\n") -> Any:
    """One byte, beside a field that no upload has."""
    head = '--x\r\nContent-Disposition: form-data; name="'
    body = f'{head}other"\r\n\r\n1\r\n{head}files[0].path"\r\n\r\n{path}\r\n'
    body += f'{head}files[0].file"; filename="f"\r\n\r\n1\r\n{end}'
    return server.request(
        "POST",
        f"/toolbox/{sandbox}/files/bulk-upload",
        body=body.encode(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )


def test_an_upload_that_breaks_off_lists_what_went_wrong(server: LocalServer, sandbox: str) -> None:
    """Clients read `errors`, whatever was wrong."""
    reply = bulk_upload(server, sandbox, "cut", end="")

    assert (reply.status, sorted(reply.json())) == (400, ["errors", "files"])


def test_a_download_says_what_kind_of_text_it_is(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """By the name's ending; an error has the code that the SDK has a class for."""
    fs.upload_file(b"1", "a.py")
    fs.upload_file(b"1", 'q"\u00e9\n')
    server.exec(sandbox, "ln -s loop loop")
    body = server.request(
        "POST",
        f"/toolbox/{sandbox}/files/bulk-download",
        body={"paths": ["a.py", 'q"\u00e9\n', "loop", "a.py/x", ""]},
    ).body.decode("latin-1")

    assert "Content-Type: text/x-python; charset=utf-8" in body
    assert 'filename="q\\"\u00e9"' in body
    assert body.count("FILE_READ_FAILED") == 2
    assert "path is empty" in body
    assert '"error":' not in body


def test_parts_of_a_file_can_be_asked_for(server: LocalServer, fs: Any, sandbox: str) -> None:
    """Range, If-Range, If-Modified-Since and HEAD; a connection is good for the next request."""
    fs.upload_file(b"0123456789", "f")
    server.exec(sandbox, "touch -d @1600000000 f; touch -d @99999999999999 /dev/shm/f; : > empty")
    changed = "Sun, 13 Sep 2020 12:26:40 GMT"
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)

    def ask(headers: dict[str, str], path: str = "f", method: str = "GET") -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {server.api_key}", **headers}
        url = f"/toolbox/{sandbox}/files/download?path={path}"
        connection.request(method, url, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert ask({"Range": "bytes=2-4"}) == (206, b"234")
    assert ask({"Range": "bytes=-3"}) == (206, b"789")
    assert ask({}, method="HEAD") == (200, b"")
    assert ask({"Range": "bytes=99-"})[0] == 416
    assert ask({"Range": "bytes=0-", "If-Range": changed}, path="empty") == (200, b"")
    assert ask({"Range": "bytes=x"}) == (200, b"0123456789")
    assert ask({"Range": "bytes=2-4", "If-Range": changed}) == (206, b"234")
    assert ask({"Range": "bytes=2-4", "If-Range": "other"}) == (200, b"0123456789")
    assert ask({"If-Modified-Since": changed}) == (304, b"")
    assert ask({}, path="/dev/shm/f") == (200, b"")
    assert ask({}, path="empty") == (200, b"")


def test_a_link_counts_for_what_it_leads_to(server: LocalServer, fs: Any, sandbox: str) -> None:
    """One that leads nowhere is not there; one to a folder needs `recursive`, and goes alone."""
    from daytona import DaytonaBadRequestError, DaytonaFileNotFoundError

    server.exec(sandbox, "mkdir d; echo needle > d/f; ln -s d/f l; ln -s d dl; ln -s none dangling")
    assert [entry.name for entry in fs.list_files(".")] == ["d", "dl", "l"]
    for call, more in ((fs.get_file_info, ()), (fs.delete_file, ()), (fs.move_files, ("x",))):
        with pytest.raises(DaytonaFileNotFoundError):
            call("dangling", *more)
    with pytest.raises(DaytonaBadRequestError):
        fs.delete_file("dl")
    found = [match.file for path in (".", "l", "dl") for match in fs.find_files(path, "needle")]
    fs.delete_file("dl", recursive=True)

    assert found == ["d/f"]
    assert server.exec(sandbox, "ls")["result"] == "d\ndangling\nl\n"


def test_folders_are_made_as_mkdir_makes_them(server: LocalServer, fs: Any, sandbox: str) -> None:
    """Parents have the mode too, less the umask; what is there keeps its own; no sticky bit."""
    server.exec(sandbox, "mkdir -m 700 there")
    for path, mode in (("there", "755"), ("n/m", "700"), ("wide", "1777"), ("odd", "70")):
        fs.create_folder(path, mode)

    modes = server.exec(sandbox, "stat -c '%n %a' there n n/m wide odd")["result"]
    assert modes == "there 700\nn 700\nn/m 700\nwide 755\nodd 50\n"


def test_what_may_not_be_changed_is_a_plain_400(fs: Any) -> None:
    """Daytona's class for it is not that of a file that may not be read."""
    from daytona import DaytonaBadRequestError, DaytonaFileAccessDeniedError

    calls: list[Callable[[], Any]] = [
        lambda: fs.create_folder("/usr/no", "755"),
        lambda: fs.delete_file("/usr/bin/env"),
        lambda: fs.set_file_permissions("/usr/bin/env", mode="777"),
        lambda: fs.list_files("/usr/bin/env"),
        lambda: fs.get_file_info("/usr/bin/env/x"),
    ]
    for call in calls:
        with pytest.raises(DaytonaBadRequestError) as failed:
            call()
        assert not isinstance(failed.value, DaytonaFileAccessDeniedError)


def test_modes_and_times_are_written_as_go_does(server: LocalServer, fs: Any, sandbox: str) -> None:
    """Scripts that read them in the cloud read them here; a `.` keeps its name."""
    server.exec(
        sandbox, "touch -d '2020-01-02 03:04:05.120000009 UTC' f; chmod 6755 f; mkdir -m 1777 s"
    )
    file, sticky = fs.get_file_info("f"), fs.get_file_info("s")

    assert (file.mode, file.permissions) == ("ugrwxr-xr-x", "0755")
    assert (sticky.mode, sticky.permissions) == ("dtrwxrwxrwx", "0777")
    assert fs.get_file_info("/dev/null").mode.startswith("Dcrw")
    assert file.mod_time == "2020-01-02 03:04:05.120000009 +0000 UTC"
    assert file.modified_at == "2020-01-02T03:04:05.120000009Z"
    assert (fs.get_file_info(".").name, fs.get_file_info("s/..").name) == (".", "..")


def test_a_search_ends_a_file_at_a_line_that_is_too_long(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """As Daytona does; a line of up to 64 KiB is shown whole."""
    server.exec(
        sandbox,
        "(head -c 60000 /dev/zero | tr '\\0' a; echo needle; head -c 65536 /dev/zero | tr '\\0' a; "
        "echo; echo needle) > f",
    )
    found = fs.find_files("f", "needle")

    assert [(match.line, len(match.content)) for match in found] == [(1, 60006)]


def test_a_missing_folder_holds_nothing_and_names_stay_relative(fs: Any) -> None:
    """A search tells of it by an empty list, and echoes the path as it was given."""
    fs.upload_file(b"", "a/x.py")

    assert fs.search_files("none", "*").files == []
    assert fs.search_files("a", "*.py").files == ["a/x.py"]
    assert fs.search_files(".", "*.py").files == ["a/x.py"]
    assert fs.search_files("/home/daytona/./a", "*.py").files == ["/home/daytona/a/x.py"]


def test_a_replacement_says_in_gos_words_why_it_failed(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """With the path; a file without the text is written all the same, so its time changes."""
    server.exec(sandbox, "mkdir d; echo x > f; touch -d @1 f")
    answers = fs.replace_in_files(["none", "d", "f"], "zz", "b")
    body = {"files": ["f"], "pattern": "x"}
    refused = server.request("POST", f"/toolbox/{sandbox}/files/replace", body=body)

    assert [answer.error for answer in answers] == [
        "open none: no such file or directory",
        "read d: is a directory",
        None,
    ]
    assert server.exec(sandbox, "test $(stat -c %Y f) -gt 1")["exitCode"] == 0
    assert (refused.status, refused.json()["code"]) == (400, "INVALID_REQUEST_BODY")


def test_a_move_that_may_not_take_the_source_away_copies_nothing(
    server: LocalServer, fs: Any, sandbox: str
) -> None:
    """Daytona leaves a second copy and says 200; a target that is there is a conflict in both."""
    from daytona import DaytonaConflictError, DaytonaFileAccessDeniedError

    server.exec(sandbox, "mkdir x; touch x/a f; chmod 555 x")
    with pytest.raises(DaytonaFileAccessDeniedError):
        fs.move_files("x/a", "b")
    with pytest.raises(DaytonaConflictError) as failed:
        fs.move_files("f", "f")

    assert failed.value.code == "CONFLICT"
    assert server.exec(sandbox, "chmod 755 x; ls")["result"] == "f\nx\n"


def test_every_refusal_is_json_with_a_code(server: LocalServer, fs: Any, sandbox: str) -> None:
    """Daytona's own are plain text or empty here: a file that is closed, a body that is none."""
    fs.upload_file(b"1", "closed")
    server.exec(sandbox, "chmod 000 closed")
    call = f"/toolbox/{sandbox}/files"
    closed = server.request("GET", f"{call}/download?path=closed")
    bodies = [
        server.request("POST", f"{call}/bulk-download", body=body) for body in ({}, {"paths": "a"})
    ]

    assert (closed.status, closed.json()["code"]) == (403, "FILE_ACCESS_DENIED")
    assert [(reply.status, reply.json()["code"]) for reply in bodies] == [
        (400, "BAD_REQUEST"),
        (400, "INVALID_REQUEST_BODY"),
    ]
    assert server.request("GET", f"{call}/?path=/tmp").status == 200
