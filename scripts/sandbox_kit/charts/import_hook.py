"""Stands in front of matplotlib in a sandbox: imports the real one, and hooks its pyplot.

Whatever goes wrong here, the program runs: a chart may be lost, never a run. Any Python from 3.7 on
must be able to read it.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from typing import Any

HERE = os.path.dirname(os.path.realpath(__file__))
PYPLOT = "matplotlib.pyplot"
BACKEND = "daytona_charts"
HEADLESS = "agg"  # what matplotlib takes by itself where there is no display


class PyplotFinder:
    """Finds pyplot as the others do, and has it draw with our backend."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name != PYPLOT:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None:
            attempt(hook_after_load, spec)
        return spec


def hook_after_load(spec: Any) -> None:
    load = spec.loader.exec_module

    def exec_module(module: Any) -> None:
        load(module)
        attempt(hook_pyplot, module)

    spec.loader.exec_module = exec_module


def hook_pyplot(pyplot: Any) -> None:
    """Every choice of a backend is ours from here on, and keeps the name that was chosen."""
    switch, switched = pyplot.switch_backend, False
    atexit.register(save_at_exit)  # after pyplot's own, so it runs before all figures are closed

    def switch_backend(newbackend: Any) -> None:
        nonlocal switched
        if not switched:
            load_backend()
            switch("module://" + BACKEND)
            switched = True
        is_named = isinstance(newbackend, str) and newbackend.lower() != "auto"
        pyplot.rcParams["backend"] = newbackend if is_named else HEADLESS

    pyplot.switch_backend = switch_backend
    if getattr(pyplot, "_backend_mod", None) is not None:  # before 3.6, on import
        switch_backend(pyplot.rcParams["backend"])


def load_backend() -> Any:
    """From beside this file: the program may have changed the import path."""
    if BACKEND not in sys.modules:
        spec: Any = importlib.util.spec_from_file_location(
            BACKEND, os.path.join(HERE, BACKEND + ".py")
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[BACKEND] = module
        spec.loader.exec_module(module)
    return sys.modules[BACKEND]


def save_at_exit() -> None:
    backend = sys.modules.get(BACKEND)
    if backend is not None:
        attempt(backend.save_open_figures)


def attempt(work: Any, *values: Any) -> None:
    """A failure is a line on stderr."""
    try:
        work(*values)
    except Exception as error:  # noqa: BLE001 (see above)
        print("no charts of this program are saved:", repr(error), file=sys.stderr)


def import_matplotlib() -> None:
    """The real one, from the rest of the import path, takes this module's place."""
    ours = [place for place in enumerate(sys.path) if os.path.realpath(place[1]) == HERE]
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != HERE]
    sys.modules.pop("matplotlib", None)
    try:
        import matplotlib  # noqa: F401
    finally:
        for place, entry in ours:  # spawned children get the path as it is here
            sys.path.insert(place, entry)
    sys.meta_path.insert(0, PyplotFinder())


if __name__ == "matplotlib":
    import_matplotlib()
