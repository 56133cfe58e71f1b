"""The numbers and names that the command lines promise: defaults, bounds, patterns of names.

The skill's pages are checked against them.
"""

from __future__ import annotations

DEFAULT_TIMEOUT_S = 300
DEFAULT_TTL_MIN = 60
KEPT_TTL_MIN = 240
LONGEST_TTL_MIN = 60 * 24 * 30
SETUP_MARGIN_MIN = 10  # cloning and starting happen inside the ttl as well
AUTO_STOP_MIN = 15
AUTO_STOP_MARGIN_MIN = 5
JOBS, MOST_VALUES = 8, 1000  # of --each: at once, and in all
DEFAULT_MAX_OUTPUT = 16_000
LONGEST_TIMEOUT_S = 7 * 24 * 3600
PREVIEW_S = 3600
# Daytona's proxy and daemon keep these for themselves.
RESERVED_PORTS = (22222, 2280, 33333)
MOST_CIDRS, MOST_DOMAINS = 10, 20
LARGEST_TEXT = 8 << 20  # bytes of a program, of an --env-file
LARGEST_TRANSFER = 1 << 30
UNPACK_TIMEOUT_S = 300  # of one archive, in the sandbox
MOST_FILES = 20_000

# Patterns for re.fullmatch, which keeps what it compiled: compiling all of them here would cost
# every --help a millisecond.
ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
VAULT_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"
SANDBOX_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
LABEL = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}"
DOMAIN = r"(?i)(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
OUR_LABELS = ("managed-by", "run-id", "user-id")
# Daytona's own snapshots, the default first: vCPUs, GiB of memory, GiB of disk.
SNAPSHOTS = {
    "daytona-small": (1, 1, 3),
    "daytona-medium": (2, 4, 8),
    "daytona-large": (4, 8, 10),
}


def whole_minutes(seconds: int) -> int:
    """Whole minutes that hold `seconds`."""
    return -(-seconds // 60)


def list_snapshots() -> str:
    """As --help names them."""
    first, *others = SNAPSHOTS
    return ", ".join([first, *(f"-{name.rpartition('-')[2]}" for name in others)])


def suggest_larger_snapshots() -> str:
    """What to type for more than the default has."""
    sizes = [f"{name} ({cpus} vCPU, {memory} GiB)" for name, (cpus, memory, _) in SNAPSHOTS.items()]
    return "--snapshot " + " or ".join(sizes[1:])
