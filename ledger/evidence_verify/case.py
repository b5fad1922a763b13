"""The case: parties, terms, timeline, money and dispute, each fact with its files and its grade."""

from __future__ import annotations

import hashlib

from ledger.evidence_verify.basics import FORMAT, Doc, count, duration, time_text, usdc
from ledger.evidence_verify.bundle import (
    BASES,
    DELIVERABLE_FILE,
    EVENTS,
    FINAL,
    HELD,
    ORDER_HEAD,
    PROOFS,
    REFUND_POLICY,
    Evidence,
    Opening,
)
from ledger.evidence_verify.deal_case import deal_money, deal_parties, deal_terms
from ledger.evidence_verify.facts import (
    CHAIN,
    COUNTERPARTY,
    GRADES,
    PROVEN,
    PROVIDER,
    RPC,
)
from ledger.evidence_verify.limits import not_proven
from ledger.evidence_verify.money import Place
from ledger.evidence_verify.rules import OrderState
from ledger.evidence_verify.sentences import sayings
from ledger.evidence_verify.shapes import Entry
from ledger.evidence_verify.trees import VerifierKey, other_lines
from ledger.evidence_verify.words import read_text, signed_part


def case_of(evidence: Evidence, order: OrderState) -> Doc:
    """Return the whole case, made from the primary files alone."""
    head = evidence.head
    return {
        "format": FORMAT,
        "order_id": order.id,
        "log": {
            "origin": evidence.origin,
            "tree_size": head.size,
            "tree_root": head.root,
            "log_keys": log_keys(evidence),
            "play_money": evidence.genesis["dev_chain"],
        },
        "grades": [{"grade": grade, "meaning": text} for grade, text in GRADES.items()],
        "status": order.status,
        "parties": _parties(evidence, order),
        "terms": _terms(order),
        "timeline": [_row(entry) for entry in evidence.events],
        "money": money_of(order),
        "deliverable": deliverable_of(evidence, order),
        "dispute": _dispute(evidence, order),
        "content": [content_doc(opening) for opening in evidence.openings],
        "facts": _facts(evidence, order),
        "not_proven": not_proven(evidence, order),
    }


def event_files(seq: int) -> list[str]:
    return [f"{EVENTS}/{seq:04d}.json", f"{PROOFS}/{seq:04d}.tlog-proof"]


def log_keys(evidence: Evidence) -> list[str]:
    """Return the log's keys that the bundle's key events name."""
    added = [e.body["key"] for e in evidence.keys if e.body.get("purpose") == "log"]
    return list(dict.fromkeys([evidence.genesis["log_key"], *added]))


def strange_lines(evidence: Evidence) -> list[str]:
    """Return whose lines stand under the final head beside the log's own."""
    return other_lines(evidence.head.note, [VerifierKey(text) for text in log_keys(evidence)])


def _parties(evidence: Evidence, order: OrderState) -> list[Doc]:
    signed = {part["signer"] for part in map(signed_part, evidence.events) if part}
    wallets = list(dict.fromkeys(entry.signer for entry in evidence.events))
    found = [
        {"role": "provider", "account": wallet, "grade": PROVEN, "known_by": "signed the events"}
        for wallet in wallets
    ]
    proven = order.money.client in signed
    known = "signed texts in this bundle" if proven else "the provider names it"
    grade = PROVEN if proven else PROVIDER
    client = order.money.client
    found.append({"role": "client", "account": client, "grade": grade, "known_by": known})
    if order.deal is not None:
        found += deal_parties(order.deal)
    if "arbiter" in order.terms:
        arbiter, known = order.terms["arbiter"], "the offer names it"
        found.append({"role": "arbiter", "account": arbiter, "grade": PROVEN, "known_by": known})
    return found


def _terms(order: OrderState) -> Doc:
    terms = order.terms
    if order.deal is not None:
        return {"grade": PROVEN, "files": event_files(1), **deal_terms(terms)}
    texts = {
        "service": terms["service"],
        "price": usdc(int(terms["price"])),
        "payment_address": f"{terms['chain']}:{terms['payment_address']}",
        "token": f"{terms['chain']}:{terms['token']}",
        "pay_by": time_text(terms["pay_by"]),
        "deliver_by": time_text(terms["deliver_by"]),
        "time_to_accept": duration(terms["acceptance_window"]),
        "time_to_answer": duration(terms["answer_window"]),
        "refund_policy_sha256": terms["refund_policy"],
        "arbiter": terms.get("arbiter", "none"),
    }
    if "delivery_format" in terms:
        texts["delivery_format"] = terms["delivery_format"]
    return {"grade": PROVEN, "files": event_files(1), **texts}


def _row(entry: Entry) -> Doc:
    says = sayings(entry)
    if "nb" in entry.event:
        block = entry.event["nb"]
        text = (
            f"This is not older than block {block['number']} of {block['chain']}, {block['hash']}."
        )
        says.append({"text": text, "vouched_by": CHAIN, "grade": RPC})
    return {
        "event": entry.seq,
        "position": entry.position,
        "kind": entry.kind,
        "at": entry.at,
        "leaf": entry.leaf,
        "says": says,
        "files": event_files(entry.seq),
    }


def money_of(order: OrderState) -> Doc:
    """Return every transfer and the sums."""
    if order.deal is not None:
        return deal_money(order.deal)
    money = order.money
    rows = [_transfer_row(place) for place in money.places.values()]
    rows += [_transfer_row(Place(transfer, "refund")) for transfer in money.returned.values()]
    amounts = {
        "price": money.price,
        "received": money.received,
        "refunded": money.refunded,
        "held": money.held,
        "off_the_chain": money.sum_of("orphaned"),
    }
    sums = [{"what": n, "micro_usdc": str(v), "usdc": usdc(v)} for n, v in amounts.items()]
    return {"grade": RPC, "vouched_by": CHAIN, "transfers": rows, "sums": sums}


def _transfer_row(place: Place) -> Doc:
    return {**place.transfer, "stands": place.bucket, "usdc": usdc(int(place.transfer["amount"]))}


def deliverable_of(evidence: Evidence, order: OrderState) -> Doc:
    """Return what was to be handed over, by hash, and how its handing over was recorded."""
    if order.ready is None:
        return {"exists": False}
    attempts = [
        {"event": entry.seq, "kind": entry.kind, "at": entry.at, **entry.body}
        for entry in evidence.events
        if entry.kind in ("posted", "push_attempted", "delivered", "download_noted")
        or entry.body.get("reason") == "push_exhausted"
    ]
    state = next(o.state for o in evidence.openings if o.content_id == order.ready["content_id"])
    files = [DELIVERABLE_FILE] if state == "open" else []
    return {
        "exists": True,
        "event": order.ready_seq,
        "recorded": order.ready,
        "state": state,
        "files": [*files, *event_files(order.ready_seq)],
        "handing_over": attempts,
    }


def _dispute(evidence: Evidence, order: OrderState) -> Doc:
    if order.dispute is None:
        return {"disputed": False}
    seqs = [
        e.seq for e in evidence.events if e.kind.startswith("disput") or e.kind == "answer_lapsed"
    ]
    statements = [
        {"event": o.seq, "by": by, "file": o.file, "grade": grade}
        for o in evidence.openings
        if o.field == "statement" and o.state == "open"
        for by, grade in [_statement_grade(evidence.events[o.seq - 1])]
    ]
    ended = order.dispute["ended"]
    doc: Doc = {
        "disputed": True,
        "open": order.dispute_open,
        "ended_by": ended or "nothing yet",
        "events": seqs,
        "statements": statements,
    }
    return {**doc, "ruling": _ruling(evidence.events)} if ended == "dispute_ruled" else doc


def _ruling(events: list[Entry]) -> Doc:
    """Return what the last ruling says, with the grade of its words."""
    entry = [e for e in events if e.kind == "dispute_ruled"][-1]
    outcome, amount = entry.body["outcome"], entry.body["amount"]
    return {
        "event": entry.seq,
        "outcome": outcome,
        "amount_micro_usdc": amount,
        "usdc": usdc(int(amount)),
        "grade": PROVEN,
        "files": event_files(entry.seq),
    }


def _statement_grade(entry: Entry) -> tuple[str, str]:
    """Return whose a statement is; the client's counts as signed where its text names the hash."""
    part = signed_part(entry)
    if part is None:
        return "provider", PROVEN
    bound = read_text(entry.kind, part["text"]).get("statement") is not None
    return "client", COUNTERPARTY if bound else PROVIDER


def content_doc(opening: Opening) -> Doc:
    """Return one piece of content as the case lists it."""
    doc: Doc = {"event": opening.seq, "field": opening.field, "state": opening.state}
    if opening.commitment:
        doc["commitment"] = opening.commitment
    if opening.value is not None:
        digest = hashlib.sha256(opening.value).hexdigest()
        doc.update(file=opening.file, size_bytes=len(opening.value), sha256=digest, grade=PROVEN)
    return doc


def _facts(evidence: Evidence, order: OrderState) -> list[Doc]:
    """Return what follows from several files at once."""
    head, last = evidence.head, evidence.events[-1]
    size = f"the tree of {count(head.size, 'event')}"
    found = [
        _fact(
            f"All {last.seq} events are leaves of {size} with the root {head.root}.", PROVEN, FINAL
        ),
        _fact(
            f"The provider signed that the order ends with event {last.seq} as of {size}.",
            PROVEN,
            ORDER_HEAD,
        ),
        _fact(f"There is no further event of this order in {size}.", PROVIDER, ORDER_HEAD),
        _fact(
            "The heads that the events name as their base belong to the same log.", PROVEN, BASES
        ),
        _fact("The times of events are those of the provider's clock.", PROVIDER, EVENTS),
    ]
    for seq, old, _ in evidence.held_heads():
        text = (
            f"The client signed the log's head of size {old} in event {seq}; this log continues it."
        )
        found.append(_fact(text, PROVEN, f"{HELD}/{seq:04d}.txt"))
    if REFUND_POLICY in evidence.files:
        found.append(
            _fact("The refund policy is the one that the offer names.", PROVEN, REFUND_POLICY)
        )
    for opening in evidence.openings:
        if opening.state == "open":
            text = (
                f"The {opening.field.replace('_', ' ')} is what event {opening.seq} committed to."
            )
            found.append(_fact(text, PROVEN, opening.file))
    found += [
        _fact(f"The head bears a line that names {line}; it was not checked.", PROVIDER, FINAL)
        for line in strange_lines(evidence)
    ]
    if order.confirmed is not None and order.confirmed["binds"] == "content":
        text = "The client's receipt names the hash of the deliverable."
        found.append(_fact(text, PROVEN, *event_files(order.ready_seq)))
    return found


def _fact(text: str, grade: str, *files: str) -> Doc:
    return {"text": text, "grade": grade, "files": list(files)}
