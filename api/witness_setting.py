"""The form of the setting that names witnesses: `VKEY@URL`, in a comma list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import PlainValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from api.url_texts import BaseUrl
from ledger.cosignature import WitnessKey, parse_witness_key
from ledger.errors import VerificationError

MAX_WITNESSES: Final = 32
"""Each adds a line to the checkpoint, and a note has a limit of lines."""
_BASE_URL: Final = TypeAdapter(BaseUrl)


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """A witness that the operator chose: the key to believe, and where to ask."""

    key: WitnessKey
    url: str

    @property
    def name(self) -> str:
        """The name of its key, which no other witness here has."""
        return self.key.name


def _parse(value: object) -> tuple[WitnessAddress, ...]:
    if not isinstance(value, str):
        return ()  # the default: the environment holds text
    found = tuple(_witness(word.strip()) for word in value.split(",") if word.strip())
    if len(found) > MAX_WITNESSES:
        raise _refused(f"{MAX_WITNESSES} witnesses are the most")
    for what, count in (
        ("name", len({witness.name for witness in found})),
        # One key under two names would count as two witnesses.
        ("key", len({witness.key.public_key for witness in found})),
    ):
        if count != len(found):
            raise _refused(f"two witnesses have the same {what}")
    return found


def _witness(word: str) -> WitnessAddress:
    vkey, _, url = word.rpartition("@")
    try:
        found = WitnessAddress(parse_witness_key(vkey), _BASE_URL.validate_python(url))
    except VerificationError as error:
        raise _refused(f"{word}: {error.message}") from error
    except ValidationError as error:
        raise _refused(f"{word}: {error.errors()[0]['msg']}") from error
    if not url:
        raise _refused(f"{word}: where to ask is missing")
    return found


def _refused(text: str) -> PydanticCustomError:
    return PydanticCustomError("setting", "{text}", {"text": text})


Witnesses = Annotated[tuple[WitnessAddress, ...], NoDecode, PlainValidator(_parse)]
"""Empty, or the witnesses in the operator's order."""
