"""How long what is public may be kept: what is immutable for ever, the newest for a moment."""

from __future__ import annotations

from typing import Final

FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
PRIVATE_FOREVER: Final = {"Cache-Control": "private, max-age=31536000, immutable"}
CHECKPOINT_CACHE: Final = {"Cache-Control": "public, max-age=1"}
FOR_A_DAY: Final = {"Cache-Control": "public, max-age=86400"}
PRIVATE_FOR_A_DAY: Final = {"Cache-Control": "private, max-age=86400"}
"""A proof at a fixed size stays true; the lines under its checkpoint may become more."""
NO_STORE: Final = {"Cache-Control": "no-store"}
