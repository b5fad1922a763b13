"""The texts that keys sign about the log: possession, revocation, the end. Pure.

As with clients' texts, a text is read as a whole and never searched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ledger.errors import InvalidInput, Unauthorized
from ledger.values import UnixMs, parse_iso

_ORIGIN: Final = r"(?P<origin>[A-Za-z0-9._/-]{1,160})"
_KEY: Final = r"(?P<key>\S{1,200})"
_TS: Final = r"(?P<ts>[0-9T:.+Z-]{19,40})"
_ADD: Final = re.compile(rf"Add key: {_KEY} \| Log: {_ORIGIN} \| Timestamp: {_TS}", re.ASCII)
_REVOKE: Final = re.compile(
    rf"Revoke key: {_KEY} \| Log: {_ORIGIN} \| Last position: (?P<last>[1-9][0-9]{{0,14}})"
    rf" \| Timestamp: {_TS}",
    re.ASCII,
)
_CLOSE: Final = re.compile(
    rf"Close log: {_ORIGIN} \| Reason: (?P<reason>[ -{{}}~]{{1,200}}) \| Timestamp: {_TS}",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key's word on a log; `last_position` only of a revocation, `reason` only of an end."""

    origin: str
    stamp: UnixMs
    key: str = ""
    last_position: int = 0
    reason: str = ""


def parse_possession(text: str) -> KeyText:
    """Return what a new key says: that its holder wants it added to this log."""
    fields = _match(text, _ADD)
    return KeyText(fields["origin"], _stamp(fields), key=fields["key"])


def parse_revocation(text: str) -> KeyText:
    """Return what the recovery key says of a key that may not speak any more."""
    fields = _match(text, _REVOKE)
    last = int(fields["last"])
    return KeyText(fields["origin"], _stamp(fields), key=fields["key"], last_position=last)


def parse_closing(text: str) -> KeyText:
    """Return what the recovery key says of the log's end."""
    fields = _match(text, _CLOSE)
    return KeyText(fields["origin"], _stamp(fields), reason=fields["reason"])


def _match(text: str, pattern: re.Pattern[str]) -> dict[str, str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise Unauthorized("the signed text has none of the documented forms")
    return match.groupdict()


def _stamp(fields: dict[str, str]) -> UnixMs:
    try:
        return parse_iso(fields["ts"])
    except InvalidInput as error:
        msg = "the signed text's timestamp is not ISO 8601 with a time zone"
        raise InvalidInput(msg, code="INVALID_TIMESTAMP") from error
