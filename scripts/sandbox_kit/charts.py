"""matplotlib charts of a code run, saved as PNG files. Their titles and bytes are a stranger's."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from .failures import Failure
from .host_access import HostAccess
from .transfer import open_new

PNG = b"\x89PNG\r\n\x1a\n"
MOST_CHARTS = 100
LARGEST_CHART = 32 << 20


def name_of(number: int) -> str:
    """By number: a title may hold anything."""
    return f"chart-{number}.png"


def save(images: Sequence[str], folder: str, access: HostAccess, *, force: bool) -> list[str]:
    """Write base64 PNGs as chart-1.png and so on; their paths. Raises Failure archive for what is no PNG, host_access for the place."""
    pictures = [decoded(image) for image in images[:MOST_CHARTS]]
    names = [f"{folder.rstrip('/')}/{name_of(number)}" for number in range(1, len(pictures) + 1)]
    places = [access.writable("--charts", name, force=force) for name in names]
    for picture, place in zip(pictures, places, strict=True):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with open_new(place) as file:
                file.write(picture)
        except OSError as error:
            raise Failure("host_access", f"--charts: {error.strerror}", fix="name a folder that can be written") from None
    return names


def decoded(image: str) -> bytes:
    try:
        data = base64.b64decode(image, validate=True) if len(image) <= LARGEST_CHART else b""
    except (binascii.Error, ValueError):
        data = b""
    if not data.startswith(PNG):
        raise Failure("archive", "a chart that came back is no PNG image", fix="save the figure to a file in the code, and --download it")
    return data
