"""Everything in a bundle that is made from its primary files, byte for byte."""

from __future__ import annotations

import hashlib

from ledger.evidence_verify.bags import BAGIT, PAYLOAD, Files
from ledger.evidence_verify.basics import FORMAT, Doc, encoded, pretty
from ledger.evidence_verify.bundle import Evidence
from ledger.evidence_verify.case import case_of, deliverable_of, event_files, money_of
from ledger.evidence_verify.deal import IN_DEALS_ONLY
from ledger.evidence_verify.deal_case import TESTIMONY
from ledger.evidence_verify.limits import not_proven
from ledger.evidence_verify.report import report_of
from ledger.evidence_verify.rules import OrderState
from ledger.evidence_verify.words import signed_part

CASE, REPORT = "data/case.json", "data/report.html"
README, BAG_INFO = "README.txt", "bag-info.txt"

READ_FROM_CHAIN = (
    "The provider read these transfers through the RPC endpoints that it uses and"
    " signed what it read. Their answers are not part of the log. To be sure, look up each"
    " transaction on the chain that is named, and compare block, addresses and amount."
)
README_TEXT = """Evidence on order {order}
as of {size} events of the log {origin}

CHECK IT
  1. Take verify.py and the keys from a source that you trust: the software's own repository, and
     what the provider told you before there was a dispute. What lies in this bundle comes from the
     provider.
  2. python3 -I verify.py {base}.zip \\
         --origin {origin} --log-key KEY --wallet 0x...
     It ends with 0 if everything holds. It needs Python 3.9 or newer, no network, no packages.
  3. Read data/report.html. verify.py makes it again from the signed files and compares, so after
     step 2 it says what they say.

WHAT LIES WHERE
  data/case.json      the case for programs: each fact with its files and its grade
  data/report.html    the case for people
  data/events/        every event of the order, the exact bytes that were signed
  data/proofs/        the proof of each event's place in the log (C2SP tlog-proof)
  data/checkpoints/   the log's signed head, and the proofs that earlier heads belong to it
  data/keys/          the events that say which keys speak for the log, with their proofs
  data/client/        the messages that the client (and the arbiter) signed, byte for byte
  data/payment/       the transfers as the provider read them from the chain
  data/terms/         what was offered
  data/deliverable/   what was delivered, or its hash
  data/content/       texts that may be erased, with what opens their commitments
  data/redactions.json  what is missing here, and why
  data/order-head.json  the provider's signed word where the order ends

WHAT IS NOT PROVEN
{not_proven}
"""


def made_files(evidence: Evidence, order: OrderState) -> Files:
    """Return every file that is made, without the manifests and what is signed."""
    case = case_of(evidence, order)
    files = {
        CASE: pretty(case),
        REPORT: report_of(evidence, case),
        "data/redactions.json": pretty(_redactions(evidence)),
        "data/payment/transfers.json": pretty(_payment(evidence, order)),
        "data/terms/terms.json": pretty({"signed_as": event_files(1), "terms": order.terms}),
        "data/deliverable/deliverable.json": pretty(deliverable_of(evidence, order)),
        **_messages(evidence),
        README: _readme(evidence, order),
        "bagit.txt": BAGIT,
    }
    payload = {**{n: evidence.files[n] for n in evidence.primary_names()}, **files}
    return {**files, BAG_INFO: _bag_info(evidence, payload)}


def base_name(order_id: str, size: int) -> str:
    return f"evidence-{order_id}-{size}"


def _readme(evidence: Evidence, order: OrderState) -> bytes:
    lines = "\n".join(f"  - {line}" for line in not_proven(evidence, order))
    text = README_TEXT.format(
        order=order.id,
        size=evidence.head.size,
        origin=evidence.origin,
        base=evidence.base,
        not_proven=lines,
    )
    return encoded(text)


def _bag_info(evidence: Evidence, files: Files) -> bytes:
    payload = [data for name, data in files.items() if name.startswith(PAYLOAD)]
    tags = {
        "Bag-Software-Agent": "ivxp-ledger",
        "Bagging-Date": evidence.events[-1].at[:10],
        "Evidence-Format": FORMAT,
        "External-Identifier": evidence.base,
        "Log-Origin": evidence.origin,
        "Log-Tree-Root": evidence.head.root,
        "Log-Tree-Size": evidence.head.size,
        "Payload-Oxum": f"{sum(map(len, payload))}.{len(payload)}",
    }
    return encoded("".join(f"{name}: {value}\n" for name, value in tags.items()))


def _messages(evidence: Evidence) -> Files:
    """Return each text that a party signed as a file of its own, and a list of the signatures."""
    files: Files = {}
    listed: list[Doc] = []
    for entry in evidence.events:
        part = signed_part(entry)
        if part is None:
            continue
        scheme = "Ed25519" if part["signature"].startswith("ed25519:") else "EIP-191"
        name, text = f"data/client/{entry.seq:04d}-{entry.kind}.txt", encoded(part["text"])
        files[name] = text
        listed.append(
            {
                "event": entry.seq,
                "kind": entry.kind,
                "file": name,
                "sha256": hashlib.sha256(text).hexdigest(),
                "scheme": f"{scheme} over the bytes of the file",
                "signature": part["signature"],
                "signer": part["signer"],
            }
        )
    return {**files, "data/client/messages.json": pretty(listed)}


def _payment(evidence: Evidence, order: OrderState) -> Doc:
    """Return the money with the events that recorded it; the chain itself is not in the bundle."""
    events = [e for e in evidence.events if e.body.get("transfers") or e.kind == "refunded"]
    events += [e for e in evidence.events if e.kind in IN_DEALS_ONLY and "signature" in e.body]
    return {
        **money_of(order),
        "recorded_in": [
            {
                "event": e.seq,
                "kind": e.kind,
                "at": e.at,
                "body": e.body,
                "files": event_files(e.seq),
            }
            for e in events
        ],
        "testimony": READ_FROM_CHAIN if order.deal is None else TESTIMONY,
    }


def _redactions(evidence: Evidence) -> list[Doc]:
    """Return what is not in the bundle, under which commitment, and why."""
    found = []
    for opening in [o for o in evidence.openings if o.state != "open"]:
        doc: Doc = {
            "event": opening.seq,
            "field": opening.field,
            "content_id": opening.content_id,
            "state": opening.state,
            "why": _why(evidence, opening.content_id, opening.state),
        }
        found.append({**doc, "commitment": opening.commitment} if opening.commitment else doc)
    return found


def _why(evidence: Evidence, content_id: str, state: str) -> str:
    if state == "redacted":
        return "left out by the maker of this bundle, who may still hold it"
    for entry in evidence.events:
        if entry.kind == "content_erased" and content_id in entry.body["content_ids"]:
            return f"erased with event {entry.seq}, reason: {entry.body['reason']}"
    return "not held any more; no event of this bundle says that it was erased"
