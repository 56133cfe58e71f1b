"""As much of matplotlib as our backend and its hook need: quick, and without an installation."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "__init__.py": """
rcParams = {"savefig.dpi": "figure", "backend": "agg"}

def use(name):
    import sys
    rcParams["backend"] = name
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].switch_backend(name)

def is_interactive():
    return False
""",
    "_pylab_helpers.py": """
class Gcf:
    figs = {}
    get_all_fig_managers = classmethod(lambda cls: list(cls.figs.values()))
    destroy_all = classmethod(lambda cls: cls.figs.clear())
""",
    "backend_bases.py": """
class FigureManagerBase:
    def __init__(self, canvas, num):
        self.canvas = canvas
""",
    "backends/__init__.py": "",
    "backends/backend_agg.py": """
class FigureCanvasAgg:
    def __init__(self, figure):
        self.figure = figure
        figure.canvas = self

    def draw(self):
        pass
""",
    "pyplot.py": """
import importlib
from matplotlib import rcParams
from matplotlib._pylab_helpers import Gcf

_backend_mod = None

class Figure:
    dpi = 100

    def __init__(self, title):
        self.title = title

    def get_size_inches(self):
        return 1, 1

    def savefig(self, file, format, dpi):
        if self.title == "broken":
            raise ValueError("no picture of this")
        file.write(b"\\x89PNG\\r\\n\\x1a\\n" + self.title.encode())

def switch_backend(name):
    global _backend_mod
    if not name.startswith("module://"):
        raise ImportError(f"{name} cannot be loaded here")
    _backend_mod = importlib.import_module(name[len("module://"):])

def figure(title):
    if _backend_mod is None:
        switch_backend(rcParams["backend"])
    canvas = _backend_mod.FigureCanvas(Figure(title))
    number = max(Gcf.figs, default=0) + 1
    Gcf.figs[number] = canvas.manager_class(canvas, number)
    return Gcf.figs[number]

def show(**options):
    _backend_mod.show(**options)

def close():
    Gcf.figs.popitem()
""",
}


def write_stub(folder: Path) -> None:
    """The package `matplotlib` into `folder`."""
    for name, text in FILES.items():
        path = folder / "matplotlib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
