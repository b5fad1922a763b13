"""What operations refer to: schemas of the models in use, and parts that many have alike.

The schemas describe values as they stand on the wire, in requests and in answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import (
    GenerateJsonSchema,
    JsonSchemaMode,
    JsonSchemaValue,
    models_json_schema,
)
from pydantic_core import core_schema

from api.routes import Route

Schema = dict[str, Any]
Reference = dict[str, str]

TAKEN: Final = "validation"
GIVEN: Final = "serialization"
"""What we answer with is described as it is written, what we are asked with as it is read."""

_TEMPLATE: Final = "#/components/schemas/{model}"


class WireSchema(GenerateJsonSchema):
    """Schemas without what only Python knows."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """Describe an amount as the number it is: text is refused, whatever pydantic could read."""
        found = super().decimal_schema(schema)
        forms = found.get("anyOf", [found])
        return next((form for form in forms if form.get("type") == "number"), found)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Describe what an answer may leave out: it is absent then, never null."""
        inner = schema["schema"]
        left_out = schema.get("default", ...) is None and inner["type"] == "nullable"
        if self.mode == GIVEN and left_out:
            return self.generate_inner(inner["schema"])
        return super().default_schema(schema)

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - as in the class above
        """Show a default as it would be sent: an amount as a number."""
        value = dft.model_dump() if isinstance(dft, BaseModel) else dft
        if isinstance(value, dict):
            return {name: self.encode_default(each) for name, each in value.items()}
        if isinstance(value, Decimal):
            return int(value) if value == int(value) else float(value)
        return super().encode_default(value)

    def field_title_should_be_set(self, _schema: object) -> bool:
        """Leave out titles that repeat a field's name."""
        return False


class Components:
    """What the operations of some routes refer to; each part stands once."""

    def __init__(self, routes: Iterable[Route], also: Iterable[type[BaseModel]] = ()) -> None:
        wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
        for route in routes:
            if route.request is not None:
                wanted[route.request, TAKEN] = None
            if route.response is not None:
                wanted[route.response, GIVEN] = None
        wanted |= dict.fromkeys((model, GIVEN) for model in also)
        found, definitions = models_json_schema(
            list(wanted), ref_template=_TEMPLATE, schema_generator=WireSchema
        )
        self._references: Final = found
        self._parts: Final[dict[str, Schema]] = {"schemas": definitions.get("$defs", {})}

    def part(self, kind: str, name: str, value: Schema) -> Reference:
        """Keep a part, the same under the same name, and return the reference to it."""
        known = self._parts.setdefault(kind, {}).setdefault(name, value)
        if known != value:
            raise ValueError(f"two {kind} have the name {name}")
        return {"$ref": f"#/components/{kind}/{name}"}

    def all(self) -> Schema:
        """Return every part by kind and name, in order."""
        return {kind: dict(sorted(parts.items())) for kind, parts in sorted(self._parts.items())}

    def taken(self, model: type[BaseModel]) -> JsonSchemaValue:
        """Return the reference to what a request has to be."""
        return self._references[model, TAKEN]

    def given(self, model: type[BaseModel]) -> JsonSchemaValue:
        """Return the reference to what an answer is."""
        return self._references[model, GIVEN]


def properties_of(model: type[BaseModel]) -> tuple[dict[str, Schema], set[str]]:
    """Return the schema of each value that a query or headers may have, and which they must."""
    found = model.model_json_schema(
        by_alias=True, mode=GIVEN, schema_generator=WireSchema, ref_template=_TEMPLATE
    )
    return found.get("properties", {}), set(found.get("required", ()))
