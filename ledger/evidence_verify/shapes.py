"""The events: what each kind holds, read from bytes into one strict shape."""

from __future__ import annotations

import re

from ledger.evidence_verify.basics import Doc, fail, moment_ms, need, parse_canonical
from ledger.evidence_verify.curves import require_signed
from ledger.evidence_verify.trees import leaf_hash

MAX_ENTRY_BYTES = 65_535
MAX_ITEMS = 64
ZERO_LEAF = "0" * 64
EVENT_PREFIX = b"IVXP-LEDGER-EVENT/1\n"

TEXTS = {
    "text": re.compile(r".{1,200}", re.DOTALL),
    "signed": re.compile(r".{1,4096}", re.DOTALL),
    "address": re.compile(r"0x[0-9a-f]{40}", re.ASCII),
    "account": re.compile(r"[a-z0-9]{3,8}:[A-Za-z0-9_-]{1,32}:\S{1,64}"),
    "chain": re.compile(r"[a-z0-9]{3,8}:[A-Za-z0-9_-]{1,32}", re.ASCII),
    "hash": re.compile(r"0x[0-9a-f]{64}", re.ASCII),
    "digest": re.compile(r"[0-9a-f]{64}", re.ASCII),
    "id": re.compile(r"[0-9a-f]{32}", re.ASCII),
    "signature": re.compile(r"0x[0-9a-f]{130}", re.ASCII),
    "party_signature": re.compile(r"0x[0-9a-f]{130}|ed25519:[0-9a-f]{128}", re.ASCII),
    "wallet": re.compile(r"0x[0-9a-f]{40}|[1-9A-HJ-NP-Za-km-z]{32,44}", re.ASCII),
    "side": re.compile(
        r"0x[0-9a-f]{40}"
        r"|(?!0[xX][0-9a-fA-F]{40}\Z|(?i:provider|workers)\Z)[A-Za-z0-9._-]{1,64}",
        re.ASCII,
    ),
    "key58": re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}", re.ASCII),
    "signature58": re.compile(r"[1-9A-HJ-NP-Za-km-z]{64,88}", re.ASCII),
    "transaction": re.compile(r"(?=.{,1644}\Z)[A-Za-z0-9+/]{4,1644}={0,2}", re.ASCII),
    "uuid": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII),
    "named": re.compile(r".{1,64}", re.DOTALL),
    "as_signed": re.compile(r"signed"),
    "as_settled": re.compile(r"settled"),
    "micros": re.compile(r"0|[1-9][0-9]{0,29}", re.ASCII),
    "origin": re.compile(r"[A-Za-z0-9._/-]{1,160}", re.ASCII),
    "vkey": re.compile(r"\S+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+"),
    "code": re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII),
    "command": re.compile(r"[a-z_]{1,40}", re.ASCII),
    "alg": re.compile(r"eip191", re.ASCII),
}
"""Every form is matched as a whole."""

NUMBERS = {
    "number": (0, 2**53 - 1),
    "position": (-(2**53) + 1, 2**53 - 1),
    "place": (1, 2**53 - 1),
    "time": (0, 2**40 - 1),
    "seconds": (0, 2**31 - 1),
    "counter": (1, 2**31 - 1),
    "index": (0, 2**31 - 1),
    "bytes": (0, 2**40 - 1),
    "stars": (1, 5),
    "basis_points": (0, 10_000),
    "success": (200, 299),
    "http": (100, 599),
}

PARTS = {
    "client": "text:signed signature:party_signature signer:wallet",
    "transfer": (
        "chain:chain tx_hash:hash ordinal:index log_index:index block_number:number"
        " block_hash:hash block_time:time sender:address recipient:address amount:micros"
    ),
    "key": "chain:chain tx_hash:hash ordinal:index",
    "head": "size:number root:digest",
    "block": "chain:chain number:number hash:hash",
    "continues": "origin:origin head:head",
}

FINALITY = "sealed/safe/finalized"
PURPOSE = "log/wallet/payment"
KNOWN = "proven:token/signature/open"
KINDS = {
    "quoted": (
        "service:text client:account price:micros chain:chain token:address"
        " payment_address:address pay_by:time deliver_by:time acceptance_window:seconds"
        " answer_window:seconds refund_policy:digest arbiter?:address delivery_format?:text"
        " description_id:id client_name_id?:id contact_endpoint_id?:id"
    ),
    "expired": "scanned_block:number scanned_block_time:time",
    "paid": (
        "transfers:transfer* payer:account price:micros total:micros overpaid:micros"
        f" finality:{FINALITY}"
    ),
    "processing": (
        "reason:notice/worker/retry notice?:client tx_hash?:hash nonce?:text"
        " delivery_endpoint_id?:id"
    ),
    "notice_accepted": "notice:client tx_hash:hash nonce?:text delivery_endpoint_id?:id",
    "ready": (
        "content_id:id raw:digest json_digest:digest legacy_digest?:digest object_digest?:digest"
        " size_bytes:bytes format:text content_type:text"
    ),
    "posted": "attempt:counter content_hash:digest response_status:success",
    "delivered": "by:bearer/party content_hash:digest",
    "delivery_failed": "reason:push_exhausted/handler_failed attempts:counter detail?:text",
    "confirmed": (
        "client:client binds:content/order_only content_hash?:digest head?:head rating?:stars"
    ),
    "disputed": (
        "client:client reason:not_delivered/wrong_content/other content_hash?:digest"
        " statement_id?:id"
    ),
    "refunded": ("reason:returned/payment_impossible amount:micros payer_nonce_used_by?:hash"),
    "payment_claimed": (
        "tx_hash:hash notice:client nonce?:text delivery_endpoint_id?:id"
        " reason:chain_unavailable/not_found/not_deep_enough"
    ),
    "payment_claim_closed": "tx_hash:hash reason:reverted/not_matching/absent",
    "payment_partial": "transfers:transfer* amount_due:micros",
    "payment_overpaid": "transfers:transfer* overpaid:micros",
    "payment_late": "transfers:transfer* refund_due:micros",
    "payment_finalized": f"transfers:key* finality:{FINALITY}",
    "payment_orphaned": "transfers:key* head_number:number",
    "payment_restored": f"transfers:transfer* finality:{FINALITY}",
    "refund_recorded": "transfers:transfer* amount:micros",
    "push_attempted": (
        "attempt:counter target:delivery_endpoint/contact_endpoint"
        " outcome:accepted/refused/unreachable/blocked/exhausted response_status?:http"
    ),
    "download_noted": "by:bearer/party content_hash:digest",
    "acceptance_lapsed": "window_ended:time",
    "answer_lapsed": "window_ended:time",
    "dispute_answered": "position:accepts/rejects statement_id?:id",
    "dispute_withdrawn": "client:client",
    "dispute_ruled": "arbiter:client outcome:client/provider/split amount:micros",
    "content_erased": "content_ids:id* reason:retention/request/operator",
    "command_refused": "command:command code:code client:client",
    "receipt_recorded": (
        "position:place leaf:digest sender:provider/client"
        " said:received/read/processed/rejected content_hash?:digest receiver:client"
    ),
    "order_proposed": (
        "service:text conversation:uuid agent:uuid agent_wallet:side client:account price:micros"
        " price_athr?:micros chain:chain token:key58 payment_address?:account"
        " commission_bps:basis_points pay_by:time delivery_seconds:seconds deadline?:time"
        " acceptance_window:seconds answer_window:seconds refund_policy:digest arbiter?:address"
        f" description_id:id offer?:text {KNOWN}"
    ),
    "order_countered": f"price?:micros delivery_seconds?:seconds text_id:id {KNOWN}",
    "order_declined": f"reason_id?:id {KNOWN}",
    "order_cancelled": f"by:agent/client reason_id?:id {KNOWN}",
    "payment_authorized": (
        "chain:chain mint:key58 recipient:key58 source:key58 destination:key58 payer:key58"
        " named_payer?:named signature:signature58 transaction:transaction method:USDC/ATHR"
        " due:micros amount:micros commission:micros payout:micros grade:as_signed"
        f" awaits:nothing/settlement seen_slot?:number {KNOWN}"
    ),
    "payment_settled": (
        "signature:signature58 slot:number grade:as_settled finality:confirmed/finalized"
    ),
    "payment_voided": (
        "signature:signature58 reason:failed/expired cause:funds/blockhash/other detail?:text"
    ),
    "order_reviewed": f"rating:stars comment_id?:id {KNOWN}",
}
"""The kinds of an order's events: field and type, `?` where it may be absent, `*` for a list."""

LOG_KINDS = {
    "log_opened": (
        "origin:origin network:text log_key:vkey wallet:address payment_address:account"
        " recovery:address continues?:continues dev_chain:flag"
    ),
    "chain_bound": "chain:chain genesis_hash:hash token:address block_number:number",
    "key_added": f"purpose:{PURPOSE} key:text possession?:client",
    "key_revoked": f"purpose:{PURPOSE} key:text last_position:position recovery?:client",
    "policy_set": "name:text digest:digest",
    "log_closed": "reason:text recovery:client",
}
"""The kinds of the log's own events that a bundle holds."""

BY_CLIENT = {
    "notice_accepted", "confirmed", "disputed", "payment_claimed", "dispute_withdrawn",
    "receipt_recorded", "order_countered", "order_declined", "order_cancelled",
    "payment_authorized", "order_reviewed",
}  # fmt: skip
BY_SYSTEM = {
    "expired", "paid", "refunded", "payment_claim_closed", "payment_partial", "payment_overpaid",
    "payment_late", "payment_finalized", "payment_orphaned", "payment_restored",
    "refund_recorded", "acceptance_lapsed", "answer_lapsed", "chain_bound", "payment_settled",
    "payment_voided",
}  # fmt: skip

ENVELOPE = (
    "v:number log:origin stream:text seq:number kind:text at:text actor:provider/client/system"
    " prev:digest base:head nb?:block salt:id body:object commit:object"
)


class Entry:
    """One signed event, its exact bytes, and its place in the log."""

    def __init__(self, raw: bytes, index: int) -> None:
        need(len(raw) <= MAX_ENTRY_BYTES, "an entry is at most 65,535 bytes long")
        value = parse_canonical(raw)
        require_shape("entry", value, "event:object sig:object")
        require_shape("sig", value["sig"], "alg:alg by:address value:signature")
        event: Doc = value["event"]
        require_shape("event", event, ENVELOPE)
        self.raw, self.index, self.position = raw, index, index + 1
        self.leaf = leaf_hash(raw)
        self.event = event
        self.log, self.stream, self.seq = event["log"], event["stream"], event["seq"]
        self.kind, self.body, self.commit = event["kind"], event["body"], event["commit"]
        self.at, self.ms = event["at"], moment_ms(event["at"])
        self.base = (event["base"]["size"], event["base"]["root"])
        self.signer, self.signature = value["sig"]["by"], value["sig"]["value"]
        self._require_body()

    def require_signature(self) -> None:
        """Raise `Bad` unless the signature is over exactly the event's bytes in the entry."""
        signed = self.raw[len(b'{"event":') : self.raw.rindex(b',"sig":{"alg":"eip191"')]
        require_signed(EVENT_PREFIX + signed, self.signature, self.signer)

    def _require_body(self) -> None:
        kinds = LOG_KINDS if self.stream == "log" else KINDS
        if self.kind not in kinds:
            fail(f"no event {self.kind!r} of the stream {self.stream!r} is known to this verifier")
        require_shape(self.kind, self.body, kinds[self.kind])
        actor = "client" if self.kind in BY_CLIENT else "provider"
        actor = "system" if self.kind in BY_SYSTEM else actor
        need(self.event["actor"] == actor, f"{self.kind} records an act of the {actor}")
        need(self.event["v"] == 1 and self.seq > 0, "an event of another version, or of no place")
        first = self.event["prev"] == ZERO_LEAF
        need(first is (self.seq == 1), "the first event of a stream, and no other, has no past")
        for name, digest in self.commit.items():
            require_value(f"commit.{name}", digest, "digest")
            need(f"{name}_id" in self.body, f"a commitment of {name!r} without content")


def require_shape(place: str, value: object, shape: str) -> None:
    """Raise `Bad` unless a value is an object of exactly the fields of a shape."""
    if not isinstance(value, dict):
        fail(f"{place} is no object")
    known = set()
    for field in shape.split(" "):
        name, _, kind = field.partition(":")
        known.add(name.rstrip("?"))
        if name.endswith("?") and name[:-1] not in value:
            continue
        need(name.rstrip("?") in value, f"{place} lacks {name}")
        require_value(f"{place}.{name.rstrip('?')}", value[name.rstrip("?")], kind)
    need(set(value) <= known, f"{place} has fields that it may not have")


def require_value(place: str, value: object, kind: str) -> None:
    """Raise `Bad` unless a value is of the kind that a shape names."""
    if kind.endswith("*"):
        if not isinstance(value, list) or not 0 < len(value) <= MAX_ITEMS:
            fail(f"{place} is no list of 1 to {MAX_ITEMS}")
        for item in value:
            require_value(place, item, kind[:-1])
    elif kind in PARTS:
        require_shape(place, value, PARTS[kind])
    elif kind in NUMBERS:
        low, high = NUMBERS[kind]
        whole = isinstance(value, int) and not isinstance(value, bool)
        need(whole and isinstance(value, int) and low <= value <= high, f"{place} is no {kind}")
    elif kind in ("object", "flag"):
        need(isinstance(value, dict if kind == "object" else bool), f"{place} is no {kind}")
    elif "/" in kind:
        need(isinstance(value, str) and value in kind.split("/"), f"{place} is none of {kind}")
    else:
        need(isinstance(value, str) and TEXTS[kind].fullmatch(value), f"{place} is no {kind}")
