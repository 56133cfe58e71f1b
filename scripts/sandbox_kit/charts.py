"""matplotlib charts of a code run, as PNG files. Their titles and bytes are a stranger's."""

from __future__ import annotations

import base64
import binascii
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from .archive.packing import FOLDER_MODE, add_entry
from .errors import Failure

PNG = b"\x89PNG\r\n\x1a\n"
MOST_CHARTS = 100
LARGEST_CHART = 32 << 20


def chart_name(number: int) -> str:
    """By number: a title may hold anything."""
    return f"chart-{number}.png"


def archive_charts(images: Sequence[str], path: Path) -> int:
    """Put base64 PNGs into a tar, as any download comes: chart-1.png and so on; returns how many.

    Raises Failure archive for what is no PNG.
    """
    pictures = [decode_chart(image) for image in images[:MOST_CHARTS]]
    with tarfile.open(path, mode="w") as target:
        add_entry(target, ".", tarfile.DIRTYPE, FOLDER_MODE)
        for number, picture in enumerate(pictures, 1):
            entry = tarfile.TarInfo(chart_name(number))
            entry.size = len(picture)
            target.addfile(entry, io.BytesIO(picture))
    return len(pictures)


def decode_chart(image: str) -> bytes:
    try:
        data = base64.b64decode(image, validate=True) if len(image) <= LARGEST_CHART else b""
    except (binascii.Error, ValueError):
        data = b""
    if not data.startswith(PNG):
        raise Failure(
            "archive",
            "a chart that came back is no PNG image",
            fix="save the figure to a file in the code, and --download it",
        )
    return data
