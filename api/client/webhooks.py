"""Signatures of posted events, by the specification Standard Webhooks 1.0 (symmetric, `v1`).

The signature covers the id, the time of the attempt and the exact bytes of the body. A receiver
verifies before it parses, refuses old times, and takes the id as the key of what it has done.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from api.client.errors import ClientError

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what a secret begins with
TOLERANCE_SECONDS: Final = 300

_KEY_BYTES: Final = range(24, 65)
_VERSION: Final = "v1,"


class WebhookRefused(ClientError):
    """The request is not signed with the secret, or not of now. Nothing in it was believed."""


def read_secrets(text: str) -> tuple[bytes, ...]:
    """Return the keys in `whsec_<base64>`, or in several with spaces between; the first is newest.

    Raises `ValueError`, whose text shows nothing of a secret.
    """
    return tuple(_key(each) for each in text.split()) or (_key(""),)


def signed_headers(
    keys: Sequence[bytes], message_id: str, at_seconds: int, body: bytes
) -> dict[str, str]:
    """Return the three headers of one attempt, with a signature for each key."""
    found = [_VERSION + _signature(key, message_id, str(at_seconds), body) for key in keys]
    return {ID: message_id, TIMESTAMP: str(at_seconds), SIGNATURE: " ".join(found)}


def verify_webhook(
    keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now_seconds: float
) -> str:
    """Return the id of a request that was signed with one of the keys, or raise.

    `headers` find a name in lower case, as those of HTTP libraries do.
    """
    message_id, stamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not message_id or not (stamp.isascii() and stamp.isdigit()):
        raise WebhookRefused("a header of Standard Webhooks is missing or has another form")
    if abs(now_seconds - int(stamp)) > TOLERANCE_SECONDS:
        raise WebhookRefused("the request is too old, or of the future")
    shown = [s.encode() for s in headers.get(SIGNATURE, "").split() if s.startswith(_VERSION)]
    for key in keys:
        right = (_VERSION + _signature(key, message_id, stamp, body)).encode()
        if any(hmac.compare_digest(right, each) for each in shown):
            return message_id
    raise WebhookRefused("no signature is one of our secrets'")


def _signature(key: bytes, message_id: str, stamp: str, body: bytes) -> str:
    signed = f"{message_id}.{stamp}.".encode() + body
    return b64encode(hmac.digest(key, signed, sha256)).decode()


def _key(text: str) -> bytes:
    encoded = text.removeprefix(SECRET_PREFIX)
    try:
        key = b64decode(encoded, validate=True) if encoded != text else b""
    except ValueError:
        key = b""
    if len(key) not in _KEY_BYTES:
        raise ValueError("a webhook secret is whsec_ and base64 of 24 to 64 bytes")
    return key
