"""The two signature schemes, written out: no library is at hand where this runs.

Only public data passes through here, so nothing is done in constant time.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from ledger.evidence_verify.basics import Bad, fail, need
from ledger.solana_wire import key_of

MASK = 2**64 - 1
RATE = 136
ROUND_CONSTANTS: list[int] = []
ROTATIONS: list[tuple[int, int, int]] = []

# secp256k1
FIELD = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
BASE = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
SIGNATURE = re.compile(r"0x[0-9a-f]{130}", re.ASCII)

# Ed25519
PRIME = 2**255 - 19
GROUP = 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME
ROOT_OF_MINUS_1 = pow(2, (PRIME - 1) // 4, PRIME)

OF_SOLANA = re.compile(r"ed25519:([0-9a-f]{128})", re.ASCII)

Point = tuple[int, int, int]
Extended = tuple[int, int, int, int]


def _prepare_keccak() -> None:
    state = 1
    for _ in range(24):
        constant = 0
        for bit in range(7):
            if state & 1:
                constant |= 1 << (2**bit - 1)
            state = (state << 1) ^ (0x171 if state & 0x80 else 0)
        ROUND_CONSTANTS.append(constant)
    x, y = 1, 0
    for step in range(24):
        x, y = y, (2 * x + 3 * y) % 5
        shift = (step + 1) * (step + 2) // 2 % 64
        ROTATIONS.append((x + 5 * y, shift, 64 - shift))


_prepare_keccak()


def _permute(a: list[int]) -> list[int]:
    for constant in ROUND_CONSTANTS:
        c = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        d = [c[x - 1] ^ (c[x - 4] << 1 & MASK | c[x - 4] >> 63) for x in range(5)] * 5
        a = [a[x] ^ d[x] for x in range(25)]
        moved = a[1]
        for target, left, right in ROTATIONS:
            a[target], moved = (moved << left & MASK) | moved >> right, a[target]
        for row in (0, 5, 10, 15, 20):
            b0, b1, b2, b3, b4 = a[row : row + 5]
            a[row] = b0 ^ ~b1 & b2
            a[row + 1] = b1 ^ ~b2 & b3
            a[row + 2] = b2 ^ ~b3 & b4
            a[row + 3] = b3 ^ ~b4 & b0
            a[row + 4] = b4 ^ ~b0 & b1
        a[0] ^= constant
    return a


def keccak256(data: bytes) -> bytes:
    """Return the Keccak-256 digest that Ethereum uses, which is not SHA-3."""
    padded = bytearray(data + b"\x01" + bytes(-(len(data) + 1) % RATE))
    padded[-1] |= 0x80
    lanes = [0] * 25
    for begin in range(0, len(padded), RATE):
        for lane in range(RATE // 8):
            at = begin + 8 * lane
            lanes[lane] ^= int.from_bytes(padded[at : at + 8], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def _double(p: Point) -> Point:
    x, y, z = p
    if not y:
        return (0, 1, 0)
    yy = y * y % FIELD
    s = 4 * x * yy % FIELD
    m = 3 * x * x % FIELD
    x3 = (m * m - 2 * s) % FIELD
    return (x3, (m * (s - x3) - 8 * yy * yy) % FIELD, 2 * y * z % FIELD)


def _add(p: Point, q: Point) -> Point:
    """Return the sum of two points in Jacobian coordinates; z is 0 at infinity."""
    if not p[2]:
        return q
    if not q[2]:
        return p
    pz2, qz2 = p[2] * p[2] % FIELD, q[2] * q[2] % FIELD
    u1, u2 = p[0] * qz2 % FIELD, q[0] * pz2 % FIELD
    s1, s2 = p[1] * qz2 * q[2] % FIELD, q[1] * pz2 * p[2] % FIELD
    if u1 == u2:
        return _double(p) if s1 == s2 else (0, 1, 0)
    h, r = u2 - u1, s2 - s1
    hh = h * h % FIELD
    hhh, v = h * hh % FIELD, u1 * hh % FIELD
    x = (r * r - hhh - 2 * v) % FIELD
    return (x, (r * (v - x) - s1 * hhh) % FIELD, h * p[2] * q[2] % FIELD)


def _sum_of_products(a: int, p: Point, b: int, q: Point) -> Point:
    """Return a * p + b * q, both factors walked at once."""
    table = [(0, 1, 0), p, q, _add(p, q)]
    found: Point = (0, 1, 0)
    for bit in range(255, -1, -1):
        found = _double(found)
        found = _add(found, table[(a >> bit & 1) | (b >> bit & 1) << 1])
    return found


@lru_cache(maxsize=1024)
def recover(message: bytes, signature: str) -> str:
    """Return the lower-case address whose EIP-191 signature this is, or raise `Bad`.

    One signature has one form: 0x, lower case, v 27 or 28, s in the lower half.
    """
    need(SIGNATURE.fullmatch(signature), "a signature is 0x and 130 lower-case digits")
    raw = bytes.fromhex(signature[2:])
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big")
    need(raw[64] in (27, 28), "the signature's v is neither 27 nor 28")
    need(0 < r < ORDER and 0 < s <= ORDER // 2, "the signature's r or s is out of range")
    y = pow(r**3 + 7, (FIELD + 1) // 4, FIELD)
    need(y * y % FIELD == (r**3 + 7) % FIELD, "the signature recovers to no key")
    if y & 1 != raw[64] - 27:
        y = FIELD - y
    text = b"\x19Ethereum Signed Message:\n%d%b" % (len(message), message)
    digest = int.from_bytes(keccak256(text), "big")
    inverse = pow(r, -1, ORDER)
    a, b = -digest * inverse % ORDER, s * inverse % ORDER
    x, y, z = _sum_of_products(a, (BASE[0], BASE[1], 1), b, (r, y, 1))
    need(z, "the signature recovers to no key")
    flat = pow(z, -1, FIELD)
    key = (x * flat**2 % FIELD, y * flat**3 % FIELD)
    return "0x" + keccak256(b"".join(n.to_bytes(32, "big") for n in key))[-20:].hex()


def require_signed(message: bytes, signature: str, signer: str) -> None:
    """Raise `Bad` unless this address made the EIP-191 signature over the message."""
    found = recover(message, signature)
    need(found == signer, f"the signature is {found}'s, not {signer}'s")


def _add_extended(p: Extended, q: Extended) -> Extended:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % PRIME, (p[1] + p[0]) * (q[1] + q[0]) % PRIME
    c, d = 2 * p[3] * q[3] * CURVE_D % PRIME, 2 * p[2] * q[2] % PRIME
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME)


def _times(factor: int, p: Extended) -> Extended:
    found: Extended = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            found = _add_extended(found, p)
        p, factor = _add_extended(p, p), factor >> 1
    return found


def _point(data: bytes) -> Extended:
    """Return the point that 32 bytes encode, or raise `Bad`."""
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    need(y < PRIME, "no point of the curve")
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * ROOT_OF_MINUS_1 % PRIME
    need((x * x - square) % PRIME == 0 and (x or not sign), "no point of the curve")
    if x & 1 != sign:
        x = PRIME - x
    return (x, y, 1, x * y % PRIME)


@lru_cache(maxsize=1024)
def require_ed25519(key: bytes, message: bytes, signature: bytes) -> None:
    """Raise `Bad` unless the key (32 bytes) made this Ed25519 signature (RFC 8032)."""
    need(len(key) == 32 and len(signature) == 64, "no Ed25519 key or signature")  # noqa: PLR2004
    s = int.from_bytes(signature[32:], "little")
    need(s < GROUP, "the signature has a second form")
    try:
        owner, nonce = _point(key), _point(signature[:32])
    except Bad as error:
        fail(f"the Ed25519 signature does not verify: {error}")
    hashed = hashlib.sha512(signature[:32] + key + message).digest()
    challenge = int.from_bytes(hashed, "little") % GROUP
    base = _point((4 * pow(5, -1, PRIME) % PRIME).to_bytes(32, "little"))
    left = _times(s, base)
    right = _add_extended(nonce, _times(challenge, owner))
    same = (left[0] * right[2] - right[0] * left[2]) % PRIME == 0
    same = same and (left[1] * right[2] - right[1] * left[2]) % PRIME == 0
    need(same, "the Ed25519 signature does not verify")


def require_text_signed(message: bytes, signature: str, signer: str) -> None:
    """Raise `Bad` unless this wallet, an EVM or a Solana one, signed a party's text."""
    match = OF_SOLANA.fullmatch(signature)
    if match is None:
        require_signed(message, signature, signer)
        return
    try:
        key, made = key_of(signer), bytes.fromhex(match[1])
    except ValueError as error:
        raise Bad(f"{signer} is no Solana wallet") from error
    require_ed25519(key, message, made)
    # Where a point has no large order, signatures verify that no secret stands behind.
    for point in (key, made[:32]):
        need(_times(8, _point(point))[0] % PRIME, f"the signature is not {signer}'s")
