"""One Solana node over JSON-RPC, a request per call: many of its providers take no batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from ledger.errors import ChainUnavailable
from ledger.rpc import BUSY, THROTTLED, RpcEndpoint

RESTING: Final = "resting"
_SILENCE: Final = frozenset({"timeout", "connection", BUSY, RESTING})


def is_silence(error: ChainUnavailable) -> bool:
    """Whether the node gave no answer at all, so that it is no use to ask it anything else now."""
    return error.details.get("reason") in _SILENCE


class SolanaNode(RpcEndpoint):
    """One node's URL, with the limits and the rests of every endpoint.

    A call may be sent twice when the connection breaks. A signed transaction takes effect at most
    once, so that holds for submitting one, too.
    """

    async def result_of(self, method: str, params: Sequence[object]) -> object:
        """Return the result; an error of the node's own is `ChainUnavailable` like silence."""
        result, error = await self.call(method, params)
        if error is not None:
            raise self.refusal(error)
        return result

    async def call(
        self, method: str, params: Sequence[object]
    ) -> tuple[object, Mapping[str, object] | None]:
        """Return the result, or the error object of a node that is alive all the same."""
        self._admit()
        try:
            result, refused = await self._asked(method, params)
        except ChainUnavailable as error:
            reason = error.details["reason"]
            # A queue on our side says nothing about the node.
            if reason != BUSY:
                self._breaker.failed(reason)
            raise
        self._breaker.succeeded()
        return result, refused

    def refusal(self, error: Mapping[str, object]) -> ChainUnavailable:
        """Return the node's own error as one of ours, without what it may repeat of the URL."""
        return self._error_item(error)

    def with_slot(self, method: str, result: object) -> tuple[int, object]:
        """Return the slot as of which a result is true, and what it says."""
        match result:
            case {"context": {"slot": int(slot)}, "value": value}:
                return slot, value
            case _:
                raise self.nonsense(method)

    def nonsense(self, method: str) -> ChainUnavailable:
        return self._unavailable(f"gave no answer to {method} that makes sense", "malformed")

    def _admit(self) -> None:
        try:
            self._breaker.admit(self.name)
        except ChainUnavailable as error:
            # Nothing was asked, whatever the failures were that led to the rest.
            raise ChainUnavailable(error.message, details={"reason": RESTING}) from None

    async def _asked(
        self, method: str, params: Sequence[object]
    ) -> tuple[object, Mapping[str, object] | None]:
        key = next(self._ids)
        request = {"jsonrpc": "2.0", "id": key, "method": method, "params": params}
        body = await self._exchange(orjson.dumps(request))
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        match answer:
            # Ids are never used twice: an answer to another call cannot pass for this one's.
            case {"id": int(same), "error": dict(error)} if same == key:
                if self._error_item(error).details["reason"] == THROTTLED:
                    raise self._error_item(error)
                return None, error
            case {"id": int(same), "result": result, **rest} if same == key:
                if rest.get("error") is None:
                    return result, None
            case _:
                pass
        raise self.nonsense(method)
