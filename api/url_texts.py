"""The forms of URL, path and origin that a setting may have."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

ANY_ORIGIN: Final = "*"
NO_ORIGIN: Final = "none"

_SEGMENT: Final = r"/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+"
_SITE: Final = r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?"
_PREFIX: Final = re.compile(rf"(?:{_SEGMENT}){{1,8}}", re.ASCII)
_ORIGIN: Final = re.compile(_SITE, re.ASCII)
_BASE_URL: Final = re.compile(rf"{_SITE}(?:{_SEGMENT}){{0,8}}", re.ASCII)


def _check_prefix(text: str) -> str:
    if text and not _PREFIX.fullmatch(text):
        raise _refused("a path such as /ledger is needed, without a slash at its end")
    return text


def _check_base_url(text: str) -> str:
    if text and not (_BASE_URL.fullmatch(text) and _has_port(text)):
        raise _refused("an http or https URL is needed, without a slash at its end or a query")
    return text


def _check_origins(text: str) -> str:
    origins = [_checked_origin(word) for word in words_of(text)]
    return ",".join(origins) or NO_ORIGIN


def words_of(origins: str) -> tuple[str, ...]:
    """Return the origins of a setting; none for the word that means so."""
    if origins.strip() == NO_ORIGIN:
        return ()
    return tuple(word.strip() for word in origins.split(",") if word.strip())


def _checked_origin(text: str) -> str:
    if text == ANY_ORIGIN:
        return text
    if not (_ORIGIN.fullmatch(text) and _has_port(text)):
        raise _refused(f"{text} is no origin: scheme and host, such as https://shop.example")
    origin = text.lower()
    # Browsers leave out the port that the scheme implies.
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


def _has_port(text: str) -> bool:
    """Whether the port, if there is one, and the IPv6 address, if it is one, exist."""
    try:
        return urlsplit(text).port != 0
    except ValueError:
        return False


def _refused(text: str) -> PydanticCustomError:
    return PydanticCustomError("setting", "{text}", {"text": text})


PathPrefix = Annotated[str, AfterValidator(_check_prefix)]
"""Empty, or a path that begins with a slash and does not end with one."""
BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
"""Empty, or an absolute URL to which a path can be added."""
Origins = Annotated[str, AfterValidator(_check_origins)]
"""A comma list of what browsers send as `Origin`, in lower case; `*` is every one, `none` none."""
