"""What the ledger shows of itself: proofs, roots, tiles, and signed words on them."""

from __future__ import annotations

from typing import Final

from ledger.canonical import canonical
from ledger.checkpoint import LogKey
from ledger.errors import VerificationError
from ledger.merkle import HASH_BYTES, consistency_proof, inclusion_proof, leaf_hash, root_at
from ledger.signing import ORDER_HEAD_PREFIX, Signer
from ledger.store import SqliteStore
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH


class Proofs:
    """Reads the tree of one store. Sizes and positions are those of signed heads, never larger."""

    def __init__(self, store: SqliteStore, signer: Signer, log_key: LogKey, origin: str) -> None:
        self._store = store
        self._signer = signer
        self._log_key = log_key
        self._origin = origin
        # One for all proofs: what it keeps of the upper tree never changes.
        self._nodes: Final = store.nodes()

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """Return the inclusion proof of a position in the tree of `size` events."""
        return inclusion_proof(position - 1, size, self._nodes)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the first `old` events are a prefix of the first `new` ones."""
        return consistency_proof(old, new, self._nodes)

    def root_at(self, size: int) -> bytes:
        """Return the root of the first `size` events."""
        return root_at(size, self._nodes)

    def checkpoint_at(self, size: int) -> str:
        """Return a checkpoint of an earlier size, signed: it is of the history we signed then."""
        return self._log_key.sign_checkpoint(self._origin, size, self.root_at(size))

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Return the first `width` hashes of a C2SP tile."""
        first = index * TILE_WIDTH
        stored = self._store.tile(level, index)
        if stored is None and level == 0:
            entries = self._store.read(after=first, limit=width)
            stored = b"".join(leaf_hash(entry) for _, entry in entries)
        hashes = (stored or b"")[: width * HASH_BYTES]
        if len(hashes) != width * HASH_BYTES:
            above = TILE_HEIGHT * level
            raise VerificationError(f"tile {level}/{index} lacks hashes of level {above}")
        return hashes

    def order_head(self, stream: str, seq: int, leaf: str, size: int) -> dict[str, str]:
        """Return our signed word that the stream ends at `seq` as of a tree of `size` events."""
        head = {"log": self._origin, "stream": stream, "seq": seq, "leaf": leaf, "size": size}
        message = ORDER_HEAD_PREFIX + canonical(head)
        return {
            "text": message.decode(),
            "signer": self._signer.address,
            "signature": self._signer.sign(message),
        }
