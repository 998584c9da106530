"""The pages for browsers: the files of the folder ``page/``, as they are.

Law: nothing of a page comes from elsewhere, and none of it is made of what somebody sent.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from streamtrans.server.config import ServerConfig
from streamtrans.server.listening import address, found_at
from streamtrans.server.tls import is_loopback

_FOLDER = Path(__file__).with_name("page")

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def page_routes(config: ServerConfig, port: Callable[[], int]) -> list[web.RouteDef]:
    """Return where each page is; ``port`` says what is listened on, once somebody asks."""

    async def whereabouts(request: web.Request) -> web.Response:
        """Say where others find the pages, to a page of this machine itself; any other has its address by being one."""
        host = found_at(config.http_host) if is_loopback(request.url.host or "") else None
        scheme = "http" if config.tls is None else "https"
        addresses = [] if host is None else [f"{scheme}://{address(host, port())}/"]
        return web.json_response({"addresses": addresses})

    files = [web.get("/" if path.name == "index.html" else f"/{path.name}", _page(path)) for path in _files()]
    return [*files, web.get("/page.json", whereabouts)]


def _files() -> list[Path]:
    return sorted(path for path in _FOLDER.iterdir() if path.suffix in _TYPES)


def _page(path: Path) -> Handler:
    body, kind = path.read_bytes(), _TYPES[path.suffix]

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8", headers={"Cache-Control": "no-cache"})

    return answer
