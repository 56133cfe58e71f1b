"""Everything of Daytona's API that local Daytona leaves to the cloud: one table of 501 answers, each with the way out."""

from __future__ import annotations

import re

ANY = r"[^/]+"
# (path pattern, sentence), first match wins. A path that is not here is not Daytona's API and answers 404.
REFUSALS: tuple[tuple[str, str], ...] = (
    (rf"/api/sandbox/{ANY}/(fork|pause)", "local Daytona cannot fork or pause; create a second sandbox, or use the cloud"),
    (rf"/api/sandbox/{ANY}/(forks|parent|ancestors)", "local Daytona cannot fork, so there are no relatives to list"),
    (rf"/api/sandbox/{ANY}/(state|organization|region-quota)", "local Daytona has no organizations and no runners"),
    (rf"/api/sandbox/{ANY}/backup", "local Daytona makes no backups; make a snapshot of the sandbox, or use the cloud"),
    (rf"/api/sandbox/{ANY}/ssh-access.*|/api/sandbox/ssh-access/.*", "local Daytona has no ssh; use sandbox.process"),
    (rf"/api/sandbox/{ANY}/autopause/.*", "local Daytona cannot pause; use set_autostop_interval"),
    (rf"/api/sandbox/{ANY}/secrets|/api/secret(/.*)?", "local Daytona has no secret vault; pass a throwaway value as env"),
    (rf"/api/sandbox/{ANY}/telemetry/.*", "local Daytona keeps no telemetry"),
    (r"/api/warm-pools(/.*)?", "local Daytona has no warm pools; its sandboxes start in milliseconds anyway"),
    (r"/api/object-storage/.*", "local Daytona takes no build contexts; use sandbox.fs.upload_file after the create"),
    (r"/api/(config|health|organizations|users|api-keys|regions|registry|docker-registry|runners|audit|jobs|webhooks|"
     r"preview|workspace|admin|toolbox|shared-regions|dashboard)(/.*)?",
     "local Daytona has no organizations, registries or dashboards; use the cloud"),
    (rf"/toolbox/{ANY}/lsp/.*", "local Daytona has no language servers; run one with sandbox.process"),
    (rf"/toolbox/{ANY}/computeruse(/.*)?", "local Daytona has no desktop; use the cloud"),
    (rf"/toolbox/{ANY}/files/upload", "local Daytona has only the newer call; update the SDK"),
    (rf"/toolbox/{ANY}/(env|system/.*|port.*|proxy/.*|version)", "local Daytona does not offer that; use sandbox.process"),
)  # fmt: skip
_COMPILED = [(re.compile(pattern), sentence) for pattern, sentence in REFUSALS]


def refusal(path: str) -> str | None:
    """The sentence for a path of Daytona's API that this server does not serve; None for a path that is not Daytona's."""
    return next((sentence for pattern, sentence in _COMPILED if pattern.fullmatch(path)), None)
