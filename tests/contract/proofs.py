"""What an outsider does with the `ledger` part of an answer: nothing here is our own code.

Only published formats are used: EIP-191 by eth_account, Ed25519 by cryptography, RFC 6962 and the
C2SP note by hand.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from eth_account import Account
from eth_account.messages import encode_defunct


@dataclass(slots=True)
class Observer:
    """Keeps the newest head it saw, and refuses an answer that does not prove itself."""

    origin: str
    vkey: str
    wallet: str
    size: int = 0
    root: str = ""
    kinds: list[str] = field(default_factory=list)

    def check(self, ledger: Mapping[str, Any], header: str | None) -> dict[str, Any]:
        """Check the `ledger` part and the `Ledger-Head` header; return the event."""
        entry = ledger["entry"].encode()
        event = checked_event(entry, origin=self.origin, wallet=self.wallet)
        assert hashlib.sha256(b"\x00" + entry).hexdigest() == ledger["leaf"]
        size, root = checked_checkpoint(ledger["checkpoint"], origin=self.origin, vkey=self.vkey)
        proof = [b64decode(sibling, validate=True) for sibling in ledger["proof"]]
        leaf = bytes.fromhex(ledger["leaf"])
        assert root_from_proof(leaf, ledger["position"] - 1, size, proof) == root
        assert header == f"{size} {b64encode(root).decode()}"
        self._check_order_head(ledger, event, size)
        self._grow(size, header)
        self.kinds.append(event["kind"])
        return event

    def _check_order_head(
        self, ledger: Mapping[str, Any], event: Mapping[str, Any], size: int
    ) -> None:
        head = ledger["order_head"]
        prefix, _, said = head["text"].partition("\n")
        assert prefix == "IVXP-LEDGER-ORDER-HEAD/1"
        assert json.loads(said) == {
            "leaf": ledger["leaf"],
            "log": self.origin,
            "seq": event["seq"],
            "size": size,
            "stream": event["stream"],
        }
        assert recovered(head["text"].encode(), head["signature"]) == head["signer"] == self.wallet

    def _grow(self, size: int, header: str) -> None:
        assert size >= self.size, "a head went back"
        if size == self.size:
            assert header == self.root, "two roots of one size"
        self.size, self.root = size, header


def recovered(message: bytes, signature: str) -> str:
    """Return the lower-case address that signed."""
    signer: str = Account.recover_message(encode_defunct(primitive=message), signature=signature)
    return signer.lower()


def checked_event(entry: bytes, *, origin: str, wallet: str) -> dict[str, Any]:
    """Return the event of an entry that this wallet signed for this log."""
    parsed: dict[str, Any] = json.loads(entry)
    assert encoded(parsed) == entry
    event: dict[str, Any] = parsed["event"]
    signer = recovered(b"IVXP-LEDGER-EVENT/1\n" + encoded(event), parsed["sig"]["value"])
    assert signer == parsed["sig"]["by"] == wallet
    assert event["log"] == origin
    return event


def encoded(value: object) -> bytes:
    """Return the one encoding of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def checked_checkpoint(note: str, *, origin: str, vkey: str) -> tuple[int, bytes]:
    """Return size and root of a signed note, after checking its signature under the log key."""
    text, _, signatures = note.partition("\n\n")
    name, key_id, key = vkey.split("+", 2)
    [line] = signatures.splitlines()
    dash, said_name, said = line.split(" ")
    signature = b64decode(said, validate=True)
    assert (dash, said_name, signature[:4].hex()) == ("\N{EM DASH}", name, key_id)
    public = Ed25519PublicKey.from_public_bytes(b64decode(key)[1:])
    public.verify(signature[4:], (text + "\n").encode())
    said_origin, size, root = text.split("\n")
    assert said_origin == origin
    return int(size), b64decode(root, validate=True)


def root_from_proof(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to (RFC 9162, 2.1.3.2)."""
    assert 0 <= index < size
    node, last = index, size - 1
    result = leaf
    for sibling in proof:
        assert last
        if node % 2 or node == last:
            result = hashlib.sha256(b"\x01" + sibling + result).digest()
            while node % 2 == 0 and node:
                node, last = node // 2, last // 2
        else:
            result = hashlib.sha256(b"\x01" + result + sibling).digest()
        node, last = node // 2, last // 2
    assert last == 0
    return result


def genesis_of(data_dir: Path) -> dict[str, Any]:
    """Return the first event of a ledger, read from its file beside the running service."""
    ledger = sqlite3.connect(f"{(data_dir / 'ledger.db').as_uri()}?mode=ro", uri=True)
    try:
        [entry] = ledger.execute(
            "SELECT state FROM stored_events ORDER BY rowid LIMIT 1"
        ).fetchone()
    finally:
        ledger.close()
    event: dict[str, Any] = json.loads(entry)["event"]
    return event


def observer_of(data_dir: Path) -> Observer:
    """Return an observer that trusts the keys of the ledger's genesis, and nothing else."""
    genesis = genesis_of(data_dir)
    assert genesis["kind"] == "log_opened"
    body = genesis["body"]
    return Observer(origin=body["origin"], vkey=body["log_key"], wallet=body["wallet"])
