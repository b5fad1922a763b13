"""How long what is public may be kept: what is immutable for ever, the newest for a moment."""

from __future__ import annotations

from typing import Final

FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
PRIVATE_FOREVER: Final = {"Cache-Control": "private, max-age=31536000, immutable"}
CHECKPOINT_CACHE: Final = {"Cache-Control": "public, max-age=1"}
NO_STORE: Final = {"Cache-Control": "no-store"}
