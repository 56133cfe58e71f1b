"""Names as a sandbox resolves them: each gets an address that means nothing outside.

By that address the server knows the name again. Nothing is resolved here: a question that left this
machine would carry data out, whatever the answer.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from ..errors import Refused
from .policy import Target

FAKE_IPS = ipaddress.IPv4Network("198.18.0.0/15")  # benchmarking: no host of the world has one
# Of one sandbox, about 2 MB at the worst; the one that was not used for the longest time is
# forgotten first.
MOST_NAMES = 4096
LARGEST_QUERY = 512
# How long a program may keep an answer: an address goes to another name only after 131,000 new
# names.
LIFE_S = 60
HEADER = struct.Struct("!6H")
TYPE_A, CLASS_IN = 1, 1
QUERY_BITS, ONE_QUESTION = 0xF800, 1  # answer bit and kind of query
ANSWER, NO_SUCH_NAME = 0x8180, 3
NAME_OF_QUESTION = 0xC00C
LONGEST_LABEL = 63


class Names:
    """The fake IPs of one sandbox."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # in the order of their last use
        self._names: dict[int, str] = {}
        self._last = 0

    def stand_in(self, name: str) -> ipaddress.IPv4Address:
        """The address that stands for a name."""
        number = self._numbers.pop(name, None) or self._new(name)
        self._numbers[name] = number
        return FAKE_IPS[number]

    def _new(self, name: str) -> int:
        if len(self._numbers) >= MOST_NAMES:
            del self._names[self._numbers.pop(next(iter(self._numbers)))]
        while True:
            self._last = self._last % (FAKE_IPS.num_addresses - 2) + 1
            if self._last not in self._names:
                self._names[self._last] = name
                return self._last

    def target(self, host: str, port: int) -> Target:
        """What a connection to an address is meant for.

        Raises Refused (403) for a fake IP of no name.
        """
        address = ipaddress.IPv4Address(host)
        if address not in FAKE_IPS:
            return Target(host, port, address)
        name = self._names.get(int(address) - int(FAKE_IPS.network_address))
        if name is None:
            raise Refused(403, f"{host}:{port} refused: the address stands for no name")
        self.stand_in(name)
        return Target(name, port)


@dataclass(frozen=True)
class Question:
    """One question of a DNS query, and the bytes of it that the answer repeats."""

    number: int
    name: str
    kind: int
    said: bytes

    @property
    def wants_address(self) -> bool:
        return self.kind == TYPE_A

    @classmethod
    def parse(cls, data: bytes) -> Question | None:
        """None for what is no plain query of one name."""
        try:
            number, flags, count, *_ = HEADER.unpack_from(data)
            labels, place = [], HEADER.size
            while size := data[place]:
                labels.append(data[place + 1 : place + 1 + size].decode("ascii"))
                place += 1 + size
            kind, family = struct.unpack_from("!2H", data, place + 1)
        except (struct.error, IndexError, UnicodeDecodeError):
            return None
        is_plain = not flags & QUERY_BITS and count == ONE_QUESTION and family == CLASS_IN
        if not is_plain or not labels or max(map(len, labels)) > LONGEST_LABEL:
            return None
        return cls(number, ".".join(labels), kind, data[HEADER.size : place + 5])

    def answer(self, address: ipaddress.IPv4Address | None = None) -> bytes:
        """With one address, or with none: the name has nothing of that kind (IPv6, say)."""
        head = HEADER.pack(self.number, ANSWER, 1, 1 if address else 0, 0, 0) + self.said
        if address is None:
            return head
        record = struct.pack("!3HIH", NAME_OF_QUESTION, TYPE_A, CLASS_IN, LIFE_S, 4)
        return head + record + address.packed

    def no_such_name(self) -> bytes:
        return HEADER.pack(self.number, ANSWER | NO_SUCH_NAME, 1, 0, 0, 0) + self.said
