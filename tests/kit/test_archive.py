"""Archives: what leaves this machine, and what a stranger's archive may do to it."""

from __future__ import annotations

import io
import itertools
import os
import stat
import tarfile
from pathlib import Path

import pytest

from sandbox_kit.archive.packing import pack_uploads, temporary_tar
from sandbox_kit.archive.pairs import Download, Upload, read_download, read_upload
from sandbox_kit.archive.unpacking import ArrivedDownload, SavedFile, unpack_download, write_whole
from sandbox_kit.errors import Failure
from sandbox_kit.host_access.gate import HostAccess
from sandbox_kit.host_access.held import LEFT_BEHIND, HeldResults
from sandbox_kit.host_access.written import WrittenRecord

NUMBERS = itertools.count()
RUN_ID = "20261126-010203-0123abcd"


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client's state of this test's own."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


def arrive(
    archive: Path, here: str, access: HostAccess, *, force: bool = False
) -> tuple[list[SavedFile], dict[str, str]]:
    """(what was written, {path: reason} of what was held) of one download."""
    run_id = f"20261126-010203-{next(NUMBERS):08x}"
    held, written = HeldResults(run_id), WrittenRecord(run_id)
    found = unpack_download(
        ArrivedDownload(archive, "there", here, force), access, held=held, written=written
    )
    written.save()
    if found.failure is not None:
        raise found.failure
    return found.saved, {file.path: file.reason for file in held.files}


def project(folder: Path, **files: str) -> HostAccess:
    """A folder with files by path: `__` for a slash, `_dot_` for a dot at a name's beginning."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return HostAccess.of({}, folder)


def names_sent(access: HostAccess, *uploads: str) -> tuple[list[str], list[str]]:
    """(names of the files in the tar, what was left here)."""
    with (
        temporary_tar() as path,
        tarfile.open(
            (
                found := pack_uploads(path, [read_upload(text, access) for text in uploads], access)
            ).path
        ) as archive,
    ):
        return sorted(member.name for member in archive if not member.isdir()), sorted(
            left.path for left in found.left
        )


def test_a_folder_goes_without_what_git_ignores(tmp_path: Path) -> None:
    """Nested .gitignore files, negated lines, and .git itself; nothing of it by running git."""
    access = project(
        tmp_path,
        _dot_gitignore="*.log\n/build/\n!keep.log\n",
        a="1",
        x__y__b="2",
        x___dot_gitignore="b2\n",
        x__b2="3",
        one="4",
        **{
            "two.log": "5",
            "keep.log": "6",
            "build/out": "7",
            ".git/config": "8",
            "x/build/inner": "9",
        },
    )
    sent, _ = names_sent(access, ".")

    assert sent == [".gitignore", "a", "keep.log", "one", "x/.gitignore", "x/build/inner", "x/y/b"]


def test_rules_above_the_uploaded_folder_hold_too(tmp_path: Path) -> None:
    """Up to the folder with .git, as git has it."""
    access = project(
        tmp_path, **{".git/HEAD": "", ".gitignore": "*.bin\n", "src/a.bin": "1", "src/a.py": "2"}
    )

    assert names_sent(access, "src") == (["src/a.py"], ["src/a.bin"])


def test_what_looks_like_a_key_stays_and_is_named(tmp_path: Path) -> None:
    """Keys and dotfiles with credentials; the settings of a project's tools go along."""
    access = project(
        tmp_path,
        **{
            "p/.env": "K=1",
            "p/id_rsa": "x",
            "p/server.pem": "x",
            "p/.npmrc": "x",
            "p/.flake8": "x",
            "p/.ssh/c": "x",
        },
    )

    assert names_sent(access, "p") == (
        ["p/.flake8"],
        ["p/.env", "p/.npmrc", "p/.ssh/", "p/id_rsa", "p/server.pem"],
    )


def test_links_that_lead_out_stay(tmp_path: Path) -> None:
    """A file behind one is never read; a link inside the tree stays a link."""
    access = project(tmp_path, **{"p/real": "x", "outside": "SECRET"})
    for name, target in (
        ("inner", "real"),
        ("outer", "../outside"),
        ("absolute", "/etc/hostname"),
        ("loop", "loop"),
    ):
        (tmp_path / "p" / name).symlink_to(target)
    (tmp_path / "p" / "folder").symlink_to("/etc")
    with (
        temporary_tar() as path,
        tarfile.open((found := pack_uploads(path, [Upload("p", "p")], access)).path) as archive,
    ):
        kinds = {member.name: member.issym() for member in archive if not member.isdir()}

    assert kinds == {"p/real": False, "p/inner": True, "p/loop": True}
    assert sorted(left.path for left in found.left) == ["p/absolute", "p/folder", "p/outer"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Only regular files go; what is none is told."""
    access = project(tmp_path, p__a="x")
    os.mkfifo(tmp_path / "p" / "pipe")

    assert names_sent(access, "p") == (["p/a"], ["p/pipe"])


@pytest.mark.parametrize("target", [None, "/dev/zero"])
def test_a_gitignore_that_is_no_file_is_no_rule(tmp_path: Path, target: str | None) -> None:
    """A pipe of that name, which waits for ever, or a link to something endless is not read."""
    access = project(tmp_path, p__a="x")
    if target is None:
        os.mkfifo(tmp_path / "p" / ".gitignore")
    else:
        (tmp_path / "p" / ".gitignore").symlink_to(target)

    assert names_sent(access, "p")[0] == ["p/a"]


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a", ("a", "a")),
        ("p/a:b/c", ("p/a", "b/c")),
        ("a:/tmp/x", ("a", "/tmp/x")),
        (".", (".", ".")),
        ("p/../a", ("p/../a", "a")),
    ],
)
def test_a_path_keeps_its_place(tmp_path: Path, text: str, pair: tuple[str, str]) -> None:
    """Unless another one is given."""
    assert read_upload(text, project(tmp_path, a="x", p__a="x")) == Upload(*pair)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("missing", "usage"),
        ("a:", "usage"),
        (":b", "usage"),
        ("", "usage"),
        ("/etc/passwd", "host_access"),
        (".env", "host_access"),
        ("..", "host_access"),
        ("a:b\\c", "usage"),
        ("key.pem", "host_access"),
    ],
)
def test_an_upload_that_cannot_be_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    """Before anything is created."""
    with pytest.raises(Failure) as caught:
        read_upload(text, project(tmp_path, a="x", _dot_env="x", **{"key.pem": "x"}))

    assert caught.value.kind == kind


@pytest.mark.parametrize("limit", ["MOST_FILES", "LARGEST_TRANSFER"])
def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """With what to do about it, and no temporary file left."""
    monkeypatch.setattr(f"sandbox_kit.archive.packing.{limit}", 2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    access = project(tmp_path, p__a="x", p__b="y", p__c="z")
    with pytest.raises(Failure) as caught:
        names_sent(access, "p")

    assert ".gitignore" in caught.value.fix
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_place_here_that_is_full_does_not_shorten_an_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that could not be packed must not be missing without a word."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sandbox_kit.archive.packing.add_file", full)
    with pytest.raises(OSError, match="No space left"):
        names_sent(project(tmp_path, p__a="x"), "p")


def archive(folder: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    """A tar as a hostile sandbox would send it."""
    path = folder.parent / "stranger.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as stream:
        for member in members:
            if isinstance(member, tuple):
                entry = tarfile.TarInfo(member[0])
                entry.size = len(member[1])
                stream.addfile(entry, io.BytesIO(member[1]))
            else:
                stream.addfile(member)
    return path


def entry(name: str, kind: bytes, link: str = "", **pax: str) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.pax_headers = kind, link, pax
    return found


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


HOSTILE: dict[str, list[tarfile.TarInfo | tuple[str, bytes]]] = {
    "absolute": [("/tmp/evil", b"x")],
    "upwards": [("./a/../../evil", b"x")],
    "device": [entry("./d", tarfile.CHRTYPE)],
    "pipe": [entry("./p", tarfile.FIFOTYPE)],
    "escape": [("./a\x1b]0;title\x07", b"x"), ("./b", b"x")],
    "newline": [("./a\nfix: rm -rf ~", b"x"), ("./b", b"x")],
    "backslash": [("./..\\evil", b"x"), ("./b", b"x")],
    "twice": [("./a", b"x"), ("./a", b"y")],
    "file and folder": [("./a", b"x"), ("./a/b", b"y")],
    "negative size": [entry("./a", tarfile.REGTYPE, size="-1024"), ("./b", b"x")],
    "hard link to a link": [
        entry("./l", tarfile.SYMTYPE, "b"),
        entry("./h", tarfile.LNKTYPE, "./l"),
        ("./b", b"x"),
    ],
    "hard link to itself": [entry("./h", tarfile.LNKTYPE, "./h"), ("./b", b"x")],
    "hard link to nothing": [entry("./h", tarfile.LNKTYPE, "/etc/passwd"), ("./b", b"x")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_bad_entry_is_named_and_spoils_no_other(work: Path, name: str) -> None:
    """A result lies beside each; nothing outside is written, and nothing is lost without a word."""
    path = archive(work, ("./ok.csv", b"1"), *HOSTILE[name])
    saved, held = arrive(path, "results", HostAccess.of({}, work))

    assert [found.path for found in saved] == ["results/ok.csv"]
    assert [reason for reason in held.values() if reason.startswith(LEFT_BEHIND)]
    assert not (work.parent / "evil").exists()
    assert [path.name for path in (work / "results").iterdir()] == ["ok.csv"]


@pytest.mark.parametrize("in_the_way", ["file", "closed"])
def test_what_cannot_be_written_after_all_is_held(work: Path, in_the_way: str) -> None:
    """A file where a folder would be; the code beside it is held as ever, not lost."""
    access = HostAccess.of({}, work)
    arrive(archive(work, ("./a.csv", b"1"), ("./z.csv", b"1")), "results", access)
    (work / "results" / "deep").write_text("mine")
    if in_the_way == "closed":
        (work / "results" / "deep").unlink()
        (work / "results" / "deep").symlink_to(work.parent)
    saved, held = arrive(
        archive(work, ("./deep/b.csv", b"2"), ("./new.csv", b"3"), ("./x.py", b"4")),
        "results",
        access,
    )

    assert [found.path for found in saved] == ["results/new.csv"]
    assert sorted(held) == ["results/deep/b.csv", "results/x.py"]


def test_a_folder_that_comes_meanwhile_is_not_for_results(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is judged before the first is written, and looking through takes a while."""
    from sandbox_kit.archive import unpacking

    def late(*arguments: object) -> None:
        (work / "results").mkdir(exist_ok=True)

    monkeypatch.setattr(unpacking, "why_no_content", late)
    saved, held = arrive(archive(work, ("./a.csv", b"1")), "results/", HostAccess.of({}, work))

    assert saved == []
    assert "meanwhile" in held["results/a.csv"]
    assert list((work / "results").iterdir()) == []


def test_garbage_is_no_archive(work: Path) -> None:
    """Also half an archive."""
    whole = archive(work, ("./a", b"x" * 5000)).read_bytes()
    for data in (b"garbage" * 1000, whole[:2000]):
        (work.parent / "half.tar").write_bytes(data)
        with pytest.raises(Failure) as caught:
            arrive(work.parent / "half.tar", "output", HostAccess.of({}, work))
        assert caught.value.kind == "archive"


def test_a_bomb_is_refused_by_its_head(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By size and by number."""
    for limit in ("MOST_FILES", "LARGEST_TRANSFER"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sandbox_kit.archive.members.{limit}", 1)
            with pytest.raises(Failure) as caught:
                arrive(
                    archive(work, ("./a", b"xx"), ("./b", b"x")), "output", HostAccess.of({}, work)
                )
            assert caught.value.kind == "archive"
    assert not (work / "output").exists()


def test_other_names_of_a_file_count_like_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written as files, so a few megabytes there could be any number here."""
    monkeypatch.setattr("sandbox_kit.archive.members.LARGEST_TRANSFER", 100)
    names = [entry(f"./l{number}", tarfile.LNKTYPE, "./a") for number in range(9)]
    with pytest.raises(Failure) as caught:
        arrive(archive(work, ("./a", b"x" * 20), *names), "output", HostAccess.of({}, work))

    assert caught.value.kind == "archive"


def test_a_head_without_an_end_is_no_proper_archive(work: Path) -> None:
    """Long names in long names: tarfile goes down a level for each."""
    long_name = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME, "")
    head = long_name.tobuf(tarfile.GNU_FORMAT)
    (work / "chain.tar").write_bytes(head * 3000)
    with pytest.raises(Failure) as caught:
        arrive(work / "chain.tar", "output", HostAccess.of({}, work))

    assert caught.value.kind == "archive"


def test_what_is_no_result_is_held_and_named(work: Path) -> None:
    """A .envrc, a git hook or a test written here would be run by others; the results come."""
    members: list[tarfile.TarInfo | tuple[str, bytes]] = [
        ("./a/ok.csv", b"1"),
        ("./.envrc", b"x"),
        ("./.git/hooks/pre-commit", b"x"),
        ("./id_rsa", b"x"),
        ("./conftest.py", b"x"),
        entry("./a/l", tarfile.SYMTYPE, "ok.csv"),
        entry("./py", tarfile.SYMTYPE, "/usr/bin/python3"),
        entry("./up", tarfile.SYMTYPE, "../x"),
    ]
    saved, held = arrive(archive(work, *members), "output", HostAccess.of({}, work))

    assert [found.path for found in saved] == ["output/a/ok.csv"]
    assert list(held) == [
        "output/.envrc",
        "output/.git/hooks/pre-commit",
        *("output/conftest.py", "output/a/l", "output/id_rsa", "output/py", "output/up"),
    ]
    assert {name for name, reason in held.items() if "leads out" in reason} == {
        "output/py",
        "output/up",
    }
    assert sorted(path.name for path in (work / "output").rglob("*")) == ["a", "ok.csv"]


@pytest.mark.thorough
def test_other_names_of_a_file_are_files_of_their_own(work: Path) -> None:
    """Also 5,000 in a chain: tarfile looks for each from the start, a call deeper each time."""
    chain = [
        entry(f"./{number}.csv", tarfile.LNKTYPE, f"./{number - 1}.csv")
        for number in range(1, 5_000)
    ]
    saved, _ = arrive(
        archive(work, ("./0.csv", b"same"), *chain), "output", HostAccess.of({}, work)
    )

    assert {found.bytes for found in saved} == {4}
    assert (work / "output" / "4999.csv").read_text() == "same"
    assert (work / "output" / "4999.csv").stat().st_nlink == 1


def test_nothing_is_executable_or_belongs_to_the_sender(work: Path) -> None:
    """Modes and owners of a stranger's archive mean nothing here."""
    evil = tarfile.TarInfo("./tool.csv")
    evil.mode, evil.uid = 0o6777, 12345
    arrive(archive(work, evil, ("./b", b"")), "output", HostAccess.of({}, work))
    status = (work / "output" / "tool.csv").stat()

    assert status.st_mode & 0o7111 == 0
    assert status.st_uid == os.getuid()


@pytest.mark.parametrize("force", [False, True])
def test_a_file_of_the_users_is_never_overwritten(work: Path, force: bool) -> None:
    """The new one beside it comes; that one is held, whatever flags the line has."""
    access = HostAccess.of({}, work)
    arrive(archive(work, ("./z.csv", b"0")), "results/", access)
    (work / "results" / "b.csv").write_text("mine")
    path = archive(work, ("./a.csv", b"1"), ("./b.csv", b"theirs"))
    _, held = arrive(path, "results", access, force=force)

    assert list(held) == ["results/b.csv"]
    assert (work / "results" / "a.csv").read_text() == "1"
    assert (work / "results" / "b.csv").read_text() == "mine"


def test_force_replaces_what_a_run_wrote_and_leaves_its_other_names(work: Path) -> None:
    """An edit since then makes it the user's; so does their own file that holds the same."""
    access = HostAccess.of({}, work)
    rest = (("./b.csv", b"b"), ("./c.csv", b""))
    for text in (b"first", b"second"):
        _, held = arrive(archive(work, ("./a.csv", text), *rest), "output", access, force=True)
        assert held == {}
        if text == b"first":
            os.link(work / "output" / "a.csv", work / "other")
    (work / "output" / "b.csv").write_text("edited")
    (work / "output" / "c.csv").rename(work / "old")
    (work / "output" / "c.csv").touch()
    _, held = arrive(archive(work, ("./a.csv", b"third"), *rest), "output", access, force=True)

    assert list(held) == ["output/b.csv", "output/c.csv"]
    assert (work / "output" / "a.csv").read_text() == "third"
    assert (work / "other").read_text() == "first"
    assert (work / "output" / "b.csv").read_text() == "edited"


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_comes_or_changes_meanwhile_is_not_overwritten(
    work: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """If somebody was quicker between the look and the last byte, what came is held, not lost."""
    access = HostAccess.of({}, work)
    first = "a.csv" if force else "z.csv"
    arrive(archive(work, (first, b"old")), "results/", access)
    real = write_whole

    def late(*arguments: object, **options: object) -> object:
        (work / "results" / "a.csv").write_text("mine")
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("sandbox_kit.archive.unpacking.write_whole", late)
    path = archive(work, ("a.csv", b"theirs"))
    saved, held = arrive(path, "results/", access, force=force)

    assert (saved, held) == ([], {"results/a.csv": "there already"})
    assert (work / "results" / "a.csv").read_text() == "mine"
    assert {path.name for path in (work / "results").iterdir()} == {"a.csv", first}


def test_half_a_file_is_none(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves nothing that the next run would take for the user's."""

    class FullDisk(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sandbox_kit.archive.unpacking.content_of", lambda *_: FullDisk(b""))
    monkeypatch.setattr("sandbox_kit.archive.unpacking.why_no_content", lambda *_: None)
    with pytest.raises(Failure) as caught:
        arrive(archive(work, ("a.csv", b"x")), "a.csv", HostAccess.of({}, work))

    assert "No space left" in caught.value.message
    assert list(work.iterdir()) == []


def test_a_link_here_does_not_lead_a_download_out(work: Path) -> None:
    """A cloned repository may hold `out -> ~/.ssh`."""
    (work.parent / "home").mkdir()
    (work / "output").symlink_to(work.parent / "home")
    members = (("./output/a.png", b""), ("./b.png", b""))
    _, beside = arrive(archive(work, *members), "output", HostAccess.of({}, work), force=True)
    _, inside = arrive(archive(work, *members), ".", HostAccess.of({}, work), force=True)

    assert set(beside.values()) | set(inside.values()) == {"is outside the working directory"}
    assert list((work.parent / "home").iterdir()) == []
    assert (work / "b.png").exists()


def test_a_single_file_is_called_as_the_user_said(work: Path) -> None:
    """Or keeps its name in a folder that is there."""
    (work / "into").mkdir()
    access = HostAccess.of({}, work)
    path = archive(work, ("plot.png", b"\x89PNG\r\n\x1a\n"))

    assert arrive(path, "my-plot.png", access)[0][0].path == "my-plot.png"
    assert list(arrive(path, "into", access)[1]) == ["into/plot.png"]
    assert arrive(path, "plots/", access)[0][0].path == "plots/plot.png"


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("out", ("out", "out")),
        ("/var/log/x.log", ("/var/log/x.log", "x.log")),
        ("a/b/:c", ("a/b", "c")),
    ],
)
def test_a_download_is_named_by_its_last_part(work: Path, text: str, pair: tuple[str, str]) -> None:
    """Unless the user names it."""
    assert read_download(text, HostAccess.of({}, work), force=False) == Download(*pair)


@pytest.mark.parametrize("text", ["", "a:/etc/x", "a:../x", "a:.bashrc", ".", "/", "a:", ".env"])
def test_a_download_that_cannot_be_is_refused(work: Path, text: str) -> None:
    """Before anything is created."""
    with pytest.raises(Failure):
        read_download(text, HostAccess.of({}, work), force=False)


def test_a_run_does_not_replace_what_it_wrote_itself(work: Path) -> None:
    """Two downloads to one place: the second is held, --force or not, and none is lost."""
    access, run_id = HostAccess.of({}, work), f"20261126-010203-{next(NUMBERS):08x}"
    held, written = HeldResults(run_id), WrittenRecord(run_id)
    for text in (b"first", b"second"):
        path = archive(work, ("./a.csv", text))
        arrival = ArrivedDownload(path, "there", "results/", force=True)
        unpack_download(arrival, access, held=held, written=written)

    assert (work / "results" / "a.csv").read_text() == "first"
    assert [file.path for file in held.files] == ["results/a.csv"]


def test_what_was_written_is_told_though_the_rest_cannot_be_kept(work: Path, state: Path) -> None:
    """A report that denies a file is worse than one that lacks it."""
    state.chmod(0o755)
    (state / "daytona-sandbox").mkdir()
    (state / "daytona-sandbox" / "results").write_text("no folder")
    held, written = HeldResults(RUN_ID), WrittenRecord(RUN_ID)
    stream = archive(work, ("./a.csv", b"1"), ("./b.py", b"print(1)"))
    found = unpack_download(
        ArrivedDownload(stream, "out", "output", force=False),
        HostAccess.of({}, work),
        held=held,
        written=written,
    )

    assert [file.path for file in found.saved] == ["output/a.csv"]
    assert found.failure is not None
    assert "could not be kept" in found.failure.message
    assert (held.files, held.downloads) == ([], [])


def test_a_private_result_stays_private_when_it_is_made_again(work: Path) -> None:
    """`chmod 600` is the user's, and --force asks for new content only."""
    access = HostAccess.of({}, work)
    arrive(archive(work, ("./a.csv", b"1")), "output/", access)
    (work / "output/a.csv").chmod(0o600)
    arrive(archive(work, ("./a.csv", b"2")), "output/", access, force=True)

    assert (work / "output/a.csv").read_bytes() == b"2"
    assert stat.S_IMODE((work / "output/a.csv").stat().st_mode) == 0o600
