"""The log as C2SP tiles: immutable files from which anybody computes any proof.

Hash tiles are for everybody: they say nothing about what was hashed, as every event has a salt.
Entries are for auditors, since one bundle mixes many clients' orders.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from api.keys import LEDGER
from api.log.words import CHECKPOINT_CACHE, FOREVER, PRIVATE_FOREVER
from api.witnesses import WITNESSES
from ledger.errors import NotFound
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH

_TILE: Final = re.compile(
    r"(?P<index>(?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?", re.ASCII
)
_LEVEL: Final = re.compile(r"[0-5]", re.ASCII)
_BYTES: Final = "application/octet-stream"


async def get_checkpoint(request: web.Request) -> web.Response:
    """Return the newest signed checkpoint that the quorum of witnesses cosigned."""
    note = request.app[WITNESSES].checkpoint(request.app[LEDGER].head)
    return web.Response(text=note, headers=CHECKPOINT_CACHE)


async def get_tile(request: web.Request) -> web.Response:
    """Return the hashes of a tile; a partial one as long as it is a prefix of what there is."""
    level = request.match_info["level"]
    index, width = _place(request)
    first = (index * TILE_WIDTH + width) << TILE_HEIGHT * _level(level)
    ledger = request.app[LEDGER]
    if first > ledger.head.size:
        raise NotFound("the log is not that long yet", code="NOT_FOUND")
    hashes = ledger.proofs.tile(_level(level), index, width)
    return web.Response(body=hashes, content_type=_BYTES, headers=FOREVER)


async def get_entries(request: web.Request) -> web.Response:
    """Return a bundle of entries, each after its length in two bytes; for auditors."""
    index, width = _place(request)
    first = index * TILE_WIDTH
    ledger = request.app[LEDGER]
    if first + width > ledger.head.size:
        raise NotFound("the log is not that long yet", code="NOT_FOUND")
    entries = [entry for _, entry in ledger.store.read(after=first, limit=width)]
    bundle = b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
    return web.Response(body=bundle, content_type=_BYTES, headers=PRIVATE_FOREVER)


def _level(text: str) -> int:
    if not _LEVEL.fullmatch(text):
        raise NotFound("no such tile level", code="NOT_FOUND")
    return int(text)


def _place(request: web.Request) -> tuple[int, int]:
    """Return index and width of a tile's path, which has one spelling per tile."""
    text = request.match_info["tile"]
    match = _TILE.fullmatch(text)
    if match is None:
        raise NotFound("no such tile", code="NOT_FOUND")
    index = int(match["index"].replace("x", "").replace("/", ""))
    width = int(match["width"] or TILE_WIDTH)
    if tile_path(index) != match["index"] or (match["width"] and width >= TILE_WIDTH):
        raise NotFound("no such tile", code="NOT_FOUND")
    return index, width


def tile_path(index: int) -> str:
    """Return the index in groups of three digits, all but the last after an x."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:  # noqa: PLR2004 - three digits
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))
