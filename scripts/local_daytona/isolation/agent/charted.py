"""Runs code as `python3 -u -` does, and prints a line for each matplotlib figure that it shows.

Usage: python3 -u charted.py ARGV < code

Each such line is MARKER and one JSON object, see described() below; the server takes it out of the
output, checks it and trusts nothing in it. Whatever goes wrong here, the code runs: a chart may be
lost, never a run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import io
import json
import linecache
import os
import sys
import traceback
import types
import warnings

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

MARKER = "dtn_artifact_k39fd2:"  # as the real daemon's
TARGET = "<target_code>"
OWN_FRAMES = 1  # `main` below
MOST_POINTS = 10_000  # of one line or scatter; more are thinned out evenly
MOST_ELEMENTS = 1000
MOST_PIXELS = 16_000_000
LARGEST_PNG = 8 * 1024 * 1024
COLOR_BAR = "<colorbar>"


class Figures:
    """Takes the place of pyplot's show()."""

    def __init__(self, pyplot: Any) -> None:
        self.pyplot = pyplot
        self.seen: set[str] = set()

    def show(self) -> None:
        """Tell of each open figure, then close all."""
        for number in self.pyplot.get_fignums():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they would speak of this file, not of the code
                attempt(self.tell, self.pyplot.figure(number))
        self.pyplot.close("all")

    def tell(self, figure: Any) -> None:
        """Print its line, unless there was the same before.

        A figure that cannot be described still has its picture.
        """
        attempt(make_bearable, figure)
        chart = attempt(described, figure) or {"type": "unknown"}
        chart["png"] = attempt(png, figure)
        line = json.dumps({"type": "chart", "value": chart}, default=plain)
        digest = hashlib.sha256(line.encode()).hexdigest()
        if digest not in self.seen:
            self.seen.add(digest)
            sys.stdout.flush()
            sys.stdout.write(MARKER + line + "\n")
            sys.stdout.flush()


def plain(value: Any) -> Any:
    """What JSON does not know: numpy's numbers, and whatever else as text."""
    return value.item() if hasattr(value, "item") else str(value)


def attempt(work: Callable[..., Any], *values: Any) -> Any:
    """Its value, None when it fails: figures may hold anything."""
    try:
        return work(*values)
    except Exception:  # noqa: BLE001 (see above)
        return None


def make_bearable(figure: Any) -> None:
    """Fewer dots to the inch for a poster, whose picture would take all memory."""
    width, height = figure.get_size_inches()
    figure.set_dpi(min(float(figure.dpi), (MOST_PIXELS / (width * height)) ** 0.5))


def png(figure: Any) -> str | None:
    """The picture in base64, coarser when it is too large or takes too much memory.

    None when even that fails.
    """
    for fraction in (1, 2, 4):
        picture = attempt(saved, figure, figure.dpi / fraction)
        if picture and len(picture) <= LARGEST_PNG:
            return base64.b64encode(picture).decode()
    return None


def saved(figure: Any, dots: float) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dots)
    return picture.getvalue()


def described(figure: Any) -> dict[str, Any]:
    """The chart of one figure; several axes are one composite chart."""
    draw = getattr(figure, "draw_without_rendering", figure.canvas.draw)
    draw()  # ticks have their labels only then
    found = [axes for axes in figure.axes if axes.get_label() != COLOR_BAR]
    charts = [attempt(chart, axes) or {"type": "unknown"} for axes in found[:MOST_ELEMENTS]]
    if len(charts) == 1:
        return dict(charts[0])
    title = figure.get_suptitle() if hasattr(figure, "get_suptitle") else ""
    return {"type": "composite_chart" if charts else "unknown", "title": title, "elements": charts}


def chart(axes: Any) -> dict[str, Any]:
    """Title, axes and elements; the first kind of KINDS that has elements names the chart."""
    found: dict[str, Any] = {
        "title": axes.get_title(),
        "x_label": axes.get_xlabel(),
        "y_label": axes.get_ylabel(),
        "x_ticks": list(axes.get_xticks())[:MOST_ELEMENTS],
        "y_ticks": list(axes.get_yticks())[:MOST_ELEMENTS],
        "x_tick_labels": [label.get_text() for label in axes.get_xticklabels()][:MOST_ELEMENTS],
        "y_tick_labels": [label.get_text() for label in axes.get_yticklabels()][:MOST_ELEMENTS],
        "x_scale": axes.get_xscale(),
        "y_scale": axes.get_yscale(),
    }
    for kind, elements_of in KINDS:
        elements = attempt(elements_of, axes)
        if elements:
            return dict(found, type=kind, elements=elements[:MOST_ELEMENTS])
    return dict(found, type="unknown", elements=[])


def boxes(axes: Any) -> list[dict[str, Any]]:
    """What bxp() was given: the drawing itself no longer says which line is which."""
    ticks = tick_texts(axes.xaxis)
    return [
        {
            "label": str(box.get("label") or ticks.get(place) or "%g" % place),
            "min": box.get("whislo"),
            "first_quartile": box.get("q1"),
            "median": box.get("med"),
            "third_quartile": box.get("q3"),
            "max": box.get("whishi"),
            "outliers": list(box.get("fliers", ()))[:MOST_POINTS],
        }
        for place, box in getattr(axes, "daytona_boxes", ())
    ]


def wedges(axes: Any) -> list[dict[str, Any]]:
    return [
        {"label": patch.get_label(), "angle": abs(patch.theta2 - patch.theta1), "radius": patch.r}
        for patch in axes.patches
        if type(patch).__name__ == "Wedge"
    ]


def bars(axes: Any) -> list[dict[str, Any]]:
    """Each bar with its length as value, and its container as group.

    Its label is the text of the tick it stands on, or the number where there is none.
    """
    found = []
    for container in axes.containers:
        if type(container).__name__ != "BarContainer":
            continue
        flat = getattr(container, "orientation", "vertical") == "horizontal"
        ticks = tick_texts(axes.yaxis if flat else axes.xaxis)
        group = container.get_label()
        for bar in container.patches:
            place, length = middle_and_length(bar, flat)
            label = ticks.get(round(float(place), 6), "%g" % place)
            found.append({"label": label, "value": str(length), "group": group})
    return found


def middle_and_length(bar: Any, flat: bool) -> tuple[Any, Any]:
    """Where a bar stands on its axis, and how far it reaches; `flat` ones lie on their side."""
    if flat:
        return bar.get_y() + bar.get_height() / 2, bar.get_width()
    return bar.get_x() + bar.get_width() / 2, bar.get_height()


def tick_texts(axis: Any) -> dict[float, str]:
    places, labels = list(axis.get_majorticklocs()), axis.get_majorticklabels()
    return {
        round(float(places[index]), 6): label.get_text()
        for index, label in enumerate(labels[: len(places)])
        if label.get_text()
    }


def scattered(axes: Any) -> list[dict[str, Any]]:
    clouds = [found for found in axes.collections if type(found).__name__ == "PathCollection"]
    return [
        {"label": named(cloud, "Scatter"), "points": points(cloud.get_offsets())}
        for cloud in clouds
    ]


def lines(axes: Any) -> list[dict[str, Any]]:
    """By numbers as they are drawn: dates and names have become some."""
    return [
        {"label": named(line, "Line"), "points": points(line.get_xydata())} for line in axes.lines
    ]


def named(artist: Any, kind: str) -> str:
    """Its label; matplotlib's own for what has none is _child and a number."""
    label = str(artist.get_label())
    return label.replace("_child", kind + " ") if label.startswith("_child") else label


def points(pairs: Any) -> list[Any]:
    """As plain lists; masked ones become None, which the server leaves out."""
    found: list[Any] = pairs[:: max(1, -(-len(pairs) // MOST_POINTS))].tolist()
    return found


# By what a figure of that kind holds and others do not: box plots have lines too, bars with a
# curve are bars.
KINDS: tuple[tuple[str, Callable[[Any], list[dict[str, Any]]]], ...] = (
    ("box_and_whisker", boxes),
    ("pie", wedges),
    ("bar", bars),
    ("scatter", scattered),
    ("line", lines),
)


def numbered(places: Any, stats: list[dict[str, Any]]) -> list[tuple[float, dict[str, Any]]]:
    """Each box with its place; a sandbox may have Python 3.8, whose zip() is not strict."""
    return [(round(float(places[index]), 6), box) for index, box in enumerate(stats)]


def hook() -> None:
    """Make pyplot's show() print charts; raises whatever the import of matplotlib does."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    axes_class: Any = importlib.import_module("matplotlib.axes").Axes

    figures, drawn = Figures(pyplot), axes_class.bxp

    @functools.wraps(pyplot.show)
    def show(*_args: Any, **_options: Any) -> None:  # a function: matplotlib sets attributes of it
        figures.show()

    @functools.wraps(drawn)
    def bxp(
        axes: Any,
        bxpstats: Iterable[dict[str, Any]],
        positions: Any = None,
        *args: Any,
        **options: Any,
    ) -> Any:
        bxpstats = list(bxpstats)
        places = positions if positions is not None else range(1, len(bxpstats) + 1)
        axes.daytona_boxes = [
            *getattr(axes, "daytona_boxes", ()),
            *(attempt(numbered, places, bxpstats) or ()),
        ]
        return drawn(axes, bxpstats, positions, *args, **options)

    axes_class.bxp = bxp
    pyplot.show = show


def main() -> None:
    """Run the code from stdin as `__main__`; a traceback shows the code's own frames."""
    code = sys.stdin.buffer.read().decode(errors="replace")
    sys.argv[0] = "-"
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        sys.path[0] = ""  # as for a program from stdin
    attempt(hook)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    linecache.cache[TARGET] = (len(code), None, code.splitlines(True), TARGET)
    try:
        program = compile(code, TARGET, "exec", dont_inherit=True)
        exec(program, module.__dict__)  # noqa: S102 (running code is the purpose)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 (as the interpreter itself would)
        frames = error.__traceback__
        for _ in range(OWN_FRAMES):
            frames = frames.tb_next if frames is not None else None
        traceback.print_exception(type(error), error, frames)
        sys.exit(1)


if __name__ == "__main__":
    main()
