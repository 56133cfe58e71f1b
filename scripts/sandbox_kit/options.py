"""The command lines of the three scripts: text to frozen dataclasses. Standard library only; --help and usage errors stop here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .conflicts import refuse
from .defaults import (
    AUTO_STOP_MARGIN_MIN,
    AUTO_STOP_MIN,
    DEFAULT_MAX_OUTPUT,
    DEFAULT_TIMEOUT_S,
    DEFAULT_TTL_MIN,
    ENV_NAME,
    KEPT_TTL_MIN,
    SETUP_MARGIN_MIN,
    whole_minutes,
)
from .errors import UsageFailure
from .flags import health_parser, run_flags, sandboxes_parser
from .network_rule import NetworkRule

FROM_STDIN = "-"


@dataclass(frozen=True)
class Repository:
    """What to clone; `token_name` is a variable of this machine, `token` its value once host_access gave it."""

    url: str
    branch: str | None = None
    commit: str | None = None
    depth: int | None = None
    token_name: str | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class RunOptions:
    """What run_in_sandbox.py was asked to do. Times carry their unit; sizes are GiB."""

    commands: tuple[str, ...] = ()
    code: str | None = None
    file: str | None = None
    language: str | None = None
    arguments: tuple[str, ...] = ()
    stdin: str | None = None
    stdin_data: bytes | None = field(default=None, repr=False)
    setup: tuple[str, ...] = ()
    cwd: str | None = None
    env: dict[str, str] = field(default_factory=dict, repr=False)
    env_names: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    secrets: dict[str, str] = field(default_factory=dict)
    uploads: tuple[str, ...] = ()
    downloads: tuple[str, ...] = ()
    charts: str | None = None
    force: bool = False
    repo: Repository | None = None
    policy: NetworkRule = field(default_factory=NetworkRule)
    preview: int | None = None
    serve: str | None = None
    local: bool = False
    snapshot: str | None = None
    image: str | None = None
    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None
    target: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    sandbox: str | None = None
    name: str | None = None
    keep: bool = False
    detach: bool = False
    timeout_s: int = DEFAULT_TIMEOUT_S
    ttl_min: int = DEFAULT_TTL_MIN
    auto_stop_min: int = AUTO_STOP_MIN
    json: bool = False
    max_output: int = DEFAULT_MAX_OUTPUT
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    dry_run: bool = False

    @property
    def stays(self) -> bool:
        """Whether the sandbox outlives this run whatever comes of it."""
        return self.keep or self.name is not None or self.sandbox is not None

    @property
    def keeps(self) -> bool:
        """Whether the sandbox outlives this run if all goes well."""
        return self.stays or self.preview is not None or self.detach


@dataclass(frozen=True)
class SandboxesOptions:
    """What sandboxes.py was asked to do."""

    action: str
    targets: tuple[str, ...] = ()
    local: bool = False
    json: bool = False
    debug: bool = False
    timeout_s: int | None = None
    max_output: int = DEFAULT_MAX_OUTPUT
    older_than_min: int = 0
    yes: bool = False
    port: int | None = None
    off: bool = False
    run_id: str = ""
    pairs: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True)
class HealthOptions:
    """What healthcheck.py was asked to do."""

    install: bool = False
    json: bool = False


AS_GIVEN = tuple(
    """
        code file arguments stdin cwd charts force preview serve local snapshot image
        cpu memory disk target sandbox name keep detach json max_output quiet verbose
        debug dry_run
    """.split()
)


def parse_run(argv: Sequence[str] | None = None) -> RunOptions:
    """Raises UsageFailure with the fix; SystemExit(0) after --help."""
    given = run_flags(argv or [])
    refuse(given)
    return run_options(given)


def run_options(given: argparse.Namespace) -> RunOptions:
    """Of flags that do not contradict each other; raises UsageFailure for times and names that cannot be."""
    return RunOptions(
        **{name: getattr(given, name) for name in AS_GIVEN},
        commands=tuple(given.command or ()),
        language=given.language or ("python" if given.code is not None else None),
        setup=tuple(given.setup),
        env=dict(split_variable(text) for text in given.env if "=" in text),
        env_names=tuple(variable_name(text) for text in given.env if "=" not in text),
        env_files=tuple(given.env_file),
        secrets=dict(split_assignment(text) for text in given.secret),
        uploads=tuple(given.upload),
        downloads=tuple(given.download),
        repo=None
        if given.repo is None
        else Repository(given.repo, given.branch, given.commit, given.depth, given.git_token),
        policy=NetworkRule(given.no_network, tuple(given.allow_domain), tuple(given.allow_cidr)),
        labels=dict(split_assignment(text) for text in given.label),
        timeout_s=given.timeout or DEFAULT_TIMEOUT_S,
        ttl_min=ttl_minutes(given),
        auto_stop_min=auto_stop_minutes(given),
    )


def ttl_minutes(given: argparse.Namespace) -> int:
    """Minutes of the sandbox's life; raises UsageFailure when the user's own are too few for the timeout."""
    needed = (
        SETUP_MARGIN_MIN if given.detach else whole_minutes(total_seconds(given)) + SETUP_MARGIN_MIN
    )
    if given.ttl is not None and given.ttl < needed:
        raise UsageFailure(
            f"--ttl {given.ttl} ends before --timeout {given.timeout or DEFAULT_TIMEOUT_S} can",
            fix=f"--ttl {needed}",
        )
    keeps = given.keep or given.name or given.detach or given.preview
    return int(given.ttl or max(KEPT_TTL_MIN if keeps else DEFAULT_TTL_MIN, needed))


def total_seconds(given: argparse.Namespace) -> int:
    """Seconds that all steps may take together."""
    steps = max(1, len(given.command or [])) + len(given.setup)
    return int(given.timeout or DEFAULT_TIMEOUT_S) * steps


def auto_stop_minutes(given: argparse.Namespace) -> int:
    """Idle minutes: what goes on by itself must not be stopped as idle, its ttl ends it."""
    needed = max(
        AUTO_STOP_MIN, whole_minutes(given.timeout or DEFAULT_TIMEOUT_S) + AUTO_STOP_MARGIN_MIN
    )
    if given.auto_stop is None:
        return 0 if given.detach or given.preview else needed
    if 0 < given.auto_stop < needed and (given.timeout or 0) > 0:
        raise UsageFailure(
            f"--auto-stop {given.auto_stop} may end it before --timeout {given.timeout} does",
            fix=f"--auto-stop {needed}",
        )
    return int(given.auto_stop)


def split_assignment(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def split_variable(text: str) -> tuple[str, str]:
    """NAME and value of K=V; the value is never repeated in a message."""
    name, value = split_assignment(text)
    return variable_name(name), value


def variable_name(name: str) -> str:
    if not re.fullmatch(ENV_NAME, name):
        raise UsageFailure(
            "--env: a variable's name has letters, digits and underscores, no digit first",
            fix="--env NAME=VALUE",
        )
    return name


def parse_sandboxes(argv: Sequence[str] | None = None) -> SandboxesOptions:
    """sandboxes.py: raises UsageFailure with the fix."""
    given = sandboxes_parser().parse_args(argv)
    return SandboxesOptions(
        given.action,
        tuple(getattr(given, "targets", ())),
        given.local,
        given.json,
        given.debug,
        timeout_s=getattr(given, "timeout", None),
        max_output=getattr(given, "max_output", DEFAULT_MAX_OUTPUT),
        older_than_min=getattr(given, "older_than", 0),
        yes=getattr(given, "yes", False),
        port=getattr(given, "port", None),
        off=getattr(given, "off", False),
        run_id=getattr(given, "run_id", ""),
        pairs=tuple(getattr(given, "pairs", ())),
        force=getattr(given, "force", False),
    )


def parse_health(argv: Sequence[str] | None = None) -> HealthOptions:
    """healthcheck.py: raises UsageFailure with the fix."""
    given = health_parser().parse_args(argv)
    return HealthOptions(given.install, given.json)
