"""The one place where an error becomes HTTP: `{error, message, details?, retryable?, ledger?}`."""

from __future__ import annotations

import secrets
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from api.answers import LEDGER_HEAD, json_response, ledger_block, ledger_head
from api.body import BodyTimeout, BodyTooLarge
from api.hooks import HookUnavailable
from api.keys import LEDGER
from api.limits import RateLimited
from api.quoter import Screened
from api.tokens import Forbidden, TokenRefused
from ledger.errors import (
    ChainUnavailable,
    Conflict,
    Gone,
    InvalidInput,
    LedgerError,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PaymentPending,
    PaymentRefused,
    PaymentTooLate,
    Rejected,
    StoreUnavailable,
    Unauthorized,
)
from ledger.receipt import Receipt

STATUS_OF: Final[dict[type[LedgerError], int]] = {
    InvalidInput: 400,
    BodyTimeout: 408,
    BodyTooLarge: 413,
    Unauthorized: 401,
    TokenRefused: 401,
    PaymentRefused: 402,
    PaymentPending: 402,
    Forbidden: 403,
    Screened: 403,
    NotFound: 404,
    PaymentTooLate: 408,
    Conflict: 409,
    Rejected: 409,
    Gone: 410,
    RateLimited: 429,
    ChainUnavailable: 503,
    HookUnavailable: 503,
    Overloaded: 503,
    OutcomeUnknown: 503,
    StoreUnavailable: 503,
    Misconfigured: 503,
}
"""HTTP status by error type."""

RETRY_AFTER_SECONDS: Final = 2
_CODE_STATUS: Final = {"PAYLOAD_TOO_LARGE": 413, "WALLET_MISMATCH": 422}
_HTTP_CODES: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "PAYLOAD_TOO_LARGE"}

_log = structlog.get_logger(__name__)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a documented body; only our own faults are 500."""
    try:
        return await handler(request)
    except LedgerError as error:
        return _ledger_error(request, error)
    except web.HTTPException as error:
        if error.status < web.HTTPBadRequest.status_code:
            raise
        return _http_error(error)
    except Exception:  # noqa: BLE001 - a bug of ours answers 500 with an id that the log shares
        request_id = secrets.token_hex(8)
        _log.exception("request failed", request_id=request_id, route=_route(request))
        body = {
            "error": "INTERNAL_ERROR",
            "message": "the service failed; the fault is ours",
            "details": {"request_id": request_id},
        }
        return json_response(body, status=500)


def _ledger_error(request: web.Request, error: LedgerError) -> web.Response:
    status = _CODE_STATUS.get(error.code) or STATUS_OF.get(type(error), 500)
    body: dict[str, object] = {"error": error.code, "message": error.message}
    if error.details:
        body["details"] = dict(error.details)
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, TokenRefused) else {}
    if error.retryable:
        body["retryable"] = True
        wait = error.retry_after if isinstance(error, RateLimited) else RETRY_AFTER_SECONDS
        headers["Retry-After"] = str(wait)
    if isinstance(error.receipt, Receipt):
        ledger = request.app[LEDGER]
        headers[LEDGER_HEAD] = ledger_head(error.receipt.head)
        if error.receipt.stream.seq:
            body["ledger"] = ledger_block(ledger, error.receipt)
    return json_response(body, status=status, headers=headers)


def _http_error(error: web.HTTPException) -> web.Response:
    code = _HTTP_CODES.get(error.status, "INVALID_REQUEST")
    body = {"error": code, "message": error.reason}
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return json_response(body, status=error.status, headers=headers)


def _route(request: web.Request) -> str:
    """Return the route's pattern: a path may hold an order id, which is a secret."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown"
