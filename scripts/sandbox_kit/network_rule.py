"""What a sandbox may reach: all, nothing, or only these; and whether a rule loosens another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkRule:
    """What the program may reach: everything, nothing, or only these.

    At most one of the three is set, as Daytona takes them.
    """

    block_all: bool = False
    domains: tuple[str, ...] = ()
    cidrs: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.block_all or bool(self.domains) or bool(self.cidrs)

    def normalized(self) -> NetworkRule:
        """As it compares: a server may have sorted or spelt its lists in its own way."""
        return NetworkRule(
            self.block_all, tuple(sorted(map(str.lower, self.domains))), tuple(sorted(self.cidrs))
        )

    def loosens(self, there: NetworkRule) -> bool:
        """Whether this rule lets through what the one that is there keeps out; no rule does not."""
        if not self or not there or self.block_all:
            return False
        if there.block_all:
            return True
        if there.domains:
            return not self.domains or not all(
                any(is_domain_under(name, other) for other in there.domains)
                for name in self.domains
            )
        return not self.cidrs or not all(
            any(is_range_within(text, other) for other in there.cidrs) for text in self.cidrs
        )

    def describe(self) -> str:
        """For people."""
        if not self:
            return "no network rule"
        return (
            "no network"
            if self.block_all
            else "network only to " + ", ".join(self.domains or self.cidrs)
        )


def is_domain_under(name: str, pattern: str) -> bool:
    """Whether a domain rule lets through no more than another one.

    `*.example.org` has all names below, not example.org itself.
    """
    name, pattern = name.lower(), pattern.lower()
    return name == pattern or (
        pattern.startswith("*.") and name.removeprefix("*.").endswith(pattern[1:])
    )


def is_range_within(text: str, other: str) -> bool:
    """False also for what is no range."""
    import ipaddress

    try:
        inner, outer = (
            ipaddress.ip_network(text, strict=False),
            ipaddress.ip_network(other, strict=False),
        )
        return (
            isinstance(inner, ipaddress.IPv4Network)
            and isinstance(outer, ipaddress.IPv4Network)
            and inner.subnet_of(outer)
        )
    except ValueError:
        return False
