"""What a bundle holds: its files read into events, proofs, keys, heads and content."""

from __future__ import annotations

import re

from ledger.evidence_verify.bags import Files
from ledger.evidence_verify.basics import Bad, Doc, need, parse_pretty, pretty
from ledger.evidence_verify.rules import content_ids
from ledger.evidence_verify.shapes import ZERO_LEAF, Entry, require_shape
from ledger.evidence_verify.trees import Head, parse_head, parse_inclusion

EVENTS, PROOFS, KEYS = "data/events", "data/proofs", "data/keys"
BASES, HELD = "data/checkpoints/base", "data/checkpoints/held-by-client"
FINAL = "data/checkpoints/final.note"
ORDER_HEAD = "data/order-head.json"
OPENINGS = "data/content/openings.json"
DELIVERABLE_FILE = "data/deliverable/content.bin"
REFUND_POLICY = "data/terms/refund-policy.txt"
STATES = "open/redacted/erased/not_held"
EVENT_FILE = re.compile(r"data/events/[0-9]{4,}\.json", re.ASCII)
KEY_FILE = re.compile(r"data/keys/[0-9]{4,}\.json", re.ASCII)


class Opening:
    """One piece of content that may be erased: what was committed to, and what of it is here."""

    def __init__(self, seq: int, field: str, content_id: str, said: Doc) -> None:
        self.seq, self.field, self.content_id = seq, field, content_id
        self.state: str = said["state"]
        self.salt: str = said.get("salt", "")
        self.commitment = ""
        self.value: bytes | None = None

    @property
    def file(self) -> str:
        if self.field == "deliverable":
            return DELIVERABLE_FILE
        return f"data/content/{self.seq:04d}-{self.field}.txt"


class Evidence:
    """The primary files of a bundle. Everything else in it is made from these."""

    def __init__(self, base: str, files: Files) -> None:
        self.base, self.files = base, files
        self.head: Head = parse_head(self.text(FINAL))
        self.events = self._entries(EVENTS, EVENT_FILE)
        self.keys = self._entries(KEYS, KEY_FILE)
        need(self.events and self.keys, "the bundle holds no event, or no key of the log")
        first = self.events[0]
        self.origin, self.stream = self.head.origin, first.stream
        self.order_id = first.stream[len("order/") :]
        self.openings = self._openings()
        self.genesis: Doc = self.keys[0].body

    def get(self, name: str) -> bytes:
        need(name in self.files, f"{name} is missing")
        return self.files[name]

    def text(self, name: str) -> str:
        try:
            return self.get(name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Bad(f"{name} is no text") from error

    def held_heads(self) -> list[tuple[int, int, str]]:
        """Return the heads in texts that the client signed: event, size and root."""
        return [
            (entry.seq, entry.body["head"]["size"], entry.body["head"]["root"])
            for entry in self.events
            if entry.kind == "confirmed" and "head" in entry.body
        ]

    def primary_names(self) -> set[str]:
        """Return the names of the files that everything else is made from."""
        names = {FINAL, ORDER_HEAD, OPENINGS}
        for entry in self.events:
            names.add(f"{EVENTS}/{entry.seq:04d}.json")
            names.add(f"{PROOFS}/{entry.seq:04d}.tlog-proof")
            names.add(f"{BASES}/{entry.seq:04d}.txt")
        for entry in self.keys:
            names.add(f"{KEYS}/{entry.seq:04d}.json")
            names.add(f"{KEYS}/{entry.seq:04d}.tlog-proof")
        names |= {f"{HELD}/{seq:04d}.txt" for seq, _, _ in self.held_heads()}
        names |= {o.file for o in self.openings if o.state == "open"}
        return names | ({REFUND_POLICY} & set(self.files))

    def _entries(self, folder: str, form: re.Pattern[str]) -> list[Entry]:
        """Return the events of a folder by their numbers, each at the index its proof names."""
        found = []
        for name in [n for n in self.files if form.fullmatch(n)]:
            proofs = PROOFS if folder == EVENTS else folder
            number = name[len(folder) + 1 : -len(".json")]
            try:
                proof = self.text(f"{proofs}/{number}.tlog-proof")
                entry = Entry(self.files[name], parse_inclusion(proof, self.head.note)[0])
                need(f"{entry.seq:04d}" == number, "the number is not that of the event")
            except Bad as error:
                raise Bad(f"{name}: {error}") from error
            found.append(entry)
        return sorted(found, key=lambda entry: entry.seq)

    def _openings(self) -> list[Opening]:
        said = parse_pretty(self.get(OPENINGS))
        need(isinstance(said, list), f"{OPENINGS} is no list")
        found: dict[str, Opening] = {}
        for entry in self.events:
            for content_id, field in content_ids(entry).items():
                if content_id not in found:
                    need(len(said) > len(found), f"{OPENINGS} does not list {field}")
                    found[content_id] = _opening(entry.seq, field, content_id, said[len(found)])
                opening = found[content_id]
                opening.commitment = opening.commitment or entry.commit.get(field, "")
        need(len(said) == len(found), f"{OPENINGS} lists content that no event names")
        for opening in found.values():
            if opening.state == "open":
                opening.value = self.get(opening.file)
        return list(found.values())


def _opening(seq: int, field: str, content_id: str, said: Doc) -> Opening:
    shape = f"event:number field:command content_id:id state:{STATES} salt?:digest"
    require_shape(OPENINGS, said, shape)
    named = (said["event"], said["field"], said["content_id"])
    need(named == (seq, field, content_id), f"{OPENINGS} lists {field} of event {seq} otherwise")
    salted = said["state"] == "open" and field != "deliverable"
    need(
        ("salt" in said) is salted, f"{OPENINGS}: a salt without its value, or the other way round"
    )
    return Opening(seq, field, content_id, said)


def openings_file(openings: list[Opening]) -> bytes:
    """Return the list of all content, with the salts of what is in the bundle."""
    listed = []
    for each in openings:
        doc = {
            "event": each.seq,
            "field": each.field,
            "content_id": each.content_id,
            "state": each.state,
        }
        listed.append({**doc, "salt": each.salt} if each.salt else doc)
    return pretty(listed)


def order_head_doc(log: str, last: Entry, size: int) -> Doc:
    """Return what the provider signs of an order's end."""
    return {"log": log, "stream": last.stream, "seq": last.seq, "leaf": last.leaf, "size": size}


def require_chain(entries: list[Entry], stream: str) -> None:
    """Raise `Bad` unless the events are all of a stream, one after the other, none left out."""
    leaf, index, last = ZERO_LEAF, -1, 0
    for number, entry in enumerate(entries, 1):
        need(entry.stream == stream, f"event {entry.seq} is of {entry.stream}")
        need(entry.seq == number, f"event {number} is missing")
        need(entry.event["prev"] == leaf, f"event {number} does not name the one before it")
        need(entry.index > index, f"event {number} stands before the one before it")
        need(entry.ms >= last, f"event {number} is older than the one before it")
        need(entry.base[0] <= entry.index, f"event {number} names a base that is not older")
        leaf, index, last = entry.leaf, entry.index, entry.ms
