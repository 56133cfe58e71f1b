"""What of Daytona's API local Daytona leaves to the cloud: a table of 501 answers."""

from __future__ import annotations

import re

ANY = r"[^/]+"
# (path pattern, sentence), first match wins. A path that is not here is not Daytona's API and
# answers 404.
REFUSALS: tuple[tuple[str, str], ...] = (
    (
        rf"/api/sandbox/{ANY}/(fork|pause)",
        "local Daytona cannot fork or pause; use create_snapshot and a second sandbox, or stop",
    ),
    (
        rf"/api/sandbox/{ANY}/(forks|parent|ancestors)",
        "local Daytona cannot fork, so there are no relatives; use labels",
    ),
    (
        rf"/api/sandbox/{ANY}/(state|organization|region-quota)",
        "local Daytona has no organizations and no runners; use the cloud",
    ),
    (
        rf"/api/sandbox/{ANY}/backup",
        "local Daytona makes no backups; use sandbox.create_snapshot, or the cloud",
    ),
    (
        rf"/api/sandbox/{ANY}/ssh-access.*|/api/sandbox/ssh-access/.*",
        "local Daytona has no ssh; use sandbox.process",
    ),
    (rf"/api/sandbox/{ANY}/autopause/.*", "local Daytona cannot pause; use set_autostop_interval"),
    (
        rf"/api/sandbox/{ANY}/secrets|/api/secret(/.*)?",
        "local Daytona has no secret vault; use a throwaway value as env",
    ),
    (
        rf"/api/sandbox/{ANY}/telemetry/.*|/toolbox/{ANY}/system/.*",
        "local Daytona keeps no metrics; use sandbox.process to read /proc",
    ),
    (
        r"/api/warm-pools(/.*)?",
        "local Daytona has no warm pools; use create, which takes milliseconds here",
    ),
    (
        r"/api/object-storage/.*",
        "local Daytona takes no build contexts; use sandbox.fs.upload_file after the create",
    ),
    (
        r"/api/(health|organizations|users|api-keys|regions|registry|docker-registry|runners|audit"
        r"|jobs|webhooks|preview|workspace|admin|toolbox|shared-regions|dashboard)(/.*)?",
        "local Daytona has no organizations, logins, registries or dashboards; use the cloud",
    ),
    (
        rf"/toolbox/{ANY}/lsp/.*",
        "local Daytona has no language servers; use sandbox.process to run one",
    ),
    (
        rf"/toolbox/{ANY}/computeruse(/.*)?",
        "local Daytona has no desktop; use sandbox.process for a headless browser, or the cloud",
    ),
    (
        rf"/toolbox/{ANY}/env",
        "local Daytona cannot change a running sandbox's variables; use env= of each call,"
        " or env_vars at create",
    ),
    (
        rf"/toolbox/{ANY}/(port|proxy)(/.*)?",
        "local Daytona does not offer that; use sandbox.get_preview_link",
    ),
    (
        rf"/toolbox/{ANY}/(version|init)",
        "local Daytona has no daemon inside its sandboxes; use /local/status",
    ),
)
_COMPILED = [(re.compile(pattern), sentence) for pattern, sentence in REFUSALS]


def refusal(path: str) -> str | None:
    """The sentence for a path of Daytona's API that this server does not serve.

    None for a path that is not Daytona's.
    """
    return next((sentence for pattern, sentence in _COMPILED if pattern.fullmatch(path)), None)
