"""What the service has to answer, and what it has to record: reckoned before it is asked.

Written from the documents, over the shadow orders and the scripted chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.model.books import Books, Rules
from tests.model.node import ScriptedChain, padded
from tests.model.people import Route
from tests.model.shadow import APPLIED, LATE, ORPHANED, Key, Shadow

MAX_AGE_MS: Final = 300_000
MAX_SKEW_MS: Final = 60_000
MAX_CLAIMS: Final = 3
MAX_REFUSALS: Final = 10


@dataclass(frozen=True)
class Expected:
    """The answer's status and code, and the kinds of the events that come with it."""

    status: int = 200
    code: str = ""
    kinds: tuple[str, ...] = ()
    retryable: bool = False
    stands: bool = False
    """Whether the answer only says where the order stands: no ledger keeps it."""


OK: Final = Expected()
STANDS: Final = Expected(stands=True)
PENDING_PAYMENT: Final = Expected(402, "PAYMENT_NOT_VERIFIED", retryable=True)
SILENT: Final = Expected(503, "SERVICE_UNAVAILABLE", retryable=True)
UNDERPAID: Final = Expected(402, "AMOUNT_MISMATCH")
NOT_YOURS: Final = Expected(401, "SIGNATURE_INVALID")
STALE: Final = Expected(400, "INVALID_TIMESTAMP")
WRONG_STATE: Final = Expected(409, "INVALID_ORDER_STATE")
PAUSED: Final = Expected(409, "PAYMENT_ORPHANED")
TAKEN: Final = Expected(409, "ORDER_TAKEN")


def ok(*kinds: str) -> Expected:
    return Expected(kinds=kinds)


def with_kinds(expected: Expected, *kinds: str) -> Expected:
    return Expected(expected.status, expected.code, kinds, expected.retryable)


@dataclass(frozen=True)
class Arrived:
    """A transfer of the order's client, as the chain shows it now."""

    key: Key
    amount: int
    time: int


@dataclass(frozen=True)
class Said:
    """What a client says of its payment, and since when."""

    signer: str
    tx: str
    text: str
    stamp_ms: int
    route: Route
    nonce: str | None = None


@dataclass
class Expectation:
    """Reckons for one ledger. `bound` says whether the service has recognised its chain."""

    books: Books
    chain: ScriptedChain
    rules: Rules
    bound: bool = True

    # What the chain shows.

    def view(self, tx: str) -> str:
        """Return what is known of a transaction: `mined` and `reverted` are facts."""
        mined = self.chain.mined(tx)
        if self.chain.silent or not self.bound:
            return "unavailable"
        if mined is None:
            return "not_found"
        if self.chain.depth(tx) < self.rules.confirmations:
            return "shallow"
        return "reverted" if mined.tx.reverted else "mined"

    def arrived(self, tx: str, sender: str) -> list[Arrived]:
        mined = self.chain.mined(tx)
        if mined is None:
            return []
        way = (padded(sender), padded(self.rules.treasury))
        return [
            Arrived((tx, ordinal), int(log.data, 16), mined.block.time)
            for ordinal, log in enumerate(mined.tx.logs)
            if log.topics[1:] == way
        ]

    # Payment notices.

    def notice(self, order: Shadow, said: Said, now_ms: int) -> Expected:
        if said.signer != order.client:
            return NOT_YOURS
        early = self._refused_early(order, said, now_ms)
        if early is not None:
            return early
        counts = said.tx in {tx for (tx, _), c in order.coins.items() if c.bucket == APPLIED}
        if counts and order.was_paid and not order.paused:
            return self._accepted(order)
        view = self.view(said.tx)
        if view == "reverted":
            return self._refused(order, said, closes=True)
        if view != "mined":
            return self._kept(order, said, view)
        return self._settled(order, said)

    def _refused_early(self, order: Shadow, said: Said, now_ms: int) -> Expected | None:
        if any(claim.text == said.text for claim in order.claims):
            return None
        # Who was told to wait, and asks again about what paid meanwhile, is no duplicate.
        waited = order.notice_text in order.told_to_wait and order.notice_tx == said.tx
        if waited and said.text in order.told_to_wait:
            return None
        if order.accepted and not order.paused and not waited:
            known = {tx for (tx, _), c in order.coins.items() if c.bucket == APPLIED}
            repeats = said.tx in {order.notice_tx, *known}
            again = said.route != "deliver" and repeats
            return STANDS if again else Expected(409, "DUPLICATE_DELIVERY_REQUEST")
        if order.status == "refunded":
            return WRONG_STATE
        if not -MAX_SKEW_MS <= now_ms - said.stamp_ms <= MAX_AGE_MS:
            return STALE
        if said.nonce is not None and order.nonces.get(said.nonce, said.text) != said.text:
            return Expected(409, "NONCE_REUSED")
        return None

    def _accepted(self, order: Shadow, *kinds: str) -> Expected:
        if order.status in ("quoted", "expired", "paid"):
            return ok(*kinds, "processing")
        return ok(*kinds) if order.accepted else ok(*kinds, "notice_accepted")

    def _kept(self, order: Shadow, said: Said, view: str) -> Expected:
        buckets = {c.bucket for (tx, _), c in order.coins.items() if tx == said.tx}
        keeps_first_notice = not order.accepted and ORPHANED in buckets
        if buckets and not keeps_first_notice:
            return self._known(order, buckets)
        answer = SILENT if view == "unavailable" else PENDING_PAYMENT
        if any(claim.tx == said.tx for claim in order.claims):
            return answer
        if len(order.claims) >= MAX_CLAIMS:
            return Expected(409, "TOO_MANY_CLAIMS")
        return with_kinds(answer, "payment_claimed")

    def _known(self, order: Shadow, buckets: set[str]) -> Expected:
        if LATE in buckets:
            return self._too_late(order)
        return PENDING_PAYMENT if ORPHANED in buckets or order.paused else UNDERPAID

    def _too_late(self, order: Shadow) -> Expected:
        expired = order.status == "expired"
        return Expected(410, "ORDER_EXPIRED") if expired else Expected(408, "PAYMENT_TIMEOUT")

    def _refused(self, order: Shadow, said: Said, *, closes: bool = False) -> Expected:
        kinds = ["command_refused"]
        if said.text in order.refused or len(order.refused) >= MAX_REFUSALS:
            kinds = []
        elif closes and any(claim.tx == said.tx for claim in order.claims):
            kinds = ["payment_claim_closed", *kinds]
        return Expected(402, "PAYMENT_NOT_VERIFIED", tuple(kinds))

    def _settled(self, order: Shadow, said: Said) -> Expected:
        mine = self.arrived(said.tx, order.client)
        back = [a for a in mine if a.key in order.coins and order.coins[a.key].bucket == ORPHANED]
        free = [a for a in mine if a.key not in order.coins and a.key not in self.books.holder]
        if not back and not free:
            known = {order.coins[a.key].bucket for a in mine if a.key in order.coins}
            return self._known(order, known) if known else self._refused(order, said)
        if not order.was_paid:
            return self._paid_with(order, [*back, *free])
        if back or order.paused:
            return self._restored_with(order, back, free)
        return self._accepted(order, "payment_overpaid")

    def _paid_with(self, order: Shadow, arrived: Sequence[Arrived]) -> Expected:
        in_time = [a for a in arrived if a.time <= order.pay_by]
        if not in_time or not order.allows("paid"):
            return with_kinds(self._too_late(order), "payment_late")
        chosen = chosen_of(in_time, max(1, order.price - order.counted))
        if order.counted + sum(a.amount for a in chosen) < order.price:
            return with_kinds(UNDERPAID, "payment_partial")
        return self._accepted(order, "paid")

    def _restored_with(
        self, order: Shadow, back: Sequence[Arrived], free: Sequence[Arrived]
    ) -> Expected:
        due = order.due - sum(a.amount for a in back if order.coins[a.key].was != LATE)
        due -= sum(a.amount for a in chosen_of(free, due)) if due > 0 else 0
        if due > 0:
            return with_kinds(UNDERPAID, "payment_restored")
        return self._accepted(order, "payment_restored")

    # The client's word on what it got.

    def receipt(
        self, order: Shadow, signer: str, digest: str | None, stamp_ms: int, now_ms: int
    ) -> Expected:
        wrong = digest is not None and digest != order.digest
        mismatch = Expected(409, "CONTENT_HASH_MISMATCH")
        if signer != order.client:
            return NOT_YOURS
        if "confirmed" in order.at:
            return mismatch if wrong else OK
        if now_ms - stamp_ms > MAX_AGE_MS:
            return STALE
        if order.digest is None:
            return WRONG_STATE
        if wrong:
            return mismatch
        return ok("confirmed") if order.allows("confirmed") else WRONG_STATE

    def dispute(
        self, order: Shadow, signer: str, text: str, stamp_ms: int, now_ms: int
    ) -> Expected:
        if signer != order.client:
            return NOT_YOURS
        if order.complaint is not None:
            same = _without_time(order.complaint) == _without_time(text)
            if order.complaint == text or (order.dispute_open and same):
                return OK
        if now_ms - stamp_ms > MAX_AGE_MS:
            return STALE
        if not order.allows("disputed"):
            return WRONG_STATE
        if order.status in ("paid", "processing") and now_ms <= order.deliver_by * 1000:
            return Expected(409, "DELIVERY_NOT_DUE")
        if order.acceptance_lapsed:
            return Expected(409, "WINDOW_CLOSED")
        return ok("disputed")

    def withdrawal(
        self, order: Shadow, signer: str, text: str, stamp_ms: int, now_ms: int
    ) -> Expected:
        if signer != order.client:
            return NOT_YOURS
        if order.withdrawn_dispute:
            return OK
        if text in order.endings:
            return WRONG_STATE
        if not order.dispute_open:
            return WRONG_STATE
        return STALE if now_ms - stamp_ms > MAX_AGE_MS else ok("dispute_withdrawn")

    def ruling(
        self, order: Shadow, signer: str, said: tuple[str, str, int], stamp_ms: int, now_ms: int
    ) -> Expected:
        text, outcome, micros = said
        if signer != self.rules.arbiter:
            return NOT_YOURS
        if order.ruled == (outcome, micros):
            return OK
        if text in order.endings:
            return WRONG_STATE
        if not order.dispute_open:
            return WRONG_STATE
        if now_ms - stamp_ms > MAX_AGE_MS:
            return STALE
        fits = {"provider": {0}, "client": {order.received}, "split": range(1, order.received)}
        return ok("dispute_ruled") if micros in fits[outcome] else WRONG_STATE

    # Workers and the operator.

    def start(self, order: Shadow, *, retry: bool, taken: bool) -> Expected:
        if taken:
            return TAKEN
        if order.paused:
            return PAUSED
        if order.status == "processing":
            return OK
        failed = order.status == "delivery_failed" and order.digest is None
        may = failed if retry else order.status == "paid"
        return ok("processing") if may else WRONG_STATE

    def hand_in(self, order: Shadow, digest: str) -> Expected:
        if order.digest is not None:
            return OK if digest == order.digest else Expected(409, "DELIVERABLE_EXISTS")
        if order.paused:
            return PAUSED
        if order.status in ("paid", "delivery_failed"):
            return ok("processing", "ready")
        return ok("ready") if order.allows("ready") else WRONG_STATE

    def fail(self, order: Shadow, *, taken: bool) -> Expected:
        if taken:
            return TAKEN
        if order.status == "delivery_failed" and order.digest is None:
            return OK
        return ok("delivery_failed") if order.status == "processing" else WRONG_STATE

    def answer(self, order: Shadow) -> Expected:
        may = order.dispute_open and not order.dispute_answered
        return ok("dispute_answered") if may else WRONG_STATE

    def refund(self, order: Shadow, tx: str) -> Expected:
        if any(tx == key[0] for key in order.returned):
            return OK
        view = self.view(tx)
        if view == "unavailable":
            return SILENT
        mined = self.chain.mined(tx)
        no_refund = Expected(402, "PAYMENT_NOT_VERIFIED")
        if view == "reverted":
            return no_refund
        if mined is None or mined.block.number > self.chain.safe.number:
            return PENDING_PAYMENT
        new = sum(
            int(log.data, 16)
            for ordinal, log in enumerate(mined.tx.logs)
            if log.topics[1:] == (padded(self.rules.treasury), padded(order.client))
            and (tx, ordinal) not in self.books.holder
        )
        if not new:
            return no_refund
        whole = 0 < order.received <= order.refunded + new and order.allows("refunded")
        return ok("refund_recorded", "refunded") if whole else ok("refund_recorded")

    def erase(self, order: Shadow, fields: Sequence[str]) -> Expected:
        if not set(fields) <= set(order.contents.values()):
            return Expected(400, "INVALID_REQUEST")
        if order.dispute_open:
            return Expected(409, "DISPUTE_HOLD")
        if order.needs_content:
            return WRONG_STATE
        wanted = {i for i, name in order.contents.items() if not fields or name in fields}
        return ok("content_erased") if wanted - order.erased else OK

    def download(self, order: Shadow) -> Expected:
        if order.digest is None:
            return Expected(404, "DELIVERABLE_NOT_READY")
        if not order.content_held:
            return Expected(410, "ORDER_EXPIRED")
        if order.first_download:
            return OK
        return ok("delivered" if order.allows("delivered") else "download_noted")


def chosen_of(arrived: Sequence[Arrived], due: int) -> list[Arrived]:
    """Return one transfer of exactly what is due, else those that reach it in their order."""
    exact = [a for a in arrived if a.amount == due]
    if exact:
        return exact[:1]
    chosen: list[Arrived] = []
    for each in sorted(arrived, key=lambda a: a.key[1]):
        if sum(a.amount for a in chosen) < due:
            chosen.append(each)
    return chosen


def _without_time(text: str) -> str:
    return text.rpartition(" | Timestamp: ")[0]
