"""Many signatures judged at once: what recovery says of each, at a third of its cost.

A signature (r, s, v) over a digest e is that of the key Q exactly if

    R = (e / s) * G + (r / s) * Q

where r is the x of the point R, and v says which of the two points with that x it is. That is what
recovery finds, the v included; a plain check of (r, s) alone would not look at v. Here each
equation is multiplied by a random number and all are added up: the two sums are compared once. If
one equation is wrong, the sums differ but for a chance of 2**-64, which nobody can steer, as the
numbers are drawn after the signatures are there. Whenever the sums differ, or anything about one
of the signatures is unusual, each is judged by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from struct import unpack
from typing import Final

from coincurve import PrivateKey, PublicKey

from ledger.errors import VerificationError
from ledger.signing import address_of_key, eip191_digest, verify_signature

AT_ONCE: Final = 4096
WORTH_IT: Final = 64
"""Fewer signatures are judged faster one by one."""

_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_FACTOR_BYTES: Final = 8
_WINDOW: Final = 6
_WINDOWS: Final = -(-8 * _FACTOR_BYTES // _WINDOW)
_ORDER_BYTES: Final = _ORDER.to_bytes(32)
_HALF_ORDER_BYTES: Final = (_ORDER // 2).to_bytes(32)
_ZERO: Final = bytes(32)
_LENGTH: Final = 65
_HEADER_OF: Final = {27: b"\x02", 28: b"\x03"}


@dataclass(slots=True)
class Signed:
    """A message, a signature in its hexadecimal form, and the address that it is said to be of."""

    message: bytes
    signature: str
    signer: str


Judgement = tuple[int, str]
"""Which of the signatures is wrong, and why."""

Verify = Callable[[bytes, str, str], None]
"""Raises `VerificationError` unless the signer made the signature over the message."""

JudgeAll = Callable[[Sequence[Signed]], list[Judgement]]


def wrong_signatures(signed: Sequence[Signed]) -> list[Judgement]:
    """Return every signature that `verify_signature` refuses, with what it says."""
    if len(signed) >= WORTH_IT and _all_right(signed):
        return []
    return judged_singly(signed, verify_signature)


def judged_singly(signed: Iterable[Signed], verify: Verify) -> list[Judgement]:
    """Return every signature that is refused, each judged by itself."""
    found = []
    for index, item in enumerate(signed):
        try:
            verify(item.message, item.signature, item.signer)
        except VerificationError as error:
            found.append((index, error.message))
    return found


def _all_right(signed: Sequence[Signed]) -> bool:
    """Whether all are right; False also for whatever must be looked at more closely."""
    try:
        raw = [_raw(item.signature) for item in signed]
        points = [PublicKey(_HEADER_OF[each[64]] + each[:32]) for each in raw]
        firsts = {item.signer: item for item in reversed(signed)}
        keys = {signer: _key(item) for signer, item in firsts.items()}
        factors = unpack(f"{len(signed)}Q", os.urandom(_FACTOR_BYTES * len(signed)))
        right = _right_side(signed, raw, factors, keys)
        return _weighted_sum(points, factors).format() == right.format()
    except (ValueError, KeyError):
        # Another form, a number out of range, an x of no point, or a sum that is no point.
        return False


def _raw(signature: str) -> bytes:
    """Return r, s and v of the one stored form; raises `ValueError` for any other."""
    raw = bytes.fromhex(signature[2:])
    if len(raw) != _LENGTH or signature != "0x" + raw.hex():
        raise ValueError(signature)
    if not (_ZERO < raw[:32] < _ORDER_BYTES and _ZERO < raw[32:64] <= _HALF_ORDER_BYTES):
        raise ValueError(signature)
    return raw


def _key(item: Signed) -> PublicKey:
    """Learn the key behind an address from one of its signatures."""
    raw = bytes.fromhex(item.signature[2:])
    compact = raw[:64] + bytes([raw[64] - 27])
    key = PublicKey.from_signature_and_message(compact, eip191_digest(item.message), hasher=None)
    if address_of_key(key) != item.signer:
        raise ValueError(item.signer)
    return key


def _right_side(
    signed: Sequence[Signed],
    raw: Sequence[bytes],
    factors: Sequence[int],
    keys: Mapping[str, PublicKey],
) -> PublicKey:
    """Return the sum of all (e / s) * G + (r / s) * Q, each times its factor."""
    number = int.from_bytes
    times_base, times_key = 0, dict.fromkeys(keys, 0)
    inverses = _inverses([number(each[32:64]) for each in raw])
    for item, each, factor, inverse in zip(signed, raw, factors, inverses, strict=True):
        weight = factor * inverse % _ORDER
        times_base += weight * number(eip191_digest(item.message))
        times_key[item.signer] += weight * number(each[:32])
    parts = [keys[signer].multiply(_scalar(times)) for signer, times in times_key.items()]
    parts.append(PrivateKey(_scalar(times_base)).public_key)
    return PublicKey.combine_keys(parts)


def _scalar(number: int) -> bytes:
    return (number % _ORDER).to_bytes(32)


def _inverses(numbers: Sequence[int]) -> list[int]:
    """Invert all numbers modulo the curve's order, at the cost of one inversion."""
    products = list(accumulate(numbers, lambda a, b: a * b % _ORDER, initial=1))
    inverse = pow(products.pop(), -1, _ORDER)
    found = []
    for number, before in zip(reversed(numbers), reversed(products), strict=True):
        found.append(inverse * before % _ORDER)
        inverse = inverse * number % _ORDER
    return found[::-1]


def _weighted_sum(points: Sequence[PublicKey], factors: Sequence[int]) -> PublicKey:
    """Return the sum of all points, each times its factor.

    Some bits of the factors at a time, the highest first: points with equal bits are added up, then
    the sums that have a bit in common, and what there was is doubled with each bit. Raises
    `ValueError` where a sum is no point.
    """
    total: list[PublicKey] = []
    for window in reversed(range(_WINDOWS)):
        equal: list[list[PublicKey]] = [[] for _ in range(1 << _WINDOW)]
        shift, mask = window * _WINDOW, (1 << _WINDOW) - 1
        for point, factor in zip(points, factors, strict=True):
            equal[factor >> shift & mask].append(point)
        sums = [(bits, PublicKey.combine_keys(each)) for bits, each in enumerate(equal) if each]
        for bit in reversed(range(_WINDOW)):
            parts = [each for bits, each in sums if bits >> bit & 1] + total * 2
            # The library ends the process when it is asked for the sum of nothing.
            total = [PublicKey.combine_keys(parts)] if parts else []
    return total[0]
