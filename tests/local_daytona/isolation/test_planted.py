"""What code inside leaves for the next start of its sandbox: none of it runs in the first process.

That process shares descriptors with the server, and gives its rights up only after its start.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_daytona.isolation.usage import all_processes, families
from tests.local_server import LocalServer, host_processes_of

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="this host has no compiler")

# It says that it ran, and where, each time that a program loads it.
SOURCE = """
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void run(void) {
    FILE *out = fopen("/home/daytona/ran", "a");
    if (out) { fprintf(out, "%d\\n", getpid()); fclose(out); }
}
"""
PLANTED = "/home/daytona/planted"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("library")
    (folder / "planted.c").write_text(SOURCE)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", "planted.so", "planted.c"],
        cwd=folder,
        check=True,
        timeout=60,
    )
    return base64.b64encode((folder / "planted.so").read_bytes()).decode()


@pytest.fixture
def planted(server: LocalServer, sandbox: str, library: str) -> str:
    server.exec(sandbox, f"mkdir {PLANTED}; echo {library} | base64 -d > {PLANTED}/planted.so")
    return sandbox


def restart(server: LocalServer, sandbox: str) -> None:
    for verb in ("stop", "start"):
        assert server.request("POST", f"/api/sandbox/{sandbox}/{verb}").status == 200


def ran(server: LocalServer, sandbox: str) -> list[str]:
    """The pids inside that loaded it, since the last start."""
    result: str = server.exec(
        sandbox, "cat /home/daytona/ran 2>/dev/null; rm -f /home/daytona/ran"
    )["result"]
    return result.split()


def mapped(server: LocalServer, sandbox: str) -> Iterator[str]:
    """What the sandbox's processes have mapped of what it wrote, as the host sees it."""
    roots = host_processes_of(server.state_dir / "sandboxes" / sandbox)
    for family in families(all_processes(), roots).values():
        for pid in family:
            yield from (
                line
                for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
                if PLANTED in line
            )


def test_the_library_says_that_it_ran(server: LocalServer, planted: str) -> None:
    """Or the tests below would pass for nothing: what starts after the planting loads it."""
    server.exec(planted, f"echo {PLANTED}/planted.so > /etc/ld.so.preload")
    assert ran(server, planted)


@pytest.mark.parametrize(
    "plant",
    [
        "echo {library} > /etc/ld.so.preload",
        "echo {library} > /tmp/list; ln -s /tmp/list /etc/ld.so.preload",
        "mkdir -p /etc/ld.so.aside/x; echo {library} > /etc/ld.so.preload",
        "echo {library} > /etc/ld.so.aside; ln /etc/ld.so.aside /etc/ld.so.preload",
    ],
    ids=["file", "link", "other name taken", "hard link"],
)
def test_a_preload_file_is_set_aside(server: LocalServer, planted: str, plant: str) -> None:
    """It would run before a line of ours does, with all that the first process is given."""
    server.exec(planted, plant.format(library=f"{PLANTED}/planted.so"))
    ran(server, planted)
    restart(server, planted)

    assert list(mapped(server, planted)) == []
    assert ran(server, planted) == []


def test_a_cache_of_libraries_names_none_of_the_first_processs(
    server: LocalServer, planted: str
) -> None:
    """ldconfig inside may name any file for libc; programs inside use it, the first process not."""
    names = server.exec(
        planted, "ldd $(readlink -f $(command -v python3)) | grep -o 'lib[^ ]*so[^ ]*' | sort -u"
    )["result"].split()
    links = "; ".join(f"ln -sf planted.so {PLANTED}/{Path(name).name}" for name in names)
    done = server.exec(
        planted,
        f"{links}; echo {PLANTED} > /etc/ld.so.conf.d/00-planted.conf;"
        " cp /etc/ld.so.cache /tmp/before; /sbin/ldconfig -X 2>/dev/null;"
        " cmp -s /etc/ld.so.cache /tmp/before || echo changed",
    )["result"]
    ran(server, planted)
    restart(server, planted)

    assert "changed" in done
    assert "libc.so.6" in names
    assert list(mapped(server, planted)) == []


def test_modules_of_python_and_of_the_name_service_are_not_loaded(
    server: LocalServer, planted: str
) -> None:
    """A listing asks for no name of a user, and the first process reads no site packages."""
    server.exec(
        planted,
        f"cp {PLANTED}/planted.so {PLANTED}/libnss_evil.so.2;"
        " sed -i 's/^passwd:.*/passwd: evil files/' /etc/nsswitch.conf;"
        f" echo {PLANTED} > /etc/ld.so.conf.d/00-planted.conf; /sbin/ldconfig -X 2>/dev/null;"
        " mkdir -p ~/.local/lib/python3.11/site-packages;"
        ' echo \'open("/home/daytona/ran", "a").write("1")\''
        " | tee /etc/python3.11/sitecustomize.py /home/daytona/sitecustomize.py"
        " ~/.local/lib/python3.11/site-packages/usercustomize.py >/dev/null",
    )
    ran(server, planted)
    restart(server, planted)
    for path in ("/", "/home/daytona", "/etc"):
        assert server.request("GET", f"/toolbox/{planted}/files?path={path}").status == 200

    assert list(mapped(server, planted)) == []
    assert "1" not in ran(server, planted)
