"""The table of results: what people download comes, what a tool obeys does not, however spelt."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath

import pytest

from sandbox_kit.host_access.contents import why_no_content
from sandbox_kit.host_access.results import (
    OBEYED_FOLDERS,
    OBEYED_WORDS,
    RESULT_WORDS,
    RESULTS,
    why_no_result,
)


def zipped(*names: str) -> bytes:
    """A zip as bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, "import os")
    return data.getvalue()


ZIPPED, WORKBOOK = (
    zipped("evil.py", "[Content_Types].xml"),
    zipped("[Content_Types].xml", "xl/workbook.xml"),
)
WANTED = tuple(
    """
    results/results.json results/test-results.json output/metrics.json results/coverage.json
    reports/report-2026-11-26.json results/results2.json results/analysis.json
    results/statistics.json results/data.csv results/sales_2025.csv results/größe.csv
    results/2026-11-26.csv results/table.parquet chart-1.png plot.webp photo.jpg book.xlsx
    report.pdf results/anything.csv out/deep/er/a.csv charts/chart-1.png
    output/benchmark.jsonl results/prices.json test-results/test-results.json
    results/places.geojson results/scan.sarif output/sound.wav output/demo.mp4
    results/figure.gif plots/figure.png reports/scan.pdf sandbox-results/a.csv
    Results/Report.PDF results_2/a.csv downloads/a.csv
    """.split()
)
# Held, because engines find templates, directives and tests in text and archives of any ending.
HELD = tuple(
    """
    report/index.html htmlcov/index.html results/junit.xml reports/coverage.xml report/plot.svg
    results/site.zip results/results.tar.gz results/rows.csv.gz output/build.log
    results/transcript.txt results/output.txt data/a.csv coverage/a.csv data.json prices.json
    results/__mocks__/form-data.json results/_data/results.json results/x_/a.csv
    results.json data.csv partitions.csv amplify_outputs.json webpack-stats.json table.parquet
    """.split()
)
OBEYED = tuple(
    """
    conftest.py test_x.py sitecustomize.py x.pth Makefile makefile justfile Dockerfile
    run.sh a.js a.mjs a.ts setup.cfg pyproject.toml tox.ini pytest.ini mise.toml
    docker-compose.yml mkdocs.yml Taskfile.yaml x.service CLAUDE.md AGENTS.md README.md
    notes.md skills/x/SKILL.md page.mdx x.ipynb x.rst x.R x.sql x.patch x.diff package.json
    PACKAGE.JSON package-lock.json tsconfig.json composer.json deno.json nx.json
    nodemon.json cdk.json firebase.json devcontainer.json CMakePresets.json
    jupyter_server_config.json main.tf.json x.auto.tfvars.json project.json hooks.json
    plugin.json settings.json mcp.json kernel.json vercel.json dub.json cspell.json
    import_map.json app.runtimeconfig.json devbox.json docker-compose.json CMakeLists.txt
    requirements.txt dev-requirements.txt constraints.txt conanfile.txt meson_options.txt
    entry_points.txt pom.xml build.xml phpunit.xml testng.xml web.xml log4j2.json
    log4j2-test.xml checkstyle.xml database.json metadata.json data-config.json
    output_settings.json package-data.json invoke.json opencode.json testem.json
    codegen.json rescript.json nightwatch.json jasmine.json posts/posts.json main.json
    docker-bake.json monitors.json test_x.txt results/test_output.txt
    results/tests-report.txt notes.txt local.json catalog.json infection.json
    results.tf.json data.tftest.json results.tofu.json results.pkr.json
    results.auto.tfvars.json out/results.tf.json about.html index.html
    site.zip mylib-99.zip output.txt build.log report.xml plot.svg scripts/x.log
    scripts/x.png library/setup.log library/x.png inventory/figure.png dags/plot.png
    test/x.png images/z.png docs/plot.png neu/a.csv vendor/a.png GNUmakefile/x.png
    templates/a.html docs/_templates/page.html theme/results.txt group_vars/all.json
    inventory/results.json roles/web/vars/results.json results/templates/a.html
    out/dags/x.zip x.egg-info/data.json node_modules/x/data.json k8s/output.json
    vendor/helperlib-9.9.tar.gz out/z.sql.gz out/app.js.gz out/x.sh.xz a.whl a.jar a.pkl
    a.pt a.npz a.npy a.bmp results/style.css charts/common.tgz charts/results.json
    plots/data.csv a.exe no_ending x.csv.py
""".split()
)
ODD = (
    "a:b.csv",
    "con.csv",
    "NUL.csv",
    "git~1.csv",
    "a.csv ",
    "a.csv.",
    "a\u202ecsv.csv",
    "a\u200b.csv",
    "-rf.csv",
    "a\\b.csv",
    "e\u0301.csv",
    "a*.csv",
    " a.csv",
    ".csv",
    "results/~/a.csv",
    "a%00.csv",
    "x" * 300 + ".csv",
    "x README.md .csv",
    "z;touch${IFS}x;.png",
    "+!id.csv",
    "a$b.csv",
    "a(b).csv",
    "a&b.csv",
    "a'b.csv",
    "a`b.csv",
    "a=b.csv",
    "a@b.csv",
    "a#b.csv",
    "a,b.csv",
    "a.b.csv",
    "v1.2.png",
    "results/a b/c.csv",
    "results/$x/c.csv",
    "results/.x/c.csv",
    "a\u3164b.csv",
    "a.\uff43\uff53\uff56",
    "results.j\u017fon",
)


@pytest.mark.parametrize("path", WANTED)
def test_what_people_download_is_a_result(path: str) -> None:
    """Else the user is asked again and again for what does no harm."""
    assert why_no_result(PurePosixPath(path)) is None


@pytest.mark.parametrize("path", OBEYED + HELD)
def test_what_a_tool_obeys_is_none(path: str) -> None:
    """One step before a granted pytest, make or the next session."""
    assert why_no_result(PurePosixPath(path)) is not None


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_an_odd_name_is_none(name: str) -> None:
    """It is another file on another system, or looks like one."""
    reason = why_no_result(PurePosixPath(name))

    assert reason is not None
    assert any(words in reason for words in ("odd name", "unknown endings", "too deep"))


@pytest.mark.parametrize(
    "name", ["\uff30ackage.json", "paCKage.json", "\ufb01rebase.json"], ids=ascii
)
def test_another_spelling_of_an_obeyed_name_is_none(name: str) -> None:
    """As a file system that folds case or compatibility forms would find it."""
    assert why_no_result(PurePosixPath(name)) is not None


def test_folders_above_the_project_count_too() -> None:
    """`cd templates` is no way round."""
    assert why_no_result(PurePosixPath("a.csv"), above=("work", "templates")) is not None
    assert why_no_result(PurePosixPath("results/a.csv"), above=("work", "inventory")) is not None
    assert why_no_result(PurePosixPath("a.png"), above=("work", "reports")) is None


def with_a_second_list() -> bytes:
    """The length of the last member's comment leads past the list: behind it lies another."""
    end = WORKBOOK.rindex(b"PK\x05\x06")
    member = WORKBOOK.rindex(b"PK\x01\x02", 0, end)
    return WORKBOOK[: member + 32] + (60).to_bytes(2, "little") + WORKBOOK[member + 34 :]


def with_a_comment() -> bytes:
    return WORKBOOK[:-2] + (4).to_bytes(2, "little") + b"more"


@pytest.mark.parametrize(
    ("name", "content", "good"),
    [
        ("results.json", b"apiVersion: v1", False),
        ("results.json", b'{"apiVersion": "v1", "kind": "Pod"}', False),
        ("data.json", b'{"permalink": "../x"}', False),
        ("data.json", b'"\\x7b\\x7b lookup() \\x7d"', False),
        ("data.json", b'{"a": {"b": {}}}', True),
        ("data.json", b'{"a": "{{ lookup(1) }}"}', False),
        ("data.json", b'{"permalink": "\\u007b\\u007b range() }}"}', False),
        ("data.json", b'{"\\u007B%": 1}', False),
        ("data.json", b'{"a": "\\u003cb\\u003e"}', True),
        ("data.json", b'{"a": "\\u003c"', False),
        ("data.json", b"[" * 100_000 + b'"\\u007b"', False),
        ("data.json", b"[[[1]]]", True),
        ("data.json", b'{"a": "{{x}}", "a": 1}', False),
        ("data.json", b'{"a": {"eleventyComputed": {}}}', False),
        ("data.json", b'[["a", {"b": ["{% x"]}]]', False),
        (
            "results.json",
            b'{"kind": "List", "items": [{"apiVersion": "v1", "kind": "Pod"}]}',
            False,
        ),
        ("results.json", b'{"ApiVersion": "v1", "Kind": "x"}', False),
        ("a.jsonl", b'{"a": "\\u007b"}\n{"a": "b\\u007d"}\n', True),
        ("a.jsonl", b'{"a": 1}\n{"a": "\\u007b{"}\n', False),
        ("scan.sarif", b'{"$schema": "x", "runs": []}', True),
        ("results.json", b'{"$schema": "x"}', False),
        ("a.csv", b"x,y\n1,2\n", True),
        ("a.csv", b"x,y\r\n1,2\r\n", True),
        ("a.csv", b"#!/bin/sh\n", False),
        ("a.csv", b".. plot::\n", False),
        ("a.csv", b"- .." + b" " * 500 + b"include:: /x\n", False),
        ("a.csv", b"x" * 100 + b"\n```" + b" " * 600 + b"{eval-rst}", False),
        ("a.csv", b"a\x0c.. x", False),
        ("a.csv", b"a\xe2\x80\xa8>>> x", False),
        ("a.csv", b"ok\r>>> import os\r", False),
        ("a.csv", b"{% raw", False),
        ("a.csv", b"x" * 3_000_000 + b"{% raw", False),
        ("a.csv", b"x" * ((1 << 20) + 511) + b"{{" + b"x" * 100, False),
        ("a.csv", b"x,y\n" + ZIPPED, False),
        ("a.tsv", b"*** Settings ***\n", False),
        ("results.tsv", b'"*** Settings ***"\n', False),
        ("results.tsv", b"* * Test Cases\n", False),
        ("results.csv", b'a,b\nx,".. plot::\n\n  open(1)"\n', False),
        ("results.csv", b"[[[cog x ]]]", False),
        ("results.csv", b"``` {plot}\n", False),
        ("results.csv", b"wait .. done, std::x .. 1...2\n", True),
        ("a.png", b"\x89PNG\r\n\x1a\n" + ZIPPED, False),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"x" * 3_000_000 + ZIPPED, False),
        ("a.png", b"\x89PNG\r\n\x1a\nrest", True),
        ("a.png", b"[all:vars]\nx=1", False),
        ("a.jpg", b"module.exports", False),
        ("a.pdf", b"%PDF-" + ZIPPED, False),
        ("a.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3 {{", True),
        ("a.pdf", b"%PDF-1.7\n>>> import os\n", False),
        ("a.pdf", b"%PDF-1.7\n" + "漢".encode() * 30_000, False),
        ("a.xlsx", ZIPPED, False),
        ("a.xlsx", WORKBOOK, True),
        ("a.docx", b"PK\x03\x04cut", False),
        (
            "a.xlsx",
            WORKBOOK.replace(b"PK\x05\x06", b"PK\x06\x07" + b"x" * 16 + b"PK\x05\x06"),
            False,
        ),
        ("a.xlsx", ZIPPED + WORKBOOK, False),
        ("a.webp", b"RIFF0000WEBPVP8\xff", True),
        ("a.webp", b"RIFF0000WEBPVP8", False),
        ("a.mp4", b"\0\0\0\x20ftypisom\xff", True),
        ("a.mp4", b"#!/aftyp\n echo hi #\xff", False),
        ("a.webp", b"<?php /*WEBP*/\xff", False),
        ("data.json", '{"a": "{{ x }}"}'.encode("utf-16-le"), False),
        ("data.jsonl", '{"a": 1}'.encode("utf-16-le"), False),
        ("a.xlsx", with_a_second_list(), False),
        ("a.xlsx", with_a_comment(), False),
        ("a.wav", b"RIFF0000WAVEfmt \xff", True),
        ("a.wav", b"RIFF=1;alert(1);//\xff", False),
        ("data.json", b'{"a": "[[[cog x ]]]"}', False),
        ("a.png", b"", True),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_file_is_what_its_ending_says(name: str, content: bytes, good: bool) -> None:
    """A tool that ignores endings must not find a script, a template or a test in it."""
    assert (why_no_content(name, io.BytesIO(content), len(content)) is None) == good


@pytest.mark.parametrize("unit", [b"`", b"~", b":", b"*", b" ", b"..", b"\\", b"x", b"a,"])
def test_no_text_is_looked_at_for_long(unit: bytes) -> None:
    """Each pattern is linear: 40 kB of backticks once took a minute, and nothing could end it."""
    content = unit * 2_000_000
    why_no_content("a.csv", io.BytesIO(content), len(content))
    why_no_content("data.json", io.BytesIO(b'"' + content + b'"'), len(content) + 2)


def test_a_documents_directory_is_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its list of members costs five times its size in memory."""
    monkeypatch.setattr("sandbox_kit.host_access.contents.LARGEST_DIRECTORY", 10)

    assert "too much" in str(why_no_content("a.xlsx", io.BytesIO(WORKBOOK), len(WORKBOOK)))


def test_every_row_is_in_lower_case_and_has_an_ending() -> None:
    """Names are compared folded, so another pattern would never match."""
    words = (
        [ending for kind in RESULTS for ending in kind.endings]
        + list(OBEYED_FOLDERS)
        + [*RESULT_WORDS, *OBEYED_WORDS]
    )

    assert [word for word in words if word != word.casefold()] == []
    assert all(ending.startswith(".") for kind in RESULTS for ending in kind.endings)
    assert not RESULT_WORDS & OBEYED_WORDS


def test_what_holds_no_text_is_known_by_its_beginning() -> None:
    """Else any text could hide behind a picture's name."""
    looked_through = {".csv", ".tsv", ".json", ".geojson", ".sarif", ".jsonl", ".ndjson"}
    for kind in RESULTS:
        assert kind.begins or looked_through >= set(kind.endings)
