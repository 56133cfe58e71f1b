"""HTTP of volumes (PROTOCOL.md, "Volumes")."""

from __future__ import annotations

from aiohttp import web

from ...errors import ApiError
from ...http_json import Fields, answer
from .service import Volumes


class VolumeRoutes:
    """HTTP of the volumes."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/volumes", self.list),
            web.post("/api/volumes", self.create),
            web.get("/api/volumes/by-name/{name}", self.by_name),
            web.get("/api/volumes/{id}", self.get),
            web.delete("/api/volumes/{id}", self.delete),
        ]

    async def list(self, _request: web.Request) -> web.Response:
        return answer([volume.as_json() for volume in self._volumes])

    async def create(self, request: web.Request) -> web.Response:
        fields = await Fields.of_body(request)
        made = self._volumes.create(fields.text("name"))
        # Ready by now; but the cloud never says so here, and whoever does not wait fails there.
        return answer({**made.as_json(), "state": "pending_create"})

    async def by_name(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        volume = self._volumes.named(name)
        if volume is None:
            raise ApiError(404, f"Volume with name {name} not found")
        return answer(volume.as_json())

    async def get(self, request: web.Request) -> web.Response:
        return answer(self._volumes.find(request.match_info["id"]).as_json())

    async def delete(self, request: web.Request) -> web.Response:
        volume = self._volumes.find(request.match_info["id"])
        self._volumes.delete(volume)
        return answer({**volume.as_json(), "state": "deleted"})
