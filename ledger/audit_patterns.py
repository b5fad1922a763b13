"""The one form of every kind's body, as a pattern made of the kind's own model.

A body that fits the pattern is written as our writer writes it, to the byte, and its model would
take it: so the event can be made of it without asking the model. A pattern is narrower than the
model wherever that is simpler (texts of plain ASCII, numbers with fewer digits than their bound),
and a kind with anything unknown in it has none: what does not fit is judged by the model itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, Lt, MaxLen, MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    PlainSerializer,
    Strict,
    StringConstraints,
)
from pydantic.fields import FieldInfo

from ledger.event import Event
from ledger.values import MicroUsdc
from ledger.wallets import RESERVED_WORDS, Wallet

PLAIN: Final = r"[ !#-\[\]-~]"
"""A character that JSON writes as itself and that ends no text."""

_VISIBLE: Final = r"[!#-\[\]-~]"
_AMOUNT: Final = next(each for each in get_args(MicroUsdc) if isinstance(each, BeforeValidator))
_SPELLING: Final = next(each for each in get_args(Wallet) if isinstance(each, AfterValidator))
_WALLET: Final = (
    rf'(?:0x[0-9a-f]{{40}}|(?!0[xX]|(?i:{"|".join(sorted(RESERVED_WORDS))})")'
    r"[A-Za-z0-9._-]{1,64})"
)
_FEW: Final = 1000
_ONE_GROUP: Final = re.compile(r"\^\(\?:[^()]*\)\$")

Read = Callable[[Any], Any]


class _NoForm(Exception):
    """There is something that this module does not know."""


@dataclass(frozen=True, slots=True)
class Form:
    """A pattern without groups, and how the value is made of the JSON that fits it."""

    pattern: str
    read: Read | None = None


@cache
def form_of(kind: type[Event]) -> Form | None:
    """Return the form of a kind's body, or None if only its model can tell."""
    try:
        return _object(kind)
    except _NoForm:
        return None


def _object(model: type[BaseModel]) -> Form:
    validators = model.__pydantic_decorators__
    if any(getattr(validators, each.name) for each in fields(validators)):
        raise _NoForm
    parts: list[tuple[str, str, bool]] = []
    reads: list[tuple[str, Read]] = []
    for name, info in model.model_fields.items():
        if info.alias is not None or info.default_factory is not None:
            raise _NoForm
        form = _form(info.annotation, info.metadata)
        # What is not there is left out when it is written; any other default is written.
        parts.append((name, f'"{name}":{form.pattern}', info.default is not None))
        if form.read is not None:
            reads.append((name, form.read))
    return Form(_members(sorted(parts)), _reader(model, reads))


def _members(parts: Sequence[tuple[str, str, bool]]) -> str:
    """Return the pattern of an object: commas stand towards the first member that must be there."""
    first = next((at for at, (_, _, required) in enumerate(parts) if required), None)
    if first is None:
        raise _NoForm
    before = "".join(f"(?:{member},)?" for _, member, _ in parts[:first])
    after = (
        f",{member}" if required else f"(?:,{member})?"
        for _, member, required in parts[first + 1 :]
    )
    return rf"\{{{before}{parts[first][1]}{''.join(after)}\}}"


def _reader(model: type[BaseModel], reads: Sequence[tuple[str, Read]]) -> Read:
    """Return what makes the model of values that fit it, as `model_construct` does, but faster."""
    new, put, blank = model.__new__, object.__setattr__, dict.fromkeys(model.model_fields)

    def read(values: dict[str, Any]) -> BaseModel:
        held = {**blank, **values}
        for name, of in reads:
            if name in values:
                held[name] = of(values[name])
        made = new(model)
        put(made, "__dict__", held)
        put(made, "__pydantic_fields_set__", set(values))
        put(made, "__pydantic_extra__", None)
        put(made, "__pydantic_private__", None)
        return made

    return read


def _form(annotation: Any, metadata: Sequence[object]) -> Form:  # noqa: ANN401 - any annotation
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _form(inside[0], [*inside[1:], *metadata])
    if origin in (Union, UnionType):
        some = [each for each in inside if each is not NoneType]
        if len(some) != 1:
            raise _NoForm
        return _form(some[0], metadata)
    rules = _rules(metadata)
    if origin is tuple:
        return _array(_form(inside[0], ()), rules)
    if origin is Literal:
        return Form(f'"(?:{"|".join(map(re.escape, inside))})"')
    if annotation is bool:
        return Form("(?:true|false)")
    if annotation is int:
        return _integer(rules)
    if annotation is str:
        return Form(f'"{_text(rules)}"')
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _object(annotation)
    raise _NoForm


Rules = dict[type, Any]


def _rules(metadata: Sequence[object]) -> Rules:
    """Return what is said of a value, by the class that says it."""
    rules: Rules = {}
    for each in metadata:
        rules |= _rules(each.metadata) if isinstance(each, FieldInfo) else {type(each): each}
    known = {Ge, Le, Lt, MaxLen, MinLen, Strict, StringConstraints}
    if rules.get(BeforeValidator) is _AMOUNT:
        known |= {BeforeValidator, PlainSerializer}
    if rules.get(AfterValidator) is _SPELLING:
        known |= {AfterValidator}
    if rules.keys() - known:
        raise _NoForm
    return rules


def _array(item: Form, rules: Rules) -> Form:
    least = rules[MinLen].min_length if MinLen in rules else 0
    if MaxLen not in rules or least > 1:
        raise _NoForm
    items = f"{item.pattern}(?:,{item.pattern}){{0,{rules[MaxLen].max_length - 1}}}"
    pattern, read = rf"\[{items}\]" if least else rf"\[(?:{items})?\]", item.read
    return Form(pattern, tuple if read is None else lambda values: tuple(map(read, values)))


def _integer(rules: Rules) -> Form:
    if BeforeValidator in rules:
        return Form(r'"(?:0|[1-9]\d{0,29})"', int)
    if Ge not in rules or not {Le, Lt} & rules.keys():
        raise _NoForm
    low = rules[Ge].ge
    end = rules[Lt].lt if Lt in rules else rules[Le].le + 1
    if end <= _FEW:
        return Form(f"(?:{'|'.join(map(str, range(low, end)))})")
    digits = len(str(low))
    if low and low != 10 ** (digits - 1):
        raise _NoForm
    positive = rf"[1-9]\d{{{digits - 1},{len(str(end - 1)) - 2}}}"
    return Form(positive if low else f"(?:{positive}|0)")


def _text(rules: Rules) -> str:
    said = rules.get(StringConstraints)
    if said is None or said.strip_whitespace or said.to_upper or said.to_lower or said.ascii_only:
        raise _NoForm
    if said.pattern is None:
        return f"{PLAIN}{{{said.min_length or 0},{said.max_length or ''}}}"
    if AfterValidator in rules:
        return _WALLET
    outside = re.sub(r"\[[^\]]*\]|\\[+.S]", "", said.pattern)
    whole = said.pattern.startswith("^") and said.pattern.endswith("$")
    # Inside one group that ends with the text, an alternative takes no part of what is around it.
    unknown = set('.\\"') if _ONE_GROUP.fullmatch(said.pattern) else set('.|\\"')
    if not whole or unknown & set(outside) or "[^" in said.pattern or '"' in said.pattern:
        raise _NoForm
    pattern: str = said.pattern[1:-1]
    return _length(said) + pattern.replace(r"\S", _VISIBLE)


def _length(said: StringConstraints) -> str:
    """Return what looks ahead for the length of a text whose pattern does not bound it."""
    if not said.min_length and said.max_length is None:
        return ""
    longest = "" if said.max_length is None else said.max_length
    return f'(?={PLAIN}{{{said.min_length or 0},{longest}}}")'
