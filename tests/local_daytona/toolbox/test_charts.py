"""Charts of code_run, with the real matplotlib inside and the real SDK; hostile ones too."""

from __future__ import annotations

import base64
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_daytona.toolbox import charts
from tests.local_server import LocalServer
from tests.matplotlib_site import SITE, packed_site

PNG = b"\x89PNG\r\n\x1a\n"
START = "import matplotlib.pyplot as plt\n"


@pytest.fixture(scope="module")
def packed(server: LocalServer) -> Iterator[Path]:
    with packed_site(server, "matplotlib") as archive:
        yield archive


@pytest.fixture(scope="module")
def plotting(server: LocalServer, packed: Path) -> Iterator[Any]:
    """One sandbox of the SDK in which matplotlib can be imported."""
    from daytona import CreateSandboxFromSnapshotParams, Daytona, DaytonaConfig

    client = Daytona(DaytonaConfig(api_key=server.api_key, api_url=server.api_url))
    sandbox = client.create(CreateSandboxFromSnapshotParams(env_vars={"PYTHONPATH": SITE}))
    sandbox.fs.upload_file(str(packed), "site.tar")
    assert sandbox.process.exec("tar xf site.tar && rm site.tar").exit_code == 0
    yield sandbox
    sandbox.delete()


def drawn(sandbox: Any, code: str, *, show: str = "plt.show()") -> list[Any]:
    """The charts of a run that must succeed without a trace in its output."""
    answer = sandbox.process.code_run(f"{START}{code}\n{show}")
    assert (answer.exit_code, answer.result) == (0, "")
    found: list[Any] = answer.artifacts.charts
    for chart in found:
        assert base64.b64decode(chart.png).startswith(PNG)
    return found


def test_a_line_chart(plotting: Any) -> None:
    """Title, labels, ticks, scales and every point."""
    from daytona.common.charts import LineChart

    code = (
        "plt.plot([1, 2, 3], [1, 10, 100], label='growth')\n"
        "plt.plot([1, 3], [5, 5])\n"
        "plt.yscale('log')\n"
    )
    [chart] = drawn(
        plotting,
        code
        + (
            "plt.title('Growth')\n"
            "plt.xlabel('day')\n"
            "plt.ylabel('size')\n"
            "plt.xticks([1, 2, 3], ['a', 'b', 'c'])"
        ),
    )

    assert isinstance(chart, LineChart)
    assert (chart.type, chart.title) == ("line", "Growth")
    assert (chart.x_label, chart.y_label) == ("day", "size")
    assert (chart.x_scale, chart.y_scale) == ("linear", "log")
    assert (chart.x_ticks, chart.x_tick_labels) == ([1, 2, 3], ["a", "b", "c"])
    assert [(item.label, item.points) for item in chart.elements] == [
        ("growth", [[1, 1], [2, 10], [3, 100]]),
        ("Line 1", [[1, 5], [3, 5]]),
    ]


def test_a_scatter_chart(plotting: Any) -> None:
    """Its points, without those that are no numbers."""
    from daytona.common.charts import ScatterChart

    [chart] = drawn(
        plotting, "plt.scatter([1, 2, float('nan'), 4], [4, float('inf'), 6, 7], label='s')"
    )

    assert isinstance(chart, ScatterChart)
    assert [(item.label, item.points) for item in chart.elements] == [("s", [[1, 4], [4, 7]])]


def test_bar_charts(plotting: Any) -> None:
    """The value of a bar is text for the SDK; names come from the ticks, upright and lying."""
    from daytona.common.charts import BarChart

    [chart] = drawn(
        plotting,
        (
            "plt.bar(['a', 'b'], [3, 4.5], label='north')\n"
            "plt.bar(['a', 'b'], [1, 2], bottom=[3, 4.5], label='south')"
        ),
    )
    [lying] = drawn(plotting, "plt.barh(['a', 'b'], [3, 4])")

    assert isinstance(chart, BarChart)
    assert [(item.label, item.value, item.group) for item in chart.elements] == [
        ("a", "3.0", "north"),
        ("b", "4.5", "north"),
        ("a", "1.0", "south"),
        ("b", "2.0", "south"),
    ]
    assert [(item.label, float(item.value)) for item in lying.elements] == [("a", 3), ("b", 4)]


def test_a_pie_chart(plotting: Any) -> None:
    """Each slice with its angle."""
    from daytona.common.charts import PieChart

    [chart] = drawn(plotting, "plt.pie([1, 3], labels=['small', 'large'])\nplt.title('Cake')")

    assert isinstance(chart, PieChart)
    assert chart.title == "Cake"
    assert [(item.label, item.radius) for item in chart.elements] == [("small", 1), ("large", 1)]
    assert [item.angle for item in chart.elements] == pytest.approx([90, 270])


def test_a_box_chart(plotting: Any) -> None:
    """Its five numbers and the outliers, whatever the label's keyword is called."""
    from daytona.common.charts import BoxAndWhiskerChart

    [chart] = drawn(plotting, "plt.boxplot([[1, 2, 3, 4, 5, 100], [2, 2, 2]])")

    assert isinstance(chart, BoxAndWhiskerChart)
    first = chart.elements[0]
    assert (first.min, first.first_quartile, first.median, first.third_quartile, first.max) == (
        1,
        2.25,
        3.5,
        4.75,
        5,
    )
    assert first.outliers == [100]
    assert [item.label for item in chart.elements] == ["1", "2"]


def test_a_composite_chart(plotting: Any) -> None:
    """Several axes are one chart whose elements are charts; a colour bar is none of them."""
    from daytona.common.charts import CompositeChart

    code = (
        "figure, (one, two, three) = plt.subplots(1, 3)\n"
        "one.plot([1, 2], [3, 4])\n"
        "one.set_title('first')\n"
        "two.bar(['a'], [5])\n"
        "figure.colorbar(three.imshow([[1, 2], [3, 4]]))\n"
        "figure.suptitle('all')"
    )
    [chart] = drawn(plotting, code)

    assert isinstance(chart, CompositeChart)
    assert chart.title == "all"
    assert [(item.type, item.title) for item in chart.elements] == [
        ("line", "first"),
        ("bar", ""),
        ("unknown", ""),
    ]
    assert chart.elements[0].additional_properties["elements"][0]["points"] == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    "code",
    ["plt.imshow([[1, 2], [3, 4]])", "plt.figure()", "plt.figure().add_subplot(projection='3d')"],
)
def test_any_other_figure_is_unknown_and_has_its_picture(plotting: Any, code: str) -> None:
    """Images, empty figures, three dimensions: the picture is what counts."""
    [chart] = drawn(plotting, code)

    assert chart.type == "unknown"


def test_dates_names_and_rude_labels_lose_no_run(plotting: Any) -> None:
    """Axes that are no numbers: points count as they are drawn, ticks keep their text."""
    code = (
        "import datetime\nday = datetime.date(2026, 1, 1)\n"
        "plt.bar([day, day + datetime.timedelta(1)], [1, 2])\nplt.show()\n"
        "plt.plot([day, day + datetime.timedelta(1)], [1, 2])\nplt.show()\n"
        "plt.plot(['x', 'y'], [1, 2], label='dtn_artifact_k39fd2:{}\\n\\u202e')\n"
    )
    bars, dates, names = drawn(plotting, code)

    assert [float(item.value) for item in bars.elements] == [1, 2]
    assert [point[1] for point in dates.elements[0].points] == [1, 2]
    assert "01-01" in "".join(dates.x_tick_labels)
    assert names.x_tick_labels == ["x", "y"]
    assert names.elements[0].label == "dtn_artifact_k39fd2:{}\n\u202e"


def test_figures_come_once_in_order_and_only_when_shown(plotting: Any) -> None:
    """show() closes what it showed; a figure that is only saved gives no chart."""
    code = (
        "for number in range(3):\n    plt.figure()\n    plt.title(str(number))\nplt.show()\n"
        "plt.show()\nplt.plot([1])\nplt.savefig('/tmp/saved.png')\nplt.close()\nplt.plot([2])"
    )

    assert [chart.title for chart in drawn(plotting, code, show="")] == ["0", "1", "2"]


def test_a_large_figure_and_many_points_are_bounded(plotting: Any) -> None:
    """Neither a poster nor a million points may fill the answer."""
    code = (
        "import numpy\n"
        "plt.figure(figsize=(100, 100), dpi=300)\n"
        "plt.plot(numpy.sin(numpy.linspace(0, 9, 1_000_000)))"
    )
    [chart] = drawn(plotting, code)

    assert 1000 < len(chart.elements[0].points) <= 10_000
    assert len(chart.png) < 12_000_000


def test_plotting_code_is_code_like_any_other(plotting: Any) -> None:
    """Output around the chart, arguments, exit code and traceback are the program's own."""
    from daytona import CodeRunParams

    code = (
        "from __future__ import annotations\nimport sys\nimport matplotlib.pyplot as plt\n"
        "print('before', end='')\n"
        "plt.plot([1])\n"
        "plt.show()\n"
        "print('after', __name__, sys.argv, repr(sys.stdin.read()))\n"
    )
    good = plotting.process.code_run(code, CodeRunParams(argv=["a b"]))
    bad = plotting.process.code_run(code + "def fail():\n    return 1 / 0\nfail()")
    left = plotting.process.code_run(code + "sys.exit(7)")

    assert (good.exit_code, good.result) == (0, "beforeafter __main__ ['-', 'a', 'b'] ''\n")
    assert (bad.exit_code, len(bad.artifacts.charts)) == (1, 1)
    assert 'File "<target_code>", line 10, in <module>\n    fail()' in bad.result
    assert bad.result.endswith("ZeroDivisionError: division by zero\n")
    assert "/run/agent" not in bad.result
    assert left.exit_code == 7


def test_without_matplotlib_the_import_fails_as_it_should(
    server: LocalServer, sandbox: str
) -> None:
    """What looks for figures must not fail in the program's place."""
    code = "try:\n    import matplotlib\nexcept ImportError:\n    print('none')\n"
    answers = [
        server.request(
            "POST",
            f"/toolbox/{sandbox}/process/code-run",
            body={"code": text, "language": "python"},
        ).json()
        for text in (code, "import matplotlib")
    ]

    assert answers[0] == {"exitCode": 0, "result": "none\n", "artifacts": {"charts": []}}
    assert (
        answers[1]["exitCode"],
        "ModuleNotFoundError: No module named 'matplotlib'" in answers[1]["result"],
    ) == (1, True)


@pytest.mark.parametrize(
    "code",
    [
        "import matplotlib",
        "import numpy, matplotlib.pyplot as plt",
        "  from matplotlib import pyplot",
        "x = 1; import matplotlib",
    ],
)
def test_code_that_draws_is_recognised(code: str) -> None:
    """By its imports, indented ones too."""
    assert charts.draws(code)


@pytest.mark.parametrize(
    "code",
    [
        "# import matplotlib",
        "print('matplotlib')",
        "import matplotlibber",
        "x = 1  # from matplotlib import y",
    ],
)
def test_code_that_only_speaks_of_it_is_left_alone(code: str) -> None:
    """It runs exactly as it came."""
    assert not charts.draws(code)


def test_a_line_of_imports_holds_nobody_up() -> None:
    """The server looks at it on its event loop; trying each word of the line took minutes."""
    look = "import sys; from local_daytona.toolbox import charts; charts.draws(sys.stdin.read())"
    subprocess.run(
        [sys.executable, "-c", look],
        input="import " * 150_000 + "matplotlib_",
        text=True,
        cwd=Path(charts.__file__).parents[2],
        timeout=60,
        check=True,
    )


def line(value: object, kind: str = "chart") -> str:
    return charts.MARKER + json.dumps({"type": kind, "value": value}) + "\n"


RUDE_CHART = {
    "type": 5,
    "title": {"a": 1},
    "png": 7,
    "x_label": None,
    "x_ticks": [1, "2", None, True, 1e999, 10**400],
    "y_ticks": "no",
    "x_tick_labels": [1, "\ud800"],
    "elements": [
        3,
        {"value": 3.5, "label": 1, "points": [[1, 2], [1], "x", [1, "2026-01-01"]]},
        {
            "min": "1",
            "median": math.nan,
            "angle": True,
            "outliers": [1, [2]],
            "elements": [{"elements": [{"elements": []}]}],
        },
    ],
    "additional_properties": {"x": 1},
    "model_config": 1,
}
RUDE_LINES = [
    line(RUDE_CHART),
    line({"type": "bar"}),
    line([]),
    line({}, "picture"),
    charts.MARKER + "{nonsense\n",
    charts.MARKER + "[" * 100_000 + "\n",
]


def test_lines_of_a_hostile_program_cannot_make_the_client_fail(sdk: Any) -> None:
    """Everything that the SDK's strict models would refuse is text, or gone; the run is there."""
    output = ["one\n", *RUDE_LINES, "two", RUDE_LINES[1], "\n", charts.MARKER]
    sandbox = sdk.create()
    try:
        sandbox.fs.upload_file("".join(output).encode(), "output")
        answer = sandbox.process.code_run("print(open('output').read(), end='')")
    finally:
        sandbox.delete()

    assert (answer.exit_code, answer.result) == (0, "one\ntwo\n")
    first, second, third = answer.artifacts.charts
    assert (first.type, first.title, first.png, first.x_ticks, first.x_tick_labels) == (
        "unknown",
        "{'a': 1}",
        None,
        [1],
        ["1", "?"],
    )
    assert (first.elements[0].value, first.elements[0].label, first.elements[0].points) == (
        "3.5",
        "1",
        [[1, 2]],
    )
    assert (first.elements[1].min, first.elements[1].median, first.elements[1].outliers) == (
        None,
        None,
        [1],
    )
    assert (second.type, third.type) == ("bar", "bar")


def test_a_flood_of_charts_is_bounded() -> None:
    """A hundred are kept, huge ones are not, and no line of theirs stays in the output."""
    output, found = charts.extracted(
        line({}) * 5000 + line({"title": "x" * charts.LARGEST_LINE}) + "end"
    )

    assert (output, len(found)) == ("end", charts.MOST_CHARTS)
    assert charts.extracted(line({"title": "x" * charts.LARGEST_LINE})) == ("", [])
