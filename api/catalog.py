"""The catalog file: which services are sold, at what price, and who produces them."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from api.handler import Handler
from api.hooks import load_callable
from ledger.errors import InvalidInput, Misconfigured
from ledger.values import micros_of_usdc

MAX_PRICE_USDC: Final = 1_000_000

Usdc = Annotated[Decimal, Field(gt=0, le=MAX_PRICE_USDC)]
Target = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
"""`module:callable`."""


class Offering(BaseModel):
    """One service: who produces it, and how its price is made.

    `callable` services have a `handler`; `external` ones wait for a worker. The price is fixed
    (`price_usdc`), or asked for each order of a callable (`price`) or of a service elsewhere
    (`price_url`); then `base_price_usdc` is what the catalog shows. Amounts have at most 6
    decimals.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    type: Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,64}$")]
    price_usdc: Usdc | None = None
    price: Target | None = None
    price_url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    base_price_usdc: Usdc | None = None
    estimated_delivery_hours: Annotated[float, Field(gt=0, le=24 * 365)]
    handler: Target | None = None
    description: str | None = None
    kind: Literal["callable", "external"] = "callable"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.handler is None) is (self.kind == "callable"):
            raise _problem("a callable service has a handler, an external one has none")
        given = [p for p in (self.price_usdc, self.price, self.price_url) if p is not None]
        if len(given) != 1:
            raise _problem("a price is one of price_usdc, price and price_url")
        if (self.base_price_usdc is None) is not self.has_fixed_price:
            raise _problem("base_price_usdc goes with price or price_url, and only with them")
        return self

    @property
    def has_fixed_price(self) -> bool:
        """Whether every order costs the same."""
        return self.price_usdc is not None

    @property
    def price_micros(self) -> int:
        """The price that the catalog shows, in micro-USDC."""
        shown = self.price_usdc if self.price_usdc is not None else self.base_price_usdc
        return micros_of_usdc(shown or 0)


class Catalog(BaseModel):
    """What the provider sells."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    provider: Annotated[str, Field(min_length=1, max_length=100)]
    services: Annotated[tuple[Offering, ...], Field(min_length=1)]

    def find(self, service_type: str) -> Offering | None:
        """Return the offering of a type."""
        return next((s for s in self.services if s.type == service_type), None)

    @property
    def external(self) -> list[str]:
        """The types that workers produce."""
        return [s.type for s in self.services if s.kind == "external"]


def load_catalog(path: Path) -> Catalog:
    """Return the catalog in a TOML file, or raise `Misconfigured` naming every problem."""
    try:
        catalog = Catalog.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        for offering in catalog.services:
            _ = offering.price_micros
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{path}: {error}") from error
    except InvalidInput as error:
        raise Misconfigured(f"{path}: {error.message}") from error
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(str(p) for p in e['loc'])}: {e['msg']}"
            for e in error.errors(include_url=False)
        ]
        raise Misconfigured("\n".join(lines)) from error
    types = [s.type for s in catalog.services]
    if len(set(types)) != len(types):
        raise Misconfigured(f"{path}: two services have the same type")
    return catalog


def load_handlers(catalog: Catalog) -> dict[str, Handler]:
    """Import every handler, or raise `Misconfigured`."""
    return {s.type: load_callable(s.handler, "handler") for s in catalog.services if s.handler}


def _problem(text: str) -> PydanticCustomError:
    """Return an error that is shown in these words."""
    return PydanticCustomError("catalog", "{text}", {"text": text})
