"""JSON of any shape in a request, as it can be kept, hashed and sent on.

What is kept is written again into larger answers, so it may be less deep than a body. A number is
the double that JavaScript would read, but a whole one stays exact as long as it has 64 bits.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

MAX_DEPTH: Final = 100
_WHOLE: Final = range(-(2**63), 2**64)


def _plain(value: Any, left: int = MAX_DEPTH) -> Any:  # noqa: ANN401 - any JSON
    """Return the value with numbers that can be written; raises if it is nested too deeply."""
    if isinstance(value, dict | list) and not left:
        msg = f"is nested deeper than {MAX_DEPTH} levels"
        raise ValueError(msg)
    if isinstance(value, dict):
        return {name: _plain(each, left - 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, left - 1) for each in value]
    # Whoever parsed the body has refused what no double can hold.
    if isinstance(value, Decimal) or (type(value) is int and value not in _WHOLE):
        return float(value)
    return value


AnyJson = Annotated[Any, AfterValidator(_plain)]
Attachments = Annotated[list[AnyJson], Field(max_length=100)]
