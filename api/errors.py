"""The one place where an error becomes HTTP: `{error, message, details?, retryable?, ledger?}`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from api.aether.errors import PaymentsDisabled
from api.aether.proof import NotYourWallet, ProofRefused, SignatureRefused
from api.answers import LEDGER_HEAD, json_response, ledger_block, ledger_head
from api.body import BodyTimeout, BodyTooLarge
from api.feeds.limits import TooManyCursors, UpgradeRequired
from api.hooks import HookUnavailable
from api.idempotency import KeyInFlight, KeyReused
from api.ivxp.negotiation import VARY, is_strict
from api.keys import LEDGER
from api.limits import RateLimited
from api.log.held import Ahead, Fork
from api.quoter import Screened
from api.routes import route_of
from api.sync import ViewsBehind
from api.tokens import Forbidden, TokenRefused
from api.wellknown import WalletMismatch
from api.witnesses import NotWitnessed
from ledger.cursor_errors import (
    CursorBlocked,
    CursorExists,
    CursorRefused,
    FeedMoved,
    GenerationChanged,
    LeaseHeld,
    NotHandedOut,
    StaleLease,
)
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
from ledger.spl import SolanaMissing
from ledger.store_sqlite import STORE_ERRORS

STATUS_OF: Final[dict[type[LedgerError], int]] = {
    InvalidInput: 400,
    BodyTimeout: 408,
    BodyTooLarge: 413,
    Unauthorized: 401,
    TokenRefused: 401,
    ProofRefused: 401,
    SignatureRefused: 401,
    PaymentRefused: 402,
    PaymentPending: 402,
    Forbidden: 403,
    NotYourWallet: 403,
    Screened: 403,
    NotFound: 404,
    PaymentTooLate: 408,
    Conflict: 409,
    Ahead: 409,
    Fork: 409,
    KeyInFlight: 409,
    Rejected: 409,
    CursorBlocked: 409,
    CursorExists: 409,
    CursorRefused: 409,
    LeaseHeld: 409,
    StaleLease: 409,
    TooManyCursors: 409,
    Gone: 410,
    GenerationChanged: 410,
    KeyReused: 422,
    NotHandedOut: 422,
    WalletMismatch: 422,
    UpgradeRequired: 426,
    RateLimited: 429,
    ChainUnavailable: 503,
    PaymentsDisabled: 503,
    SolanaMissing: 503,
    FeedMoved: 503,
    HookUnavailable: 503,
    NotWitnessed: 503,
    Overloaded: 503,
    OutcomeUnknown: 503,
    StoreUnavailable: 503,
    ViewsBehind: 503,
    Misconfigured: 503,
}
"""HTTP status by error type."""

RETRY_AFTER_SECONDS: Final = 2
_CODE_STATUS: Final = {"PAYLOAD_TOO_LARGE": 413}
_SCHEMA: Final = frozenset({"error", "message", "details"})
_HTTP_CODES: Final = {
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    414: "URI_TOO_LONG",
    417: "EXPECTATION_FAILED",
    431: "HEADERS_TOO_LARGE",
    500: "INTERNAL_ERROR",
}

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
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return http_error(error.status, error.reason, allow)
    except STORE_ERRORS as error:
        _log.error("store unreadable", route=_route(request), error=str(error))
        return _ledger_error(request, _unreadable(request))
    except Exception:  # noqa: BLE001 - a bug of ours answers 500 with an id that the log shares
        request_id = secrets.token_hex(8)
        _log.exception("request failed", request_id=request_id, route=_route(request))
        body = {
            "error": "INTERNAL_ERROR",
            "message": "the service failed; the fault is ours",
            "details": {"request_id": request_id},
        }
        return json_response(body, status=500)


def _unreadable(request: web.Request) -> LedgerError:
    """Return the error of a store that failed: after a write nobody knows the outcome."""
    if request.method in ("GET", "HEAD"):
        return StoreUnavailable("the store cannot be read now; ask again")
    return OutcomeUnknown("the store failed; ask for the status before acting")


def _ledger_error(request: web.Request, error: LedgerError) -> web.Response:
    status = _CODE_STATUS.get(error.code) or STATUS_OF.get(type(error), 500)
    body: dict[str, object] = {"error": _word(request, error), "message": error.message}
    if error.details:
        body["details"] = dict(error.details)
    headers = dict(VARY)
    if isinstance(error, TokenRefused):
        by_name = isinstance(error, ProofRefused)
        headers["WWW-Authenticate"] = 'Basic realm="wallet:token", Bearer' if by_name else "Bearer"
    if isinstance(error, UpgradeRequired):
        headers["Upgrade"] = "websocket"
    if error.retryable:
        body["retryable"] = True
        headers["Retry-After"] = str(_wait(error))
    if isinstance(error.receipt, Receipt):
        ledger = request.app[LEDGER]
        headers[LEDGER_HEAD] = ledger_head(error.receipt.head)
        if error.receipt.stream.seq:
            body["ledger"] = ledger_block(ledger, error.receipt)
    return json_response(_shown(request, body), status=status, headers=headers)


def _word(request: web.Request, error: LedgerError) -> str:
    """Return what an error is called on this route."""
    route = route_of(request)
    return error.code if route is None else route.words.get(error.code, error.code)


def _wait(error: LedgerError) -> int:
    """Return after how many seconds it may go better."""
    return error.retry_after if isinstance(error, RateLimited | LeaseHeld) else RETRY_AFTER_SECONDS


def _shown(request: web.Request, body: dict[str, object]) -> dict[str, object]:
    """Return an error's body; the schemas know no members of ours at the top."""
    if not is_strict(request):
        return body
    shown = {name: value for name, value in body.items() if name in _SCHEMA}
    return (
        {**shown, "details": {**_object(body), "retryable": True}} if "retryable" in body else shown
    )


def _object(body: dict[str, object]) -> dict[str, object]:
    details = body.get("details")
    return details if isinstance(details, dict) else {}


def http_error(
    status: int, message: str, headers: Mapping[str, str] = MappingProxyType({})
) -> web.Response:
    """Return the answer to what HTTP itself does not allow."""
    body = {"error": _HTTP_CODES.get(status, "INVALID_REQUEST"), "message": message}
    return json_response(body, status=status, headers=headers)


def _route(request: web.Request) -> str:
    """Return the route's pattern: a path may hold an order id, which is a secret."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown"
