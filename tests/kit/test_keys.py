"""A key is found by its content wherever it stands, in time that grows with the file."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import PurePath

import pytest

from sandbox_kit.host_access.keys import BLOCK, holds_a_secret
from tests.docs.pages import ROOT

BEGIN = "-----BEGIN PRIVATE KEY-----"
BODY = "A" * 64
AWS_COLUMNS = "Access key ID,Secret access key"
# Each was tried in every way that two neighbours of a pattern can share it.
HOLDING = {
    "blanks before columns": "access_key\n" + " " * (BLOCK // 2) + "a," * (BLOCK // 4),
    "columns": "access_key\n" + "a," * (BLOCK // 2),
    "blanks after a token's name": "token" + " " * BLOCK,
    "blanks after its sign": "token =" + " \t" * (BLOCK // 2),
    "headers that begin keys": f"{BEGIN}\n" + f"a: {BEGIN}\n" * (BLOCK // 32),
    "first lines": f"{BEGIN}\n" * (BLOCK // 28),
    "words of a first line": "-----BEGIN " + "PRIVATE KEY " * (BLOCK // 12),
    "lines after a name": "aws_secret_access_key :" + "\n" * BLOCK,
    "registries": '"auths":{' * (BLOCK // 9),
    "addresses": "://a" * (BLOCK // 4) + "@:",
    "blanks at the beginning": "\n \t" * (BLOCK // 3) + "a," * 1000,
}
NAMES = ("data.bin", "page.md", "found.py", ".cargo/config.toml", "gradle.properties")
LOOK = """
import io, sys
from pathlib import PurePath
from sandbox_kit.host_access.keys import holds_a_secret
data = sys.stdin.buffer.read()
for name in sys.argv[1:]:
    holds_a_secret(PurePath(name), io.BytesIO(data))
"""


def holds(name: str, text: str) -> bool:
    return holds_a_secret(PurePath(name), io.BytesIO(text.encode()))


@pytest.mark.parametrize("what", HOLDING)
def test_no_file_holds_the_look(what: str) -> None:
    """A stranger's file of 256 KiB took hours; this process would not see the end of it."""
    subprocess.run(
        [sys.executable, "-c", LOOK, *NAMES],
        input=HOLDING[what].encode(),
        cwd=ROOT / "scripts",
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", f"{AWS_COLUMNS}\nAKIA,x\n"),
        ("list.csv", f'  user name,"console",{AWS_COLUMNS}\n'),
        ("list.csv", f" \t,{AWS_COLUMNS}\n"),
        ("page.md", f"text\n{BEGIN}\n{BODY}\n"),
        ("page.md", f"{BEGIN}\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\n{BODY}\n"),
        ("page.md", f"{BEGIN}\n" + "a: b\n" * 500 + BODY),
        ("page.md", f"{BEGIN}\nno key\n{BEGIN}\na: {BEGIN}\n{BODY}\n"),
        ("page.md", f"{BEGIN}\n{'A' * 44}: b\n"),
        ("found.py", f"\n\n  {BEGIN}\n"),
        ("cell.ipynb", f'["{BEGIN}\\n",\n "{BODY}\\n"]'),
        ("list.csv", f'1,"{BEGIN}\n{BODY}\n"'),
        ("list.yaml", f"- {BEGIN}\n  {BODY}\n"),
        ("notes.txt", f"# {BEGIN}\n# {BODY}\n"),
        ("notes.txt", f"x\r{BEGIN}\r{BODY}\r"),
        ("conf.json", f'{{"secretAccessKey": "{"a" * 40}"}}'),
        ("NuGet.Config", "password=abc\n"),
        ("notes.txt", "OPENAI=sk-proj-" + "a" * 40),
        ("notes.txt", "xapp-1-A0123456789-0123456789\n"),
        ("notes.txt", "AIza" + "b" * 35),
        ("Gradle.Properties", "token=abc\n"),
        ("gradle.properties", "my.token=abc\n"),
        ("gradle.properties", "  token \t :\t abc\n"),
        ("gradle.properties", "token abc\n"),
        ("gradle.properties", "token\t abc\n"),
        ("gradle.properties", "jvm=-Dpassword = abc\n"),
    ],
)
def test_a_key_is_found(name: str, text: str) -> None:
    """Also where it is the second half of a block's border."""
    assert holds(name, text)
    if not name.endswith(".py"):  # of source the beginning alone
        assert holds(name, "x\n" * (BLOCK // 2 - 20) + text)


def test_a_key_in_two_bytes_a_character_is_found() -> None:
    """With the mark that some shells write, and without."""
    text = f"x\n{BEGIN}\n{BODY}\n"

    for wide in (text.encode("utf-16"), text.encode("utf-16-le"), text.encode("utf-16-be")):
        assert holds_a_secret(PurePath("notes.txt"), io.BytesIO(wide))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "Access key ID,owner\n"),
        ("list.csv", f"# {AWS_COLUMNS}\n"),
        ("page.md", f"A key begins with {BEGIN} and goes on.\n"),
        ("page.md", f"text\n{BEGIN}\na: b\n...\n"),
        ("gradle.properties", "token=${TOKEN}\ntoken: $(cat x)\n"),
        ("gradle.properties", "token\tabc\n"),
        ("gradle.properties", "token=\n# password\n"),
        ("found.py", "TOKEN = 'x'\n"),
    ],
)
def test_what_is_about_keys_is_none(name: str, text: str) -> None:
    """Or half of a project would stay here."""
    assert not holds(name, text)
