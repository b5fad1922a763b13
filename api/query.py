"""Reading the query of a request with the model that describes it."""

from __future__ import annotations

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from api.body import validated

M = TypeVar("M", bound=BaseModel)


def read_query(request: web.Request, model: type[M]) -> M:
    """Return the query as a model, or raise `InvalidInput` naming the parameter at fault.

    Of a parameter that stands twice the first counts; unknown ones are ignored.
    """
    return validated({name: request.query[name] for name in request.query}, model)
