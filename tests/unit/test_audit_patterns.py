"""What an audit reads the short way is what the long way reads, of every kind, however changed."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from ledger import audit_entries
from ledger.audit_entries import Opened, open_entry
from ledger.audit_patterns import form_of
from ledger.canonical import canonical, parse_canonical
from ledger.entry import Beacon, Draft, Seal, seal
from ledger.events import EVENT_OF
from ledger.log_events import KeyRevoked
from ledger.signing import Signer
from tests.unit import builders as b

SIGNER: Final = Signer(b.PROVIDER.secret)
PLACE: Final = Seal(
    "ledger.example/one", b.STREAM, 2, b.digest_of("previous leaf"), b.NOW, b.HEAD, bytes(16)
)
COMMIT: Final = {"statement": b.digest_of("commitment"), "a_1": b.digest_of("another")}
BEACON: Final = Beacon(chain=b.CHAIN, number=99, hash=b.block("99"))
CHANGES: Final = 400
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 10**15, 2**53, 2**64, 1.5, 1.0, "", "0", "01", "-1", "x",
    'quo"te', "back\\slash", "line\nbreak", "\u007f", "ü", "0x" + "AB" * 20, "a" * 201, [], {}, [1],
    {"a": None},
)  # fmt: skip


def entry_of(kind: str, *, bare: bool = False) -> bytes:
    draft = Draft(b.SAMPLES[kind]) if bare else Draft(b.SAMPLES[kind], COMMIT, BEACON)
    return seal(draft, PLACE, SIGNER).entry


def the_long_way(entry: bytes, monkeypatch: pytest.MonkeyPatch) -> Opened:
    with monkeypatch.context() as patch:
        patch.setattr(audit_entries, "_in_its_form", lambda *_: None)
        return open_entry(entry)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where every value stands inside a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def changed_values(entry: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield the entry with other values, without some, and with more, each in canonical form."""
    for place in places(parse_canonical(entry)):
        for odd in (..., *rng.sample(ODD, 5)):
            value: Any = parse_canonical(entry)
            inner = value
            for key in place[:-1]:
                inner = inner[key]
            if odd is ...:
                del inner[place[-1]]
            else:
                inner[place[-1]] = odd
            yield encoded(value)
        if isinstance(place[-1], str):
            inner[f"{place[-1]}_x"] = 1
            yield encoded(value)


def encoded(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.encode()


def changed_bytes(entry: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield the entry with one byte changed, removed or put in."""
    for _ in range(CHANGES):
        at = rng.randrange(len(entry))
        byte = bytes([rng.choice(b'"\\{}[],:0123456789abcdefx \x00\x7f\xff\n')])
        act: Callable[[], bytes] = rng.choice(
            [
                lambda: entry[:at] + byte + entry[at + 1 :],  # noqa: B023 - called at once
                lambda: entry[:at] + entry[at + 1 :],  # noqa: B023
                lambda: entry[:at] + byte + entry[at:],  # noqa: B023
            ]
        )
        yield act()


@pytest.mark.parametrize("kind", sorted(EVENT_OF))
def test_the_short_way_says_what_the_long_way_says(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(kind)  # noqa: S311 - the same changes each time
    entry = entry_of(kind)
    tried = [entry, entry_of(kind, bare=True)]
    tried += [*changed_values(entry, rng), *changed_bytes(entry, rng)]

    taken = 0
    for each in tried:
        short = open_entry(each)
        assert short == the_long_way(each, monkeypatch), each
        taken += short.parts is not None
        if short.parts is not None:
            event = short.parts.signed.event
            again = type(event).model_validate(event.body())
            assert event == again
            assert event.model_fields_set == again.model_fields_set
            assert canonical(event.body()) == canonical(again.body())
            assert hash(event) == hash(again)

    assert taken > 1


@pytest.mark.parametrize("kind", sorted(EVENT_OF.keys() - {KeyRevoked.kind}))
def test_the_short_way_is_taken_for_every_kind(kind: str) -> None:
    assert form_of(EVENT_OF[kind]) is not None
    for bare in (False, True):
        entry = entry_of(kind, bare=bare)
        assert audit_entries._in_its_form(entry, b"") is not None
