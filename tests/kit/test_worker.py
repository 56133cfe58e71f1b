"""The process that reads archives and ignore rules: whatever holds it, the run goes on."""

from __future__ import annotations

import asyncio
import contextlib
import tarfile
from pathlib import Path

import pytest

from sandbox_kit.archive import worker
from sandbox_kit.archive.pairs import Upload
from sandbox_kit.archive.unpacking import ArrivedDownload
from sandbox_kit.errors import Failure
from sandbox_kit.host_access import HostAccess
from sandbox_kit.host_access.held import HeldResults, read_held
from sandbox_kit.host_access.written import WrittenRecord
from tests.local_server import until

RUN = "20261126-010203-0123abcd"
HANG = "import time; time.sleep(600)"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def arrived(work: Path, content: bytes | None = None) -> ArrivedDownload:
    """An archive with one table, or whatever `content` is."""
    path = work.parent / "arrived.tar"
    (work.parent / "a.csv").write_text("1")
    with tarfile.open(path, "w") as archive:
        archive.add(work.parent / "a.csv", "a.csv")
    if content is not None:
        path.write_bytes(content)
    return ArrivedDownload(path, "out/a.csv", "results/", force=False)


def unpack(arrival: ArrivedDownload, work: Path) -> tuple[list[str], HeldResults]:
    held, written = HeldResults(RUN), WrittenRecord(RUN)
    access = HostAccess.of({}, work)
    found = asyncio.run(worker.unpack_in_worker(arrival, access, held=held, written=written))
    return [file.path for file in found.saved], held


def test_what_it_wrote_and_held_is_known_here(work: Path) -> None:
    """The run reports it, and the record of what was written is this run's."""
    written, held = WrittenRecord(RUN), HeldResults(RUN)
    found = asyncio.run(
        worker.unpack_in_worker(arrived(work), HostAccess.of({}, work), held=held, written=written)
    )

    assert [file.path for file in found.saved] == ["results/a.csv"]
    assert list(written.made) == [str(work / "results"), str(work / "results" / "a.csv")]
    assert (work / "results" / "a.csv").read_text() == "1"


def test_what_is_no_archive_is_kept_as_it_is(work: Path) -> None:
    """Nothing is lost, and the command that brings it says why it cannot be read."""
    saved, held = unpack(arrived(work, b"garbage" * 1000), work)

    assert saved == []
    assert "not a proper archive" in held.files[0].reason
    assert [download.there for download in read_held(RUN)] == ["out/a.csv"]


def test_a_worker_that_hangs_is_killed_at_its_deadline(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came is kept; a parser that a stranger's bytes hold answers no signal."""
    monkeypatch.setattr(worker, "START", HANG)
    monkeypatch.setattr(worker, "DEADLINE_S", 0.5)
    saved, held = unpack(arrived(work), work)

    assert saved == []
    assert "took longer" in held.files[0].reason
    assert read_held(RUN)


def test_a_signal_ends_it_at_once(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is cancelled, and no process is left that would write on."""
    note = f"import os; open({str(work / 'pid')!r}, 'w').write(str(os.getpid()))"
    monkeypatch.setattr(worker, "START", f"{note}; {HANG}")

    async def cancel() -> None:
        task = asyncio.ensure_future(worker.ask_worker("unpack", {}))
        await asyncio.to_thread(until, lambda: (work / "pid").exists() and read_pid(work))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert not Path(f"/proc/{read_pid(work)}").exists()


def read_pid(work: Path) -> str:
    return (work / "pid").read_text()


def test_an_upload_that_cannot_be_packed_is_told(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is created, with what to do."""
    monkeypatch.setattr(worker, "START", HANG)
    monkeypatch.setattr(worker, "DEADLINE_S", 0.5)
    uploads = (Upload(".", "."),)
    with pytest.raises(Failure) as caught:
        asyncio.run(worker.pack_in_worker(work.parent / "x.tar", uploads, HostAccess.of({}, work)))

    assert caught.value.kind == "usage"
    assert caught.value.fix == "name a smaller folder"


def test_it_knows_no_secret_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment has no key, its command line no path of a user's."""
    monkeypatch.setenv("DAYTONA_API_KEY", "secret")
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", "/state")

    assert "DAYTONA_API_KEY" not in worker.worker_environment()
    assert worker.worker_environment()["DAYTONA_LOCAL_STATE"] == "/state"


def test_it_dies_of_its_own_memory(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb ends the worker, not this machine."""
    monkeypatch.setattr(
        worker,
        "START",
        "import sys; sys.path.insert(0, sys.argv[1]);"
        " from sandbox_kit.archive import worker; worker.limit_resources(); b'x' * (8 << 30)",
    )
    _, held = unpack(arrived(work), work)

    assert "more than this machine gives" in held.files[0].reason
