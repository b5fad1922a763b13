"""The evidence bundle of one order: what each side may take to an arbiter, an auditor or a court.

A BagIt bag in a zip, the same bytes for the same log, tree size, head, redactions and content
still held. It is put together with the verifier's own parts, which read it without us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Protocol

from ledger.canonical import canonical
from ledger.errors import InvalidInput, NotFound, VerificationError
from ledger.evidence_verifier import verifier_source
from ledger.evidence_verify.bags import (
    MAX_BAG_BYTES,
    MAX_FILES,
    SIGNATURE_FILE,
    TAG_MANIFEST,
    Files,
    build_zip,
    seal_text,
    signed_doc,
    with_manifests,
)
from ledger.evidence_verify.basics import Bad
from ledger.evidence_verify.bundle import (
    BASES,
    EVENTS,
    FINAL,
    HELD,
    KEYS,
    OPENINGS,
    ORDER_HEAD,
    PROOFS,
    REFUND_POLICY,
    Evidence,
    Opening,
    openings_file,
    order_head_doc,
)
from ledger.evidence_verify.pages import base_name, made_files
from ledger.evidence_verify.rules import content_ids, fold_order
from ledger.evidence_verify.shapes import KINDS, LOG_KINDS, Entry
from ledger.evidence_verify.trees import consistency_text, inclusion_text
from ledger.merkle import NodeSource, consistency_proof, inclusion_proof
from ledger.signing import ORDER_HEAD_PREFIX, Signer
from ledger.store_sqlite import ContentRow
from ledger.values import LOG_STREAM, order_stream

DIRECTORY_BYTES: Final = 300
"""What a file takes in the zip beside its content, and more."""

REDACTABLE: Final = frozenset(
    "deliverable" if name == "content_id" else name.removesuffix("_id")
    for shape in KINDS.values()
    for name in (part.partition(":")[0].removesuffix("?") for part in shape.split(" "))
    if name.endswith("_id")
)
"""The fields whose content may be left out: all that may be erased."""


class EvidenceStore(Protocol):
    """What a bundle is read from: the store of a service, or a snapshot of its file."""

    def read_stream(self, stream: str) -> list[tuple[int, bytes]]: ...
    def read_kinds(self, stream: str, kinds: Sequence[str]) -> list[tuple[int, bytes]]: ...
    def content(self, content_id: str) -> ContentRow | None: ...
    def nodes(self) -> NodeSource: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which order as of which signed head; `policies` are documents that the quote may name."""

    order_id: str
    size: int
    note: str
    redact: frozenset[str] = frozenset()
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A finished bundle. Its name holds the order id, which is a secret of the order's parties."""

    name: str
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """The SHA-256 of the file in hex."""
        return sha256(self.data).hexdigest()


def parse_redactions(text: str) -> frozenset[str]:
    """Return the fields that a comma list names, or raise `InvalidInput`."""
    fields = frozenset(word.strip() for word in text.split(",") if word.strip())
    if not fields <= REDACTABLE:
        msg = f"redact: is a comma list of {', '.join(sorted(REDACTABLE))}"
        raise InvalidInput(msg, details={"field": "redact"})
    return fields


def assemble(store: EvidenceStore, signer: Signer, wanted: Wanted) -> Bundle:
    """Return the bundle, or raise `NotFound` if the order was not there at that size."""
    base = base_name(wanted.order_id, wanted.size)
    events = _entries(store.read_stream(order_stream(wanted.order_id)), wanted.size)
    if not events:
        raise NotFound("no order has this id at this size of the log")
    keys = _entries(store.read_kinds(LOG_STREAM, tuple(LOG_KINDS)), wanted.size)
    files = _proven_files(store.nodes(), wanted, events, keys)
    files |= _content_files(store, wanted, events)
    last = events[-1]
    head = ORDER_HEAD_PREFIX + canonical(order_head_doc(last.log, last, wanted.size))
    files[ORDER_HEAD] = _signed(signer, head)
    try:
        evidence = Evidence(base, files)
        files |= made_files(evidence, fold_order(evidence.events))
    except Bad as error:
        raise VerificationError(f"the ledger does not hold together: {error}") from error
    files = with_manifests({**files, "verify.py": verifier_source()})
    seal = seal_text(last.log, last.stream, wanted.size, files[TAG_MANIFEST])
    files[SIGNATURE_FILE] = _signed(signer, seal)
    _require_size(files)
    return Bundle(f"{base}.zip", build_zip(base, files))


def _entries(rows: list[tuple[int, bytes]], size: int) -> list[Entry]:
    try:
        return [Entry(raw, position - 1) for position, raw in rows if position <= size]
    except Bad as error:
        raise VerificationError(f"the ledger holds what is no event: {error}") from error


def _proven_files(
    nodes: NodeSource, wanted: Wanted, events: list[Entry], keys: list[Entry]
) -> Files:
    """Return entries with their proofs, and heads with theirs, all against the one final head."""
    size, note = wanted.size, wanted.note
    files: Files = {FINAL: note.encode()}
    for folder, proofs, entries in ((EVENTS, PROOFS, events), (KEYS, KEYS, keys)):
        for entry in entries:
            proof = inclusion_proof(entry.index, size, nodes)
            files[f"{folder}/{entry.seq:04d}.json"] = entry.raw
            text = inclusion_text(entry.index, proof, note)
            files[f"{proofs}/{entry.seq:04d}.tlog-proof"] = text.encode()
    heads = [(f"{BASES}/{e.seq:04d}.txt", e.base[0]) for e in events]
    heads += [
        (f"{HELD}/{e.seq:04d}.txt", e.body["head"]["size"])
        for e in events
        if e.kind == "confirmed" and "head" in e.body
    ]
    for name, old in heads:
        files[name] = consistency_text(consistency_proof(old, size, nodes), note).encode()
    return files


def _content_files(store: EvidenceStore, wanted: Wanted, events: list[Entry]) -> Files:
    """Return the content that is still held and not to be left out, and the list of all of it."""
    files: Files = {}
    erased = {
        content_id
        for entry in events
        if entry.kind == "content_erased"
        for content_id in entry.body["content_ids"]
    }
    openings: dict[str, Opening] = {}
    for entry in events:
        for content_id, name in content_ids(entry).items():
            if content_id in openings:
                continue
            row = None if content_id in erased else store.content(content_id)
            state = "erased" if content_id in erased else "not_held" if row is None else "open"
            state = "redacted" if row is not None and name in wanted.redact else state
            opening = Opening(entry.seq, name, content_id, {"state": state})
            if row is not None and state == "open":
                opening.salt = row.salt.hex()
                files[opening.file] = row.value
            openings[content_id] = opening
    for policy in wanted.policies:
        if sha256(policy.encode()).hexdigest() == events[0].body["refund_policy"]:
            files[REFUND_POLICY] = policy.encode()
    return {**files, OPENINGS: openings_file(list(openings.values()))}


def _signed(signer: Signer, text: bytes) -> bytes:
    return signed_doc(text, signer.address, signer.sign(text))


def _require_size(files: Files) -> None:
    """Refuse early what no verifier takes; the deliverable is what may be large."""
    size = sum(map(len, files.values()))
    if len(files) > MAX_FILES:
        msg = f"size: the bundle would hold {len(files)} files; ask for an earlier size of the log"
        raise InvalidInput(msg, details={"field": "size", "files": len(files)})
    if size > MAX_BAG_BYTES - MAX_FILES * DIRECTORY_BYTES:
        msg = f"redact: the bundle would hold {size} bytes; leave the deliverable out"
        raise InvalidInput(msg, details={"field": "redact", "size_bytes": size})
