"""The money of an order, folded from its events: every transfer in exactly one place."""

from __future__ import annotations

from ledger.evidence_verify.basics import Doc, need, usdc

TransferKey = tuple[str, str, int]

INCOMING = ("paid", "payment_partial", "payment_overpaid", "payment_late", "payment_restored")
ZERO_ADDRESS = "0x" + "0" * 40


def transfer_key(transfer: Doc) -> TransferKey:
    return (transfer["chain"], transfer["tx_hash"], transfer["ordinal"])


def address_of(account: str) -> str:
    return account.rpartition(":")[2]


def total(transfers: list[Doc]) -> int:
    return sum(int(transfer["amount"]) for transfer in transfers)


class Place:
    """A transfer, where it stands, and where it stood before a reorganisation."""

    def __init__(self, transfer: Doc, bucket: str, was: str = "") -> None:
        self.transfer = transfer
        self.bucket = bucket
        self.was = was


class Money:
    """What arrived and what went back, in micro-USDC."""

    def __init__(self, quote: Doc) -> None:
        self.price = int(quote["price"])
        self.pay_by: int = quote["pay_by"]
        self.way: tuple[str, str] = (quote["chain"], quote.get("payment_address", ""))
        self.client = address_of(quote["client"])
        self.paid = False
        self.places: dict[TransferKey, Place] = {}
        self.returned: dict[TransferKey, Doc] = {}
        self.transactions: set[str] = set()
        self.withdrawn = 0
        self.refunded = 0
        # Anybody may send dust, so nothing is summed up again for every event.
        self._sums = {"pending": 0, "applied": 0, "late": 0, "orphaned": 0}

    def sum_of(self, *buckets: str) -> int:
        return sum(self._sums[bucket] for bucket in buckets)

    @property
    def unbound(self) -> bool:
        """Whether the quote named no wallet and nobody has paid it yet."""
        return self.client == ZERO_ADDRESS

    @property
    def received(self) -> int:
        return self.sum_of("pending", "applied", "late")

    @property
    def held(self) -> int:
        return self.received - self.refunded

    @property
    def counted(self) -> int:
        """What counts towards the price until it is reached."""
        return min(self.sum_of("pending"), self.held)

    @property
    def covered(self) -> int:
        """What covers the price once it was reached."""
        return self.sum_of("applied") - self.withdrawn

    @property
    def paused(self) -> bool:
        """Whether a reorganisation took away what had paid."""
        return self.paid and self.covered < self.price

    def require(self, kind: str, body: Doc, *, refunded: bool) -> None:
        """Raise `Bad` unless the event agrees with the quote, its transfers, and the past."""
        transfers: list[Doc] = body.get("transfers", [])
        keys = [transfer_key(transfer) for transfer in transfers]
        need(len(set(keys)) == len(keys), "a transfer is named twice")
        if kind in INCOMING:
            self._require_way(transfers)
            self._require_times(kind, transfers, refunded=refunded)
        if kind == "refund_recorded":
            self._require_refund(transfers)
            need(int(body["amount"]) == total(transfers), "the refund's transfers have another sum")
        if kind in ("payment_orphaned", "payment_finalized"):
            known = [self.places.get(key) for key in keys]
            counts = all(place and place.bucket != "orphaned" for place in known)
            need(counts, f"{kind} names a transfer that does not count")
        self._require_sums(kind, body, total(transfers) if kind in INCOMING else 0)

    def _require_way(self, transfers: list[Doc]) -> None:
        senders = {transfer["sender"] for transfer in transfers}
        known = self.client in (ZERO_ADDRESS, *senders)
        need(len(senders) == 1 and known, "the payment comes from another than the client")
        for transfer in transfers:
            way = (transfer["chain"], transfer["recipient"])
            need(way == self.way, "a transfer went to another address than the quote's")
            need(int(transfer["amount"]) > 0, "a transfer moves nothing")
            place = self.places.get(transfer_key(transfer))
            need(place is None or place.bucket == "orphaned", "a transfer is counted twice")

    def _require_times(self, kind: str, transfers: list[Doc], *, refunded: bool) -> None:
        times = [transfer["block_time"] for transfer in transfers]
        if kind in ("paid", "payment_partial"):
            need(max(times) <= self.pay_by, "a transfer after pay_by is counted as in time")
        if kind == "payment_late":
            need(min(times) > self.pay_by or refunded, "a transfer in time is counted as late")

    def _require_refund(self, transfers: list[Doc]) -> None:
        for transfer in transfers:
            way = (transfer["chain"], transfer["sender"], transfer["recipient"])
            fits = way == (*self.way, self.client)
            need(fits, "a refund is no transfer from the payment address to the client")
            need(transfer_key(transfer) not in self.returned, "a refund is counted twice")

    def _require_sums(self, kind: str, body: Doc, arrived: int) -> None:
        if kind == "paid":
            reached = self.counted + arrived
            said = tuple(int(body[name]) for name in ("price", "total", "overpaid"))
            need(
                said == (self.price, reached, reached - self.price), "the payment's sums are wrong"
            )
            need(reached >= self.price, f"{usdc(reached)} do not reach the price")
            payer = f"{self.way[0]}:{body['transfers'][0]['sender']}"
            need(body["payer"] == payer, "the payer is not the sender of the transfers")
        elif kind == "payment_partial":
            due = self.price - self.counted - arrived
            need(not self.paid and int(body["amount_due"]) == due > 0, "what is due is wrong")
        elif kind == "payment_overpaid":
            beyond = self.covered + arrived - self.price
            need(self.paid and not self.paused, "overpaid without being paid")
            need(int(body["overpaid"]) == beyond, "what is beyond the price is wrong")
        elif kind == "payment_late":
            need(not self.paid and int(body["refund_due"]) == arrived, "what is due back is wrong")
        elif kind == "payment_restored":
            self._require_restored(body["transfers"])

    def _require_restored(self, transfers: list[Doc]) -> None:
        need(self.paid, "restored although the order was never paid")
        for transfer in transfers:
            place = self.places.get(transfer_key(transfer))
            need(place or self.paused, "a transfer stands in although nothing is missing")
            same = place is None or place.transfer["sender"] == transfer["sender"]
            need(same, "a transfer returned with another sender")

    def apply(self, kind: str, body: Doc) -> None:
        """Take in one event that was found to agree."""
        transfers: list[Doc] = body.get("transfers", [])
        if kind in INCOMING and self.unbound:
            self.client = transfers[0]["sender"]
        if kind == "refund_recorded":
            self.returned.update({transfer_key(transfer): transfer for transfer in transfers})
            self.refunded += total(transfers)
        elif kind == "payment_orphaned":
            for place in (self.places[transfer_key(key)] for key in transfers):
                self._put(place.transfer, "orphaned", place.was or place.bucket)
        elif kind == "payment_restored":
            for transfer in transfers:
                known = self.places.get(transfer_key(transfer))
                bucket = known.was if known and known.was else "applied"
                self._put(transfer, "applied" if self.paid and bucket == "pending" else bucket)
        elif kind in INCOMING:
            bucket = {"payment_partial": "pending", "payment_late": "late"}.get(kind, "applied")
            for transfer in transfers:
                self._put(transfer, bucket)
        if kind == "paid":
            self._reach()

    def _put(self, transfer: Doc, bucket: str, was: str = "") -> None:
        """Let a transfer stand in a bucket, wherever it stood before."""
        before = self.places.get(transfer_key(transfer))
        if before is not None:
            self._sums[before.bucket] -= int(before.transfer["amount"])
        self._sums[bucket] += int(transfer["amount"])
        self.places[transfer_key(transfer)] = Place(transfer, bucket, was)
        self.transactions.add(transfer["tx_hash"])

    def _reach(self) -> None:
        """Let what was pending pay, less what went back of it: the price is reached."""
        self.paid = True
        for place in [p for p in self.places.values() if p.bucket == "pending"]:
            self._put(place.transfer, "applied")
        self.withdrawn = max(0, self.refunded - self.sum_of("late"))
