"""A deliverable as a worker hands it in: JSON around text or base64, or the bytes themselves."""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Annotated, Final

from aiohttp import web
from pydantic import StringConstraints

from api.body import BodyTimeout, BodyTooLarge, parse_json, validated
from api.config import Settings
from api.handler import MAX_WORD, Produced
from api.ivxp.models import Message
from api.keys import SETTINGS
from api.query import read_query
from ledger.errors import InvalidInput

_BYTES_PER_SECOND: Final = 64 * 1024
"""The slowest sender that is waited for, beyond the time that every body has."""
_IN_A_THREAD: Final = 256 * 1024
"""From here on parsing and hashing would hold up other requests."""

_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,100}(?: ?;[ -~]{1,80})?", re.ASCII)
_FORMAT_OF: Final = {"text/markdown": "markdown", "application/octet-stream": "binary"}

Word = Annotated[str, StringConstraints(min_length=1, max_length=MAX_WORD)]


class DeliverableQuery(Message):
    """The query beside a body that is the content itself."""

    format: Annotated[str, StringConstraints(max_length=MAX_WORD)] = ""


class DeliverableRequest(Message):
    """POST /v1/work/{order_id}/deliverable as JSON: `content` or `content_base64`."""

    content: str | None = None
    content_base64: str | None = None
    format: Word = "text"
    content_type: Word | None = None


async def read_deliverable(request: web.Request) -> Produced:
    """Return what the request hands in, or raise `InvalidInput`."""
    limit = request.app[SETTINGS].content_max_bytes
    wrapped = request.content_type == "application/json"
    # Base64 adds a third, and line ends and quotes in JSON double.
    room = 2 * limit + request.app[SETTINGS].body_max_bytes if wrapped else limit
    make = _from_json if wrapped else _from_bytes(request)
    body = await read_long_body(request, room)
    produced = await asyncio.to_thread(make, body) if len(body) > _IN_A_THREAD else make(body)
    if len(produced.raw) > limit:
        raise BodyTooLarge(f"a deliverable has at most {limit} bytes")
    return produced


def room_in_json(settings: Settings) -> int:
    """Return how long a body may be that holds a deliverable as JSON among other members."""
    return settings.content_max_bytes + settings.body_max_bytes


async def read_long_body(request: web.Request, room: int) -> bytes:
    """Return the body, which may be longer here than elsewhere, and take longer to arrive."""
    body = bytearray()
    seconds = request.app[SETTINGS].body_timeout + room / _BYTES_PER_SECOND
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > room:
                    raise BodyTooLarge(f"the body has at most {room} bytes here")
    except TimeoutError as error:
        raise BodyTimeout("the body did not arrive in time") from error
    except (web.RequestPayloadError, ConnectionError) as error:
        raise InvalidInput("the body breaks off or is not encoded as its headers say") from error
    return bytes(body)


def _from_json(body: bytes) -> Produced:
    said = validated(parse_json(body), DeliverableRequest)
    if (said.content is None) is (said.content_base64 is None):
        raise InvalidInput("content: one of content and content_base64 is needed")
    content = said.content if said.content is not None else _decoded(said.content_base64 or "")
    default = "text/plain" if isinstance(content, str) else "application/octet-stream"
    media_type = _media_type(said.content_type or default)
    return Produced(content, format=said.format, content_type=media_type)


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        details = {"field": "content_base64"}
        raise InvalidInput("content_base64: is no base64", details=details) from error


def _from_bytes(request: web.Request) -> Callable[[bytes], Produced]:
    """Return what makes a deliverable of the body; the headers are judged now."""
    media_type = _media_type(request.headers.get("Content-Type", request.content_type))
    asked = read_query(request, DeliverableQuery)
    word = asked.format or _format_of(request.content_type)

    def make(body: bytes) -> Produced:
        if not body:
            raise InvalidInput("the body is empty; an empty deliverable is handed in as JSON")
        return Produced(body, format=word, content_type=media_type)

    return make


def _media_type(text: str) -> str:
    if not _MEDIA_TYPE.fullmatch(text):
        raise InvalidInput("content_type: is no media type", details={"field": "content_type"})
    return text


def _format_of(media_type: str) -> str:
    known = _FORMAT_OF.get(media_type)
    return known or ("text" if media_type.startswith("text/") else media_type.partition("/")[0])
