"""What people keep of a log, in every form in which the service hands it out.

What nobody signed is not taken as the log's word: of an answer that names a fork, its checkpoints
count, and not the head that the asker said it held.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any, Final

import orjson

from ledger.audit_held import Held
from ledger.errors import VerificationError
from ledger.event import TreeHead
from ledger.proof_text import HEADER, parse_consistency, parse_inclusion

_HEAD: Final = re.compile(
    r"(?:Ledger-Head:[ \t]*)?(?P<size>0|[1-9][0-9]{0,14}) (?P<root>[A-Za-z0-9+/]{43}=)",
    re.ASCII | re.IGNORECASE,
)
MAX_SIZE: Final = 2**53
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{43}=", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_REFUSALS: Final = ("checkpoint_at_held_size", "checkpoint")


class HeldUnreadable(Exception):
    """What was given as held is none of the known forms."""


def read_held(text: str, source: str) -> list[Held]:
    """Return what a file holds: answers, their parts, events, proofs, checkpoints, or heads."""
    if not text.lstrip().startswith(("{", "[")):
        return [_text(text, source)]
    try:
        value = orjson.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        return [held for line in lines for held in _objects(_json(line, source), source)]
    return _objects(value, source)


def _text(text: str, source: str) -> Held:
    """Read a `Ledger-Head`, a proof (for the checkpoint below it), or a checkpoint."""
    head = _HEAD.fullmatch(text.strip())
    if head is not None:
        root = b64decode(head["root"]).hex()
        return Held(source, root=TreeHead(size=int(head["size"]), root=root))
    first = text.partition("\n")[0]
    try:
        if first == HEADER:
            return Held(source, checkpoint=parse_inclusion(text).checkpoint)
        if not first or _BASE64.fullmatch(first):
            return Held(source, checkpoint=parse_consistency(text)[1])
    except VerificationError as error:
        raise HeldUnreadable(f"{source}: {error.message}") from error
    return Held(source, checkpoint=text)


def _json(line: str, source: str) -> Any:  # noqa: ANN401 - JSON of any shape
    try:
        return orjson.loads(line)
    except ValueError as error:
        raise HeldUnreadable(f"{source}: neither JSON nor a checkpoint") from error


def _objects(value: Any, source: str) -> list[Held]:  # noqa: ANN401 - JSON of any shape
    if isinstance(value, list):
        return [held for item in value for held in _objects(item, source)]
    if not isinstance(value, dict):
        raise HeldUnreadable(f"{source}: holds {type(value).__name__} where an object is due")
    if isinstance(value.get("ledger"), dict):
        value = value["ledger"]
    if isinstance(value.get("details"), dict):
        return _refusal(value["details"], source)
    if {"event", "sig"} <= value.keys():
        return [Held(source, entry=orjson.dumps(value, option=orjson.OPT_SORT_KEYS))]
    if {"size", "root"} <= value.keys():
        return [Held(source, root=_root(value, source))]
    found = _objects(value["events"], source) if isinstance(value.get("events"), list) else []
    held = _answer(value, source)
    if held == Held(source) and not found:
        raise HeldUnreadable(f"{source}: an answer, an event, a proof or a checkpoint is due")
    return [*found, held]


def _answer(value: dict[str, Any], source: str) -> Held:
    """Read an answer's own parts: an event with its place, a checkpoint, the end of an order."""
    head, position = value.get("order_head"), value.get("position")
    signed = None
    if isinstance(head, dict) and {"text", "signature"} <= head.keys():
        signed = (str(head["text"]), str(head["signature"]))
    has_entry = isinstance(value.get("entry"), str)
    checkpoint = value.get("checkpoint")
    return Held(
        source,
        position=position if has_entry and isinstance(position, int) else None,
        entry=value["entry"].encode() if has_entry else None,
        checkpoint=checkpoint if isinstance(checkpoint, str) else None,
        order_head=signed,
    )


def _refusal(details: dict[str, Any], source: str) -> list[Held]:
    """Read what a 409 says of two histories, for the heads in it that the service signed."""
    notes = [details[name] for name in _REFUSALS if isinstance(details.get(name), str)]
    if not notes:
        raise HeldUnreadable(f"{source}: the error names no checkpoint")
    return [Held(source, checkpoint=note) for note in notes]


def _root(value: dict[str, Any], source: str) -> TreeHead:
    size, root = value["size"], value["root"]
    if not isinstance(size, int) or not 0 <= size < MAX_SIZE or not _HEX.fullmatch(str(root)):
        raise HeldUnreadable(f"{source}: a head is a size and a root in hex")
    return TreeHead(size=size, root=root)
