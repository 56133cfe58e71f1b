"""The prose as data: pages, fenced blocks, links, flags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<tag>[^`\n]*)\n(?P<text>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
RUN_TAGS = ("bash", "python")
SHOWN_TAGS = ("text", "json", "yaml")  # what comes back, or a file's content: read, not run


@dataclass(frozen=True)
class Block:
    """One fenced block; `name` is page, heading, place below it: stable while the page changes."""

    page: str
    line: int
    tag: str
    text: str
    name: str


def pages() -> list[Path]:
    """Every page that a reader is given."""
    found = [
        ROOT / "SKILL.md",
        ROOT / "README.md",
        *sorted((ROOT / "reference").glob("*.md")),
        *sorted((ROOT / "examples").glob("*.md")),
    ]
    return [page for page in found if page.exists()]


def blocks() -> Iterator[Block]:
    for page in pages():
        text, counts = page.read_text(), Counter[str]()
        for match in FENCE.finditer(text):
            name = f"{page.relative_to(ROOT)}#{heading_above(text, match.start())}"
            counts[name] += 1
            line = text.count("\n", 0, match.start()) + 1
            yield Block(
                str(page.relative_to(ROOT)),
                line,
                match["tag"].strip(),
                match["text"],
                f"{name}-{counts[name]}",
            )


SHOWN_FILE = re.compile(
    r"^`(?P<path>[\w-]+(?:[./][\w-]+)*)`:\n\n```text\n(?P<text>.*?)^```$", re.M | re.S
)


def shown_files(page: str) -> dict[str, str]:
    """Files whose content a page shows below their name: what its commands find in the project."""
    return {
        found["path"]: found["text"] for found in SHOWN_FILE.finditer((ROOT / page).read_text())
    }


def heading_above(text: str, place: int) -> str:
    """The anchor of the last heading before `place`; code is no heading."""
    titles = re.findall(r"^#+ +(.+)$", FENCE.sub("", text[:place]), re.MULTILINE)
    return anchor(titles[-1]) if titles else ""


def anchor(title: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def links(page: Path) -> list[str]:
    """Targets of the page's links, code left out."""
    return LINK.findall(FENCE.sub("", page.read_text()))


def headings(page: Path) -> set[str]:
    """Anchors of the page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {anchor(title) for title in titles}


def front_matter(page: Path) -> str:
    return page.read_text().split("---\n", 2)[1]


def body(page: Path) -> str:
    """The page without its front matter."""
    text = page.read_text()
    return text.split("---\n", 2)[2] if text.startswith("---\n") else text
