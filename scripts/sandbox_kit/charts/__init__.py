"""Charts of a Python program: two files go in with it, and what they save comes back.

`import_hook` is put in front of matplotlib on the import path by PYTHONPATH, and makes `backend`
the one that pyplot draws with. A sitecustomize of the program's own stays as it is, and a
`python3 -I` sees nothing of all this.
"""

from __future__ import annotations

import re
from pathlib import Path

# By the names that they have in the run's folder.
FILES = {"matplotlib.py": "import_hook.py", "daytona_charts.py": "backend.py"}
SAVED = "saved-charts"  # as in backend.py; no name that `import` finds
CHART = re.compile(r"chart-([0-9]{1,3})\.png")
IMPORT_PATH = "export PYTHONPATH={folder}${{PYTHONPATH:+:$PYTHONPATH}}\n"


def chart_name(number: int) -> str:
    """By number: a title may hold anything."""
    return f"chart-{number}.png"


def chart_number(path: str) -> int:
    """0 for what has not the name of a chart."""
    found = CHART.fullmatch(path.rpartition("/")[2])
    return int(found[1]) if found else 0


def chart_files(folder: str) -> dict[str, bytes]:
    """What is uploaded beside a program whose charts are saved, by path inside."""
    here = Path(__file__).parent
    return {f"{folder}/{name}": (here / source).read_bytes() for name, source in FILES.items()}
