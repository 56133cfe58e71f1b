"""Blocks that are not run, each with its reason. A name that no page has fails, so the list cannot rot."""

from __future__ import annotations

# Emptied by issue C, which brings git and egress to local Daytona.
WAITS_FOR_ISSUE_C: dict[str, str] = {
    'examples/clone-and-test.md: python3 "${CLAUDE_SKILL_DIR}/scripts/run_in_sandbox.py" --repo https://github.com/pypa/sampleproject.git '
    '--branch main --timeout 900 --command "cd repo && python3 -m pip install -q -e . pytest && python3 -m pytest -q"': (
        "clones and installs: needs git and egress; its flags are checked by test_pages"
    ),
}

# Needs a tool or an account that the suite does not have; checked in another way, which the reason names.
ANOTHER_MACHINE: dict[str, str] = {
    'README.md: python3 scripts/healthcheck.py --install && python3 scripts/run_in_sandbox.py --local --code "print(sum(range(100)))"': (
        "installs from the package index: run whole by tests/external/test_install.py, as root and as an ordinary user"
    ),
    "README.md: python3 -m tests": "this very suite; run by .ci/run",
}
