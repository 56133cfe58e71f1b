"""What a sandbox may reach: addresses in all spellings, lists, requests, proxies, certificates.

No socket is used.
"""

from __future__ import annotations

import argparse
import ipaddress
from pathlib import Path

import pytest

from local_daytona.commands import allow_range
from local_daytona.egress import messages
from local_daytona.egress.gateway import is_local_name
from local_daytona.egress.policy import (
    Filter,
    Rules,
    Target,
    is_own,
    parse_cidrs,
    parse_domains,
    parse_range,
)
from local_daytona.egress.upstream import UpstreamProxies, UpstreamProxy
from local_daytona.errors import Refused
from local_daytona.isolation.certificates import CA_BUNDLE, add_certificates, has_certificates

PUBLIC = Filter(is_own=lambda address: False)
DENIED = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1
    127.255.255.254 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8
    192.168.0.1 198.18.0.1 198.19.255.255 224.0.0.1 239.255.255.255 240.0.0.1
    255.255.255.255 100.100.100.200 168.63.129.16 :: ::1 fc00::1 fd00:ec2::254 fe80::1
    fec0::1 ff02::1 64:ff9b:1::1 2001:0:1::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::127.0.0.1
    ::ffff:0:10.0.0.1 2002:a00:1::1 2002:7f00:1:: 64:ff9b::a9fe:a9fe 0x7f000001 2130706433
    0177.1 127.1 0x7f.1 017700000001 0 127.0.0.1. 0xa9fea9fe
""".split()


@pytest.mark.parametrize("host", DENIED)
def test_denied_addresses_are_denied_in_every_spelling(host: str) -> None:
    """Whatever a resolver would take for one of them."""
    address = Target.parse(host, 80).address

    assert address is not None
    assert PUBLIC.denies(address)


@pytest.mark.parametrize(
    "host",
    [
        "1.1.1.1",
        "203.0.113.80",
        "192.0.2.1",
        "172.32.0.1",
        "100.128.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "0x01010101",
    ],
)
def test_public_and_mirror_addresses_are_not(host: str) -> None:
    """203.0.113.0/24 among them, which Python calls not global and some networks use."""
    address = Target.parse(host, 80).address

    assert address is not None
    assert PUBLIC.denies(address) is None


def test_an_address_of_this_machine_is_its_own() -> None:
    """Found by asking the kernel, so a public address of an interface counts too."""
    assert is_own(ipaddress.ip_address("127.0.0.1"))
    assert not is_own(ipaddress.ip_address("203.0.113.77"))
    assert Filter(is_own=lambda address: str(address) == "203.0.113.77").denies(
        ipaddress.ip_address("203.0.113.77")
    )


def test_the_operator_opens_private_ranges_only() -> None:
    """10.1.0.0/16 may be opened; this machine, metadata, multicast and ranges around them never."""
    opened = Filter(
        opened=(parse_range("10.1.0.0/16"), parse_range("fd12::/16")), is_own=lambda address: True
    )

    assert [opened.denies(ipaddress.ip_address(text)) for text in ("10.1.2.3", "fd12::5")] == [
        None,
        None,
    ]
    assert opened.denies(ipaddress.ip_address("10.2.0.1"))
    for text in (
        "0.0.0.0/0",
        "127.0.0.0/8",
        "127.1.2.3/32",
        "169.254.169.254/32",
        "100.64.0.0/10",
        "::/0",
        "fd00::/8",
    ):
        with pytest.raises(argparse.ArgumentTypeError, match="cannot be opened"):
            allow_range(text)
    for text in ("10.0.0.1/8", "intranet", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            allow_range(text)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "a/b",
        "a@b",
        "a..b",
        "-a.test",
        "a-.test",
        "x" * 64 + ".test",
        "1.2.3.4.5",
        "a.1",
        "256.1.1.1",
        "fe80::1%eth0",
        "a\r\nb",
        "a%00.test",
        "\xe4.test",
        "0x",
        "*.test",
    ],
)
def test_what_is_neither_name_nor_address_is_refused(host: str) -> None:
    """Nothing that a resolver and the policy could read differently goes on."""
    with pytest.raises(Refused):
        Target.parse(host, 80)


def test_domain_lists_cover_what_daytonas_do() -> None:
    """A name is itself only, `*.` the base and all below it; case and a final dot do not matter."""
    rules = Rules(domains=parse_domains("Example.com, *.site.test."))
    for host in ("example.com", "EXAMPLE.com.", "site.test", "a.site.test", "a.b.site.test"):
        rules.refuse_name(Target.parse(host, 443))
    for host in ("www.example.com", "xsite.test", "site.test.evil", "1.1.1.1"):
        with pytest.raises(Refused, match="domainAllowList"):
            rules.refuse_name(Target.parse(host, 443))


def test_a_cidr_list_admits_its_addresses_only() -> None:
    """Host bits in a network are taken as Daytona's own example has them; no list takes IPv6."""
    rules = Rules(cidrs=parse_cidrs("203.0.113.9/28,1.1.1.1/32"))
    found = [
        ipaddress.ip_address(text)
        for text in ("203.0.113.1", "203.0.113.16", "1.1.1.1", "2606:4700::1111")
    ]

    assert [str(address) for address in rules.admitted(found)] == ["203.0.113.1", "1.1.1.1"]


def test_a_request_is_written_anew_for_the_server() -> None:
    """Its own Host, no header of the hop, exactly one framing."""
    request = messages.parse(
        b"POST http://Site.test:8080?q HTTP/1.1\r\n"
        b"Host: other\r\n"
        b"Connection: X-Hop, close\r\n"
        b"X-Hop: 1\r\n"
        b"Proxy-Authorization: x\r\n"
        b"X-Kept: a b\t\r\nContent-Length: 3\r\n\r\n"
    )

    assert request.head().split(b"\r\n") == [
        b"POST /?q HTTP/1.1",
        b"Host: site.test:8080",
        b"X-Kept: a b",
        b"Content-Length: 3",
        b"Connection: close",
        b"",
        b"",
    ]
    assert request.head(absolute="site.test:80", more=(("A", "b"),)).startswith(
        b"POST http://site.test/?q HTTP/1.1\r\n"
    )


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: +1",
        "Content-Length: 1, 1",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Content-Length : 1",
        " folded: x",
        "A: b\x00",
        "A: b\nB: c",
    ],
)
def test_ambiguous_requests_are_refused(headers: str) -> None:
    """Two servers that read a head differently are how requests are smuggled."""
    with pytest.raises(Refused):
        messages.parse(f"POST http://a.test/ HTTP/1.1\r\n{headers}\r\n\r\n".encode("latin-1"))


def test_a_refusal_is_one_line_in_head_and_body() -> None:
    """Whatever the reason holds, it cannot add a header."""
    answer = messages.refusal(Refused(403, "a\r\nSet-Cookie: x \xe9"))

    assert answer.startswith(
        b"HTTP/1.1 403 local Daytona: a Set-Cookie: x ?\r\nContent-Type: text/plain\r\n"
    )
    assert answer.endswith(b"\r\n\r\nlocal Daytona: a Set-Cookie: x ?\n")


def test_the_servers_own_proxy_is_read_as_everybody_does() -> None:
    """Small letters first, ALL_PROXY for what is left, NO_PROXY by host and by suffix.

    The password shows in no text of it.
    """
    parents = UpstreamProxies.of(
        {
            "https_proxy": "http://u:p%40ss@proxy:3128",
            "HTTPS_PROXY": "http://wrong:1",
            "ALL_PROXY": "all:8080",
            "NO_PROXY": "in.test,.corp.test",
        }
    )
    tunnel, plain = (
        parents.for_target(Target("a.test", 443), tunnel=value) for value in (True, False)
    )

    assert tunnel == UpstreamProxy("http", "proxy", 3128, "u:p@ss")
    assert plain == UpstreamProxy("http", "all", 8080)
    assert "p@ss" not in repr(parents) + str(parents)
    assert parents.for_target(Target("in.test", 443), tunnel=True) is None
    assert parents.for_target(Target("x.corp.test", 443), tunnel=True) is None
    with pytest.raises(Refused, match="only http:// proxies"):
        UpstreamProxies.of({"HTTPS_PROXY": "socks5://p:1"}).for_target(
            Target("a.test", 443), tunnel=True
        )


def test_names_of_the_local_network_are_not_left_to_a_parent() -> None:
    """Only the parent could resolve them, and what it would find is not public."""
    assert all(
        map(is_local_name, ("intranet", "localhost", "a.localhost", "db.internal", "printer.local"))
    )
    assert not is_local_name("pypi.org")


def certificate(letter: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{letter * 64}\n-----END CERTIFICATE-----\n"


def test_the_bundle_joins_the_hosts_and_the_environments_certificates(tmp_path: Path) -> None:
    """Each once, never a key, and never written through a link to the host's own folder."""
    system, extra, host_folder, template = (
        tmp_path / name for name in ("system.pem", "extra.pem", "certs", "template")
    )
    system.write_text("# comment\n" + certificate("A"))
    extra.write_text(
        "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n"
        + certificate("A")
        + certificate("B")
    )
    host_folder.mkdir()
    (template / "etc/ssl").mkdir(parents=True)
    (template / "etc/ssl/certs").symlink_to(host_folder)

    add_certificates(
        template,
        {"PIP_CERT": str(extra), "SSL_CERT_FILE": str(tmp_path / "absent")},
        [str(tmp_path / "no"), str(system)],
    )

    written = (template / CA_BUNDLE).read_text()
    assert written.replace("\n\n", "\n") == (certificate("A") + certificate("B")).replace(
        "\n\n", "\n"
    )
    assert list(host_folder.iterdir()) == []


def test_without_any_certificate_there_is_no_bundle(tmp_path: Path) -> None:
    """A variable that names an empty bundle would break every program."""
    add_certificates(tmp_path, {}, [])

    assert not has_certificates(tmp_path)
