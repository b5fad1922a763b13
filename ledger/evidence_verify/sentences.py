"""The sentences of one event, made of the tables and of what the event says."""

from __future__ import annotations

from ledger.evidence_verify.basics import Doc, time_text, usdc
from ledger.evidence_verify.facts import KNOWN_BY, PROVEN, PROVIDER, SAYINGS, VARIANTS
from ledger.evidence_verify.money import total
from ledger.evidence_verify.shapes import KINDS, Entry
from ledger.evidence_verify.words import FORMS, NOTICES, read_text


def sayings(entry: Entry) -> list[Doc]:
    """Return the sentences of an event, each with who vouches and its grade."""
    values = {name: _shown(entry.kind, name, value) for name, value in entry.body.items()}
    values["arrived"] = usdc(total(_transfers(entry.body)))
    found = [
        {"text": text.format(**values), "vouched_by": who, "grade": grade}
        for text, who, grade in SAYINGS[_variant(entry)]
    ]
    if "rating" in entry.body:
        text = f"A rating of {entry.body['rating']} of 5 came with it; the client did not sign it."
        found.append({"text": text, "vouched_by": "provider", "grade": PROVIDER})
    if "deadline" in entry.body:
        text = f"The delivery is due until {time_text(entry.body['deadline'])} at the latest."
        found.append({"text": text, "vouched_by": "provider", "grade": PROVEN})
    if "proven" in entry.body:
        text = KNOWN_BY[entry.body["proven"]].format(side=_side(entry))
        found.append({"text": text, "vouched_by": "provider", "grade": PROVIDER})
    return found


def _side(entry: Entry) -> str:
    """Return whose act an event of the marketplace records."""
    if entry.kind == "order_proposed":
        return "agent"
    side: str = entry.body.get("by", "client")
    return side


def _variant(entry: Entry) -> str:
    name: str = entry.kind
    for field in VARIANTS:
        chosen = f"{entry.kind}/{entry.body.get(field)}"
        name = chosen if chosen in SAYINGS else name
    notice = entry.body.get("notice")
    if notice is not None and FORMS[entry.kind] is NOTICES:
        unnamed = read_text(entry.kind, notice["text"]).get("tx") is None
        name = f"{name}/unnamed" if unnamed else name
    return name


def _shown(kind: str, name: str, value: object) -> object:
    types = dict(field.replace("?", "").split(":", 1) for field in KINDS[kind].split(" "))
    if types[name] == "micros" and isinstance(value, str):
        return usdc(int(value))
    if types[name] == "time" and isinstance(value, int):
        return time_text(value)
    return value


def _transfers(body: Doc) -> list[Doc]:
    return [transfer for transfer in body.get("transfers", ()) if "amount" in transfer]
