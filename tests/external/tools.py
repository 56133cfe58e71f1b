"""python3 -m tests.external.tools: others' tools, pinned and hashed, into <clone>/.external.

A second call is quick. Chromium alone is the system's: Debian's package, which apt-get installs
where it is missing and we are root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import skill_install  # noqa: E402  (the folder above must come first)

from . import sdk_range  # noqa: E402

FOLDER = ROOT / ".external" / "python"
LOCK = Path(__file__).with_name("requirements.lock")  # needs Python 3.11: skills-ref does
LANGCHAIN_FOLDER = (
    ROOT / ".external" / "langchain"
)  # of its own: its packages and skills-ref's would bind each other
LANGCHAIN_LOCK = Path(__file__).parent / "langchain" / "requirements.lock"
NODE_FOLDER = ROOT / ".external" / "node"
NODE_LOCK = Path(__file__).with_name("node") / "package-lock.json"
NODE_INSTALL_TIMEOUT_S = 900
APT_TIMEOUT_S = 900
CHROMIUM_COMMAND = "apt-get install -y --no-install-recommends chromium"


def node_environment() -> dict[str, str]:
    """This environment with the pinned Node first on PATH; the usual is too old for `skills`."""
    return {
        **os.environ,
        "PATH": f"{FOLDER / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "NO_UPDATE_NOTIFIER": "1",
    }


def node_tool(name: str) -> Path:
    """The entry point of a Node tool; fails loudly when .ci/run has not installed it."""
    tool = NODE_FOLDER / "node_modules" / ".bin" / name
    assert tool.exists(), f"{name} is missing: python3 -m tests.external.tools installs it"
    return tool


def claude_code() -> Path:
    """The Claude Code CLI: the binary itself, which npm's wrapper would only start."""
    found = sorted((NODE_FOLDER / "node_modules" / "@anthropic-ai").glob("claude-code-*/claude"))
    assert found, "the Claude Code CLI is missing: python3 -m tests.external.tools installs it"
    return found[0]


def chromium() -> str:
    """Debian's Chromium; fails loudly when it is not there."""
    found = shutil.which("chromium")
    assert found, f"Chromium is missing; as root: {CHROMIUM_COMMAND}"
    return found


def install_chromium() -> None:
    """Raises CalledProcessError, or InstallFailed where only root could install it."""
    if shutil.which("chromium"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise skill_install.InstallFailed(
            "Chromium is missing, and only root can install it, on a Debian", fix=CHROMIUM_COMMAND
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ("apt-get update", CHROMIUM_COMMAND):
        subprocess.run(
            command.split(),
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=APT_TIMEOUT_S,
            check=True,
        )


def install_node_tools() -> None:
    """What package-lock.json names, checked by its hashes; no install script runs.

    Raises CalledProcessError.
    """
    stamp, wanted = NODE_FOLDER / "installed", hashlib.sha256(NODE_LOCK.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(NODE_FOLDER, ignore_errors=True)
    NODE_FOLDER.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NODE_LOCK.with_name(name), NODE_FOLDER)
    subprocess.run(
        [str(FOLDER / "bin" / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=NODE_FOLDER,
        env=node_environment(),
        stdin=subprocess.DEVNULL,
        timeout=NODE_INSTALL_TIMEOUT_S,
        check=True,
    )
    stamp.write_text(wanted)


def main() -> int:
    """0, or 1 when a tool could not be installed."""
    try:
        skill_install.install(FOLDER, lock=LOCK)
        skill_install.install(LANGCHAIN_FOLDER, lock=LANGCHAIN_LOCK)
        sdk_range.install()
        install_node_tools()
        install_chromium()
    except skill_install.InstallFailed as failure:
        print(f"[sandbox] {failure}\nfix: {failure.fix}", file=sys.stderr)
        return 1
    except (subprocess.SubprocessError, OSError) as error:
        print(
            (
                f"[sandbox] a tool could not be installed: {error}\n"
                "fix: see npm's or apt-get's words above"
            ),
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
