"""The lifecycle: what may follow what in one order, and the order that its events make."""

from __future__ import annotations

from ledger.evidence_verify.basics import Bad, Doc, fail, need, usdc
from ledger.evidence_verify.deal import IN_DEALS_ONLY, PROPOSED, DealState
from ledger.evidence_verify.money import INCOMING, Money
from ledger.evidence_verify.shapes import BY_CLIENT, Entry
from ledger.evidence_verify.words import require_new_words, require_words, signed_part

NEXT = {
    "": "quoted",
    "quoted": "paid expired",
    "expired": "paid refunded",
    "paid": "processing refunded disputed",
    "processing": "ready delivery_failed refunded disputed",
    "ready": "posted delivered delivery_failed confirmed disputed refunded",
    "posted": "delivered confirmed disputed refunded",
    "delivered": "confirmed disputed refunded",
    "delivery_failed": "processing posted delivered confirmed disputed refunded",
    "disputed": "confirmed refunded ready",
    "confirmed": "refunded",
    "refunded": "",
}
PAID_DEAL_NEXT = ["processing", "disputed"]
BEFORE_DELIVERY = ("quoted", "paid", "processing")
AWAITING_ACCEPTANCE = ("ready", "posted", "delivered", "delivery_failed")
AFTER_REFUND = (
    "content_erased", "download_noted", "push_attempted", "payment_", "refund_recorded",
    "receipt_recorded",
)  # fmt: skip
WHILE_DISPUTED = ("dispute_answered", "dispute_withdrawn", "dispute_ruled", "answer_lapsed")
MAX_OPEN_CLAIMS = 3
MAX_RECEIPTS = 256


class OrderState:
    """One order, folded from its events; `step` refuses what the lifecycle forbids."""

    def __init__(self, quote: Entry) -> None:
        need(quote.kind in ("quoted", PROPOSED), f"an order does not begin with {quote.kind}")
        self.id = quote.stream[len("order/") :]
        self.terms: Doc = quote.body
        self.deal = DealState(quote.body) if quote.kind == PROPOSED else None
        self.status = "quoted"
        self.entered = {"quoted": quote.ms}
        self.money = Money(quote.body)
        self.claims: list[tuple[str, str]] = []
        self.noticed = False
        self.ready: Doc | None = None
        self.ready_seq = 0
        self.contents = set(content_ids(quote))
        self.erased: set[str] = set()
        self.pushes = 0
        self.collected = False
        self.dispute: Doc | None = None
        self.lapsed = False
        self.confirmed: Doc | None = None
        self.senders = {(quote.position, quote.leaf): "provider"}
        self.receipts: set[tuple[str, str, str]] = set()
        self.said: set[str] = set()

    @property
    def dispute_open(self) -> bool:
        return self.dispute is not None and bool(self.dispute["open"])

    @property
    def received(self) -> int:
        """What was given for the order in all."""
        return self.money.received + (self.deal.received if self.deal is not None else 0)

    @property
    def content_held(self) -> bool:
        return self.ready is not None and self.ready["content_id"] not in self.erased

    def step(self, entry: Entry) -> None:
        """Take in the next event, or raise `Bad`."""
        kind, body = entry.kind, entry.body
        self._require_status(kind)
        if self.deal is not None:
            self.deal.require(entry, made=self.ready is not None, disputed=self.dispute_open)
        self._require_work(kind, body)
        self._require_delivery(kind, body)
        self._require_dispute(kind, body, entry.ms)
        self._require_claims(kind, entry)
        self._require_end(kind, body)
        self._require_receipt(kind, body)
        self.money.require(kind, body, refunded=self.status == "refunded")
        self._require_party(entry)
        require_words(entry, self.id, self.money.transactions)
        require_new_words(entry, self.said)
        self._apply(entry)

    def _require_status(self, kind: str) -> None:
        allowed = NEXT[self.status].split(" ")
        if self.deal is None:
            need(kind not in IN_DEALS_ONLY, f"{kind} in an order that was quoted")
        elif self.deal.paid and self.status == "quoted":
            allowed += PAID_DEAL_NEXT
        need(kind not in NEXT or kind in allowed, f"{self.status} cannot become {kind}")
        after = self.status != "refunded" or kind.startswith(AFTER_REFUND)
        need(after, f"{kind} after the refund")

    def _require_work(self, kind: str, body: Doc) -> None:
        if kind == "processing":
            need(self.ready is None, "work starts although the deliverable is there")
            failed = self.status == "delivery_failed"
            need((body["reason"] == "retry") is failed, "work starts for a wrong reason")
            need((body["reason"] == "notice") is ("notice" in body), "work starts without a notice")
        elif kind == "notice_accepted":
            late = not self.noticed and self.status not in ("quoted", "expired", "paid")
            need(late, "a notice was accepted before, or is still to start the work")
        elif kind == "ready":
            need(self.ready is None, "there is a deliverable already")
        elif kind == "delivery_failed":
            pushed = body["reason"] == "push_exhausted"
            need(pushed is (self.ready is not None), "the failure does not fit the deliverable")
        running = kind in ("processing", "ready")
        need(not (running and self.money.paused), f"{kind} while the payment is off the chain")

    def _require_delivery(self, kind: str, body: Doc) -> None:
        if kind in ("posted", "delivered", "download_noted"):
            same = self.ready is not None and body["content_hash"] == self.ready["raw"]
            need(same, f"{kind} names other bytes than the deliverable")
        if kind in ("push_attempted", "confirmed"):
            need(self.ready is not None, f"{kind} without a deliverable")
        if kind in ("posted", "push_attempted"):
            need(body["attempt"] == self.pushes + 1, "the pushes are not counted in order")
        if kind in ("delivered", "download_noted"):
            need(self.content_held, f"{kind} of erased content")
        need(kind != "download_noted" or not self.collected, "a download was recorded before")
        if kind == "confirmed" and "content_hash" in body:
            known = body["content_hash"] in digests_of(self.ready)
            need(known, "the receipt is for other bytes than the deliverable")

    def _require_dispute(self, kind: str, body: Doc, at: int) -> None:
        if kind == "disputed":
            due = self.deal.deliver_by if self.deal is not None else self.terms["deliver_by"]
            early = self.status in BEFORE_DELIVERY and at <= due * 1000
            need(not early, "disputed before the time to deliver was over")
            need(not self.lapsed, "disputed after the acceptance window")
        if kind in WHILE_DISPUTED:
            dispute = self.dispute
            if dispute is None or not dispute["open"]:
                fail(f"{kind} while no dispute is open")
            answers = kind in ("dispute_answered", "answer_lapsed")
            need(not (answers and dispute["answer"]), "the dispute was answered before")
            if kind == "answer_lapsed":
                need(not dispute["lapsed"], "the time to answer lapsed before")
                _window(body, dispute["at"], self.terms["answer_window"], at)
            if kind == "dispute_ruled":
                _fitting(body["outcome"], int(body["amount"]), self.received)
        if kind == "acceptance_lapsed":
            waits = self.status in AWAITING_ACCEPTANCE and not self.dispute_open
            need(waits and not self.lapsed and "ready" in self.entered, "no acceptance window")
            _window(body, self.entered["ready"], self.terms["acceptance_window"], at)

    def _require_claims(self, kind: str, entry: Entry) -> None:
        if kind == "payment_claimed":
            need(len(self.claims) < MAX_OPEN_CLAIMS, "too many claims are open")
            need(_claim(entry) not in self.claims, "the same claim is open already")
        if kind == "payment_claim_closed":
            known = {tx_hash for tx_hash, _ in self.claims}
            need(entry.body["tx_hash"] in known, "no claim of this transaction is open")
        if kind == "expired":
            late = entry.body["scanned_block_time"] > self.terms["pay_by"]
            need(late and not self.claims, "expired too early, or while a claim was open")

    def _require_end(self, kind: str, body: Doc) -> None:
        money = self.money
        if kind == "refunded" and body["reason"] == "returned":
            whole = 0 < money.received <= money.refunded == int(body["amount"])
            need(whole, "refunded although not all that was received went back")
        elif kind == "refunded":
            never = money.paused and money.held <= 0 and body["amount"] == "0"
            need(never and "payer_nonce_used_by" in body, "the payment is not proven impossible")
        if kind == "content_erased":
            need(not self.dispute_open, "content was erased while a dispute was open")
            for each in body["content_ids"]:
                known = each in self.contents and each not in self.erased
                need(known, "content was erased that is not there")

    def _require_receipt(self, kind: str, body: Doc) -> None:
        if kind != "receipt_recorded":
            return
        sender = self.senders.get((body["position"], body["leaf"]))
        need(sender == body["sender"], "a receipt for no event of this order, or of that sender")
        need(_told(body) not in self.receipts, "the same receipt was recorded before")
        need(len(self.receipts) < MAX_RECEIPTS, "too many receipts")

    def _require_party(self, entry: Entry) -> None:
        part = signed_part(entry)
        if part is None:
            return
        if entry.kind == "dispute_ruled":
            need(part["signer"] == self.terms.get("arbiter"), "the ruling is not the arbiter's")
            return
        if entry.kind == "receipt_recorded" and entry.body["sender"] == "client":
            return  # which wallets take what the client sends is the provider's own matter
        unbound = self.money.unbound and entry.kind in ("payment_claimed", "command_refused")
        need(part["signer"] == self.money.client or unbound, "the text is not the client's")

    def _apply(self, entry: Entry) -> None:
        kind, body, part = entry.kind, entry.body, signed_part(entry)
        self.money.apply(kind, body)
        if self.deal is not None:
            self.deal.apply(entry)
        self.said.update([part["text"]] if part else [])
        self.contents.update(content_ids(entry))
        if kind in NEXT:
            self.status = kind
            self.entered[kind] = entry.ms
        arrived = {transfer["tx_hash"] for transfer in body.get("transfers", ())}
        if kind == "payment_claimed":
            self.claims.append(_claim(entry))
        elif kind == "payment_claim_closed":
            self.claims = [c for c in self.claims if c[0] != body["tx_hash"]]
        elif kind in INCOMING:
            self.claims = [c for c in self.claims if c[0] not in arrived]
        elif kind == "refunded":
            self.claims = []
        if kind == "ready":
            self.ready, self.ready_seq = body, entry.seq
        elif kind == "content_erased":
            self.erased.update(body["content_ids"])
        elif kind in ("posted", "push_attempted"):
            self.pushes = body["attempt"]
        self.noticed = self.noticed or (
            kind in ("processing", "notice_accepted") and "notice" in body
        )
        if kind == "receipt_recorded":
            self.receipts.add(_told(body))
        else:
            sender = "client" if kind in BY_CLIENT else "provider"
            self.senders[entry.position, entry.leaf] = sender
        self.collected = self.collected or kind in ("delivered", "download_noted")
        self.lapsed = self.lapsed or kind == "acceptance_lapsed"
        self._apply_dispute(entry)

    def _apply_dispute(self, entry: Entry) -> None:
        kind, body = entry.kind, entry.body
        if kind == "disputed":
            self.dispute = {
                "open": True, "at": entry.ms, "seq": entry.seq, "answer": "", "lapsed": False,
                "ended": "",
            }  # fmt: skip
        if kind == "confirmed":
            self.confirmed = body
        if self.dispute is None:
            return
        if kind == "dispute_answered":
            self.dispute["answer"] = body["position"]
        elif kind == "answer_lapsed":
            self.dispute["lapsed"] = True
        elif kind in ("dispute_withdrawn", "dispute_ruled", "confirmed", "refunded"):
            ended = kind if self.dispute["open"] else self.dispute["ended"]
            self.dispute.update(open=False, ended=ended)


def content_ids(entry: Entry) -> dict[str, str]:
    """Return the content that an event refers to: content id to field."""
    names = {n: v for n, v in entry.body.items() if n.endswith("_id")}
    fields = {v: "deliverable" if n == "content_id" else n[:-3] for n, v in names.items()}
    return {content: field for content, field in fields.items() if isinstance(content, str)}


def digests_of(ready: Doc | None) -> set[str]:
    """Return every hash that names the deliverable's bytes."""
    names = ("raw", "json_digest", "legacy_digest", "object_digest")
    return {ready[name] for name in names if name in ready} if ready else set()


def fold_order(entries: list[Entry]) -> OrderState:
    """Return the order that legal events make; raises `Bad` with the number of the first other."""
    state = OrderState(entries[0])
    for entry in entries[1:]:
        try:
            state.step(entry)
        except Bad as error:
            raise Bad(f"event {entry.seq}: {error}") from error
    return state


def _told(body: Doc) -> tuple[str, str, str]:
    return body["leaf"], body["said"], body["receiver"]["signer"]


def _claim(entry: Entry) -> tuple[str, str]:
    return entry.body["tx_hash"], entry.body["notice"]["signer"]


def _fitting(outcome: str, amount: int, received: int) -> None:
    fits = {"provider": amount == 0, "client": amount == received, "split": 0 < amount < received}
    need(fits[outcome], f"a ruling for {outcome} cannot return {usdc(amount)} of {usdc(received)}")


def _window(body: Doc, since_ms: int, length: int, at: int) -> None:
    ends = since_ms // 1000 + length
    need(body["window_ended"] == ends and at > ends * 1000, "a window ended at another time")
