"""The table of results: what people download comes, what a tool obeys does not, however it is spelt."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from sandbox_kit.results import OBEYED_FOLDERS, RESULTS, why_no_result

WANTED = (
    "result.json", "out/data.csv", "metrics.json", "clients.json", "transcript.txt", "benchmark.jsonl", "chart-1.png", "plot.svg", "report.html",
    "htmlcov/index.html", "junit.xml", "coverage.xml", "test-results.xml", "report.pdf", "model/weights.npz", "table.parquet", "book.xlsx",
    "build.log", "pip.log", "site.zip", "dist/project-1.0.tar.gz", "sound.wav", "demo.mp4", "places.geojson", "scan.sarif", "response.txt",
    "blocks.json", "projects.json", "events.json", "inventory.json", "Report Final.PDF", "größe.csv", "2026-11-26.csv",
)  # fmt: skip
OBEYED = (
    "conftest.py", "test_x.py", "sitecustomize.py", "x.pth", "Makefile", "makefile", "justfile", "Dockerfile", "run.sh", "a.js", "a.mjs", "a.ts",
    "setup.cfg", "pyproject.toml", "tox.ini", "pytest.ini", "mise.toml", "docker-compose.yml", "mkdocs.yml", "Taskfile.yaml", "x.service",
    "CLAUDE.md", "AGENTS.md", "README.md", "notes.md", "skills/x/SKILL.md", "page.mdx", "x.ipynb", "x.rst", "x.R", "x.sql", "x.patch", "x.diff",
    "package.json", "PACKAGE.JSON", "package-lock.json", "tsconfig.json", "composer.json", "deno.json", "nx.json", "nodemon.json", "cdk.json",
    "firebase.json", "devcontainer.json", "CMakePresets.json", "jupyter_server_config.json", "main.tf.json", "x.auto.tfvars.json", "project.json",
    "hooks.json", "plugin.json", "settings.json", "mcp.json", "kernel.json", "vercel.json", "dub.json", "cspell.json", "import_map.json",
    "app.runtimeconfig.json", "devbox.json", "docker-compose.json", "CMakeLists.txt", "requirements.txt", "dev-requirements.txt",
    "constraints.txt", "conanfile.txt", "meson_options.txt", "entry_points.txt", "pom.xml", "build.xml", "phpunit.xml", "testng.xml", "web.xml",
    "layout.html", "base.html", "x.component.html", "templates/a.html", "docs/_templates/page.html", "theme/x.txt", "group_vars/all.json",
    "x.egg-info/data.json", "node_modules/x/data.json", "k8s/pod.json", "requirements/dev.txt", "no_ending", "x.csv.py", "a.whl", "a.jar",
    "a.pkl", "a.pt", "a.exe", "x.whl.zip", ".csv",
)  # fmt: skip
ODD = (
    "a:b.csv",
    "con.csv",
    "NUL.txt",
    "git~1.csv",
    "a.csv ",
    "a.csv.",
    "a\u202ecsv.txt",
    "a\u200b.csv",
    "-rf.csv",
    "a\\b.csv",
    "e\u0301.csv",
    "a*.csv",
    " a.csv",
)


@pytest.mark.parametrize("path", WANTED)
def test_what_people_download_is_a_result(path: str) -> None:
    """Else the user is asked again and again for what does no harm."""
    assert why_no_result(PurePosixPath(path)) is None


@pytest.mark.parametrize("path", OBEYED)
def test_what_a_tool_obeys_is_none(path: str) -> None:
    """One step before a granted pytest, make or the next session."""
    assert why_no_result(PurePosixPath(path)) is not None


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_an_odd_name_is_none(name: str) -> None:
    """It is another file on another system, or looks like one."""
    assert why_no_result(PurePosixPath(name)) == "an odd name"


@pytest.mark.parametrize("name", ["\uff30ackage.json", "paCKage.json", "\ufb01rebase.json"], ids=ascii)
def test_another_spelling_of_an_obeyed_name_is_none(name: str) -> None:
    """As a file system that folds case or compatibility forms would find it."""
    assert why_no_result(PurePosixPath(name)) is not None


def test_folders_above_the_project_count_too() -> None:
    """`cd templates` is no way round."""
    assert why_no_result(PurePosixPath("a.html"), above=("work", "templates")) is not None
    assert why_no_result(PurePosixPath("a.html"), above=("work", "reports")) is None


@pytest.mark.parametrize(
    ("name", "beginning", "good"),
    [
        ("a.html", b"---js\n{}", False),
        ("a.html", b"\xef\xbb\xbf\n <html>", True),
        ("a.svg", b"export default", False),
        ("a.csv", b"x", True),
    ],
)
def test_a_page_begins_as_one(name: str, beginning: bytes, good: bool) -> None:
    """Front matter of site generators can hold code."""
    assert (why_no_result(PurePosixPath(name), beginning=beginning) is None) == good


def test_every_row_is_in_lower_case_and_has_an_ending() -> None:
    """Names are compared folded, so another pattern would never match."""
    words = [word for kind in RESULTS for word in (*kind.endings, *kind.only, *kind.never)] + list(OBEYED_FOLDERS)

    assert [word for word in words if word != word.casefold()] == []
    assert all(ending.startswith(".") for kind in RESULTS for ending in kind.endings)
