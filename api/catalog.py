"""The catalog file: which services are sold, at what price, and who produces them."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.handler import Handler
from ledger.errors import InvalidInput, Misconfigured
from ledger.values import micros_of_usdc


class Offering(BaseModel):
    """One service. `handler` is `module:callable`; `price_usdc` has at most 6 decimals."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    type: Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,64}$")]
    price_usdc: Annotated[Decimal, Field(gt=0, le=1_000_000)]
    estimated_delivery_hours: Annotated[float, Field(gt=0, le=24 * 365)]
    handler: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    description: str | None = None
    kind: Literal["callable"] = "callable"

    @property
    def price_micros(self) -> int:
        """The price in micro-USDC."""
        return micros_of_usdc(self.price_usdc)


class Catalog(BaseModel):
    """What the provider sells."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    provider: Annotated[str, Field(min_length=1, max_length=100)]
    services: Annotated[tuple[Offering, ...], Field(min_length=1)]

    def find(self, service_type: str) -> Offering | None:
        """Return the offering of a type."""
        return next((s for s in self.services if s.type == service_type), None)


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
    return {offering.type: _import_handler(offering.handler) for offering in catalog.services}


def _import_handler(target: str) -> Handler:
    module, _, name = target.partition(":")
    try:
        handler = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Misconfigured(f"handler {target}: {error}") from error
    if not callable(handler):
        raise Misconfigured(f"handler {target} is not callable")
    found: Handler = handler
    return found
