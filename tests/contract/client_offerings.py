"""What the tests of the clients buy, where the shop that ships sells nothing like it."""

from __future__ import annotations

from api.handler import Produced, ServiceRequest

PICTURE = bytes(range(256))


def picture(request: ServiceRequest) -> Produced:
    return Produced(PICTURE, format="image", content_type="image/x-test")


def raw_echo(request: ServiceRequest) -> Produced:
    """Return the words as bytes of no known kind; some of them look like base64."""
    return Produced(request.input_text(), format="bytes", content_type="application/octet-stream")


def breaks(request: ServiceRequest) -> Produced:
    raise ValueError("nothing comes of this")
