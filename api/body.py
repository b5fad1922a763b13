"""Reading a request body: bounded in size and time, strict JSON, no silent coercion."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Final, NoReturn, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from api.keys import SETTINGS
from ledger.errors import InvalidInput

M = TypeVar("M", bound=BaseModel)

_CODE_OF_FIELD: Final = {
    "protocol": "PROTOCOL_VERSION_UNSUPPORTED",
    "timestamp": "INVALID_TIMESTAMP",
}


class BodyTimeout(InvalidInput):
    """The body did not arrive in time; nothing was recorded."""

    code = "REQUEST_TIMEOUT"


class BodyTooLarge(InvalidInput):
    """The body is longer than the limit; nothing was recorded."""

    code = "PAYLOAD_TOO_LARGE"


async def read_model(request: web.Request, model: type[M]) -> M:
    """Return the body as a model, or raise `InvalidInput` naming the field at fault."""
    return validated(parse_json(await read_body(request)), model)


def validated(value: object, model: type[M]) -> M:
    """Return JSON as a model, or raise `InvalidInput` naming the field at fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        code = _CODE_OF_FIELD.get(field)
        raise InvalidInput(
            f"{field}: {first['msg']}", code=code, details={"field": field}
        ) from error


async def read_body(request: web.Request) -> bytes:
    """Return the body; the server's own size limit applies while reading."""
    try:
        async with asyncio.timeout(request.app[SETTINGS].body_timeout):
            return await request.read()
    except TimeoutError as error:
        raise BodyTimeout("the body did not arrive in time") from error
    except web.HTTPRequestEntityTooLarge as error:
        limit = request.app[SETTINGS].body_max_bytes
        raise BodyTooLarge(f"a body has at most {limit} bytes") from error
    except (web.RequestPayloadError, ConnectionError) as error:
        raise InvalidInput("the body breaks off or is not encoded as its headers say") from error


def parse_json(data: bytes) -> dict[str, object]:
    """Return a JSON object; duplicate keys, NaN, bad UTF-8 and other values are refused.

    Fractions become `Decimal`, so that no amount passes through a float.
    """
    try:
        # orjson's own nesting limit holds where the process's recursion limit was raised: there
        # the standard parser would overflow the C stack on deep input and end the process. It also
        # refuses half a surrogate pair, which can be neither stored nor signed.
        orjson.loads(data)
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=Decimal,
            parse_constant=_refuse,
        )
    # An exponent of many digits is no `ValueError` to `Decimal`.
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidInput("the body is not strict JSON in UTF-8", code="INVALID_JSON") from error
    if not isinstance(value, dict):
        raise InvalidInput("the body is not a JSON object", code="INVALID_JSON")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object repeats a key")
    return found


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
