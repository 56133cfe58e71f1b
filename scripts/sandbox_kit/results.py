"""What counts as a result: the one table of what a granted line may bring back into a project. Everything else is held for the user.

The line is granted, so whoever talks to Claude chooses what is written and under which name. A result is read by people and by
programs that were told to read it. What a tool of the project obeys just because it lies there (a test, a build file, a setting, a
template, instructions for an agent) is no result, and neither is what has no ending or one that is not in this table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath

LONGEST_NAME = 255  # bytes, on every file system that people use


@dataclass(frozen=True)
class Kind:
    """One row: endings, and among their names only these, or all but these; `begins` is what such a file begins with."""

    what: str
    endings: tuple[str, ...]
    only: tuple[str, ...] = ("*",)
    never: tuple[str, ...] = ()
    begins: bytes = b""


# Names that tools obey, by patterns rather than one by one: a tool of next year will call its settings something with "config" too.
OBEYED_JSON = (
    "*config*", "*conf.json", "*settings*", "*preferences*", "*rc.json", "*package*", "*-lock*.json", "*lock.json", "*lockfile*",
    "*shrinkwrap*", "*manifest*", "*preset*", "*workspace*", "project.json", "project.*.json", "*-project.json", "module*.json",
    "*plugin*", "extension*.json", "*marketplace*", "*hook*", "*mcp*", "agent.json", "agents.json", "task*.json", "launch*.json",
    "scripts.json", "*build*", "*deploy*", "*pipeline*", "*workflow*", "*compose*", "*-cli.json", "cli.json", "*setup*", "*override*",
    "env.json", "*.env.json", "*environment*", "import*map*.json", "*lint*", "*spell*", "hosts.json", "kernel.json", "keybinding*.json",
    "*template*", "*.deps.json", "*.tf.json", "*.tofu.json", "*.tfvars.json", "*.tftest.json", "*.pkr.json", "*.11tydata.json",
    "*.code-*.json", "composer.json", "deno.json", "nx.json", "turbo.json", "lerna.json", "rush.json", "angular.json", "nodemon.json",
    "cdk*.json", "sst.json", "sam.json", "firebase.json", "vercel.json", "now.json", "app.json", "wrangler.json", "netlify.json",
    "serverless.json", "amplify.json", "biome.json", "dprint.json", "tauri*.json", "devcontainer*.json", "devbox.json", "devfile.json",
    "flox*.json", "mise.json", "moon.json", "knip.json", "ava.json", "cypress.json", "karma.json", "typedoc.json", "gulpfile*.json",
    "renovate.json", "components.json", "bower.json", "jsr.json", "dub.json", "spago.json", "esy.json", "elm.json", "vcpkg*.json",
    "conan*.json", "hardhat.json", "truffle.json", "foundry.json", "haxelib.json", "global.json", "host.json", "function.json",
    "process.json", "ecosystem*.json", "pm2*.json", "cookiecutter.json", "theme.json", "block.json", "procfile*.json", "lefthook*.json",
)  # fmt: skip
OBEYED_TEXT = (
    "cmake*", "makefile*", "*requirement*", "*constraint*", "*conanfile*", "meson*", "entry_points*", "top_level*", "apt.txt", "aptfile*",
    "*package*", "*deps*", "*dependenc*", "runtime*", "pip.txt", "pip-*", "*config*", "*settings*", "hosts.txt", "*instruction*",
    "agent.txt", "agents.txt", "*claude*", "llms*", "modules*", "*manifest*", "*plugin*", "*hook*", "*.env.txt", "cargo*", "*-lock*",
    "*lock.txt", "scripts*",
)  # fmt: skip
OBEYED_PAGES = ("*layout*", "*template*", "base.htm*", "*partial*", "*component*", "404.htm*", "50?.htm*", "*.11ty*")
REPORTS = ("*report*", "*result*", "*coverage*", "*junit*", "test-*.xml", "tests.xml", "cobertura*", "*feed*", "*data*")

RESULTS = (
    Kind("a table", (".csv", ".tsv", ".parquet", ".feather", ".arrow", ".xlsx", ".ods")),
    Kind("data", (".json", ".jsonl", ".ndjson", ".geojson"), never=OBEYED_JSON),
    Kind("an array", (".npy", ".npz")),
    Kind("a report", (".xml",), only=REPORTS, never=("*build*", "*config*", "*settings*", "pom*", "*project*", "*phpunit*", "*testng*")),
    Kind("a report", (".sarif", ".lcov", ".pdf", ".docx", ".pptx", ".odt", ".odp")),
    Kind("a page", (".html", ".htm"), never=OBEYED_PAGES, begins=b"<"),
    Kind("text", (".txt",), never=OBEYED_TEXT),
    Kind("a log", (".log",)),
    Kind("a picture", (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")),
    Kind("a picture", (".svg",), begins=b"<"),
    Kind("sound or film", (".wav", ".mp3", ".ogg", ".flac", ".mp4", ".webm", ".mov")),
    Kind(
        "an archive", (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z"), never=("*.whl*", "*.egg*", "python*.zip", "*plugin*")
    ),
)
# Folders whose content tools obey, wherever they stand in the path: templates run in their engine, metadata names code to load.
OBEYED_FOLDERS = (
    "templates", "_templates", "template", "layouts", "_layouts", "layout", "_includes", "includes", "partials", "_partials", "views",
    "overrides", "theme", "themes", "node_modules", "site-packages", "dist-packages", "__pycache__", "*.egg-info", "*.dist-info",
    "group_vars", "host_vars", "requirements", "*.d", "patches", "k8s", "kubernetes", "manifests", "deploy", "autostart",
)  # fmt: skip
# What Windows takes for a device, and short names and streams, which are other names of files that are there.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?")


def why_no_result(path: PurePath, above: Iterable[str] = (), beginning: bytes = b"<") -> str | None:
    """Why a file of that relative path and beginning is no result; None for one. `above` are the folders that hold it already."""
    if not path.parts or any(is_odd(part) for part in path.parts):
        return "an odd name"
    *folders, name = map(folded, (*above, *path.parts))
    obeyed = next((folder for folder in folders if matches(folder, OBEYED_FOLDERS)), None)
    if obeyed is not None:
        return f"tools obey what lies in {obeyed}"
    kind = next((kind for kind in RESULTS if name.endswith(kind.endings)), None)
    if kind is None:
        return "no result by its ending"
    if not matches(name, kind.only) or matches(name, kind.never):
        return "tools may obey a file of that name"
    if kind.begins and not beginning.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(kind.begins):
        return f"it does not begin as {kind.what} does"
    return None


def folded(name: str) -> str:
    """As a file system that knows no case, or no accents, would compare it."""
    return unicodedata.normalize("NFKC", name).casefold()


def is_odd(name: str) -> bool:
    """A name that means something else on another system, or looks like another one."""
    plain = folded(name)
    return (
        not name.isprintable()
        or len(name.encode(errors="replace")) > LONGEST_NAME
        or name != unicodedata.normalize("NFC", name)
        or name.endswith((".", " "))
        or name.startswith((" ", "-", "."))
        or any(char in ':\\"<>|?*' for char in plain)
        or re.search(r"~\d", plain) is not None
        or DEVICES.fullmatch(plain) is not None
    )


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
