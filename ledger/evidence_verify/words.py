"""The texts that parties sign: their forms, and what each has to say to fit its event."""

from __future__ import annotations

import re

from ledger.evidence_verify.basics import Doc, fail, need, stamp_ms
from ledger.evidence_verify.shapes import Entry

ID = r"(?P<order>[A-Za-z0-9-]{1,64})"
TX = r"(?P<tx>0x[0-9a-fA-F]{64})"
TS = r"(?P<ts>[0-9T:.+Z-]{19,40})"
HASH = r"(?P<hash>(?:sha256:|0x)?[0-9a-fA-F]{64})"
NONCE = r"(?P<nonce>[A-Za-z0-9_-]{16,128})"
ADDRESS = r"(?P<address>0x[0-9a-fA-F]{40})"
MS = r"(?P<ms>[0-9]{13})"
HEAD = r"(?P<size>[1-9][0-9]{0,14}):(?P<root>[0-9a-f]{64})"
REASON = r"(?P<reason>not_delivered|wrong_content|other)"
STATEMENT = r"(?:none|(?P<statement>[0-9a-f]{64}))"
OUTCOME = r"(?P<outcome>client|provider|split)"
AMOUNT = r"(?P<amount>0|[1-9][0-9]{0,14})"
NAMED = r"(?P<key>\S{1,200})"
LAST = r"(?P<last>[1-9][0-9]{0,14})"
LOG = r"(?P<origin>[A-Za-z0-9._/-]{1,160})"

NOTICES = (
    rf"Order: {ID} \| Payment: {TX} \| Timestamp: {TS}",
    rf"IVXP-DELIVER \| Order: {ID} \| Payment: {TX} \| Nonce: {NONCE} \| Timestamp: {TS}",
    rf"IVXP Identity Verification \| Order: {ID} \| Address: {ADDRESS} \| Timestamp: {MS}",
)
RECEIPTS = (
    rf"Confirm delivery: {ID} \| Timestamp: {TS}",
    rf"Order: {ID} \| Received: true \| Hash: {HASH} \| Timestamp: {TS}",
    rf"Order: {ID} \| Received: true \| Hash: {HASH} \| Head: {HEAD} \| Timestamp: {TS}",
    rf"Order: {ID} \| Received: {TS} \| Satisfied: true",
)
DISPUTE = (
    rf"Dispute delivery: {ID} \| Reason: {REASON} \| Hash: (?:none|{HASH})"
    rf" \| Statement: {STATEMENT} \| Timestamp: {TS}"
)
DISPUTES = (DISPUTE,)
WITHDRAWALS = (rf"Withdraw dispute: {ID} \| Timestamp: {TS}",)
RULINGS = (rf"Rule dispute: {ID} \| Outcome: {OUTCOME} \| Amount: {AMOUNT} \| Timestamp: {TS}",)
EVENT_RECEIPT = (
    r"Receipt: (?P<position>[1-9][0-9]{0,14})-(?P<leaf>[0-9a-f]{64})"
    r" \| Kind: (?P<said>received|read|processed|rejected)"
    rf" \| Hash: (?:none|{HASH}) \| Timestamp: {TS}"
)
EVENT_RECEIPTS = (EVENT_RECEIPT,)
ADDING = (rf"Add key: {NAMED} \| Log: {LOG} \| Timestamp: {TS}",)
REVOKING = (rf"Revoke key: {NAMED} \| Log: {LOG} \| Last position: {LAST} \| Timestamp: {TS}",)
CLOSING = (rf"Close log: {LOG} \| Reason: (?P<reason>[ -{{}}~]{{1,200}}) \| Timestamp: {TS}",)

FORMS = {
    "processing": NOTICES,
    "notice_accepted": NOTICES,
    "payment_claimed": NOTICES,
    "command_refused": NOTICES,
    "confirmed": RECEIPTS,
    "disputed": DISPUTES,
    "dispute_withdrawn": WITHDRAWALS,
    "dispute_ruled": RULINGS,
    "receipt_recorded": EVENT_RECEIPTS,
    "key_added": ADDING,
    "key_revoked": REVOKING,
    "log_closed": CLOSING,
}
ONCE = ("confirmed", "disputed", "dispute_withdrawn", "dispute_ruled")
MAX_AGE_MS, MAX_AHEAD_MS = 360_000, 60_000
"""A text is taken for 300 seconds, and a minute may pass until its event has its place."""
MEMBERS = ("notice", "client", "arbiter", "receiver", "possession", "recovery")

Said = dict[str, "str | None"]


def signed_part(entry: Entry) -> Doc | None:
    """Return the party's text, signature and signer inside an event, if it holds one."""
    for name in MEMBERS:
        if entry.kind in FORMS and name in entry.body:
            part: Doc = entry.body[name]
            return part
    return None


def read_text(kind: str, text: str) -> Said:
    """Return what a party's text says, or raise `Bad` if it has none of the forms of its kind."""
    for form in FORMS[kind]:
        match = re.fullmatch(form, text, re.ASCII)
        if match:
            return match.groupdict()
    return fail("the signed text has none of the documented forms")


def bare_digest(text: str | None) -> str | None:
    """Return a hash as bare lower-case digits, as it is recorded."""
    return None if text is None else text[-64:].lower()


def require_new_words(entry: Entry, said_before: set[str]) -> None:
    """Raise `Bad` unless a text about the delivery is new, and of the time of its event.

    An old text cannot be shown again: that somebody withdrew one dispute ends no later one. Notices
    are left out, as one that is kept may be accepted long after.
    """
    part = signed_part(entry)
    if part is None or entry.kind not in ONCE:
        return
    need(part["text"] not in said_before, "the text stands in an earlier event of the order")
    age = entry.ms - stamp_ms(str(read_text(entry.kind, part["text"])["ts"]))
    need(-MAX_AHEAD_MS <= age <= MAX_AGE_MS, "the text was signed at another time than its event")


def require_words(entry: Entry, order_id: str, paid: set[str]) -> None:
    """Raise `Bad` unless the text names this order and says what the event records of it.

    `paid` are the transactions that count for the order so far.
    """
    part = signed_part(entry)
    if part is None:
        return
    said, body = read_text(entry.kind, part["text"]), entry.body
    if entry.kind == "receipt_recorded":
        _event_receipt(said, body)
        return
    need(said["order"] == order_id, f"the text names the order {said['order']}")
    if entry.kind == "confirmed":
        _receipt(said, body)
    elif entry.kind == "disputed":
        recorded = (body["reason"], body.get("content_hash"))
        need(recorded == (said["reason"], bare_digest(said["hash"])), "the dispute says otherwise")
    elif entry.kind == "dispute_ruled":
        need((body["outcome"], body["amount"]) == (said["outcome"], said["amount"]), _OTHERWISE)
    elif entry.kind == "command_refused":
        need(body["command"] == "accept_notice", "a refusal that is not documented")
    elif FORMS[entry.kind] is NOTICES:
        need(part["signer"].startswith("0x"), "a notice is signed by the EVM wallet that paid")
        _notice(said, body, part["signer"])
        counted = entry.kind == "payment_claimed" or body.get("tx_hash") in paid
        need(counted, "a notice was accepted for a transaction that pays nothing here")


_OTHERWISE = "the ruling says otherwise than its event"


def _notice(said: Said, body: Doc, signer: str) -> None:
    named = said.get("tx")
    need(named is None or named.lower() == body.get("tx_hash"), "the notice names another payment")
    need(said.get("nonce") == body.get("nonce"), "the notice has another nonce")
    address = said.get("address")
    need(address is None or address.lower() == signer, "the notice names another signer")


def _receipt(said: Said, body: Doc) -> None:
    digest = bare_digest(said.get("hash"))
    size, root = said.get("size"), said.get("root")
    head = {"size": int(size), "root": root} if size else None
    binds = "order_only" if digest is None else "content"
    recorded = (body["binds"], body.get("content_hash"), body.get("head"))
    need(recorded == (binds, digest, head), "the receipt says otherwise than its event")


def _event_receipt(said: Said, body: Doc) -> None:
    named = (str(body["position"]), body["leaf"])
    recorded = (*named, body["said"], body.get("content_hash"))
    words = (said["position"], said["leaf"], said["said"], bare_digest(said.get("hash")))
    need(recorded == words, "the receipt says otherwise than its event")


def require_key_words(entry: Entry, origin: str) -> None:
    """Raise `Bad` unless a key's text is of this log and says what the event records."""
    part = signed_part(entry)
    if part is None:
        return
    said, body = read_text(entry.kind, part["text"]), entry.body
    need(said["origin"] == origin, "a key's text names another log")
    if entry.kind == "log_closed":
        need(said["reason"] == body["reason"], "the text names another reason")
    else:
        need(said["key"] == body["key"], "a key's text names another key")
    if entry.kind == "key_revoked":
        need(said["last"] == str(body["last_position"]), "the text names another position")
