"""Stand-in addresses for names, and the few bytes of DNS that hand them out."""

from __future__ import annotations

import ipaddress
import random
import struct

import pytest

from local_daytona.egress.fake_dns import FAKE_IPS, MOST_NAMES, Names, Question
from local_daytona.errors import Refused


def query(name: str, kind: int = 1, flags: int = 0x0100) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, flags, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


def test_a_stand_in_means_its_name_again() -> None:
    """A name keeps its address, another name has another; every other address means itself."""
    names = Names()
    first, second = names.stand_in("a.test"), names.stand_in("b.test")

    assert first != second
    assert first in FAKE_IPS
    assert names.stand_in("a.test") == first
    assert str(names.target(str(first), 443)) == "a.test:443"
    assert names.target(str(first), 443).address is None
    assert names.target("10.0.0.1", 443).address == ipaddress.ip_address("10.0.0.1")


@pytest.mark.parametrize("address", ["198.18.0.0", "198.18.0.1", "198.19.255.255"])
def test_a_stand_in_of_nothing_is_refused(address: str) -> None:
    """The range is no destination, whatever the operator opened."""
    with pytest.raises(Refused, match="stands for no name"):
        Names().target(address, 80)


def test_the_table_is_bounded_and_forgets_what_was_not_used() -> None:
    """A name in use stays; the address of a forgotten one goes to nobody else for long."""
    names = Names()
    used, unused = names.stand_in("used.test"), names.stand_in("unused.test")
    for number in range(2 * MOST_NAMES):
        assert names.stand_in(f"n{number}.test") not in (used, unused)
        names.target(str(used), 443)

    assert names.target(str(used), 443).host == "used.test"
    with pytest.raises(Refused):
        names.target(str(unused), 443)


def test_addresses_are_used_again_in_the_end() -> None:
    """More names than the range has addresses: each still has one of its own."""
    names = Names()
    names.stand_in("kept.test")
    for number in range(FAKE_IPS.num_addresses + 10):
        latest = names.stand_in(f"n{number}")
        kept = names.stand_in("kept.test")

    assert latest != kept
    assert names.target(str(kept), 1).host == "kept.test"
    assert names.target(str(latest), 1).host == f"n{FAKE_IPS.num_addresses + 9}"


def test_an_answer_repeats_the_question_and_gives_the_address() -> None:
    """As resolvers check it: the number, the name as it was written, one record."""
    asked = query("SiTe.test")
    question = Question.parse(asked)
    assert question is not None
    said = question.answer(ipaddress.IPv4Address("198.18.0.9"))

    assert question.name == "SiTe.test"
    assert said[:12] == struct.pack("!6H", 7, 0x8180, 1, 1, 0, 0)
    assert said[12 : len(asked)] == asked[12:]
    assert said[-4:] == bytes([198, 18, 0, 9])


def test_ipv6_is_answered_with_nothing_and_a_refusal_with_no_such_name() -> None:
    """Programs then use IPv4 at once, or give up at once."""
    question = Question.parse(query("site.test", kind=28))
    assert question is not None

    assert not question.wants_address
    assert struct.unpack_from("!6H", question.answer())[1:4] == (0x8180, 1, 0)
    assert struct.unpack_from("!6H", question.no_such_name())[1:4] == (0x8183, 1, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        query("site.test")[:-1],
        query("site.test", flags=0x8180),
        query("site.test", flags=0x2800),
        b"\0" * 17,
        query("site.test").replace(b"\0\1\0\0\0\0", b"\0\2\0\0\0\0", 1),
        query("site.test")[:12] + b"\xc0\x0c\0\1\0\1",
        query("site.test")[:-2] + b"\0\3",
        query("a" * 64),
    ],
    ids=[
        "nothing",
        "cut",
        "an answer",
        "an update",
        "the root",
        "two questions",
        "a pointer",
        "another class",
        "a long label",
    ],
)
def test_what_is_no_plain_query_gets_no_answer(data: bytes) -> None:
    """No reading of it could disagree with another's."""
    assert Question.parse(data) is None


def test_noise_raises_nothing() -> None:
    """Ten thousand packets of chance, most of them close to a query."""
    chance = random.Random(7)
    for _ in range(10_000):
        data = bytearray(query("some.name.test"))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        Question.parse(bytes(data[: chance.randrange(len(data) + 1)]))
