"""Everything of Daytona's API that local Daytona leaves to the cloud: one table of 501 answers, each with the way out."""

from __future__ import annotations

import re

ANY = r"[^/]+"
# (path pattern, sentence), first match wins. A path that is not here is not Daytona's API and answers 404.
REFUSALS: tuple[tuple[str, str], ...] = (
    (rf"/api/sandbox/{ANY}/(fork|pause)", "local Daytona cannot fork or pause; create a second sandbox, or use the cloud"),
    (rf"/api/sandbox/{ANY}/(snapshot|resize|archive|recover|backup)",
     "local Daytona cannot do that yet; choose the size by snapshot, keep the sandbox stopped, or use the cloud"),
    (rf"/api/sandbox/{ANY}/(ports/.*|public/.*)", "local Daytona has no previews yet; use the cloud"),
    (rf"/api/sandbox/{ANY}/ssh-access.*|/api/sandbox/ssh-access/.*", "local Daytona has no ssh; use sandbox.process"),
    (rf"/api/sandbox/{ANY}/network-settings", "local Daytona gives sandboxes no network; there is nothing to set"),
    (rf"/api/sandbox/{ANY}/(signing-key|signing-key/rotate)", "local Daytona has no signed file links yet; use sandbox.fs"),
    (rf"/api/sandbox/{ANY}/autopause/.*", "local Daytona cannot pause; use set_autostop_interval"),
    (rf"/api/sandbox/{ANY}/secrets|/api/secret(/.*)?", "local Daytona has no secret vault; pass a throwaway value as env"),
    (rf"/api/sandbox/{ANY}/(build-logs.*|telemetry/.*)", "local Daytona keeps no build logs and no telemetry"),
    (r"/api/volumes(/.*)?", "local Daytona has no volumes yet; upload files, or use the cloud"),
    (r"/api/snapshots(/.*)?", "local Daytona has its three ready-made snapshots only; use the cloud to make others"),
    (r"/api/warm-pools(/.*)?", "local Daytona has no warm pools; its sandboxes start in milliseconds anyway"),
    (r"/api/object-storage/.*", "local Daytona takes no build contexts; use sandbox.fs.upload_file after the create"),
    (r"/api/(config|health|organizations|users|api-keys|regions|registry|docker-registry|runners|audit|jobs|webhooks|"
     r"preview|workspace|admin|toolbox|shared-regions|dashboard)(/.*)?",
     "local Daytona has no organizations, registries or dashboards; use the cloud"),
    (rf"/toolbox/{ANY}/lsp/.*", "local Daytona has no language servers; run one with sandbox.process"),
    (rf"/toolbox/{ANY}/computeruse(/.*)?", "local Daytona has no desktop; use the cloud"),
    (rf"/toolbox/{ANY}/git/.*", "local Daytona has no git calls yet; use sandbox.process, or the cloud"),
    (rf"/toolbox/{ANY}/process/(pty|interpreter)(/.*)?",
     "local Daytona has no terminals and no interpreter contexts yet; use exec, code_run or a session"),
    (rf"/toolbox/{ANY}/files/(find|search|replace|move|permissions|download|upload|upload-v2)",
     "local Daytona does not do that yet; use sandbox.process (grep, find, sed, mv, chmod) or upload_file and download_file"),
    (rf"/toolbox/{ANY}/(env|system/.*|port.*|proxy/.*|version)", "local Daytona does not offer that; use sandbox.process"),
)  # fmt: skip
_COMPILED = [(re.compile(pattern), sentence) for pattern, sentence in REFUSALS]


def refusal(path: str) -> str | None:
    """The sentence for a path of Daytona's API that this server does not serve; None for a path that is not Daytona's."""
    return next((sentence for pattern, sentence in _COMPILED if pattern.fullmatch(path)), None)
