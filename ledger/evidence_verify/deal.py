"""An order that was agreed on in a conversation: its offer, its payment on Solana, its review."""

from __future__ import annotations

from ledger.evidence_verify.basics import Bad, Doc, need, usdc
from ledger.evidence_verify.curves import require_ed25519
from ledger.evidence_verify.shapes import Entry
from ledger.solana_rules import payment_of
from ledger.solana_wire import NoPayment

PROPOSED = "order_proposed"
IN_DEALS_ONLY = (
    PROPOSED, "order_countered", "order_declined", "order_cancelled", "payment_authorized",
    "payment_settled", "payment_voided", "order_reviewed",
)  # fmt: skip
OF_AN_OFFER = ("order_countered", "order_declined", "order_cancelled", "payment_authorized")
NEVER_IN_DEALS = (
    "quoted", "expired", "paid", "refunded", "notice_accepted", "command_refused",
    "payment_claimed", "payment_claim_closed", "payment_partial", "payment_overpaid",
    "payment_late", "payment_finalized", "payment_orphaned", "payment_restored", "refund_recorded",
)  # fmt: skip
UNPAID_MS = 2**63
LATE_MS = 60_000
"""What may pass between the moment when a payment is taken and the time of its event."""


class DealState:
    """How far the two sides came, folded from the order's events."""

    def __init__(self, terms: Doc) -> None:
        self.terms = terms
        self.ended = ""
        self.payment: Doc | None = None
        self.payment_seq = 0
        self.settled: Entry | None = None
        self.voided: dict[str, Entry] = {}
        self.paid_ms = UNPAID_MS
        self.review: Doc | None = None

    @property
    def paid(self) -> bool:
        return self.paid_ms < UNPAID_MS

    @property
    def void(self) -> bool:
        """Whether the payment that the order has moved nothing."""
        payment, settled = self.payment, self.settled
        return payment is not None and settled is None and payment["signature"] in self.voided

    @property
    def received(self) -> int:
        """What the payer gave, once it counts."""
        payment = self.payment
        counts = payment is not None and self.paid and not self.void
        return int(payment["amount"]) if payment is not None and counts else 0

    @property
    def deliver_by(self) -> int:
        due = self.paid_ms // 1000 + int(self.terms["delivery_seconds"])
        return min(due, self.terms.get("deadline", due)) if self.paid else UNPAID_MS

    @property
    def words(self) -> str:
        """Say how good the payment is."""
        if self.payment is None:
            return "nothing was paid"
        amount = usdc(int(self.payment["amount"]))
        if self.settled is not None:
            return f"{amount} settled, as the provider read it from the chain"
        return f"{amount} void: it moved nothing" if self.void else f"{amount} signed, not settled"

    def require(self, entry: Entry, *, made: bool, disputed: bool) -> None:
        """Raise `Bad` unless the deal lets this event follow."""
        kind, body = entry.kind, entry.body
        need(kind not in NEVER_IN_DEALS, f"{kind} in an order of the marketplace")
        need(kind != PROPOSED, "the order was offered before")
        need(kind != "processing" or body["reason"] != "notice", "a notice pays no such order")
        if kind in OF_AN_OFFER:
            need(not self.ended, f"{kind} after the offer was {self.ended}")
            need(self.payment is None, f"{kind} of an order that is being paid, or paid")
        if kind == "payment_authorized":
            self._require_payment(entry)
        if kind in ("payment_settled", "payment_voided"):
            named = self.payment is not None and self.payment["signature"] == body["signature"]
            need(named and self.settled is None, f"{kind} of a payment that is not open")
        if kind == "payment_voided":
            need(body["signature"] not in self.voided, "the payment was void before")
        if kind == "order_reviewed":
            need(self.review is None, "the order was reviewed before")
            need(made and not disputed, "reviewed before delivery, or while disputed")

    def _require_payment(self, entry: Entry) -> None:
        body, terms = entry.body, self.terms
        need(entry.ms <= terms["pay_by"] * 1000 + LATE_MS, "paid after pay_by")
        need(body["signature"] not in self.voided, "a void transfer pays")
        way = (body["chain"], body["mint"], f"{body['chain']}:{body['recipient']}")
        offered = (terms["chain"], terms["token"], terms.get("payment_address"))
        need(way == offered, "the payment goes another way than the offer says")
        price, amount = int(terms["price"]), int(body["amount"])
        due = price * 3 // 4 if body["method"] == "ATHR" else price
        need(int(body["due"]) == due, f"{usdc(due)} are due, not {usdc(int(body['due']))}")
        need(amount >= 1 and due - 1 <= amount <= due, f"{usdc(amount)} do not pay {usdc(due)}")
        kept = amount * terms["commission_bps"] // 10_000
        parts = (int(body["commission"]), int(body["payout"]))
        need(parts == (kept, amount - kept), "commission and payout are no parts of the payment")
        require_transfer(body)

    def apply(self, entry: Entry) -> None:
        """Take in one event that was found to agree."""
        kind, body = entry.kind, entry.body
        if kind in ("order_declined", "order_cancelled"):
            self.ended = kind[len("order_") :]
        elif kind == "payment_authorized":
            self.payment, self.payment_seq = body, entry.seq
            self.paid_ms = entry.ms if body["awaits"] == "nothing" else UNPAID_MS
        elif kind == "payment_settled":
            self.settled, self.paid_ms = entry, min(self.paid_ms, entry.ms)
        elif kind == "payment_voided":
            self.voided[body["signature"]] = entry
            self.payment = self.payment if self.paid else None
        elif kind == "order_reviewed":
            self.review = body


def require_transfer(body: Doc) -> None:
    """Raise `Bad` unless the transaction is signed and is the transfer that the event describes."""
    try:
        found = payment_of(
            body["transaction"],
            mint=body["mint"],
            recipient=body["recipient"],
            due=int(body["due"]),
            verify=_is_signed,
        )
    except (NoPayment, ValueError) as error:
        raise Bad(f"the signed transaction is not this payment: {error}") from error
    signed = (found.signature, found.payer, found.source, found.destination, str(found.amount))
    names = ("signature", "payer", "source", "destination", "amount")
    need(signed == tuple(body[name] for name in names), "the signed transaction says otherwise")


def _is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        require_ed25519(key, message, signature)
    except Bad:
        return False
    return True
