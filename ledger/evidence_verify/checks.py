"""The checks of a bundle, in order: each says PASS or FAIL, and later ones need the earlier."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ledger.evidence_verify.bags import (
    SIGNATURE_FILE,
    TAG_MANIFEST,
    Files,
    parse_signed_doc,
    read_zip,
    require_complete,
    seal_text,
)
from ledger.evidence_verify.basics import (
    Bad,
    canonical,
    count,
    encoded,
    fail,
    need,
    time_text,
    usdc,
)
from ledger.evidence_verify.bundle import (
    BASES,
    DELIVERABLE_FILE,
    HELD,
    KEYS,
    ORDER_HEAD,
    PROOFS,
    REFUND_POLICY,
    Evidence,
    order_head_doc,
    require_chain,
)
from ledger.evidence_verify.contents import content_digests, require_opened
from ledger.evidence_verify.curves import require_signed, require_text_signed
from ledger.evidence_verify.keys import Keys, Roots
from ledger.evidence_verify.pages import base_name, made_files
from ledger.evidence_verify.rules import OrderState, fold_order
from ledger.evidence_verify.shapes import Entry
from ledger.evidence_verify.trees import (
    VerifierKey,
    parse_consistency,
    parse_inclusion,
    require_included,
    require_prefix,
    witnessed_at,
)
from ledger.evidence_verify.words import signed_part

ORDER_HEAD_PREFIX = b"IVXP-LEDGER-ORDER-HEAD/1\n"


class Outcome:
    """How a check ended: with what it found, or with what does not hold."""

    def __init__(self, name: str, *, holds: bool, text: str) -> None:
        self.name, self.holds, self.text = name, holds, text


class Checks:
    """One run over one bundle; `outcomes` is filled check by check."""

    def __init__(self, data: bytes, roots: Roots) -> None:
        self.data, self.roots = data, roots
        self.outcomes: list[Outcome] = []
        self.base = ""
        self.files: Files = {}
        self._evidence: Evidence | None = None
        self._order: OrderState | None = None

    @property
    def ok(self) -> bool:
        return len(self.outcomes) == len(TITLES) and all(each.holds for each in self.outcomes)

    @property
    def evidence(self) -> Evidence:
        return self._evidence or fail("the bundle was not read")

    @property
    def order(self) -> OrderState:
        return self._order or fail("the order was not read")

    def _keys(self) -> Keys:
        return Keys(self.evidence, self.roots)

    def run(self) -> None:
        """Make every check; where one fails that others stand on, those are not made."""
        for name, (_, check, is_ground) in TITLES.items():
            try:
                self.outcomes.append(Outcome(name, holds=True, text=check(self)))
            except Bad as error:
                self.outcomes.append(Outcome(name, holds=False, text=str(error)))
            except Exception as error:  # noqa: BLE001 - what a hostile bundle breaks has failed
                text = f"not of the form that it has to have ({type(error).__name__})"
                self.outcomes.append(Outcome(name, holds=False, text=text))
            if is_ground and not self.outcomes[-1].holds:
                return

    def zip(self) -> str:
        self.base, self.files = read_zip(self.data)
        return f"{count(len(self.files), 'file')}, {count(len(self.data), 'byte')}"

    def bag(self) -> str:
        require_complete(self.files)
        return ""

    def read(self) -> str:
        found = self._evidence = Evidence(self.base, self.files)
        name = base_name(found.order_id, found.head.size)
        need(self.base == name, f"the bundle is called {self.base}, and would be {name}")
        for entry in [*found.events, *found.keys]:
            need(entry.log == found.origin, f"{entry.stream} {entry.seq}: of another log")
        need(found.stream.startswith("order/"), "these are no events of an order")
        require_chain(found.events, found.stream)
        return count(len(found.events), "event")

    def trust(self) -> str:
        self._keys().require_roots()
        is_play = self.evidence.genesis["dev_chain"]
        return "a development chain: THE MONEY IS PLAY MONEY" if is_play else ""

    def checkpoint(self) -> str:
        self._keys().require_head_signed()
        return f"size {self.evidence.head.size}, root {self.evidence.head.root}"

    def proofs(self) -> str:
        head = self.evidence.head
        for folder, entries in ((PROOFS, self.evidence.events), (KEYS, self.evidence.keys)):
            for entry in entries:
                with of_event(entry):
                    text = self.evidence.text(f"{folder}/{entry.seq:04d}.tlog-proof")
                    index, proof = parse_inclusion(text, head.note)
                    require_included(entry.leaf, index, head.size, proof, head.root)
        return ""

    def signatures(self) -> str:
        keys = self._keys()
        keys.require_signed()
        for entry in self.evidence.events:
            with of_event(entry):
                entry.require_signature()
                keys.require_voice(entry)
        return ", ".join(dict.fromkeys(entry.signer for entry in self.evidence.events))

    def bases(self) -> str:
        for entry in self.evidence.events:
            self._require_prefix(f"{BASES}/{entry.seq:04d}.txt", entry.base)
        return ""

    def held_heads(self) -> str:
        heads = self.evidence.held_heads()
        for seq, size, root in heads:
            self._require_prefix(f"{HELD}/{seq:04d}.txt", (size, root))
        return "" if heads else "the client signed none"

    def _require_prefix(self, name: str, old: tuple[int, str]) -> None:
        head = self.evidence.head
        try:
            proof = parse_consistency(self.evidence.text(name), head.note)
            require_prefix(old, (head.size, head.root), proof)
        except Bad as error:
            raise Bad(f"{name}: {error}") from error

    def order_head(self) -> str:
        last, size = self.evidence.events[-1], self.evidence.head.size
        wanted = ORDER_HEAD_PREFIX + canonical(order_head_doc(self.evidence.origin, last, size))
        self._require_voice(ORDER_HEAD, wanted)
        return f"with event {last.seq}"

    def seal(self) -> str:
        tags, held = self.files[TAG_MANIFEST], self.evidence
        wanted = seal_text(held.origin, held.stream, held.head.size, tags)
        self._require_voice(SIGNATURE_FILE, wanted)
        return ""

    def _require_voice(self, name: str, wanted: bytes) -> None:
        """Raise `Bad` unless a file is what the provider's wallet signs, in its one form."""
        text, signer, signature = parse_signed_doc(self.evidence.get(name))
        need(text == wanted, f"{name} says otherwise than the bundle")
        require_signed(text, signature, signer)
        self._keys().require_present_voice(signer)

    def lifecycle(self) -> str:
        self._order = fold_order(self.evidence.events)
        money = self.order.money
        received = f"received {usdc(money.received)}, refunded {usdc(money.refunded)}"
        received = received if self.order.deal is None else self.order.deal.words
        return f"{self.order.status}; {received}"

    def parties(self) -> str:
        for entry in self.evidence.events:
            part = signed_part(entry)
            if part is not None:
                with of_event(entry):
                    require_text_signed(encoded(part["text"]), part["signature"], part["signer"])
        client, arbiter = self.order.money.client, self.order.terms.get("arbiter", "none")
        need(self.roots.client in ("", client), f"the client is {client}")
        need(self.roots.arbiter in ("", arbiter), f"the arbiter is {arbiter}")
        return f"client {client}, arbiter {arbiter}"

    def deliverable(self) -> str:
        ready = self.order.ready
        if ready is None:
            return "there is none"
        opening = next(o for o in self.evidence.openings if o.content_id == ready["content_id"])
        if opening.value is None:
            return opening.state.replace("_", " ")
        need(len(opening.value) == ready["size_bytes"], "the deliverable has another size")
        digests = content_digests(opening.value, ready["format"], self.order.terms["service"])
        for name in ("raw", "json_digest", "legacy_digest", "object_digest"):
            need(
                ready.get(name) in (None, digests.get(name)), f"{DELIVERABLE_FILE}: another {name}"
            )
        return f"sha256 {ready['raw']}"

    def content(self) -> str:
        missing = []
        for opening in self.evidence.openings:
            erased = opening.content_id in self.order.erased
            need(erased is (opening.state == "erased"), f"{opening.field} was erased, or was not")
            if opening.state != "open":
                missing.append(f"{opening.field} {opening.state}")
            if opening.field != "deliverable":
                require_opened(opening, self.evidence.events[opening.seq - 1])
        if REFUND_POLICY in self.files:
            digest = hashlib.sha256(self.files[REFUND_POLICY]).hexdigest()
            need(digest == self.order.terms["refund_policy"], "this is another refund policy")
        return ", ".join(missing)

    def witnesses(self) -> str:
        found = []
        for key in map(VerifierKey, self.roots.witnesses):
            seconds = witnessed_at(self.evidence.head.note, key)
            if seconds is None:
                fail(f"{key.name} did not sign the final head")
            found.append(f"{key.name} at {time_text(seconds)}")
        return ", ".join(found) or "none was named"

    def pages(self) -> str:
        made = made_files(self.evidence, self.order)
        for name, data in sorted(made.items()):
            need(self.files.get(name) == data, f"{name} does not say what the signed files say")
        known = {*made, *self.evidence.primary_names()}
        for name in sorted(self.files):
            belongs = name in known or not name.startswith("data/")
            need(belongs, f"{name} does not belong here")
        return ""


Check = Callable[[Checks], str]

TITLES: dict[str, tuple[str, Check, bool]] = {
    "E01": ("the file is one zip in its only form", Checks.zip, True),
    "E02": ("the bag is complete and holds nothing else", Checks.bag, True),
    "E03": ("every event has its one form, and none of the order is left out", Checks.read, True),
    "E04": ("the log, its key and its wallet are the trusted ones", Checks.trust, False),
    "E05": ("the log's key signed the final head", Checks.checkpoint, False),
    "E06": ("every event is a leaf of the final head's tree", Checks.proofs, False),
    "E07": ("a wallet that may speak for the log signed every event", Checks.signatures, False),
    "E08": ("the heads that events are based on belong to this log", Checks.bases, False),
    "E09": ("the heads that the client signed belong to this log", Checks.held_heads, False),
    "E10": ("the provider signed where the order ends", Checks.order_head, False),
    "E11": ("the provider signed this bundle, whole", Checks.seal, False),
    "E12": ("every step is legal; money and texts fit the events", Checks.lifecycle, True),
    "E13": ("client and arbiter signed the texts that carry their names", Checks.parties, False),
    "E14": ("the deliverable has the hashes that were signed", Checks.deliverable, False),
    "E15": ("content opens its commitment, or is listed as missing", Checks.content, False),
    "E16": ("the witnesses that are trusted signed the final head", Checks.witnesses, False),
    "E17": ("case, report and lists say what the signed files say", Checks.pages, False),
}
"""Name to title, check, and whether the later ones stand on it. A check returns what it found."""


@contextmanager
def of_event(entry: Entry) -> Iterator[None]:
    """Say of which event it is that something does not hold."""
    try:
        yield
    except Bad as error:
        raise Bad(f"{entry.stream} {entry.seq}: {error}") from error
