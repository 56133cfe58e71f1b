"""Secrets out of what we print: which values are secret, and every form that we print them in."""

from __future__ import annotations

import functools
import re
from array import array
from collections.abc import Iterable, Mapping

from .console import CUT, one_line
from .plain_text import strip_controls

REDACTED = "[redacted]"
UNLIKELY = 32  # characters; so many of a secret do not stand anywhere else
SHORTEST_SECRET = 4  # characters; a shorter one would take the text around it apart
# Names that say so, also where they are written together (APIKEY) or in camel case.
SECRET_NAME = re.compile(
    r"TOKEN(?!IZ)|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|APIKEY|ACCESSKEY|PRIVATEKEY"
    r"|AUTH(?!OR(?!I))|(?<![A-Z])(KEYS?|PASS|PAT|CREDS?|JWT|COOKIES?|BEARER|DSN|PIN)(?![A-Z])"
    r"|(?<=[A-Z0-9]_)PWD(?![A-Z])"
)
# A scheme is not looked for to its beginning: each letter of a long word would be tried as one.
URL_PASSWORD = re.compile(r"(?<=[a-z0-9+.-])://[^/\s:@]*:([^/\s@]+)@", re.IGNORECASE)


def secret_values(given: Mapping[str, str]) -> dict[str, str]:
    """Of --env K=V, by name: values of names that say secret, and passwords in addresses.

    What counts or configures stays: NODE_ENV=production must not take a word out of the output.
    """
    found: dict[str, str] = {}
    for name, value in given.items():
        if says_secret(name, value):
            found[name] = value
        elif password := URL_PASSWORD.search(value):
            found[name] = password[1]
    return found


def says_secret(name: str, value: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
    counts = words.endswith("TOKENS") and value.isdecimal()  # MAX_TOKENS=4096
    return SECRET_NAME.search(words) is not None and not counts


def printed_forms(secret: str) -> set[str]:
    """As it is, and as it comes out of our filters, a shell's word, a terminal and our own lines.

    Carriage returns and escapes are dropped on the way, a line of ours joins lines and spells other
    alphabets out, and bytes that are no UTF-8 are replaced.
    """
    decoded = secret.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    forms = {secret, decoded}
    forms |= {strip_controls(form, updates=updates) for form in forms for updates in "\r\n"}
    forms |= {form.replace("\r", "") for form in forms}
    forms |= {form.strip() for form in forms}
    forms |= {form.replace("\n", "\r\n") for form in forms}
    forms |= {one_line(form, len(form)) for form in forms}
    forms |= {ascii(form)[1:-1] for form in forms}
    forms |= {one_line(form, len(form)) for form in forms}
    return {form for form in forms if len(form) >= SHORTEST_SECRET}


class Redactor:
    """Replaces secrets in a stream of text, also where one is split over chunks."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = frozenset(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)
        self._forms = set[str]().union(*map(printed_forms, self.secrets))
        self._held = ""

    def feed(self, text: str) -> str:
        """The text so far without secrets; a possible beginning of one is held back."""
        text = self.clean(self._held + text)
        keep = self._possible_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held

    def clean(self, text: str) -> str:
        """In one pass: what stands in for a secret must not be taken for another.

        The first form that comes is hidden, of two at one place the longer.
        """
        places = {form: place for form in self._forms if (place := text.find(form)) >= 0}
        shown, done = list[str](), 0
        while places:
            form = min(places, key=lambda form: (places[form], -len(form)))
            shown += [text[done : places[form]], REDACTED]
            done = places[form] + len(form)
            passed = [form for form, place in places.items() if place < done]
            places |= {form: text.find(form, done) for form in passed}
            places = {form: place for form, place in places.items() if place >= 0}
        return "".join([*shown, text[done:]]) if shown else text

    def clean_line(self, text: str) -> str:
        """Of a line of ours: also the beginning of a secret that the line's cut left."""
        parts = self.clean(text).split(CUT)
        return CUT.join([*map(self._without_beginning, parts[:-1]), parts[-1]])

    def _without_beginning(self, text: str) -> str:
        size = self._possible_beginning(text)
        return text[: len(text) - size] + REDACTED if size >= SHORTEST_SECRET else text

    def _possible_beginning(self, text: str) -> int:
        """How many characters at the end may begin a secret."""
        return max((overlap_length(text, form) for form in self._forms), default=0)


def overlap_length(text: str, secret: str) -> int:
    """Length of the longest end of `text` that begins `secret` and is not the whole of it.

    In time that grows with their lengths, also for a secret of one character ten thousand times.
    """
    begin = max(0, len(text) - len(secret) + 1)
    start = text.find(secret[:UNLIKELY], begin)
    if start < 0:  # only an end shorter than that may still begin it
        return short_overlap(text[max(begin, len(text) - UNLIKELY + 1) :], secret)
    borders, length = borders_of(secret), 0
    for char in text[start:]:
        while length and char != secret[length]:
            length = borders[length - 1]
        length += char == secret[length]
    return length


def short_overlap(text: str, secret: str) -> int:
    start = 0
    while (start := text.find(secret[0], start)) >= 0:
        if secret.startswith(text[start:]):
            return len(text) - start
        start += 1
    return 0


@functools.lru_cache(maxsize=64)
def borders_of(secret: str) -> array[int]:
    """For each beginning of it, the longest shorter beginning that it also ends with."""
    borders, length = array("l", [0]), 0
    for char in secret[1:]:
        while length and char != secret[length]:
            length = borders[length - 1]
        length += char == secret[length]
        borders.append(length)
    return borders
