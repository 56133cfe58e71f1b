"""What of a preview's request the program inside may see: no key, however it is spelled."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from local_daytona.api.previews.access import MOST_ENCODINGS, QUERY, for_inside
from local_daytona.http1 import Request

KEY = "dtn_local_0123456789abcdef"


def encoded(text: str, *, times: int) -> str:
    for _ in range(times):
        text = quote(text, safe="").replace("_", "%5F")
    return text


HEADERS = {
    "bearer": ("authorization", f"Bearer {KEY}"),
    "a tab": ("authorization", f"Bearer\t{KEY}"),
    "bare": ("authorization", KEY),
    "basic": ("authorization", f"Basic {base64.b64encode(f'u:{KEY}'.encode()).decode()}"),
    "basic with a tab": (
        "authorization",
        f"basic\t {base64.b64encode(f'{KEY}:'.encode()).decode()}",
    ),
    "another header": ("x-api-key", KEY),
    "in a sentence": ("x-note", f"the key is {KEY}."),
    "cookie": ("cookie", f"session={KEY}"),
    "referer": ("referer", f"http://127.0.0.1/?{QUERY}=token"),
    "referer, encoded": ("referer", encoded(f"http://127.0.0.1/?{QUERY}=token", times=1)),
    "referer, twice": ("referer", encoded(f"/login?next=/?{QUERY}=token", times=2)),
    "encoded key": ("x-forwarded-uri", encoded(KEY, times=MOST_ENCODINGS - 1)),
}


@pytest.mark.parametrize(("name", "value"), HEADERS.values(), ids=HEADERS)
def test_no_header_brings_a_key_inside(name: str, value: str) -> None:
    """It opens every sandbox of this server, and the cloud's would open the account."""
    request = Request("GET", "/", "1.1", ((name, value), ("accept", "text/html")))
    assert for_inside(request).headers == (("accept", "text/html"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "Basic dTpw"),
        ("authorization", "Basic \xff not base64"),
        ("authorization", "Bearer of.the.programs"),
        ("referer", "http://127.0.0.1/page?x=100%25"),
        ("cookie", "session=abc; theme=dark"),
    ],
)
def test_what_is_the_programs_own_stays_as_it_is(name: str, value: str) -> None:
    """Logins of the program inside go on working."""
    assert for_inside(Request("GET", "/", "1.1", ((name, value),))).headers == ((name, value),)
