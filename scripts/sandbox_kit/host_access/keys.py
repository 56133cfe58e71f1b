"""What looks like a key, by name or content: it is not read, and does not leave this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePath
from typing import IO

# Dotfiles that tools and builds read from a project and that hold no credentials; every other one
# stays here (.env, .npmrc, .netrc, .pypirc, .docker, .git ...).
HARMLESS = tuple(
    """
        .gitignore .gitattributes .gitmodules .gitkeep .keep .mailmap .editorconfig .dockerignore
        .eslintrc* .eslintignore .prettierrc* .prettierignore .babelrc* .swcrc .mocharc* .nycrc*
        .c8rc* .stylelintrc* .stylelintignore .postcssrc* .terserrc* .lintstagedrc* .commitlintrc*
        .jshintrc .browserslistrc .npmignore .ember-cli .watchmanconfig .storybook .vitepress
        .changeset .flake8 .pylintrc .coveragerc .ruff.toml .isort.cfg .style.yapf .mypy.ini
        .bandit .codespellrc .importlinter .pre-commit-config.yaml .pre-commit-hooks.yaml
        .markdownlint* .yamllint* .readthedocs.y*ml .python-version .node-version .nvmrc
        .ruby-version .java-version .swift-version .go-version .tool-versions .sdkmanrc
        .clang-format .clang-tidy .clangd .cmake-format* .rustfmt.toml .golangci.y*ml
        .goreleaser.y*ml .rubocop.y*ml .rubocop_todo.y*ml .rspec .yardopts .simplecov
        .formatter.exs .credo.exs .scalafmt.conf .scalafix.conf .jvmopts .sbtopts .ocamlformat
        .hlint.yaml .luacheckrc .swiftlint.y*ml .swiftformat .php-cs-fixer* .phpcs.xml*
        .bazelrc .bazelversion .bazelignore .buckconfig .terraform-version .terraform.lock.hcl
        .tflint.hcl .helmignore .github .gitlab-ci.yml .travis.yml .circleci .appveyor.yml
        .cirrus.yml .devcontainer .mvn .cargo .yarn .yarnrc .yarnrc.yml .pnp.cjs .pnp.loader.mjs
        .pnpmfile.cjs .nojekyll .copier-answers.yml .cruft.json .all-contributorsrc
    """.split()
)
HIDDEN_BY_WINDOWS = "AppData"  # of a home, also where that is mounted elsewhere
# Cargo's other files in a project's folder are a home's, with credentials.
OF_CARGO, CARGO_SETTINGS = ".cargo", ("config", "config.toml", "audit.toml", "mutants.toml")
# Settings of tools that may hold a token in plain text.
WITH_TOKENS = (
    *(OF_CARGO, ".mvn", ".yarn", ".yarnrc", ".yarnrc.yml", ".gitmodules", ".bazelrc"),
    *(
        ".devcontainer",
        ".circleci",
        ".gitlab-ci.yml",
        ".travis.yml",
        ".appveyor.yml",
        ".cirrus.yml",
    ),
    *("gradle.properties", "settings.xml", "pip.conf", "pip.ini", "nuget.config"),
)
# All of these are linear in any text: what can match in two ways beside each other, as blanks
# before blanks, is tried in every pair of them, and a stranger's file would hold the run.
TOKEN_WORD = (
    rb"(token|secret[_-]?key|(secret[_-]?)?access[_-]?key|api[_-]?key|password|passwd|authIdent"
    rb"|authorization)[\"']?"
)
BY_A_SIGN, BY_A_BLANK = rb"[ \t]*[:=][ \t]*", rb"\t* [ \t]*"
# As the issuers made them, wherever they stand.
KNOWN_TOKENS = (
    rb"\b(gh[pousr]_|github_pat_|glpat-|xox[abprs]-|npm_|pypi-AgE|sk-ant-|hf_)[A-Za-z0-9_-]{16,}"
    rb"|\bA[KS]IA[0-9A-Z]{16}\b"
)
# A value, and no reference to a variable or to a store.
TOKEN_VALUE = rb"(?=[^\s#])(?![\"' \t]*(\$\{|\$\(|\$[A-Z]|<<|secure:))"
TOKEN = re.compile(
    rb"^[ \t]*[\"']?[\w./:@-]*"
    + TOKEN_WORD
    + rb"(?:"
    + BY_A_SIGN
    + rb"|"
    + BY_A_BLANK
    + rb")"
    + TOKEN_VALUE
    # Anywhere in a line, as in arguments of a Java machine; where a blank is part of prose.
    + rb"|[\s\"'=][\w./:@-]*"
    + TOKEN_WORD
    + BY_A_SIGN
    + TOKEN_VALUE
    + rb"|"
    + KNOWN_TOKENS
    + rb"|<(password|passphrase|privateKey)>(?!\$\{)|://[^/\s:@]+:[^/\s:@]+@|://[^/\s:@]{20,}@",
    re.MULTILINE | re.IGNORECASE,
)
# Long enough to be one: these are no words of any text.
KNOWN_TOKEN = re.compile(
    rb"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_[A-Za-z0-9_]{22}|\bglpat-[A-Za-z0-9_-]{20}"
    rb"|\bxox[abprs]-[A-Za-z0-9]{8,}-[A-Za-z0-9-]{8}|\bnpm_[A-Za-z0-9]{36}|\bpypi-AgE[A-Za-z0-9_-]{20}"
    rb"|\bsk-ant-[A-Za-z0-9_-]{20}|\bhf_[A-Za-z0-9]{30}|\bsk_live_[A-Za-z0-9]{16}"
    rb"|\bdtn_[A-Za-z0-9]{32}|\bsk-proj-[A-Za-z0-9_-]{20}|\bxapp-[A-Za-z0-9-]{20}"
    rb"|\bAIza[A-Za-z0-9_-]{35}"
)
TOKEN_WORDS = (
    *(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"npm_", b"hf_"),
    *(b"xoxa-", b"xoxb-", b"xoxp-", b"xoxr-", b"xoxs-", b"pypi-AgE", b"sk-ant-", b"sk_live_"),
    *(b"dtn_", b"sk-proj-", b"xapp-", b"AIza"),
)
# A run of characters as long as the shortest of them: most binary data has none, and telling so is
# quicker than looking for each.
SHORTEST_TOKEN = 22
AS_RUNS = bytes(
    ord("x") if chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_-") else ord(" ")
    for code in range(256)
)
# A repository's settings, wherever they lie: a bare one has no `.git` around them.
GIT_SETTINGS = re.compile(
    rb"^[ \t]*(\[(remote|branch|http|url|credential)[ \t]+\"|\[credential\]"
    rb"|repositoryformatversion)",
    re.MULTILINE | re.IGNORECASE,
)
GIT_TOKEN = re.compile(
    rb"://[^/\s:@]*:[^/\s:@]+@|://[^/\s:@]{20,}@|extraheader[ \t]*=|password=", re.IGNORECASE
)
# Keys in data and settings; in source, a module that is about them.
AMBIGUOUS = tuple("*credentials* secrets secrets.* *_secrets.* *tfstate* kubeconfig*".split())
KEY_FILES = tuple(
    """
        *.pem *.key *.ppk *.p8 *.p12 *.pfx *.jks *.keystore *.keytab *.kdbx *.ovpn
        *.tfvars* *.env *.env.* env.local env.prod* env.stag* id_rsa* id_dsa*
        id_ecdsa* id_ed25519* rootkey*.csv
        service-account*.json service_account*.json serviceaccount*.json
        *adminsdk*.json client_secret*.json token.json auth.json local.settings.json
        netrc *_netrc npmrc *_npmrc pypirc *_pypirc
        pgpass* *htpasswd token.txt *github_token* *gitlab_token* creds.txt creds.json
        secring.gpg wallet.dat jwk*.json logins.json krb5cc* utc--* rclone.conf s3cfg my.cnf
        key3.db key4.db cookies cookies.sqlite
    """.split()
)
KEY_LIKE = (*KEY_FILES, *AMBIGUOUS)
# A key by its content, whatever its file is called: at the beginning of a line, but for source,
# where it may be a constant of a test.
KEY_LINE = (
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY"
    rb"|untrusted comment: [^\n]{0,80}secret key"
    rb"|PrivateKey[ \t]*=[ \t]*[A-Za-z0-9+/]{42,43}="
    rb"|([\"\w -]*,)*\"?Access key ID\"?,\"?Secret access key"
    rb"|PuTTY-User-Key-File-|AGE-SECRET-KEY-1|(export[ \t]+)?aws_secret_access_key[ \t]*="
)
KEY_VALUE = (
    rb"[:=>]\s*[\"']?-----BEGIN [A-Z0-9 ]*PRIVATE KEY|"
    rb"\"aws_?secret_?access_?key\"\s*:|client-key-data:|"
    rb"(?:aws_?)?secret_?access_?key[\"']?\s*:\s*[\"']?[A-Za-z0-9+/]{40}|"
    rb"\"auths\"\s*:\s*\{[^{}]*\{[^{}]*\"auth\"\s*:\s*\"[A-Za-z0-9+/=]{8}"
)
KEY_AT_A_LINE = re.compile(
    rb"^[ \t]*(?![ \t])(" + KEY_LINE + rb")|" + KEY_VALUE, re.MULTILINE | re.IGNORECASE
)
KEY_AT_THE_BEGINNING = re.compile(rb"\A\s*(?!\s)(" + KEY_LINE + rb")", re.IGNORECASE)
# In prose a line may say how a key begins; a key goes on.
KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----", re.IGNORECASE)
# What a cell, a list or a comment puts between a key's lines.
BETWEEN_LINES = re.compile(rb"(?:[\s\"',;#>*|/-]|\\[nrt])*")
KEY_HEADER, KEY_BODY = re.compile(rb"[\w-]+: [^\n]*\n\s*"), re.compile(rb"[A-Za-z0-9+/]{40}")
KEY_IN_PROSE = re.compile(
    rb"AGE-SECRET-KEY-1[A-Z0-9]{40}|aws_secret_access_key[ \t\"']*[=:][ \t\"']*[A-Za-z0-9+/]{40}",
    re.IGNORECASE,
)
# Each of the above has one of these: whole files are looked through, and this is quick.
KEY_WORDS = (
    *(b"private key", b"privatekey", b"secret key", b"access key id", b"access_key", b"accesskey"),
    *(b"putty-user-key-file-", b"age-secret-key-1", b"client-key-data:"),
)
GIT_SECTION = re.compile(rb"\[(?:remote|branch|http|url|credential)")
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
        .py .pyi .js .mjs .cjs .jsx .ts .mts .cts .tsx .vue .svelte .go .rs .java .kt .kts .scala
        .clj .groovy .rb .c .h .cc .cpp .cxx .hh .hpp .cs .fs .swift .m .mm .php .ex .exs .erl .hs
        .ml .lua .jl .dart .zig .proto .html .css .scss .md .rst
    """.split()
)
PROSE = (".html", ".css", ".scss", ".md", ".rst")
BLOCK, OVERLAP = 1 << 18, 4096  # bytes of a file that are looked at together
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # as some shells write


def is_plain_path(relative: PurePath) -> bool:
    """No part of the path is hidden or looks like a key."""
    return not any(is_hidden(part) or looks_like_a_key(part) for part in relative.parts)


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name == HIDDEN_BY_WINDOWS


def looks_like_a_key(name: str) -> bool:
    plain = name.lower()
    patterns = KEY_LIKE if plain.endswith(SOURCES) else (*KEY_LIKE, *SECRET_LIKE)
    return any(fnmatch(plain, pattern) for pattern in patterns)


def holds_a_secret(path: PurePath, stream: IO[bytes]) -> bool:
    """Whether a file's content is a key, or settings of a tool with a token in plain text.

    `path` is that below a folder; `stream` is read to its end.
    """
    look, is_wide, before = SecretLook.at(path), False, b""
    while block := stream.read(BLOCK):
        if not before:
            is_wide = block.startswith(UTF_16) or is_half_empty(block)
        text = before + (block.replace(b"\0", b"") if is_wide else block)
        if look.finds(text, first=not before):
            return True
        before = text[-OVERLAP:]
    return False


def is_half_empty(block: bytes) -> bool:
    """As text of two bytes a character is, also without its mark."""
    beginning = block[:4096]
    return beginning.count(0) * 5 >= len(beginning) * 2


@dataclass
class SecretLook:
    """What is looked for in one file, block by block."""

    is_source: bool
    is_prose: bool
    of_a_tool: bool
    of_git: bool = False
    has_git_token: bool = False

    @classmethod
    def at(cls, path: PurePath) -> SecretLook:
        name = path.name.lower()
        is_source, is_prose = name.endswith(SOURCES), name.endswith(PROSE)
        return cls(is_source, is_prose, any(part.lower() in WITH_TOKENS for part in path.parts))

    def finds(self, text: bytes, *, first: bool) -> bool:
        if first and begins_like_a_key(text):
            return True
        if self.is_source and not self.is_prose:
            return False
        lowered = text.lower()
        return self._finds_a_key(text, lowered) or self._finds_a_token(text, lowered, first)

    def _finds_a_key(self, text: bytes, lowered: bytes) -> bool:
        names_a_key = b"key" in lowered and any(word in lowered for word in KEY_WORDS)
        if not names_a_key and b'"auths"' not in lowered:
            return False
        if has_a_key_with_its_body(text):
            return True
        pattern = KEY_IN_PROSE if self.is_prose else KEY_AT_A_LINE
        return pattern.search(text) is not None

    def _finds_a_token(self, text: bytes, lowered: bytes, first: bool) -> bool:
        if may_hold_a_token(text) and KNOWN_TOKEN.search(text) is not None:
            return True
        if self.is_prose:
            return False
        self._note_git(text, lowered)
        if self.of_git and self.has_git_token:
            return True
        if first and b"\0" in text:  # a cache of the tool, no settings
            self.of_a_tool = False
        return self.of_a_tool and TOKEN.search(text) is not None

    def _note_git(self, text: bytes, lowered: bytes) -> None:
        if b"repositoryformatversion" in lowered or GIT_SECTION.search(lowered) is not None:
            self.of_git = self.of_git or GIT_SETTINGS.search(text) is not None
        if (
            (b"://" in text and b"@" in text)
            or b"extraheader" in lowered
            or b"password=" in lowered
        ):
            self.has_git_token = self.has_git_token or GIT_TOKEN.search(text) is not None


def has_a_key_with_its_body(text: bytes) -> bool:
    """A key's first line, and below it, after its headers if it has some, the key."""
    place = 0
    while found := KEY_BEGINS.search(text, place):
        place = found.end()
        between = BETWEEN_LINES.match(text, place)
        place = between.end() if between else place
        while not KEY_BODY.match(text, place):
            header = KEY_HEADER.match(text, place)
            if header is None:
                break
            place = header.end()
        else:
            return True
    return False


def may_hold_a_token(text: bytes) -> bool:
    """Whether as many characters stand together as a known token has, and a beginning of one."""
    if not any(sign in text for sign in (b"_", b"-", b"AIza")):
        return False
    has_run = b"x" * SHORTEST_TOKEN in text.translate(AS_RUNS)
    return has_run and any(word in text for word in TOKEN_WORDS)


def begins_like_a_key(text: bytes) -> bool:
    for mark in (*UTF_16, b"\xef\xbb\xbf"):
        text = text.removeprefix(mark)
    return KEY_AT_THE_BEGINNING.match(text) is not None


DOTFILE = "a dotfile that may hold credentials"
BY_NAME = "a key by its name"
BY_CONTENT = "a key by its content"


def why_name_stays(path: PurePath, *, tracked: bool, folder: bool) -> str | None:
    """Why a file or folder inside an uploaded folder does not go along; None when it may.

    Of the dotfiles, tools' settings may: builds and tests need them. That git tracks it lifts only
    the ambiguous names of source, and of folders for the source in them.
    """
    name = path.name
    if is_hidden(name) and not any(fnmatch(name, pattern) for pattern in HARMLESS):
        return DOTFILE
    if path.parent.name == OF_CARGO and name not in CARGO_SETTINGS:
        return DOTFILE
    if not any(looks_like_a_key(part) for part in path.parts):
        return None
    is_source = tracked and (folder or name.lower().endswith(SOURCES))
    return None if is_source and not is_a_key_file(name) else BY_NAME


def is_a_key_file(name: str) -> bool:
    return any(fnmatch(name.lower(), pattern) for pattern in KEY_FILES)
