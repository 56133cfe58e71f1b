"""A module that a program did not find: the --setup that installs it.

What it printed is hostile: only a name that can be a package's becomes part of a line of ours.
"""

from __future__ import annotations

import re

LOOKED_AT = 4096  # the last characters of stderr
PYTHON = re.compile(
    r"^(?:E\s+)?ModuleNotFoundError: No module named '([A-Za-z_][\w.]{0,60})'",
    re.MULTILINE | re.ASCII,
)
NODE = re.compile(
    r"Cannot find (?:module|package) '((?:@[a-z0-9][\w.-]{0,40}/)?[a-z0-9][\w.-]{0,60})[/']",
    re.ASCII,
)
# Where the package's name is not the module's.
PACKAGES = {
    "Crypto": "pycryptodome",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "usb": "pyusb",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}


class Tail:
    """The end of a stream."""

    def __init__(self) -> None:
        self.text = ""

    def feed(self, text: str) -> None:
        self.text = (self.text + text)[-LOOKED_AT:]


def describe_missing_module(words: str) -> str | None:
    """One line for the last module that `words`, a program's stderr, misses; None for none."""
    if found := PYTHON.findall(words):
        module = found[-1].partition(".")[0]
        install = f"pip install {PACKAGES.get(module, module)}"
    elif found := NODE.findall(words):
        module = found[-1]
        install = f"npm install {module}"
    else:
        return None
    return (
        f"the sandbox has no module {module}: --setup '{install}' installs it before the program;"
        " one of your own comes with --upload"
    )
