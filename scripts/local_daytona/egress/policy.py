"""Which names and addresses a sandbox may reach: pure decisions, no socket is opened here.

Python's `is_global` is not used: it also refuses documentation ranges, which some networks use for
their package mirrors.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_CIDRS, MOST_DOMAINS = 10, 20  # Daytona's own bounds
LONGEST_NAME = 253
LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*")
DOMAIN = re.compile(rf"(?:\*\.)?{LABEL}(?:\.{LABEL})+")
NUMBER = r"(?:0x[0-9a-f]*|[0-9]+)"
NUMERIC = re.compile(rf"{NUMBER}(?:\.{NUMBER}){{0,3}}")
ENDS_IN_NUMBER = re.compile(rf"(?:.*\.)?{NUMBER}")

# Never reachable, whatever the operator opens: this machine itself, its cloud's metadata, and what
# is no single host.
CLOSED = {
    "0.0.0.0/8": "this machine",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local and metadata",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved and broadcast",
    "100.100.100.200/32": "metadata",
    "168.63.129.16/32": "metadata",
    "::/128": "this machine",
    "::1/128": "loopback",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
    "fd00:ec2::254/128": "metadata",
}
# Reachable only in ranges that the operator names (`serve --allow-range`).
PRIVATE = {
    "10.0.0.0/8": "private",
    "172.16.0.0/12": "private",
    "192.168.0.0/16": "private",
    "100.64.0.0/10": "carrier-grade NAT",
    "192.0.0.0/24": "protocol assignments",
    "198.18.0.0/15": "benchmarking",
    "fc00::/7": "private",
    "fec0::/10": "site-local",
    "::/96": "IPv4-compatible",
    "::ffff:0:0:0/96": "translated IPv4",
    "64:ff9b:1::/48": "local NAT64",
    "100::/64": "discard",
    "2001::/32": "Teredo",
}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
Ranges = tuple[tuple[Network, str], ...]


def _ranges(table: dict[str, str]) -> Ranges:
    return tuple((ipaddress.ip_network(text), word) for text, word in table.items())


CLOSED_RANGES, PRIVATE_RANGES = _ranges(CLOSED), _ranges(PRIVATE)


@dataclass(frozen=True)
class Target:
    """What a client asked for: a host in lower case, and the port.

    `address` is set when the host is one in any spelling.
    """

    host: str
    port: int
    address: Address | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, host: str, port: int) -> Target:
        """From a host without brackets; raises Refused (400) for no name and no address."""
        if not 1 <= port <= 65535:
            raise Refused(400, "the port must be from 1 to 65535")
        address = parse_address(host)
        if address is not None:
            return cls(str(address), port, address)
        name = host.lower().removesuffix(".")
        if len(name) > LONGEST_NAME or not NAME.fullmatch(name) or ENDS_IN_NUMBER.fullmatch(name):
            raise Refused(400, "the host is neither a name nor an address")
        return cls(name, port)


def parse_address(host: str) -> Address | None:
    """An address in any spelling that a resolver takes for one; None for a name.

    Such as 0x7f000001, 2130706433, 0177.1.
    """
    text = host.lower().removesuffix(".")
    try:
        return unmapped(ipaddress.ip_address(text)) if "%" not in text else None
    except ValueError:
        pass
    if not NUMERIC.fullmatch(text):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def unmapped(address: Address) -> Address:
    """::ffff:1.2.3.4 is another spelling of 1.2.3.4, and dialled as that."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def meanings(address: Address) -> list[Address]:
    """The address, and the IPv4 address that a translator or tunnel on the way would make of it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    found: list[Address] = [address]
    found += [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner is not None]
    if address in NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def is_own(address: Address) -> bool:
    """Whether the host would take a connection to it for its own.

    With ip_nonlocal_bind set it says yes to all: nothing is reachable then.
    """
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Filter:
    """The deny list of this server, for every sandbox; `opened` are the operator's ranges."""

    opened: tuple[Network, ...] = ()
    is_own: Callable[[Address], bool] = is_own

    def denies(self, address: Address) -> str | None:
        """Which kind of address it is that nobody may reach; None when it may be reached."""
        return next(filter(None, map(self._denies, meanings(address))), None)

    def _denies(self, address: Address) -> str | None:
        if word := kind(address, CLOSED_RANGES):
            return word
        if any(address in network for network in self.opened):
            return None
        if word := kind(address, PRIVATE_RANGES):
            return word
        return "this machine's own" if self.is_own(address) else None


def kind(address: Address, ranges: Ranges) -> str | None:
    return next((word for network, word in ranges if address in network), None)


@dataclass(frozen=True)
class Rules:
    """What one sandbox's settings add to the filter; a list that is given is strict."""

    block_all: bool = False
    cidrs: tuple[ipaddress.IPv4Network, ...] = ()
    domains: tuple[str, ...] = ()

    def refuse_name(self, target: Target) -> None:
        """Raises Refused (403) for a target whose name or spelling is not allowed.

        Before anything is resolved: such a name must not leave as a DNS query either.
        """
        if self.block_all:
            raise Refused(403, f"{target} refused: networkBlockAll is on")
        if self.domains and not self._lists(target):
            raise Refused(403, f"{target} refused: not on domainAllowList")

    def _lists(self, target: Target) -> bool:
        """Whether a domain list names it; no address is on one."""
        is_name = target.address is None
        return is_name and any(covers(domain, target.host) for domain in self.domains)

    def admitted(self, addresses: list[Address]) -> list[Address]:
        """Those of `addresses` that a CIDR list admits; all without one."""
        if not self.cidrs:
            return addresses
        return [each for each in addresses if any(each in network for network in self.cidrs)]


def covers(domain: str, name: str) -> bool:
    """`*.example.com` covers example.com and everything below it, as Daytona's does."""
    if domain.startswith("*."):
        return name == domain[2:] or name.endswith(domain[1:])
    return name == domain


def entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",")] if text.strip() else []


def parse_cidrs(text: str) -> tuple[ipaddress.IPv4Network, ...]:
    """networkAllowList; raises ValueError with a sentence for the user."""
    found = entries(text)
    if len(found) > MOST_CIDRS:
        raise ValueError(f"networkAllowList takes at most {MOST_CIDRS} entries")
    return tuple(_cidr(entry) for entry in found)


def _cidr(entry: str) -> ipaddress.IPv4Network:
    if re.fullmatch(r"[0-9.]+/[0-9]{1,2}", entry):
        try:
            return ipaddress.IPv4Network(entry, strict=False)
        except ValueError:
            pass
    raise ValueError(
        f"networkAllowList: {entry[:100]!r} is not an IPv4 network such as 203.0.113.0/24;"
        " names belong in domainAllowList"
    )


def parse_domains(text: str) -> tuple[str, ...]:
    """domainAllowList; raises ValueError with a sentence for the user."""
    found = entries(text)
    if len(found) > MOST_DOMAINS:
        raise ValueError(f"domainAllowList takes at most {MOST_DOMAINS} entries")
    return tuple(_domain(entry) for entry in found)


def _domain(entry: str) -> str:
    name = entry.lower().removesuffix(".")
    if len(name) > LONGEST_NAME or not DOMAIN.fullmatch(name) or ENDS_IN_NUMBER.fullmatch(name):
        raise ValueError(
            f"domainAllowList: {entry[:100]!r} is not a name such as example.com or *.example.com"
            " (no scheme, port, path or address)"
        )
    return name


def parse_range(text: str) -> Network:
    """A range that the operator opens; raises ValueError when it holds what stays closed."""
    network = ipaddress.ip_network(text)
    for closed, word in CLOSED_RANGES:
        if closed.version == network.version and closed.overlaps(network):
            raise ValueError(f"{text} holds {closed} ({word}), which cannot be opened")
    return network
