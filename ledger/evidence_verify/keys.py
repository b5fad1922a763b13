"""Who may speak for the log: the keys that the reader trusts, and what the log says of its keys."""

from __future__ import annotations

from collections.abc import Callable

from ledger.evidence_verify.bags import SIGNATURE_FILE, parse_signed_doc
from ledger.evidence_verify.basics import Bad, encoded, need
from ledger.evidence_verify.bundle import Evidence
from ledger.evidence_verify.curves import require_signed
from ledger.evidence_verify.shapes import Entry
from ledger.evidence_verify.trees import VerifierKey, signed_by
from ledger.evidence_verify.words import require_key_words, signed_part

ENDLESS = 2**63
MAX_BETWEEN = 10_000
"""Events that may have come between the operator's word and the place where it was recorded."""


class Roots:
    """What the reader knows from elsewhere; what is empty is taken from the bundle."""

    def __init__(self) -> None:
        self.origin = ""
        self.log_keys: list[str] = []
        self.wallets: list[str] = []
        self.witnesses: list[str] = []
        self.client = ""
        self.arbiter = ""

    @property
    def missing(self) -> list[str]:
        found = (
            ("--origin", self.origin),
            ("--log-key", self.log_keys),
            ("--wallet", self.wallets),
        )
        return [name for name, value in found if not value]


class Keys:
    """The terms of every key, folded from the bundle's key events, and which of them are trusted.

    Trusted are the keys that the reader brought, and all that a trusted wallet has added. If the
    reader's keys are not those of the log's opening, the opening itself is trusted where one of
    them signed what it lies in: the final head, the bundle, or an event with a base.
    """

    def __init__(self, evidence: Evidence, roots: Roots) -> None:
        self._evidence, self._roots = evidence, roots
        genesis = evidence.keys[0]
        opens = (genesis.kind, genesis.index, genesis.seq) == ("log_opened", 0, 1)
        need(opens, "the log's first event is not in the bundle")
        self.genesis = genesis.body
        self.terms = [
            ["wallet", self.genesis["wallet"], 1, ENDLESS],
            ["log", self.genesis["log_key"], 1, ENDLESS],
        ]
        for entry in evidence.keys[1:]:
            self._take(entry)
        self._trusted = self._expanded()

    def _take(self, entry: Entry) -> None:
        body = entry.body
        need(entry.kind != "log_opened", "the log is opened twice")
        if entry.kind == "key_added":
            self.terms.append([body["purpose"], body["key"], entry.position + 1, ENDLESS])
        elif entry.kind == "key_revoked":
            for term in self.terms:
                if term[:2] == [body["purpose"], body["key"]]:
                    term[3] = min(term[3], body["last_position"])

    def require_roots(self) -> None:
        """Raise `Bad` unless the bundle is of the log that the reader trusts."""
        origin, roots = self._evidence.origin, self._roots
        need(roots.origin in ("", origin), f"the bundle is of the log {origin}")
        need(self.genesis["origin"] == origin, "the log was opened under another name")
        last = (0, -1)
        for entry in self._evidence.keys:
            place = (entry.seq, entry.index)
            need(entry.stream == "log", "a key event of another stream")
            need(entry.seq > last[0] and entry.index > last[1], "key events are not in order")
            last = place
        wallets, log_keys = self._known("wallet", roots.wallets), self._known("log", roots.log_keys)
        need(wallets or not roots.wallets, "none of the trusted wallets is one of this log")
        need(log_keys or not roots.log_keys, "none of the trusted log keys is one of this log")
        opened = self.genesis["wallet"] in self._trusted["wallet"]
        need(opened, f"the log's first wallet is {self.genesis['wallet']}, for which none vouches")

    def require_signed(self) -> None:
        """Raise `Bad` unless trusted wallets signed the key events, and keys their own texts."""
        for entry in self._evidence.keys:
            entry.require_signature()
            self.require_voice(entry)
            self._require_text(entry)

    def _require_text(self, entry: Entry) -> None:
        """Raise `Bad` unless a key's own text stands where one is needed, and says the same."""
        part, body = signed_part(entry), entry.body
        if entry.kind == "key_added":
            need(part or body["purpose"] != "wallet", "a wallet was added that did not ask for it")
        if entry.kind == "key_revoked":
            self._require_reach(entry)
        if part is None:
            return
        require_signed(encoded(part["text"]), part["signature"], part["signer"])
        require_key_words(entry, self._evidence.origin)
        if entry.kind in ("key_revoked", "log_closed"):
            owner = self.genesis["recovery"]
        else:
            owner = body["key"] if body["purpose"] == "wallet" else part["signer"]
        need(part["signer"] == owner, "a key's text is signed by another key")

    def _require_reach(self, entry: Entry) -> None:
        """Raise `Bad` if a revocation reaches further back than it may, or further than itself."""
        purpose, last = entry.body["purpose"], entry.body["last_position"]
        added = [e.position for e in self._evidence.keys if e.kind == "key_added"
                 and e.body["purpose"] == purpose and e.position < entry.position]  # fmt: skip
        reach = max(added, default=1) <= last <= entry.position
        need(reach, "a key was revoked for a time that is not its own")
        asked = "recovery" in entry.body or entry.position - last <= MAX_BETWEEN
        need(asked, "a key was revoked for the past without the recovery key")

    def require_voice(self, entry: Entry) -> None:
        """Raise `Bad` unless the event's signer is trusted and might sign at its position."""
        need(self._may("wallet", entry.signer, entry.position), f"{entry.signer} may not sign it")
        need(entry.signer in self._trusted["wallet"], f"{entry.signer} is not trusted")

    def require_present_voice(self, signer: str) -> None:
        """Raise `Bad` unless a wallet that was not revoked speaks."""
        present = any(t[:2] == ["wallet", signer] and t[3] == ENDLESS for t in self.terms)
        need(present, f"{signer} does not speak for the log")
        need(signer in self._trusted["wallet"], f"{signer} is not trusted")

    def require_head_signed(self) -> None:
        """Raise `Bad` unless a trusted key of the log signed the final head."""
        signed = self._head_signed_by(self._trusted["log"])
        need(signed, "no trusted key of the log signed the final head")

    def _head_signed_by(self, keys: list[str]) -> bool:
        head = self._evidence.head
        for text in self._known("log", keys):
            spoke = any(t[:2] == ["log", text] and t[3] >= head.size for t in self.terms)
            if spoke and signed_by(head.note, VerifierKey(text)):
                return True
        return False

    def _may(self, purpose: str, key: str, position: int) -> bool:
        return any(t[:2] == [purpose, key] and t[2] <= position <= t[3] for t in self.terms)

    def _known(self, purpose: str, keys: list[str]) -> list[str]:
        """Return those of the keys that are keys of this log."""
        known = {term[1] for term in self.terms if term[0] == purpose}
        return [key for key in keys if key in known]

    def _expanded(self) -> dict[str, list[str]]:
        """Return the keys of the log that the reader trusts, and those that these have added.

        The signatures of the events that add keys are checked where all signatures are.
        """
        roots, genesis = self._roots, self.genesis
        found = {
            "wallet": self._known("wallet", roots.wallets or [genesis["wallet"]]),
            "log": self._known("log", roots.log_keys or [genesis["log_key"]]),
        }
        if genesis["wallet"] not in found["wallet"] and self._vouched():
            found["wallet"].append(genesis["wallet"])
            found["log"].append(genesis["log_key"])
        for entry in self._evidence.keys:
            if entry.kind == "key_added" and entry.signer in found["wallet"]:
                found.get(entry.body["purpose"], []).append(entry.body["key"])
        return found

    def _vouched(self) -> bool:
        """Whether a key that the reader brought itself signed what the log's opening lies in.

        That a log names a key is no sign of that key: anybody can open a log and add it. That the
        opening lies in what was signed is for the proofs, the bases and the seal to show.
        """
        if self._head_signed_by(self._roots.log_keys):
            return True
        wallets = self._known("wallet", self._roots.wallets)
        for entry in self._evidence.events:
            if entry.signer in wallets and entry.base[0] > 0:
                return _holds(entry.require_signature)
        text, signer, signature = parse_signed_doc(self._evidence.get(SIGNATURE_FILE))
        return signer in wallets and _holds(lambda: require_signed(text, signature, signer))


def _holds(check: Callable[[], None]) -> bool:
    try:
        check()
    except Bad:
        return False
    return True
