"""The rules that no linter knows: layers, short functions, tests that say what they protect.

Also: the version is the same everywhere, and the locks hold what pyproject asks for.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import skill_env

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "scripts").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
LONGEST_FUNCTION = 40
# What brings the SDK in; of the kit only `sdk` may import it, of the server nothing `daytona`.
SDK_PACKAGES = {
    "daytona",
    "daytona_api_client",
    "daytona_api_client_async",
    "daytona_toolbox_api_client",
    "daytona_toolbox_api_client_async",
    "aiohttp",
    "socketio",
}
# From the bottom to the top: a module imports only what stands before it.
KIT_ORDER = tuple(
    """
    plain_text console defaults errors state_files languages deadlines argument_checks arguments
    network_rule checked local settings made_record ownership host_access archive charts redaction
    request run_log output status_log sdk volumes made_verbs shell lease sandbox_end remote_process
    host_checks preview report run_context downloads sandbox_fetch missing_modules run_steps run
    many_runs interrupts single_run inventory health entry
    """.split()
)
ENGINE_ORDER = tuple(
    """
        errors http_json http_server http1 long_answers followed_log store isolation egress engine
        lifecycle toolbox api app server commands __main__
    """.split()
)
ORDERS = {"sandbox_kit": KIT_ORDER, "local_daytona": ENGINE_ORDER}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """Every imported module of a file, relative ones with their dots."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            if not node.module:
                yield from (module + alias.name for alias in node.names)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_house_has_its_rooms() -> None:
    """An empty list would pass everything below."""
    assert len(SOURCES) > 40
    assert len(TESTS) > 15


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_client_and_server_know_nothing_of_each_other(path: Path) -> None:
    """They meet on the wire only; and the server never imports the SDK."""
    top = {name.split(".")[0] for name in imported(path)}
    if "local_daytona" in path.parts:
        assert not top & {"sandbox_kit", "daytona"}
    elif "sandbox_kit" in path.parts:
        assert "local_daytona" not in top
        assert path.parent.name == "sdk" or not top & SDK_PACKAGES


def rooms_below(path: Path, kit: Path) -> set[str]:
    """The rooms of the kit, modules or packages, that a file of it imports, wherever in it."""
    package = path.relative_to(kit).parts[:-1]
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - (node.level - 1)]
            names = [*above, *(node.module.split(".") if node.module else [])]
            found |= {names[0]} if names else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("package", ORDERS)
def test_nothing_lower_imports_anything_higher(package: str) -> None:
    """A request flows straight down: no circle, also inside functions."""
    kit, order = ROOT / "scripts" / package, ORDERS[package]
    rooms: dict[str, set[str]] = {}
    for path in kit.rglob("*.py"):
        room = path.relative_to(kit).parts[0].removesuffix(".py")
        if room != "__init__":
            rooms.setdefault(room, set()).update(rooms_below(path, kit))

    assert set(rooms) == set(order)
    for place, room in enumerate(order):
        assert rooms[room] <= {*order[: place + 1]}, room


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path: Path) -> None:
    """Forty lines at the most from `def` on; a test's table of cases above it does not count."""
    for function in functions(path):
        assert (function.end_lineno or 0) - function.lineno < LONGEST_FUNCTION, function.name


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_modules_first_line_says_what_belongs_in_it(path: Path) -> None:
    """One sentence on the first line."""
    docstring = ast.get_docstring(tree(path))

    assert docstring
    assert docstring.splitlines()[0].strip()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_says_what_it_protects(path: Path) -> None:
    """A failing test should read as a sentence."""
    for function in functions(path):
        if function.name.startswith("test_"):
            assert ast.get_docstring(function), function.name


def test_the_version_is_one() -> None:
    """plugin.json pins updates, SKILL.md tells agents, pyproject tells tools."""
    plugin = json.loads((ROOT / ".claude-plugin" / "plugin.json").read_text())["version"]
    skill = re.search(r'^  version: "(.+)"$', (ROOT / "SKILL.md").read_text(), re.MULTILINE)
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert skill is not None
    assert project is not None
    assert plugin == skill[1] == project[1] == skill_env.VERSION


@pytest.mark.parametrize(
    "lock",
    ["scripts/requirements.lock", "tests/requirements.lock", "tests/external/requirements.lock"],
)
def test_locks_pin_everything_by_hash_and_name_no_index(lock: str) -> None:
    """Whoever installs chooses the index; nobody chooses other files."""
    text = (ROOT / lock).read_text()

    assert "==" in text
    assert not re.search(r"://|--index|--extra-index|--find-links", text)
    for entry in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE):
        assert "==" not in entry or "--hash=sha256:" in entry, entry.splitlines()[0]


@pytest.mark.parametrize("lock", ["scripts/requirements.lock", "tests/requirements.lock"])
def test_locks_hold_what_the_project_asks_for_in_its_ranges(lock: str) -> None:
    """The locks pin what pyproject's ranges ask for; the skill's has no development tools."""
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = (
        project["dependencies"]
        + extras["local"]
        + (extras["dev"] if lock.startswith("tests") else [])
    )
    pins = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / lock).read_text(), re.MULTILINE))

    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[requirement.name]), requirement
    assert ("pytest" in pins) == lock.startswith("tests")


def test_the_suite_runs_what_users_get() -> None:
    """Both locks pin the skill's packages to the same versions."""
    skill, suite = (
        (ROOT / folder / "requirements.lock").read_text() for folder in ("scripts", "tests")
    )
    pins = re.findall(r"^[a-z0-9._-]+==[^ ;]+", skill, re.MULTILINE)

    assert len(pins) > 20
    assert set(pins) <= set(re.findall(r"^[a-z0-9._-]+==[^ ;]+", suite, re.MULTILINE))


def test_the_locked_sdk_is_in_range() -> None:
    """What --install installs must be what enter() accepts."""
    found = re.search(
        r"^daytona==(.+?)( |$)", (ROOT / "scripts" / "requirements.lock").read_text(), re.MULTILINE
    )

    assert found is not None
    assert skill_env.SDK_FROM <= skill_env.numbers(found[1]) < skill_env.SDK_BELOW
