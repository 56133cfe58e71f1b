"""Programs that Daytona's image has and a sandbox needs: sudo, su, python, what apt says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local_server import LocalServer


@pytest.fixture(scope="module")
def shared(server: LocalServer) -> Iterator[str]:
    """One sandbox: nothing here changes it."""
    created = server.create()
    yield created["id"]
    server.request("DELETE", f"/api/sandbox/{created['id']}")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sudo true && echo fine", "fine"),
        ("sudo -n -E -H -u root env | grep -c ^HOME=/home/daytona$", "1"),
        ("sudo -nEu root sh -c 'echo $0 $1' a b", "a b"),
        ("sudo A=b sh -c 'echo $A'", "b"),
        ("sudo -u postgres -- id -un", "daytona"),
        ("sudo -p 'prompt: ' -S echo 'two  words'", "two  words"),
        ("cd /tmp && sudo -i pwd", "/home/daytona"),
        ("sudo -iu root sh -c 'echo \"$1\"' x 'a  b'", "a  b"),
        ("sudo -s echo '$HOME'", "$HOME"),
        ("sudo --chdir=/tmp pwd", "/tmp"),
        ("sudo -D /tmp pwd", "/tmp"),
        ("sudo --user root --login pwd", "/home/daytona"),
        ("/usr/bin/su root -c 'echo fine'", "fine"),
        ("su -c 'echo fine' root", "fine"),
        ("su - daytona -c pwd", "/home/daytona"),
        ("cd /tmp && su -lc pwd", "/home/daytona"),
        ("su -s /bin/sh root -c 'echo $0 $1' x y", "x y"),
        ("echo 'echo typed' | su", "typed"),
        ("su postgres -c id 2>&1", "su: user postgres does not exist: a sandbox"),
        ("sudo -V", "sudo of local Daytona"),
    ],
)
def test_sudo_and_su_run_the_command_as_the_one_user(
    server: LocalServer, shared: str, command: str, says: str
) -> None:
    """Clients write them before what they install; the real ones need other users."""
    assert str(server.exec(shared, command)["result"]).strip().startswith(says)


@pytest.mark.parametrize(
    ("command", "code"),
    [("sudo sh -c 'exit 7'", 7), ("sudo", 0), ("su -c 'exit 7'", 7), ("su nobody2 -c true", 1)],
)
def test_their_exit_code_is_the_commands(
    server: LocalServer, shared: str, command: str, code: int
) -> None:
    """A failed step must not look like success."""
    assert server.exec(shared, command)["exitCode"] == code


@pytest.mark.parametrize("command", ["apt-get update", "sudo apt install -y curl"])
def test_a_package_manager_fails_with_why_and_what_to_do(
    server: LocalServer, shared: str, command: str
) -> None:
    """In one line; it would fail anyway, in many that say neither."""
    ended = server.exec(shared, command)

    assert ended["exitCode"] == 100
    assert len(ended["result"].splitlines()) == 1
    assert "read-only. fix: pip install" in ended["result"]


@pytest.mark.parametrize("shell", ["bash -lc", "sh -lc", "env -i HOME=/home/daytona bash -lc"])
def test_a_login_shell_finds_python_and_what_pip_installs(
    server: LocalServer, shared: str, shell: str
) -> None:
    """/etc/profile sets PATH anew; terminals and many clients start such a shell."""
    server.exec(
        shared,
        "mkdir -p .local/bin; printf '#!/bin/sh\\necho own' > .local/bin/own;"
        " chmod +x .local/bin/own",
    )

    assert server.exec(shared, f"{shell} 'python -V && own'")["result"].endswith("own\n")


def test_programs_of_java_find_their_settings(server: LocalServer, shared: str) -> None:
    """/usr links into /etc there: no link that everybody may follow here leads nowhere there."""
    ended = server.exec(
        shared,
        "find /usr/lib/jvm /usr/share/maven -xtype l -lname '/etc/*' 2>/dev/null",
    )

    assert ended["result"] == ""
