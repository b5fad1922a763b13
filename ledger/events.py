"""The closed list of event kinds: wire name to class, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from pydantic import ValidationError

from ledger.cursor_events import CursorAct
from ledger.errors import VerificationError
from ledger.event import Event
from ledger.log_events import LogEvent
from ledger.market_events import AgentEvent, ConversationEvent
from ledger.order_events import OrderEvent

EVENT_OF: Final[Mapping[str, type[Event]]] = {
    event_class.kind: event_class
    for family in (OrderEvent, LogEvent, CursorAct, AgentEvent, ConversationEvent)
    for event_class in get_args(family)
}


def event_from_body(kind: str, body: object) -> Event:
    """Return the event of a kind and a JSON body, or raise `VerificationError`."""
    event_class = EVENT_OF.get(kind)
    if event_class is None:
        msg = f"unknown event kind {kind!r}"
        raise VerificationError(msg)
    try:
        return event_class.model_validate(body)
    except ValidationError as error:
        msg = f"the body is not that of {kind!r}: {error.errors(include_url=False)[0]}"
        raise VerificationError(msg) from error
