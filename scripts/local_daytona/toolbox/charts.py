"""Charts in the output of code_run: taken out, and made to fit the SDK's models.

isolation/agent/charted.py prints them as lines, which are a stranger's like all output. A value
that does not fit is turned into text or left out, so that no chart can make the client fail, which
would lose the whole run (PROTOCOL.md, "Charts").
"""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any

from ..isolation.bubblewrap import AGENT_INSIDE

MARKER = "dtn_artifact_k39fd2:"  # the real daemon's
LINE = re.compile(re.escape(MARKER) + r"([^\n]*)\n?")
IMPORT, NAME = re.compile(r"\bimport\s"), re.compile(r"\bmatplotlib\b")
FROM = re.compile(r"\bfrom\s+matplotlib\b")
RUNNER = ("python3", "-u", f"{AGENT_INSIDE}/charted.py")
TYPES = ("line", "scatter", "bar", "pie", "box_and_whisker", "composite_chart", "unknown")
MOST_CHARTS = 100
MOST_ITEMS = 20_000  # of any one list
LARGEST_LINE = 16 * 1024 * 1024
LONGEST_TEXT = 10_000
DEEPEST = 2  # a composite chart's parts have elements, and those have none

TEXTS = ("title", "x_label", "y_label", "x_scale", "y_scale", "label", "group", "value")
NUMBERS = ("angle", "radius", "min", "first_quartile", "median", "third_quartile", "max")
NUMBER_LISTS = ("x_ticks", "y_ticks", "outliers")
TEXT_LISTS = ("x_tick_labels", "y_tick_labels")


def draws(code: str) -> bool:
    """Whether Python code imports matplotlib, as far as a look at its lines can tell."""
    lines = (line.partition("#")[0] for line in code.split("\n") if "matplotlib" in line)
    return any(imports_matplotlib(line) for line in lines)


def imports_matplotlib(line: str) -> bool:
    """By its first import alone: a line that tries each of its words held the event loop."""
    found = IMPORT.search(line)
    if found is not None and NAME.search(line, found.end()) is not None:
        return True
    return FROM.search(line) is not None


def extracted(output: str) -> tuple[str, list[dict[str, Any]]]:
    """The output without its chart lines, and the charts."""
    if MARKER not in output:
        return output, []
    found = (chart(match[1]) for match in LINE.finditer(output))
    charts = list(itertools.islice(filter(None, found), MOST_CHARTS))
    return LINE.sub("", output), charts


def chart(line: str) -> dict[str, Any] | None:
    """None for a line that is no chart."""
    if len(line) > LARGEST_LINE:
        return None
    try:
        artifact = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(artifact, dict) or artifact.get("type") != "chart":
        return None
    value = artifact.get("value")
    return {**fitting(value, depth=0), "type": kind(value)} if isinstance(value, dict) else None


def kind(value: dict[str, Any]) -> str:
    return value["type"] if value.get("type") in TYPES else "unknown"


def fitting(value: dict[str, Any], *, depth: int) -> dict[str, Any]:
    """The fields that the SDK knows, each of the type that it wants."""
    found: dict[str, Any] = {}
    found |= {name: text(value[name]) for name in TEXTS if value.get(name) is not None}
    found |= {name: value[name] for name in NUMBERS if is_number(value.get(name))}
    found |= {name: numbers(value, name) for name in NUMBER_LISTS if name in value}
    found |= {name: texts(value, name) for name in TEXT_LISTS if name in value}
    if isinstance(value.get("png"), str) and value["png"].isascii():
        found["png"] = value["png"]
    if "points" in value:
        found["points"] = [point for point in items(value, "points") if is_point(point)]
    if "type" in value:
        found["type"] = kind(value)
    if "elements" in value and depth < DEEPEST:
        elements = [item for item in items(value, "elements") if isinstance(item, dict)]
        found["elements"] = [fitting(item, depth=depth + 1) for item in elements]
    return found


def items(value: dict[str, Any], name: str) -> list[Any]:
    found = value[name]
    return found[:MOST_ITEMS] if isinstance(found, list) else []


def numbers(value: dict[str, Any], name: str) -> list[float]:
    return [item for item in items(value, name) if is_number(item)]


def texts(value: dict[str, Any], name: str) -> list[str]:
    return [text(item) for item in items(value, name)]


def text(value: Any) -> str:
    """As UTF-8 can carry it, and not too long."""
    full = value if isinstance(value, str) else str(value)
    return full[:LONGEST_TEXT].encode(errors="replace").decode()


def is_number(value: Any) -> bool:
    """Finite, and neither true nor false; JSON has no NaN, though Python's reader takes it."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_number(part) for part in value)
