"""Signatures judged together are judged as one by one: nothing wrong is hidden among the right."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from ledger.audit_signatures import (
    WORTH_IT,
    Signed,
    _all_right,
    judged_singly,
    wrong_signatures,
)
from ledger.signing import EVENT_PREFIX, Signer, verify_signature

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
MINE: Final = Signer(b"\x01" * 32)
OTHER: Final = Signer(b"\x02" * 32)


def signed_by(signer: Signer, number: int) -> Signed:
    message = EVENT_PREFIX + b'{"number":%d}' % number
    return Signed(message, signer.sign(message), signer.address)


@pytest.fixture(scope="module")
def right() -> list[Signed]:
    return [signed_by(OTHER if n % 7 == 0 else MINE, n) for n in range(WORTH_IT + 20)]


def test_right_signatures_of_several_keys_are_right_together(right: list[Signed]) -> None:
    assert _all_right(right)
    assert wrong_signatures(right) == []


def part(
    signature: str, *, r: str | None = None, s: str | None = None, v: str | None = None
) -> str:
    return "0x" + (r or signature[2:66]) + (s or signature[66:130]) + (v or signature[130:])


def other_v(item: Signed) -> Signed:
    v = {"1b": "1c", "1c": "1b"}[item.signature[130:]]
    return replace(item, signature=part(item.signature, v=v))


def high_s(item: Signed) -> Signed:
    """Return the other signature that the same key's equation holds for."""
    s = f"{ORDER - int(item.signature[66:130], 16):064x}"
    return other_v(replace(item, signature=part(item.signature, s=s)))


def changed_s(item: Signed) -> Signed:
    return replace(
        item, signature=part(item.signature, s=f"{int(item.signature[66:130], 16) ^ 1:064x}")
    )


def changed_r(item: Signed) -> Signed:
    return replace(
        item, signature=part(item.signature, r=f"{int(item.signature[2:66], 16) ^ 1:064x}")
    )


WRONG: Final[dict[str, Callable[[Signed], Signed]]] = {
    "the other v": other_v,
    "a v of 0": lambda i: replace(i, signature=part(i.signature, v="00")),
    "a v of 29": lambda i: replace(i, signature=part(i.signature, v="1d")),
    "a high s": high_s,
    "another s": changed_s,
    "an s of 0": lambda i: replace(i, signature=part(i.signature, s="00" * 32)),
    "another r": changed_r,
    "an r of 0": lambda i: replace(i, signature=part(i.signature, r="00" * 32)),
    "an r that is the order": lambda i: replace(i, signature=part(i.signature, r=f"{ORDER:064x}")),
    "an r beyond the field": lambda i: replace(i, signature=part(i.signature, r="ff" * 32)),
    "upper case": lambda i: replace(i, signature="0x" + i.signature[2:].upper()),
    "spaces": lambda i: replace(i, signature="0x " + i.signature[2:]),
    "a digit less": lambda i: replace(i, signature=i.signature[:-1]),
    "nothing": lambda i: replace(i, signature=""),
    "another message": lambda i: replace(i, message=i.message + b" "),
    "another signer": lambda i: replace(
        i, signer=OTHER.address if i.signer == MINE.address else MINE.address
    ),
    "a signer without signatures": lambda i: replace(i, signer="0x" + "00" * 20),
}


@pytest.mark.parametrize("how", sorted(WRONG))
def test_a_wrong_signature_is_found_wherever_it_stands(right: list[Signed], how: str) -> None:
    for at in (0, 1, 7, len(right) - 1):
        items = [*right[:at], WRONG[how](right[at]), *right[at + 1 :]]

        found = wrong_signatures(items)

        assert [index for index, _ in found] == [at]
        assert found == judged_singly(items, verify_signature)


def test_errors_that_would_cancel_in_a_plain_sum_do_not(right: list[Signed]) -> None:
    first, second = right[1], right[2]
    swapped = [
        replace(first, message=second.message),
        replace(second, message=first.message),
    ]

    found = wrong_signatures([*swapped, *right])

    assert [index for index, _ in found] == [0, 1]


def test_a_signature_and_its_twin_with_the_opposite_point_are_judged_singly(
    right: list[Signed],
) -> None:
    items = [*right, *map(other_v, right)]

    found = wrong_signatures(items)

    assert [index for index, _ in found] == list(range(len(right), len(items)))


def test_many_wrong_ones_are_all_found(right: list[Signed]) -> None:
    rng = random.Random(3)  # noqa: S311 - the same ones each time
    wrong = sorted(rng.sample(range(len(right)), 20))
    items = [other_v(item) if at in wrong else item for at, item in enumerate(right)]

    assert [index for index, _ in wrong_signatures(items)] == wrong
