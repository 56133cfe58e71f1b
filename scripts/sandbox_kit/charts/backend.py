"""A matplotlib backend inside a sandbox: what it shows, and what is open at the end, is a PNG file.

One figure is one chart: shown again while it is open, it takes the place of its own picture. The
files lie beside this one and are numbered across all processes of the program.
"""

from __future__ import annotations

import io
import os
import sys

import matplotlib
from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
SAVED = os.path.join(HERE, "saved-charts")  # whole pictures only: the others begin beside it
MOST_CHARTS = 100
MOST_PIXELS = 16_000_000
HOOKED: set[int] = set()  # processes that save their open figures when multiprocessing ends them


class FigureManager(FigureManagerBase):
    """Of one figure of pyplot's."""

    def __init__(self, canvas: Any, num: Any) -> None:
        super().__init__(canvas, num)
        self.maker = os.getpid()
        self.chart: tuple[int, int] | None = None  # process and number, once it was shown
        self.picture = b""
        save_at_end_of_child()

    def show(self) -> None:
        """Save the figure as it is now; a failure is a line on stderr."""
        try:
            picture = draw_png(self.canvas.figure)
            if self.chart is None or self.chart[0] != os.getpid():
                number = next_number()
                if number is None:
                    print(f"chart not saved: {MOST_CHARTS} are there", file=sys.stderr)
                    return
                self.chart, self.picture = (os.getpid(), number), b""
            if picture != self.picture:
                write_chart(self.chart[1], picture)
                self.picture = picture
        except Exception as error:  # noqa: BLE001 (the program goes on)
            print("chart not saved:", repr(error), file=sys.stderr)


class FigureCanvas(FigureCanvasAgg):
    """Draws in memory, as where there is no display."""

    manager_class = FigureManager


def show(*_args: Any, block: Any = None, **_options: Any) -> None:
    """Save each open figure; close all, as the user of a window would, unless it does not block."""
    for manager in Gcf.get_all_fig_managers():
        manager.show()
    if block is None:
        block = not matplotlib.is_interactive()
    if block:
        Gcf.destroy_all()


def save_open_figures() -> None:
    """At the end of a process: its own, not those that it had from the one that forked it."""
    for manager in Gcf.get_all_fig_managers():
        if getattr(manager, "maker", None) == os.getpid():
            manager.show()


def save_at_end_of_child() -> None:
    """A forked child of multiprocessing ends without `atexit`."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and os.getpid() not in HOOKED:
        HOOKED.add(os.getpid())
        util.Finalize(None, save_open_figures, exitpriority=100)


def draw_png(figure: Any) -> bytes:
    """With fewer dots to the inch for a poster, whose picture would take all memory."""
    dots = matplotlib.rcParams["savefig.dpi"]
    dots = float(figure.dpi if dots == "figure" else dots)
    width, height = figure.get_size_inches()
    bearable = (MOST_PIXELS / (width * height)) ** 0.5
    if figure.dpi <= bearable:
        figure.canvas.draw()  # as on a screen, where animations begin
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=min(dots, bearable))
    return picture.getvalue()


def next_number() -> int | None:
    """The next one that no process of this program has; None when all are taken."""
    os.makedirs(SAVED, mode=0o700, exist_ok=True)
    for number in range(1, MOST_CHARTS + 1):
        try:
            os.close(os.open(os.path.join(HERE, f"chart-{number}"), os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            continue
        return number
    return None


def write_chart(number: int, picture: bytes) -> None:
    """Whole, or not at all."""
    part = os.path.join(HERE, f"chart-{number}.part")
    with open(part, "wb") as file:
        file.write(picture)
    os.replace(part, os.path.join(SAVED, f"chart-{number}.png"))
