"""Absolute URLs of this service: where others reach it, which only the operator knows."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from aiohttp import web

from api.keys import SETTINGS

FORWARDING: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto")
_HOST: Final = re.compile(r"[a-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-f:.]{2,45}\](:\d{1,5})?", re.ASCII)


def public_url(request: web.Request, path: str) -> str | None:
    """Return the URL under which others reach a path, or None where nobody said.

    `path` is a route's own, such as `/ivxp/stream/…`, without the prefix. Without PUBLIC_URL the
    request's `Host` is taken, but only from a caller on this machine or of a dev chain: elsewhere
    that header is a stranger's word, and the connection may come from a proxy of another name.
    """
    settings = request.app[SETTINGS]
    if settings.public_url:
        return settings.public_url + path
    host = request.headers.get("Host", "").lower()
    near = settings.dev_chain or (_is_loopback(request.remote) and not _forwarded(request))
    if not near or not _HOST.fullmatch(host):
        return None
    return f"{request.scheme}://{host}{settings.path_prefix}{path}"


def _forwarded(request: web.Request) -> bool:
    return any(name in request.headers for name in FORWARDING)


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False
