"""--charts: the program runs as any other, and what pyplot showed comes back.

By a stub of matplotlib where it is about us, by the real one where it is about charts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_server import LocalServer
from tests.matplotlib_site import SITE, packed_site

from .script_runner import Result, Script
from .stub_matplotlib import write_stub

PNG = b"\x89PNG\r\n\x1a\n"
START = "import matplotlib.pyplot as plt\n"


@pytest.fixture
def draw(run: Script, scripts_environment: Path) -> Script:
    """A run of code with the stub beside it; its charts go to `charts`."""
    write_stub(scripts_environment)

    def drawn(code: str, *more: str) -> Result:
        words = ("--local", "--json", "--upload", "matplotlib", "--charts", "charts")
        return run(*words, "--code", code, *more)

    return drawn


def titles(result: Result) -> list[str]:
    """What the stub drew, by the order of the report."""
    found = result.json()["charts"]
    assert found == [f"charts/chart-{number}.png" for number in range(1, len(found) + 1)]
    return [Path(name).read_bytes().removeprefix(PNG).decode() for name in found]


def test_what_is_shown_or_open_at_the_end_comes_back_in_order(draw: Script) -> None:
    """One figure is one chart; what was closed unseen is none, one left open is drawn anew."""
    result = draw(
        START
        + "plt.figure('one'); plt.figure('two'); plt.show()\n"
        + "plt.figure('unseen'); plt.close()\n"
        + "window = plt.figure('first frame'); plt.show(block=False)\n"
        + "window.canvas.figure.title = 'last frame'\n"
        + "plt.figure('alone').show()\n"
    )

    assert (result.code, titles(result)) == (0, ["one", "two", "last frame", "alone"])


CHOICE = "import matplotlib; matplotlib.use('TkAgg')\n"
LOOK = "import importlib.util; importlib.util.find_spec('matplotlib.pyplot')\n"


@pytest.mark.parametrize(
    "code",
    [CHOICE + START, START + CHOICE, LOOK + CHOICE + START],
    ids=["before pyplot", "after it", "after a look for it"],
)
def test_the_programs_own_choice_of_a_backend_saves_too(draw: Script, code: str) -> None:
    """Also one that has no display here; the program reads back what it chose."""
    result = draw(f"{code}plt.figure('one'); plt.show(); print(matplotlib.rcParams['backend'])")

    assert (result.json()["stdout"], titles(result)) == ("TkAgg\n", ["one"])


def test_the_program_is_run_as_any_other(draw: Script, scripts_environment: Path) -> None:
    """Streams apart, arguments as they are, stdin, variables, and its own exit code."""
    (scripts_environment / "data").write_text("piped")
    code = (
        "import os, sys\nprint(sys.argv[1:], sys.stdin.read(), os.environ['A'], __name__)\n"
        "print('err', file=sys.stderr)\nsys.exit(4)"
    )
    result = draw(code, "--env", "A=b c", "--stdin", "data", "--", "a b", "$HOME;'")
    answer = result.json()

    assert (result.code, answer["exit_code"], answer["whose"]) == (4, 4, "program")
    assert answer["stdout"] == """['a b', "$HOME;'"] piped b c __main__\n"""
    assert (answer["stderr"], answer["streams"], answer["charts"]) == ("err\n", "split", [])
    assert "no chart" in result.stderr


@pytest.mark.parametrize(
    ("end", "code", "whose"),
    [("1 / 0", 1, "program"), ("import os; os._exit(3)", 3, "program")],
)
def test_a_program_that_fails_brings_its_charts(
    draw: Script, end: str, code: int, whose: str
) -> None:
    """Those that it showed; a traceback is the program's alone. Open ones by an orderly end."""
    result = draw(f"{START}plt.figure('shown'); plt.show()\nplt.figure('open')\n{end}")

    assert (result.code, result.json()["whose"]) == (code, whose)
    assert titles(result) == (["shown", "open"] if code == 1 else ["shown"])
    assert "daytona_charts" not in result.json()["stderr"]


def test_charts_of_a_program_that_is_killed_come_back(draw: Script) -> None:
    """By --timeout, with the exit code of one."""
    code = f"{START}plt.figure('shown'); plt.show()\nimport time; time.sleep(60)"
    result = draw(code, "--timeout", "2")

    assert (result.code, titles(result)) == (124, ["shown"])


def test_a_chart_that_cannot_be_drawn_is_a_line_on_stderr(draw: Script) -> None:
    """The others come, the program goes on, no number is left out."""
    result = draw(f"{START}plt.figure('broken'); plt.figure('good'); plt.show(); print('on')")

    assert (result.code, result.json()["stdout"], titles(result)) == (0, "on\n", ["good"])
    assert "chart not saved: ValueError('no picture of this')" in result.json()["stderr"]


def test_a_hundred_charts_are_saved_at_the_most(draw: Script) -> None:
    """What comes after them is told of."""
    result = draw(f"{START}for n in range(102):\n    plt.figure(str(n)); plt.show()")

    assert titles(result) == [str(number) for number in range(100)]
    assert result.json()["stderr"] == "chart not saved: 100 are there\n" * 2


@pytest.mark.parametrize("way", ["spawn", "fork"])
def test_charts_of_child_processes_are_numbered_with_the_others(draw: Script, way: str) -> None:
    """No two of the same number, what a child left open too, and nothing of the parent's twice."""
    code = (
        "import multiprocessing\n"
        "def show(title):\n    import matplotlib.pyplot as plt\n    plt.figure(title); plt.show()\n"
        "def leave_open(title):\n    import matplotlib.pyplot as plt\n    plt.figure(title)\n"
        "if __name__ == '__main__':\n"
        f"    ways = multiprocessing.get_context('{way}')\n"
        "    with ways.Pool(2) as pool:\n        pool.map(show, ['a', 'b', 'c', 'd'], 1)\n"
        "    leave_open('mine')\n"
        "    child = ways.Process(target=leave_open, args=('e',)); child.start(); child.join()\n"
    )
    result = draw(code)

    assert (result.code, result.json()["stderr"]) == (0, "")
    assert sorted(titles(result)) == ["a", "b", "c", "d", "e", "mine"]


def test_what_the_program_starts_is_as_without_charts(
    draw: Script, scripts_environment: Path
) -> None:
    """An isolated Python imports matplotlib as it would; a sitecustomize is not replaced."""
    (scripts_environment / "sitecustomize.py").write_text("print('customized')")
    child = (
        "import sys; sys.path.insert(0, '.'); import matplotlib;"
        " print(matplotlib.__file__, matplotlib.rcParams['backend'])"
    )
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-c', {child!r}])"
    result = draw(code, "--upload", "sitecustomize.py")

    assert (result.code, result.json()["stderr"]) == (0, "")
    assert result.json()["stdout"] == "customized\n/home/daytona/matplotlib/__init__.py agg\n"


def test_without_matplotlib_its_import_fails_as_it_should(run: Script) -> None:
    """What stands before it on the import path must not be taken for it."""
    code = (
        "try:\n    import matplotlib\nexcept ModuleNotFoundError as error:\n    print(error.name)"
    )
    result = run("--local", "--charts", "charts", "--code", code)

    assert (result.code, result.stdout) == (0, "matplotlib\n")
    assert "no chart" in result.stderr


def test_a_chart_goes_through_the_gate(draw: Script, scripts_environment: Path) -> None:
    """What is there stays, and whatever else the program puts beside its charts is held."""
    (scripts_environment / "charts").mkdir()
    (scripts_environment / "charts" / "chart-2.png").write_text("mine")
    code = (
        "plt.figure('one'); plt.show(); plt.figure('two'); plt.show()\n"
        "import daytona_charts, pathlib\n"
        "pathlib.Path(daytona_charts.SAVED, 'conftest.py').write_text('1')\n"
        "pathlib.Path(daytona_charts.SAVED, 'chart-3.png').write_text('no picture')\n"
    )
    result = draw(START + code)
    held = sorted(file["path"] for file in result.json()["held"])

    assert (scripts_environment / "charts" / "chart-2.png").read_text() == "mine"
    assert {"charts/chart-2.png", "charts/chart-3.png", "charts/conftest.py"} <= set(held)
    assert "fetch" in result.json()["fetch"]


def test_charts_come_from_a_setup_and_beside_downloads(
    run: Script, scripts_environment: Path
) -> None:
    """A package that --setup installs is hooked; figures of a setup are not the program's."""
    write_stub(scripts_environment)
    install = 'mkdir lib; mv matplotlib lib; cd lib; python3 -c "import matplotlib.pyplot"'
    (scripts_environment / "plot.py").write_text(
        f"{START}plt.figure('one'); plt.show()\nopen('table.csv', 'w').write('1,2')"
    )
    given = "--json --upload matplotlib --file plot.py --charts charts".split()
    given += ["--download", "table.csv:results/table.csv"]
    result = run("--local", "--setup", install, "--env", "PYTHONPATH=/home/daytona/lib", *given)

    assert (result.code, titles(result)) == (0, ["one"])
    assert [file["path"] for file in result.json()["files"]] == ["results/table.csv"]


@pytest.fixture(scope="module")
def plotting(server: LocalServer) -> Iterator[str]:
    """A sandbox in which matplotlib, pandas and seaborn can be imported."""
    from daytona import Daytona, DaytonaConfig

    client = Daytona(DaytonaConfig(api_key=server.api_key, api_url=server.api_url))
    sandbox: Any = client.create()
    with packed_site(server, "seaborn") as archive:
        sandbox.fs.upload_file(str(archive), "site.tar")
    assert sandbox.process.exec("tar xf site.tar && rm site.tar").exit_code == 0
    yield sandbox.id
    sandbox.delete()


REAL = {
    "every type": (
        9,
        "plt.plot([1, 2]); plt.show()\nplt.bar(['a'], [1]); plt.show()\n"
        "plt.barh(['a'], [1]); plt.show()\nplt.hist([1, 2, 2]); plt.show()\n"
        "plt.scatter([1, 2], [3, 4]); plt.show()\nplt.pie([1, 3]); plt.show()\n"
        "plt.boxplot([1, 2, 9]); plt.show()\nplt.imshow([[1, 2], [3, 4]]); plt.show()\n"
        "plt.figure().add_subplot(projection='3d'); plt.show()\n",
    ),
    "dates and no numbers": (
        3,
        "import datetime\nday = datetime.date(2026, 1, 1)\nnan = float('nan')\n"
        "plt.plot([day, day + datetime.timedelta(1)], [1, nan]); plt.show()\n"
        "plt.bar([day], [nan]); plt.show()\nplt.hist([1, nan, 2]); plt.show()\n",
    ),
    "pandas and seaborn": (
        3,
        "import pandas, seaborn\n"
        "frame = pandas.DataFrame({'a': [1, 2], 'b': [3, 4]})\n"
        "frame.plot(); plt.show()\nframe.plot.bar(); plt.show()\n"
        "seaborn.relplot(frame, x='a', y='b')\n",
    ),
    "its own backend": (
        2,
        "import matplotlib\nmatplotlib.use('Agg')\nplt.plot([1]); plt.show()\n"
        "plt.switch_backend('TkAgg'); plt.plot([2]); plt.pause(0.01)\n"
        "assert matplotlib.get_backend().lower() == 'tkagg'\n",
    ),
    "a poster": (1, "plt.figure(figsize=(100, 100), dpi=300)\n"),
}


@pytest.mark.network
@pytest.mark.thorough
@pytest.mark.parametrize("case", REAL)
def test_charts_of_the_real_matplotlib(
    run: Script, sandboxes_script: Script, plotting: str, case: str
) -> None:
    """Each is a picture, nothing is said of it, and the program ends well."""
    assert sandboxes_script("adopt", plotting, "--local").code == 0
    number, code = REAL[case]
    words = ("--local", "--json", "--sandbox", plotting, "--env", f"PYTHONPATH={SITE}")
    result = run(*words, "--charts", "charts", "--code", START + code)
    answer = result.json()

    assert (result.code, answer["stdout"]) == (0, "")
    assert "chart" not in answer["stderr"]
    assert answer["charts"] == [f"charts/chart-{n}.png" for n in range(1, number + 1)]
    assert all(Path(path).read_bytes().startswith(PNG) for path in answer["charts"])
