"""Every order of a ledger, made from the events' own bytes and held against the chain.

Nothing here calls the code that decides or folds. The rules are those of the documents: which
status may follow which, what each event vouches for, and where every transfer stands.
"""

# ruff: noqa: ARG002 - every check, and every change, has the same shape

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.values import parse_iso
from tests.model.node import Mined, ScriptedChain, padded
from tests.model.shadow import (
    APPLIED,
    LATE,
    ORPHANED,
    PENDING,
    STATUSES,
    Claim,
    Coin,
    Json,
    Key,
    Pushed,
    Shadow,
    contents_of,
    shadow_of,
)

INCOMING: Final = frozenset(
    {"paid", "payment_partial", "payment_overpaid", "payment_late", "payment_restored"}
)


@dataclass(frozen=True)
class Rules:
    """The settings that the rules below speak of."""

    treasury: str
    arbiter: str
    confirmations: int
    accept_within_s: int
    answer_within_s: int
    keep_for_s: int


class Books:
    """Every order of a ledger. `take` takes one more event in, or fails if it may not be there."""

    def __init__(self, chain: ScriptedChain, rules: Rules) -> None:
        self.orders: dict[str, Shadow] = {}
        self.over: dict[str, Shadow] = {}
        """Orders with which nothing may happen any more."""
        self.holder: dict[Key, str] = {}
        """Which order holds a transfer, whichever way it went."""
        self.nobodys: dict[Key, int] = {}
        """What the log says nobody can be named for."""
        self._chain = chain
        self._rules = rules

    def take(self, event: Json) -> Shadow | None:
        """Check an event against what was before it, and the chain; return its order."""
        body, kind = event["body"], event["kind"]
        if event["stream"] == "log":
            self._take_log(kind, body)
            return None
        order_id = event["stream"].removeprefix("order/")
        if kind == "quoted":
            assert order_id not in self.orders, event
            self.orders[order_id] = shadow_of(event, body)
            return self.orders[order_id]
        assert order_id in self.orders, ("its play is over", event, self.over.get(order_id))
        order = self.orders[order_id]
        assert event["seq"] == len(order.kinds) + 1, event
        try:
            self._check(order, kind, body, parse_iso(event["at"]))
        except AssertionError as error:
            raise AssertionError(f"{kind} may not follow here: {order}\n{event}") from error
        self._apply(order, kind, body, parse_iso(event["at"]))
        return order

    def _take_log(self, kind: str, body: Json) -> None:
        if kind != "payment_unattributed":
            return
        for transfer in body["transfers"]:
            key = _key(transfer)
            assert key not in self.holder, "a transfer that an order holds is somebody's"
            assert key not in self.nobodys, "it was given up before"
            self._require_seen(transfer, to=self._rules.treasury)
            self.nobodys[key] = int(transfer["amount"])

    # May it be there?

    def _check(self, order: Shadow, kind: str, body: Json, at: int) -> None:
        if kind in STATUSES:
            assert order.allows(kind)
        check = getattr(self, f"_may_{kind}", None)
        if check is not None:
            check(order, body, at)
        if kind in INCOMING:
            self._may_come_in(order, kind, body)

    def _may_come_in(self, order: Shadow, kind: str, body: Json) -> None:
        keys = [_key(t) for t in body["transfers"]]
        assert len(set(keys)) == len(keys)
        for transfer, key in zip(body["transfers"], keys, strict=True):
            assert transfer["sender"] == order.client
            assert self.holder.get(key, order.order_id) == order.order_id, "it pays another order"
            known = order.coins.get(key)
            assert known is None or known.bucket == ORPHANED, "it counts already"
            mined = self._require_seen(transfer, to=self._rules.treasury)
            if kind in ("paid", "payment_partial"):
                assert mined.block.time <= order.pay_by
            elif kind == "payment_late":
                assert mined.block.time > order.pay_by or order.status == "refunded"

    def _require_seen(self, transfer: Json, *, to: str) -> Mined:
        """Fail unless the chain shows a transfer just so, deep enough."""
        mined = self._chain.mined(transfer["tx_hash"])
        assert mined is not None, "no such transaction is on the chain"
        assert not mined.tx.reverted
        log = mined.tx.logs[transfer["ordinal"]]
        shown = (log.topics[1], log.topics[2], int(log.data, 16))
        said = (padded(transfer["sender"]), padded(to), int(transfer["amount"]))
        assert said == shown
        place = (transfer["block_number"], transfer["block_hash"], transfer["block_time"])
        assert place == (mined.block.number, mined.block.hash, mined.block.time)
        assert self._chain.depth(mined.tx.hash) >= self._rules.confirmations
        return mined

    def _may_paid(self, order: Shadow, body: Json, at: int) -> None:
        total = order.counted + _sum(body)
        assert total >= order.price
        said = (int(body["price"]), int(body["total"]), int(body["overpaid"]))
        assert said == (order.price, total, total - order.price)

    def _may_payment_partial(self, order: Shadow, body: Json, at: int) -> None:
        due = order.price - order.counted - _sum(body)
        assert order.status in ("quoted", "expired")
        assert int(body["amount_due"]) == due > 0

    def _may_payment_overpaid(self, order: Shadow, body: Json, at: int) -> None:
        assert order.was_paid
        assert not order.paused
        assert int(body["overpaid"]) == order.covered + _sum(body) - order.price

    def _may_payment_late(self, order: Shadow, body: Json, at: int) -> None:
        assert not order.was_paid
        assert int(body["refund_due"]) == _sum(body)

    def _may_payment_restored(self, order: Shadow, body: Json, at: int) -> None:
        assert order.was_paid
        for transfer in body["transfers"]:
            assert _key(transfer) in order.coins or order.paused

    def _may_payment_orphaned(self, order: Shadow, body: Json, at: int) -> None:
        for item in body["transfers"]:
            coin = order.coins[_key(item)]
            assert coin.bucket != ORPHANED
            mined = self._chain.mined(item["tx_hash"])
            assert mined is None or mined.block.hash != coin.block_hash, "it is where it was"

    def _may_payment_finalized(self, order: Shadow, body: Json, at: int) -> None:
        for item in body["transfers"]:
            mined = self._chain.mined(item["tx_hash"])
            assert mined is not None
            assert mined.block.number <= self._chain.finalized.number
            assert mined.block.hash == order.coins[_key(item)].block_hash

    def _may_payment_claimed(self, order: Shadow, body: Json, at: int) -> None:
        assert len(order.claims) < 3
        assert body["notice"]["signer"] == order.client
        assert all(body["tx_hash"] != claim.tx for claim in order.claims)

    def _may_payment_claim_closed(self, order: Shadow, body: Json, at: int) -> None:
        assert any(body["tx_hash"] == claim.tx for claim in order.claims)
        mined = self._chain.mined(body["tx_hash"])
        match body["reason"]:
            case "absent":
                assert mined is None
                assert not order.paused
                assert self._chain.safe.time > order.pay_by
            case "reverted":
                assert mined is not None
                assert mined.tx.reverted
            case _:
                assert mined is not None
                assert not mined.tx.reverted

    def _may_expired(self, order: Shadow, body: Json, at: int) -> None:
        block = self._chain.blocks[body["scanned_block"]]
        assert block.time == body["scanned_block_time"] > order.pay_by
        assert self._chain.head.number - block.number + 1 >= self._rules.confirmations
        assert not order.claims, "a claim is open"

    def _may_refund_recorded(self, order: Shadow, body: Json, at: int) -> None:
        assert int(body["amount"]) == _sum(body) > 0
        for transfer in body["transfers"]:
            assert _key(transfer) not in self.holder, "it is recorded already"
            assert transfer["sender"] == self._rules.treasury
            mined = self._require_seen(transfer, to=order.client)
            assert mined.block.number <= self._chain.safe.number

    def _may_refunded(self, order: Shadow, body: Json, at: int) -> None:
        assert body["reason"] == "returned"
        assert int(body["amount"]) == order.refunded >= order.received > 0

    def _may_processing(self, order: Shadow, body: Json, at: int) -> None:
        assert not order.paused
        assert order.digest is None
        assert (body["reason"] == "notice") is ("notice" in body)
        assert (body["reason"] == "retry") is (order.status == "delivery_failed")
        if "notice" in body:
            assert body["notice"]["signer"] == order.client
            assert not order.accepted

    def _may_notice_accepted(self, order: Shadow, body: Json, at: int) -> None:
        assert order.was_paid
        assert not order.accepted
        assert body["notice"]["signer"] == order.client

    def _may_ready(self, order: Shadow, body: Json, at: int) -> None:
        assert order.digest is None
        assert not order.paused

    def _may_posted(self, order: Shadow, body: Json, at: int) -> None:
        assert order.digest == body["content_hash"]
        assert order.target == "delivery_endpoint"

    def _may_delivered(self, order: Shadow, body: Json, at: int) -> None:
        assert order.digest == body["content_hash"]
        assert not order.first_download

    def _may_download_noted(self, order: Shadow, body: Json, at: int) -> None:
        assert order.digest == body["content_hash"]
        assert not order.first_download
        assert not order.allows("delivered")

    def _may_delivery_failed(self, order: Shadow, body: Json, at: int) -> None:
        expected = "processing" if body["reason"] == "handler_failed" else "ready"
        assert order.status == expected

    def _may_push_attempted(self, order: Shadow, body: Json, at: int) -> None:
        assert order.digest is not None
        assert order.push_to_come or body["outcome"] == "accepted"

    def _may_confirmed(self, order: Shadow, body: Json, at: int) -> None:
        assert body["client"]["signer"] == order.client
        assert order.digest is not None
        named = body.get("content_hash")
        assert (body["binds"] == "content") is (named is not None)
        assert named in (None, order.digest), "the receipt is for other bytes"

    def _may_disputed(self, order: Shadow, body: Json, at: int) -> None:
        assert body["client"]["signer"] == order.client
        assert not order.acceptance_lapsed
        if order.status in ("paid", "processing"):
            assert at > order.deliver_by * 1000, "there is still time to deliver"

    def _may_dispute_answered(self, order: Shadow, body: Json, at: int) -> None:
        assert order.dispute_open
        assert not order.dispute_answered

    def _may_dispute_withdrawn(self, order: Shadow, body: Json, at: int) -> None:
        assert order.dispute_open
        assert body["client"]["signer"] == order.client

    def _may_dispute_ruled(self, order: Shadow, body: Json, at: int) -> None:
        assert order.dispute_open
        assert body["arbiter"]["signer"] == self._rules.arbiter

    def _may_acceptance_lapsed(self, order: Shadow, body: Json, at: int) -> None:
        assert order.accepting
        assert body["window_ended"] == order.at["ready"] // 1000 + self._rules.accept_within_s
        assert at > body["window_ended"] * 1000

    def _may_answer_lapsed(self, order: Shadow, body: Json, at: int) -> None:
        assert order.dispute_open
        assert not order.dispute_answered
        assert not order.answer_lapsed
        assert body["window_ended"] == order.disputed_ms // 1000 + self._rules.answer_within_s
        assert at > body["window_ended"] * 1000

    def _may_content_erased(self, order: Shadow, body: Json, at: int) -> None:
        assert not order.dispute_open, "a dispute holds the content"
        assert not order.needs_content
        assert set(body["content_ids"]) <= order.contents.keys() - order.erased
        if body["reason"] == "retention":
            assert at >= order.newest_ms + self._rules.keep_for_s * 1000
            open_until = order.at["ready"] + self._rules.accept_within_s * 1000
            assert not order.accepting or at > open_until

    # What it makes of the order.

    def _apply(self, order: Shadow, kind: str, body: Json, at: int) -> None:
        order.kinds.append(kind)
        order.contents |= contents_of(body)
        apply = getattr(self, f"_take_{kind}", None)
        if kind in INCOMING:
            self._take_in(order, kind, body)
        elif apply is not None:
            apply(order, body, at)
        if kind in STATUSES:
            if kind == "disputed":
                order.word_before_dispute = order.status
            order.status = kind
            order.at.pop(kind, None)
            order.at[kind] = at
        if kind in ("confirmed", "refunded"):
            order.dispute_open = False
        order.newest_ms = at

    def _take_in(self, order: Shadow, kind: str, body: Json) -> None:
        paid_before = order.was_paid
        for transfer in body["transfers"]:
            key = _key(transfer)
            bucket = {"payment_partial": PENDING, "payment_late": LATE}.get(kind, APPLIED)
            known = order.coins.get(key)
            if kind == "payment_restored" and known is not None and known.was == LATE:
                bucket = LATE
            order.coins[key] = Coin(int(transfer["amount"]), transfer["block_hash"], bucket)
            self.holder[key] = order.order_id
            self.nobodys.pop(key, None)
            order.claims = [c for c in order.claims if c.tx != transfer["tx_hash"]]
        if kind == "paid" and not paid_before:
            late = order.total(LATE)
            for coin in order.coins.values():
                coin.bucket = APPLIED if coin.bucket == PENDING else coin.bucket
            order.withdrawn = max(0, order.refunded - late)

    def _take_payment_orphaned(self, order: Shadow, body: Json, at: int) -> None:
        for item in body["transfers"]:
            coin = order.coins[_key(item)]
            coin.bucket, coin.was = ORPHANED, coin.bucket

    def _take_payment_claimed(self, order: Shadow, body: Json, at: int) -> None:
        order.claims.append(Claim(body["tx_hash"], body["notice"]["text"]))
        order.told_to_wait.add(body["notice"]["text"])
        if "nonce" in body:
            order.nonces[body["nonce"]] = body["notice"]["text"]

    def _take_payment_claim_closed(self, order: Shadow, body: Json, at: int) -> None:
        order.claims = [c for c in order.claims if c.tx != body["tx_hash"]]

    def _take_refund_recorded(self, order: Shadow, body: Json, at: int) -> None:
        for transfer in body["transfers"]:
            order.returned[_key(transfer)] = int(transfer["amount"])
            self.holder[_key(transfer)] = order.order_id

    def _take_refunded(self, order: Shadow, body: Json, at: int) -> None:
        order.claims = []

    def _take_processing(self, order: Shadow, body: Json, at: int) -> None:
        if "notice" in body:
            self._take_notice_accepted(order, body, at)

    def _take_notice_accepted(self, order: Shadow, body: Json, at: int) -> None:
        order.notice_tx, order.notice_text = body["tx_hash"], body["notice"]["text"]
        order.endpoint = body.get("delivery_endpoint_id")
        if "nonce" in body:
            order.nonces[body["nonce"]] = body["notice"]["text"]

    def _take_ready(self, order: Shadow, body: Json, at: int) -> None:
        order.digest = body["raw"]

    def _take_delivered(self, order: Shadow, body: Json, at: int) -> None:
        order.first_download = True

    _take_download_noted = _take_delivered

    def _take_posted(self, order: Shadow, body: Json, at: int) -> None:
        self._take_push(order, "delivery_endpoint", at, over=True)

    def _take_delivery_failed(self, order: Shadow, body: Json, at: int) -> None:
        if body["reason"] == "push_exhausted":
            self._take_push(order, "delivery_endpoint", at, over=True)

    def _take_push_attempted(self, order: Shadow, body: Json, at: int) -> None:
        over = body["outcome"] in ("accepted", "blocked", "exhausted")
        self._take_push(order, body["target"], at, over=over)

    def _take_push(self, order: Shadow, target: str, at: int, *, over: bool) -> None:
        pushed = order.pushed.setdefault(target, Pushed())
        pushed.made, pushed.last_ms, pushed.over = pushed.made + 1, at, over

    def _take_confirmed(self, order: Shadow, body: Json, at: int) -> None:
        order.rating = body.get("rating")

    def _take_disputed(self, order: Shadow, body: Json, at: int) -> None:
        order.dispute_open, order.disputed_ms = True, at
        order.dispute_answered = order.answer_lapsed = order.withdrawn_dispute = False
        order.ruled, order.complaint = None, body["client"]["text"]

    def _take_dispute_answered(self, order: Shadow, body: Json, at: int) -> None:
        order.dispute_answered = True

    def _take_dispute_withdrawn(self, order: Shadow, body: Json, at: int) -> None:
        order.dispute_open, order.withdrawn_dispute = False, True
        order.endings.add(body["client"]["text"])

    def _take_dispute_ruled(self, order: Shadow, body: Json, at: int) -> None:
        order.dispute_open = False
        order.ruled = (body["outcome"], int(body["amount"]))
        order.endings.add(body["arbiter"]["text"])

    def _take_acceptance_lapsed(self, order: Shadow, body: Json, at: int) -> None:
        order.acceptance_lapsed = True

    def _take_answer_lapsed(self, order: Shadow, body: Json, at: int) -> None:
        order.answer_lapsed = True

    def _take_content_erased(self, order: Shadow, body: Json, at: int) -> None:
        order.erased |= set(body["content_ids"])

    def _take_command_refused(self, order: Shadow, body: Json, at: int) -> None:
        order.refused.append(body["client"]["text"])


def _key(transfer: Json) -> Key:
    return transfer["tx_hash"], transfer["ordinal"]


def _sum(body: Json) -> int:
    return sum(int(transfer["amount"]) for transfer in body["transfers"])
