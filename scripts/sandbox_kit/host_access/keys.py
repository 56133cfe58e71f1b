"""What looks like a key, by name or content: it is not read, and does not leave this machine."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import PurePath

# Dotfiles that tools read from a project and that hold no credentials; every other one stays here
# (.env, .npmrc, .netrc, .git ...).
HARMLESS = tuple(
    """
        .gitignore .gitattributes .gitmodules .editorconfig .dockerignore .eslintrc*
        .eslintignore .prettierrc* .prettierignore .babelrc* .swcrc .mocharc* .nycrc*
        .stylelintrc* .browserslistrc .flake8 .pylintrc .coveragerc .ruff.toml
        .isort.cfg .style.yapf .pre-commit-config.yaml .python-version .node-version
        .nvmrc .ruby-version .tool-versions .clang-format .clang-tidy .rustfmt.toml
        .golangci.y*ml .github .storybook
    """.split()
)
KEY_LIKE = tuple(
    """
        *.pem *.key *.ppk *.p8 *.p12 *.pfx *.jks *.keystore *.keytab *.kdbx *.ovpn
        *tfstate* *.tfvars* *.env *.env.* env.local env.prod* env.stag* id_rsa* id_dsa*
        id_ecdsa* id_ed25519* *credentials* rootkey*.csv secrets secrets.* *_secrets.*
        service-account*.json service_account*.json serviceaccount*.json
        *adminsdk*.json client_secret*.json token.json auth.json local.settings.json kubeconfig*
        _netrc pgpass* *htpasswd
    """.split()
)
# A key by its content, whatever its file is called: at the beginning of a line, but for source,
# where it may be a constant of a test.
KEY_LINE = (
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY"
    rb"|untrusted comment: [^\n]{0,80}secret key"
    rb"|PuTTY-User-Key-File-|AGE-SECRET-KEY-1|(export[ \t]+)?aws_secret_access_key[ \t]*="
)
KEY_VALUE = rb"\"private_key\"\s*:\s*\"-----BEGIN|\"aws_?secret_?access_?key\"\s*:|client-key-data:"
KEY_AT_A_LINE = re.compile(
    rb"^[ \t]*(" + KEY_LINE + rb")|" + KEY_VALUE, re.MULTILINE | re.IGNORECASE
)
KEY_AT_THE_BEGINNING = re.compile(rb"\A(\xef\xbb\xbf)?\s*(" + KEY_LINE + rb")", re.IGNORECASE)
# Names that are a secret's in data and settings, and a module's in source.
SECRET_LIKE = (
    "env",
    "*secret*",
    "*password*",
    "*passwd*",
    "*vault_pass*",
    "*api_key*",
    "*apikey*",
    "*deploy_key*",
    "*private_key*",
    "*access_token*",
    "*auth_token*",
)
SOURCES = tuple(
    """
        .py .js .mjs .cjs .ts .tsx .go .rs .java .kt .rb .c .h .cc .cpp .cs .php .md
        .rst
    """.split()
)
KEY_LOOK = 65536  # bytes of a file that are looked at


def is_plain_path(relative: PurePath) -> bool:
    """No part of the path is hidden or looks like a key."""
    return not any(part.startswith(".") or looks_like_a_key(part) for part in relative.parts)


def looks_like_a_key(name: str) -> bool:
    plain = name.lower()
    patterns = KEY_LIKE if plain.endswith(SOURCES) else (*KEY_LIKE, *SECRET_LIKE)
    return any(fnmatch(plain, pattern) for pattern in patterns)


def holds_a_key(name: str, beginning: bytes) -> bool:
    """By its content."""
    # UTF-16, as some shells write.
    if beginning[:2] in (b"\xff\xfe", b"\xfe\xff"):
        beginning = beginning.replace(b"\0", b"")
    beginning = beginning.removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
    pattern = KEY_AT_THE_BEGINNING if name.lower().endswith(SOURCES) else KEY_AT_A_LINE
    return pattern.search(beginning) is not None


def may_leave(name: str) -> bool:
    """Whether a file or folder inside an uploaded folder may go along.

    Of the dotfiles, tools' settings may: a project's tests need them.
    """
    return (
        not name.startswith(".") or any(fnmatch(name, pattern) for pattern in HARMLESS)
    ) and not looks_like_a_key(name)
