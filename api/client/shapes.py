"""Answers read into models: another form is refused by name."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from api.client.errors import AnswerRefused

M = TypeVar("M", bound=BaseModel)


def parsed(model: type[M], body: object) -> M:
    """Return a body as a model, or raise `AnswerRefused` with the first member that is wrong."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AnswerRefused(f"the answer has another form: {where}: {first['msg']}") from error
