"""Network settings of a sandbox, in Daytona's words: read, checked, and changed while it runs."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ...egress.policy import entries, parse_cidrs, parse_domains
from ...errors import ApiError
from ...http_json import Fields, answer
from .register import Register
from .service import Sandboxes

BLOCK, CIDRS, DOMAINS = "networkBlockAll", "networkAllowList", "domainAllowList"


class NetworkRoutes:
    """The one route that changes them at runtime."""

    def __init__(self, register: Register, sandboxes: Sandboxes) -> None:
        self._register = register
        self._sandboxes = sandboxes

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/sandbox/{id}/network-settings", self.change)]

    async def change(self, request: web.Request) -> web.Response:
        """In force when it answers, for open connections too."""
        fields = await Fields.of_body(request)
        managed = self._register.find(request.match_info["id"])
        record = await self._sandboxes.set_network(managed, **at_runtime(fields))
        return answer(self._register.as_json(record))


def at_create(fields: Fields) -> dict[str, Any]:
    """The record's network fields of a create request; raises the 400. An empty list is none."""
    block, cidrs, domains = given(fields)
    return {
        "network_block_all": bool(block),
        "network_allow_list": cidrs or None,
        "domain_allow_list": domains or None,
    }


def at_runtime(fields: Fields) -> dict[str, Any]:
    """The record's network fields that change; raises the 400.

    True blocks and forgets both lists, False lifts everything, a list replaces whatever held, and
    an empty one is forgotten.
    """
    block, cidrs, domains = given(fields)
    if block is None and cidrs is None and domains is None:
        raise ApiError(400, f"At least one of {BLOCK}, {CIDRS} and {DOMAINS} must be given")
    if block is not None or cidrs or domains:
        return at_create(fields)
    cleared = {"network_allow_list": cidrs, "domain_allow_list": domains}
    return {name: None for name, value in cleared.items() if value is not None}


def given(fields: Fields) -> tuple[bool | None, str | None, str | None]:
    """What a request says of each setting, lists in their plain form.

    Raises the 400, also for more than one of them.
    """
    block = fields.boolean(BLOCK) if fields.has(BLOCK) else None
    cidrs = fields.text(CIDRS) if fields.has(CIDRS) else None
    domains = fields.text(DOMAINS) if fields.has(DOMAINS) else None
    if sum(map(bool, (block, (cidrs or "").strip(), (domains or "").strip()))) > 1:
        raise ApiError(400, f"{BLOCK}, {CIDRS} and {DOMAINS} exclude each other: give one of them")
    try:
        parse_cidrs(cidrs or "")
        parse_domains(domains or "")
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    return block, plain(cidrs), plain(domains)


def plain(text: str | None) -> str | None:
    """A list without blanks."""
    return None if text is None else ",".join(entries(text))
