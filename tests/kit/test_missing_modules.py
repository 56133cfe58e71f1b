"""A module that a program did not find: the line that installs it."""

from __future__ import annotations

import pytest

from sandbox_kit.missing_modules import LOOKED_AT, Tail, describe_missing_module

from .script_runner import Script


@pytest.mark.parametrize(
    ("words", "install"),
    [
        ("ModuleNotFoundError: No module named 'requests'", "pip install requests"),
        ("ModuleNotFoundError: No module named 'cv2'", "pip install opencv-python-headless"),
        ("ModuleNotFoundError: No module named 'PIL'", "pip install pillow"),
        ("ModuleNotFoundError: No module named 'yaml'", "pip install pyyaml"),
        ("ModuleNotFoundError: No module named 'sklearn.svm'", "pip install scikit-learn"),
        ("E   ModuleNotFoundError: No module named 'bs4'", "pip install beautifulsoup4"),
        ("Error: Cannot find module 'express'\nRequire stack:", "npm install express"),
        ("Error: Cannot find module '@scope/a/sub'", "npm install @scope/a"),
        ("Cannot find package 'left-pad' imported from /x", "npm install left-pad"),
    ],
)
def test_the_package_is_named(words: str, install: str) -> None:
    """Also where it is called otherwise than the module."""
    assert f"--setup '{install}'" in str(describe_missing_module(f"Traceback\n{words}\n"))


@pytest.mark.parametrize(
    "words",
    [
        "Error: Cannot find module './mine'",
        "Error: Cannot find module '/tmp/x.js'",
        "ModuleNotFoundError: No module named 'a; rm -rf /'",
        "ModuleNotFoundError: No module named '--index-url=x'",
        "print: ModuleNotFoundError: No module named 'x'",
        "Error: Cannot find module 'x\x1b[2J'",
    ],
)
def test_other_words_make_no_line_of_ours(words: str) -> None:
    """A file of the program's own is no package, and what it prints may be hostile."""
    assert describe_missing_module(words) is None


def test_only_the_end_of_a_stream_is_kept() -> None:
    """A program may print without end."""
    tail = Tail()
    for _ in range(10):
        tail.feed("x" * 3000)

    assert len(tail.text) == LOOKED_AT


@pytest.mark.parametrize("code", ["import yaml2, nothing_of_it", "__import__('cv2')"])
def test_a_run_says_what_to_install(run: Script, code: str) -> None:
    """The program's exit code stays its own."""
    result = run("--local", "--code", code)

    assert result.code == 1
    assert "the sandbox has no module " in result.stderr
    assert "--setup 'pip install " in result.stderr
