"""What the pages say of programs that are not ours, each with its source, date and check.

Daytona's cloud, its CLI and MCP server, Claude Code. Who writes such a sentence adds its row.
"""

from __future__ import annotations

from dataclasses import dataclass

READ = "read"  # by a person, in the source: it cannot be run here without an account
DAEMON = "Daytona's public daemon, v0.190.0 built and run beside ours"
SERVER = "the public source of Daytona's server, v0.190.0"
DOCUMENTS = "Daytona's documents, daytona.io/docs"
CLI = "the daytona CLI, 0.204.0 and 0.205.1 built and run"
CLAUDE_CODE = "Claude Code, the version in tests/external/node, run"
SDK = "the Python SDK, the version in requirements.lock"
GATE = "tests/external/test_gate.py::"
CLIENT = "tests/external/test_claude_code.py::"
HERE = "tests/docs/test_outside_facts.py::"


@dataclass(frozen=True)
class Fact:
    """Words of a page; `check` is the test that runs what they say, or `READ`."""

    page: str
    words: str
    source: str
    date: str
    check: str = READ


FACTS = (
    Fact(
        "SKILL.md",
        "a CLI login is no API key",
        CLI,
        "2026-11-25",
        "tests/kit/test_healthcheck.py::test_a_clis_login_comes_before_local_daytona",
    ),
    Fact(
        "SKILL.md", "The cloud's default has (July 2026) Python 3.14, Node 25", DAEMON, "2026-11-25"
    ),
    Fact(
        "SKILL.md",
        "A Bash call's limit is often 120 s",
        "Claude Code 2.1.332, driven offline",
        "2026-11-25",
    ),
    Fact(
        "SKILL.md",
        "At its limit it goes to the background",
        "Claude Code 2.1.332, driven offline",
        "2026-11-25",
    ),
    Fact(
        "SKILL.md",
        "this machine's shell fills in `$HOME` and `$(…)`, mostly unasked",
        CLAUDE_CODE,
        "2026-11-25",
        GATE + "test_what_the_walls_do_not_cover_is_as_the_readme_says",
    ),
    Fact(
        "SKILL.md",
        "The client asks before `sandboxes.py`",
        CLAUDE_CODE,
        "2026-11-27",
        GATE + "test_consent_is_the_clients_question",
    ),
    Fact(
        "SKILL.md",
        "If Daytona refuses the rule (`tier_network`, new accounts)",
        DOCUMENTS,
        "2026-11-25",
    ),
    Fact("README.md", "made in Daytona's dashboard", DOCUMENTS, "2026-11-27"),
    Fact(
        "README.md",
        "typed as `/daytona-sandbox:daytona-sandbox`",
        CLAUDE_CODE,
        "2026-11-27",
        CLIENT + "test_a_plugins_slash_command_has_the_plugins_name_before_it",
    ),
    Fact(
        "README.md",
        "`git clone URL ~/.claude/skills/daytona-sandbox`",
        CLAUDE_CODE,
        "2026-11-27",
        CLIENT + "test_the_description_is_in_the_listing",
    ),
    Fact(
        "README.md", "(Node 22.20 or newer)", "package.json of the `skills` package", "2026-11-25"
    ),
    Fact(
        "README.md",
        "Claude Code asks once before it loads the skill by itself",
        CLAUDE_CODE,
        "2026-11-27",
        CLIENT + "test_the_load_is_asked_about_and_where_nobody_can_answer_it_is_refused",
    ),
    Fact(
        "README.md",
        "(`/daytona-sandbox` loads it without; `claude -p`, which cannot ask, refuses)",
        CLAUDE_CODE,
        "2026-11-27",
        CLIENT + "test_a_typed_slash_command_grants_its_lines_without_a_question",
    ),
    Fact(
        "README.md",
        "That script is not in the grant, so Claude Code asks you",
        CLAUDE_CODE,
        "2026-11-27",
        GATE + "test_consent_is_the_clients_question",
    ),
    Fact(
        "README.md",
        "Claude Code itself decides which of these it runs unasked, and it runs many",
        CLAUDE_CODE,
        "2026-11-25",
        GATE + "test_what_the_walls_do_not_cover_is_as_the_readme_says",
    ),
    Fact(
        "README.md",
        "Claude Code allows some harmless variables and wrappers before a granted line",
        CLAUDE_CODE,
        "2026-11-27",
        GATE + "test_what_the_walls_do_not_cover_is_as_the_readme_says",
    ),
    Fact(
        "README.md",
        "`tests/external` holds lines of every row against the real Claude Code",
        CLAUDE_CODE,
        "2026-11-27",
        GATE + "test_every_row_of_the_table_is_here",
    ),
    Fact("README.md", "MCP server (`daytona mcp start`)", CLI, "2026-11-25"),
    Fact("README.md", "about 5,700 (39 tools)", CLI, "2026-11-25"),
    Fact(
        "README.md", "if the model passes `ttlMinutes` or `autoDeleteInterval`", CLI, "2026-11-25"
    ),
    Fact("README.md", "its 12 sandbox tools, with our local Daytona", CLI, "2026-11-25"),
    Fact("README.md", "no tool reads a host path", CLI, "2026-11-25"),
    Fact(
        "README.md",
        "Beside other vendors' command lines",
        "their public CLI sources and documents",
        "2026-11-25",
    ),
    Fact(
        "reference/exec.md",
        "Of `argv` a shell line is made, unquoted",
        DAEMON,
        "2026-11-25",
    ),
    Fact(
        "reference/exec.md", "in the cloud without bars, histograms and NaN", DAEMON, "2026-11-25"
    ),
    Fact(
        "reference/exec.md",
        "Sessions and their commands are listed in no order",
        DAEMON,
        "2026-11-25",
    ),
    Fact("reference/exec.md", "In a session a bare `wait` never ends", DAEMON, "2026-11-25"),
    Fact(
        "reference/exec.md",
        "`code_interpreter` imports no module of the working directory",
        DAEMON,
        "2026-11-25",
    ),
    Fact(
        "reference/files.md",
        "(without it the cloud's clone has no `origin/main`)",
        DAEMON,
        "2026-11-25",
    ),
    Fact(
        "reference/files.md",
        "In the cloud a new branch or a checkout is refused while files are changed",
        DAEMON,
        "2026-11-25",
    ),
    Fact(
        "reference/preview.md",
        "A browser may stay in for an hour after expiry",
        SERVER,
        "2026-11-23",
    ),
    Fact("reference/preview.md", "every port but 22222, 2280 and 33333", SERVER, "2026-11-25"),
    Fact(
        "reference/preview.md",
        "Below Tier 3 a browser sees a warning page",
        DOCUMENTS,
        "2026-11-25",
    ),
    Fact(
        "reference/preview.md",
        "New accounts (Tiers 1 and 2) have a fixed network",
        DOCUMENTS,
        "2026-11-25",
    ),
    Fact(
        "reference/preview.md",
        "Rules are refused there with a 400 (`tier_network`): a later change always, a domain list",
        "daytona#5163, clients#262",
        "2026-11-27",
    ),
    Fact(
        "reference/preview.md", "From Tier 3 on a list is complete", "tidebreak#893", "2026-11-25"
    ),
    Fact(
        "reference/sandboxes.md",
        "let raw `ApiException` through, `code_run` also urllib3's",
        SDK,
        "2026-11-27",
        HERE + "test_which_calls_let_raw_errors_through",
    ),
    Fact("reference/sandboxes.md", "`daytona-gpu` (ephemeral only)", DOCUMENTS, "2026-11-27"),
    Fact(
        "reference/sandboxes.md",
        "More than (4, 8, 10) has only `daytona-gpu` and Windows",
        DOCUMENTS,
        "2026-11-25",
    ),
    Fact("reference/sandboxes.md", "and in the cloud where the bill is", DOCUMENTS, "2026-11-27"),
    Fact("reference/sandboxes.md", "Unused for two weeks", DOCUMENTS, "2026-11-23"),
    Fact("reference/sandboxes.md", "Daytona starts nothing by the clock", DOCUMENTS, "2026-11-27"),
    Fact(
        "reference/sdk-vs-mcp.md",
        "organizations and quotas are the CLI's or the",
        CLI,
        "2026-11-25",
    ),
    Fact("reference/sdk-vs-mcp.md", "the key alone is ignored", CLI, "2026-11-25"),
    Fact(
        "reference/sdk-vs-mcp.md",
        "at `https://app.daytona.io/dashboard/keys`, with the scopes",
        DOCUMENTS,
        "2026-11-27",
    ),
    Fact("reference/sdk-vs-mcp.md", "it shows a menu and waits for a browser", CLI, "2026-11-25"),
    Fact(
        "reference/sdk-vs-mcp.md",
        "unless both variables are exported: then it fails",
        CLI,
        "2026-11-25",
    ),
    Fact(
        "reference/sdk-vs-mcp.md",
        "go through `HTTPS_PROXY`; the REST calls of the synchronous `Daytona` do not",
        SDK,
        "2026-11-27",
        HERE + "test_the_synchronous_client_goes_around_a_proxy",
    ),
    Fact(
        "reference/sdk-vs-mcp.md",
        "trust the authorities in `SSL_CERT_FILE`",
        SDK,
        "2026-11-27",
        HERE + "test_both_clients_trust_a_companys_authority",
    ),
    Fact("reference/sdk-vs-mcp.md", "Version 2 (SDK 2.x, app.daytona.com", DOCUMENTS, "2026-11-27"),
    Fact(
        "reference/sdk-vs-mcp.md",
        "as `Daytona().v0` with `daytona[v0-sdk]`",
        DOCUMENTS,
        "2026-11-27",
    ),
    Fact("reference/sdk-vs-mcp.md", "older versions join several with spaces", CLI, "2026-11-23"),
    Fact(
        "reference/sdk-vs-mcp.md",
        "After `--timeout` it is 1, and the output is lost",
        CLI,
        "2026-11-25",
    ),
    Fact("reference/sdk-vs-mcp.md", "configures Claude Desktop, without a key", CLI, "2026-11-25"),
    Fact("reference/sdk-vs-mcp.md", "12 for sandboxes and 27 `computer_use_*`", CLI, "2026-11-25"),
    Fact(
        "reference/sdk-vs-mcp.md",
        "it tries three times and may leave duplicates",
        CLI,
        "2026-11-23",
    ),
)
