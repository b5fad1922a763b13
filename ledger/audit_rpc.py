"""The chain as an auditor asks it: plain JSON-RPC over HTTP, one node or several that must agree.

A node's silence, or a word that another node does not share, is no evidence of anything: it raises
`ChainUnavailable`, and the audit says that it could not check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Final, TypeVar
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import orjson

from ledger.chain_answers import ChainId, parsed, unavailable
from ledger.rpc import Call

T = TypeVar("T")
Batch = Callable[[Sequence[Call]], list[object]]
"""Answers calls in their order, or raises `ChainUnavailable`."""

TIMEOUT_S: Final = 15.0
MAX_ANSWER_BYTES: Final = 32 * 2**20


class _NoRedirects(HTTPRedirectHandler):
    """The auditor named a node; what it says must come from there."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - urllib's signature
        return None


class Node:
    """One node's URL, asked synchronously. A URL may hold a key: errors name only its host."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Take an http or https URL; anything else raises `ValueError`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a node is an http or https URL")
        self.name: Final = parts.netloc.rpartition("@")[2]
        self._url = url
        self._timeout_s = timeout_s
        self._ids = count(1)
        self._opener = build_opener(_NoRedirects())

    def __call__(self, calls: Sequence[Call]) -> list[object]:
        """Return the results in the order of the calls, all from one HTTP request."""
        ids = [next(self._ids) for _ in calls]
        body = orjson.dumps(
            [
                {"jsonrpc": "2.0", "id": key, "method": method, "params": params}
                for key, (method, params) in zip(ids, calls, strict=True)
            ]
        )
        items = self._items(self._post(body))
        if items.keys() != set(ids):
            raise unavailable(f"{self.name} did not answer what was asked", "malformed")
        for item in items.values():
            if item.get("error") is not None or "result" not in item:
                raise unavailable(f"{self.name} refused a call", "refused")
        return [items[key]["result"] for key in ids]

    def _post(self, body: bytes) -> bytes:
        # The scheme was checked, so no file is opened here.
        request = Request(self._url, body, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                answer: bytes = response.read(MAX_ANSWER_BYTES + 1)
        except (URLError, OSError, ValueError) as error:
            what = f"{self.name} gave no answer ({type(error).__name__})"
        else:
            if len(answer) <= MAX_ANSWER_BYTES:
                return answer
            what = f"{self.name} sent an answer above the size limit"
        # Outside of the handler: the library's errors hold the URL.
        raise unavailable(what, "silent")

    def _items(self, answer: bytes) -> Mapping[object, dict[str, object]]:
        try:
            items = orjson.loads(answer)
        except orjson.JSONDecodeError:
            items = None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise unavailable(f"{self.name} did not answer with a JSON-RPC batch", "malformed")
        return {item.get("id"): item for item in items}


class Nodes:
    """All the nodes that the auditor named. What they do not say alike, nobody said."""

    def __init__(self, nodes: Sequence[tuple[str, Batch]]) -> None:
        """Take each node's name and what asks it; at least one."""
        if not nodes:
            raise ValueError("at least one node is asked")
        self._nodes = tuple(nodes)
        self.names: Final = ", ".join(name for name, _ in nodes)
        self._chain: str | None = None
        self._head: int | None = None

    @classmethod
    def of(cls, urls: Sequence[str]) -> Nodes:
        """Return the nodes at these URLs; a bad one raises `ValueError`."""
        nodes = [Node(url) for url in urls]
        return cls([(node.name, node) for node in nodes])

    def ask(self, calls: Sequence[Call], read: Callable[[list[object]], T]) -> T:
        """Return what every node's answers read as, or raise `ChainUnavailable`."""
        said = [read(batch(calls)) for _, batch in self._nodes]
        if any(other != said[0] for other in said[1:]):
            raise unavailable("the nodes disagree", "disagreement")
        return said[0]

    @property
    def chain(self) -> str:
        """Which chain it is, in CAIP-2 form; asked once."""
        if self._chain is None:
            self._chain = self.ask([("eth_chainId", [])], _chain_of)
        return self._chain

    @property
    def head(self) -> int:
        """The newest block that every node knows, as of the first question."""
        if self._head is None:
            heads = [_number_of(batch([("eth_blockNumber", [])])) for _, batch in self._nodes]
            self._head = min(heads)
        return self._head


def _chain_of(results: list[object]) -> str:
    return f"eip155:{_number_of(results)}"


def _number_of(results: list[object]) -> int:
    return parsed(ChainId, {"number": results[0]}).number
