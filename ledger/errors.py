"""The errors of the ledger. They carry a stable code and details, never an HTTP number."""

from __future__ import annotations

from collections.abc import Mapping


class LedgerError(Exception):
    """Base of every error that a caller may act on.

    `code` is SCREAMING_SNAKE and stable; `details` holds JSON-ready facts; `retryable` says
    whether the same call may succeed later without a change.
    """

    code: str = "INTERNAL_ERROR"
    retryable: bool = False
    receipt: object | None = None
    """What was recorded all the same, for errors that are raised after an append."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, object] = details or {}
        if code is not None:
            self.code = code


class InvalidInput(LedgerError):
    """The caller's words do not have the documented form."""

    code = "INVALID_REQUEST"


class Rejected(LedgerError):
    """A rule of the order forbids the command. Nothing was recorded."""

    code = "INVALID_ORDER_STATE"


class Unauthorized(LedgerError):
    """The signature does not prove the party that the command needs."""

    code = "SIGNATURE_INVALID"


class PaymentRefused(LedgerError):
    """The chain answered, and what it shows does not pay this order."""

    code = "PAYMENT_NOT_VERIFIED"


class PaymentTooLate(LedgerError):
    """The transfer was mined after the quote's pay_by; it is recorded as late."""

    code = "PAYMENT_TIMEOUT"


class NotFound(LedgerError):
    """No such thing, or none that this caller may see."""

    code = "ORDER_NOT_FOUND"


class Gone(LedgerError):
    """It was here, and its time is over."""

    code = "ORDER_EXPIRED"


class Conflict(LedgerError):
    """The command was valid but contradicts what is already recorded."""

    code = "INVALID_ORDER_STATE"


class VerificationError(LedgerError):
    """Bytes, a signature or a proof do not verify. Verify functions raise this or return."""

    code = "VERIFICATION_FAILED"


class PaymentPending(LedgerError):
    """The chain cannot prove the payment yet; the claim is kept and resolved by itself."""

    code = "PAYMENT_NOT_VERIFIED"
    retryable = True


class ChainUnavailable(LedgerError):
    """No trustworthy answer from the chain. It means unknown, never unpaid."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True


class Overloaded(LedgerError):
    """The writer's queue is full. Nothing was recorded."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True


class OutcomeUnknown(LedgerError):
    """The commit neither clearly happened nor clearly did not. Ask again before acting."""

    code = "OUTCOME_UNKNOWN"
    retryable = True


class StoreUnavailable(LedgerError):
    """The store could not commit, and it was checked that nothing was recorded."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True


class Misconfigured(LedgerError):
    """The settings contradict the ledger or each other; the service refuses to start."""

    code = "MISCONFIGURED"
