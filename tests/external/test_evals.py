"""evals/: their form, and that the real CLI loads, runs and scores every case.

What a real model scores is not measured here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, copy_tracked
from .scripted_model import Call, Say, ScriptedModel, Turn, serving
from .tools import claude_code

EVALS = ROOT / "evals"
CASES = sorted(path.parent.name for path in EVALS.glob("*/prompt.md"))
DETERMINISTIC = ("tool_used", "tool_order", "regex", "file_exists")


def graders(case: str) -> list[str]:
    return [path.read_text() for path in sorted((EVALS / case / "graders").glob("*.md"))]


def test_there_are_enough_cases_and_queries() -> None:
    """Twelve at least; twenty requests each way, none twice."""
    queries = json.loads((EVALS / "triggers.json").read_text())
    every = queries["should_trigger"] + queries["should_not_trigger"]

    assert len(CASES) >= 12
    assert (len(queries["should_trigger"]), len(queries["should_not_trigger"])) == (20, 20)
    assert len(set(every)) == 40


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_deterministic_grader(case: str) -> None:
    """A judge alone is an opinion."""
    kinds = [re.search(r"^type: (\w+)$", text, re.MULTILINE) for text in graders(case)]

    assert all(kinds)
    assert any(kind is not None and kind[1] in DETERMINISTIC for kind in kinds)


class OneConversationEach(ScriptedModel):
    """Every conversation loads the skill and says what the first case wants to hear."""

    def turn(self, request: dict[str, Any], place: int) -> Turn:
        told = json.dumps(request["messages"])
        return (
            Say("It printed 4950.")
            if "tool_result" in told or not request.get("tools")
            else Call("Skill", {"skill": "daytona-sandbox"})
        )


EVAL_FLAGS = """
    --runs 1 --ablation none --trust-plugin --no-publish --concurrency 4 --threshold 0 --json
""".split()


def environment(home: Path, address: str) -> dict[str, str]:
    """All that the CLI knows of this machine; `address` is the model's."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": address,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_TMPDIR": str(home),
    }


def run_evals(folder: Path, model: ScriptedModel, *flags: str) -> tuple[dict[str, Any], str]:
    """The result that `claude plugin eval` writes, and what it prints."""
    result = folder.parent / "result.json"
    command = [str(claude_code()), "plugin", "eval", str(folder), *EVAL_FLAGS, str(result), *flags]
    with serving(model) as address:
        done = subprocess.run(
            command,
            env=environment(folder.parent, address),
            cwd=folder.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert result.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(result.read_text())
    return found, done.stdout + done.stderr


def test_the_cli_runs_and_scores_every_case(tmp_path: Path) -> None:
    """Every case loads and is scored; a script that only loads the skill does not pass them all.

    Nobody else reports a case that does not load. Bash is not granted, because the CLI would
    confine it by a bubblewrap of its own: what forbids a Bash call passes, what wants one fails.
    """
    folder = tmp_path / "daytona-sandbox"
    copy_tracked(folder)
    result, printed = run_evals(folder, OneConversationEach(()))
    runs = {case["name"]: case["arms"]["with"][0] for case in result["cases"]}
    verdicts = {
        (name, grader["name"]): grader["passed"]
        for name, run in runs.items()
        for grader in run["graders"]
    }

    assert sorted(runs) == CASES, printed
    assert {name for name, run in runs.items() if run.get("error")} == set()
    assert verdicts["trigger", "loads-the-skill"]
    assert verdicts["trigger", "says-the-result"]
    assert verdicts["trigger", "not-here"]
    assert not verdicts["trigger", "runs-in-a-sandbox"]
    assert not verdicts["no-trigger", "leaves-the-skill-alone"]
    assert all(run["score"] < 1 for run in runs.values())


RUN = 'python3 -I "/skill/scripts/run_in_sandbox.py" --local'
SANDBOXES = 'python3 -I "/skill/scripts/sandboxes.py"'
CHECK = 'python3 -I "/skill/scripts/healthcheck.py"'
# A case's right calls and last words; then a call or words that spoil it.
EVERYDAY: dict[str, tuple[list[str], str, list[str]]] = {
    "everyday-plot": (
        [f"{RUN} --file plot.py --charts charts"],
        "charts/chart-1.png",
        ["python3 plot.py", f"{RUN} --keep --file plot.py --charts charts"],
    ),
    "everyday-table": (
        [f"{RUN} --code 'x' --download out:results"],
        "results/table.csv",
        ["cd x && python3 table.py"],
    ),
    "everyday-stdin": (
        [f"echo hello world | {RUN} --file shout.py --stdin - -- '!!'"],
        "It prints HELLO WORLD!!",
        ["echo hello world | python3 shout.py '!!'"],
    ),
    "everyday-project-tests": (
        [f"{RUN} --upload . --setup 'pip install pytest' --no-network --command 'pytest -q'"],
        "1 of 2 passes",
        ["pytest -q", "pip install pytest"],
    ),
    "everyday-many": (
        [f"{RUN} --each 1000 --each 10000 --each 100000 --file primes.py"],
        "168, 1,229 and 9,592",
        ["(python3 primes.py 1000)"],
    ),
    "everyday-no-network": (
        [f"{RUN} --no-network --file look.py"],
        "It prints: it is closed",
        ["python look.py"],
    ),
    "everyday-server": (
        [f"{RUN} --upload site --serve 'x' --port 8000 --command 'curl -f localhost:8000'"],
        "The heading Harbour is delivered",
        [f"{RUN} --upload site --serve 'x' --preview 8000"],
    ),
    "everyday-link": (
        [f"{RUN} --upload site --serve 'x' --preview 8000 --ttl 30"],
        "http://127.1.1.1:8000/?x; sandboxes.py delete ends it",
        [f"{SANDBOXES} publish work"],
    ),
    "everyday-secret": (
        [f"{RUN} --upload . --command 'python3 main.py'"],
        "It lists main.py",
        [f"{RUN} --env-file .env --command x", f"{RUN} --env REPORT_TOKEN=tok_3f9a2c71d5"],
    ),
    "everyday-set-up-once": (
        [
            f"{RUN} --name work --setup 'pip install tabulate' --command true",
            f"{SANDBOXES} snapshot work with-tabulate --local",
            f"{SANDBOXES} delete work --local",
            f"{RUN} --snapshot with-tabulate --no-network --file show.py",
        ],
        "It prints ready",
        ["node x.js"],
    ),
    "clone-and-test": ([], "", ["cd /tmp && git clone https://example.com/x"]),
}


def verdicts_of(case: str, calls: list[str], words: str) -> dict[str, bool]:
    """What the graders of Bash calls and last words say, as the CLI applies them."""
    found = {}
    for path in sorted((EVALS / case / "graders").glob("*.md")):
        fields = dict(re.findall(r"^(\w+): '?(.*?)'?$", path.read_text(), re.MULTILINE))
        if fields["type"] == "regex" and fields["target"] == "last_message":
            found[path.stem] = re.search(fields["pattern"], words, re.IGNORECASE) is not None
        if fields["type"] == "tool_used" and fields["tool"] == "Bash":
            inputs = [json.dumps({"command": call}, separators=(",", ":")) for call in calls]
            number = sum(re.search(fields["input_match"], text) is not None for text in inputs)
            most = int(fields.get("max", len(calls)))
            found[path.stem] = int(fields.get("min", 1)) <= number <= most
    return found


@pytest.mark.parametrize("case", [name for name in EVERYDAY if name.startswith("everyday-")])
def test_graders_pass_what_is_right(case: str) -> None:
    """With the look at the engine that SKILL.md wants first."""
    calls, words, _ = EVERYDAY[case]

    assert not [
        name for name, good in verdicts_of(case, [CHECK, *calls], words).items() if not good
    ]


@pytest.mark.parametrize("case", EVERYDAY)
def test_graders_find_what_is_wrong(case: str) -> None:
    """A call that runs it here, leaves something or sends a secret; and nothing done at all."""
    calls, words, wrong = EVERYDAY[case]
    right = verdicts_of(case, calls, words)

    for call in wrong:
        spoilt = verdicts_of(case, [*calls, call], words)
        assert [name for name in right if right[name] and not spoilt[name]], call
    assert not all(verdicts_of(case, [], "").values()) or case == "clone-and-test"
