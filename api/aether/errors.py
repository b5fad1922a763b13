"""The marketplace's own errors, and its words for errors that others have as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ledger.errors import LedgerError

WORDS: Final[Mapping[str, str]] = {
    "INVALID_ORDER_STATE": "INVALID_STATUS_TRANSITION",
    "DELIVERABLE_EXISTS": "INVALID_STATUS_TRANSITION",
    "RATE_LIMITED": "RATE_LIMIT_EXCEEDED",
    "SIGNATURE_INVALID": "INVALID_SIGNATURE",
    "PAYMENT_NOT_VERIFIED": "INVALID_PAYMENT_HEADER",
    "FORBIDDEN": "UNAUTHORIZED_ACCESS",
    "UNAUTHORIZED": "UNAUTHORIZED_ACCESS",
}
"""Code of ours to the code that the marketplace's documents name."""


class PaymentsDisabled(LedgerError):
    """This service has no Solana address to be paid at."""

    code = "PAYMENTS_DISABLED"
