"""Who may speak for the log: the keys that the reader trusts, and what the log says of its keys."""

from __future__ import annotations

from ledger.evidence_verify.basics import encoded, fail, need
from ledger.evidence_verify.bundle import Evidence
from ledger.evidence_verify.curves import require_signed
from ledger.evidence_verify.shapes import Entry
from ledger.evidence_verify.trees import VerifierKey, signed_by
from ledger.evidence_verify.words import require_key_words, signed_part

ENDLESS = 2**63


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
    """The terms of every key, folded from the bundle's key events."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
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

    def _take(self, entry: Entry) -> None:
        body = entry.body
        need(entry.kind != "log_opened", "the log is opened twice")
        if entry.kind == "key_added":
            self.terms.append([body["purpose"], body["key"], entry.position + 1, ENDLESS])
        elif entry.kind == "key_revoked":
            for term in self.terms:
                if term[:2] == [body["purpose"], body["key"]]:
                    term[3] = min(term[3], body["last_position"])

    def require_roots(self, roots: Roots) -> None:
        """Raise `Bad` unless the bundle is of the log that the reader trusts."""
        origin = self._evidence.origin
        need(roots.origin in ("", origin), f"the bundle is of the log {origin}")
        need(self.genesis["origin"] == origin, "the log was opened under another name")
        last = (0, -1)
        for entry in self._evidence.keys:
            place = (entry.seq, entry.index)
            need(entry.stream == "log", "a key event of another stream")
            need(entry.seq > last[0] and entry.index > last[1], "key events are not in order")
            last = place
        wallets, log_keys = self._trusted("wallet", roots), self._trusted("log", roots)
        need(self.genesis["wallet"] in wallets, f"the log's wallet is {self.genesis['wallet']}")
        need(log_keys, "none of the trusted log keys is one of this log")

    def require_signed(self, roots: Roots) -> None:
        """Raise `Bad` unless trusted wallets signed the key events, and keys their own texts."""
        for entry in self._evidence.keys:
            entry.require_signature()
            self.require_voice(entry, roots)
            part = signed_part(entry)
            if part is None:
                continue
            require_signed(encoded(part["text"]), part["signature"], part["signer"])
            require_key_words(entry, self._evidence.origin)
            if entry.kind in ("key_revoked", "log_closed"):
                owner = self.genesis["recovery"]
            else:
                is_wallet = entry.body["purpose"] == "wallet"
                owner = entry.body["key"] if is_wallet else part["signer"]
            need(part["signer"] == owner, "a key's text is signed by another key")

    def require_voice(self, entry: Entry, roots: Roots) -> None:
        """Raise `Bad` unless the event's signer is trusted and might sign at its position."""
        need(self._may("wallet", entry.signer, entry.position), f"{entry.signer} may not sign it")
        need(entry.signer in self._trusted("wallet", roots), f"{entry.signer} is not trusted")

    def require_present_voice(self, signer: str, roots: Roots) -> None:
        """Raise `Bad` unless a wallet that was not revoked speaks."""
        present = any(t[:2] == ["wallet", signer] and t[3] == ENDLESS for t in self.terms)
        need(present, f"{signer} does not speak for the log")
        need(signer in self._trusted("wallet", roots), f"{signer} is not trusted")

    def require_head_signed(self, roots: Roots) -> None:
        """Raise `Bad` unless a trusted key of the log signed the final head."""
        head = self._evidence.head
        for text in self._trusted("log", roots):
            key = VerifierKey(text)
            spoke = any(t[:2] == ["log", text] and t[3] >= head.size for t in self.terms)
            if spoke and signed_by(head.note, key):
                return
        fail("no trusted key of the log signed the final head")

    def _may(self, purpose: str, key: str, position: int) -> bool:
        return any(t[:2] == [purpose, key] and t[2] <= position <= t[3] for t in self.terms)

    def _trusted(self, purpose: str, roots: Roots) -> list[str]:
        """Return the keys of the log that the reader trusts, and those that these have added.

        The signatures of the events that add keys are checked where all signatures are.
        """
        wallets = list(roots.wallets) or [self.genesis["wallet"]]
        log_keys = list(roots.log_keys) or [self.genesis["log_key"]]
        for entry in self._evidence.keys:
            if entry.kind == "key_added" and entry.signer in wallets:
                {"wallet": wallets, "log": log_keys}.get(entry.body["purpose"], []).append(
                    entry.body["key"]
                )
        known = {term[1] for term in self.terms if term[0] == purpose}
        return [key for key in (wallets if purpose == "wallet" else log_keys) if key in known]
