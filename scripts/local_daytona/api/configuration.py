"""GET /config: what clients are told about a Daytona before they have a key."""

from __future__ import annotations

from aiohttp import web

from ..http_json import answer
from .snapshots.service import DEFAULT

PATH = "/api/config"
LONGEST_INTERVAL_MIN = 43_200  # until a stopped sandbox is archived: 30 days
NO_LOGIN = {"issuer": "", "clientId": "", "audience": ""}  # logins are the cloud's


def route(*, url: str, version: str) -> web.RouteDef:
    """DaytonaConfiguration of Daytona's description; what local Daytona has none of is empty."""
    port = url.rpartition(":")[2]
    told = {
        "version": version,
        "environment": "local",
        "proxyTemplateUrl": f"http://{{{{PORT}}}}-{{{{sandboxId}}}}.localhost:{port}",
        "proxyToolboxUrl": f"{url}/toolbox",
        "defaultSnapshot": DEFAULT,
        "maxAutoArchiveInterval": LONGEST_INTERVAL_MIN,
        "dashboardUrl": "",
        "oidc": NO_LOGIN,
        "linkedAccountsEnabled": False,
        "announcements": {},
        "maintananceMode": False,
    }

    async def show(_request: web.Request) -> web.Response:
        return answer(told)

    return web.get(PATH, show)
