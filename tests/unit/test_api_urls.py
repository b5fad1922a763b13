"""Absolute URLs come from the operator; a Host header is believed from near callers only."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from api.config import Settings, load_settings
from api.keys import SETTINGS
from api.urls import public_url
from ledger.errors import Misconfigured

ADDRESS = "0x00000000000000000000000000000000000000aa"


class FakeTransport:
    """Stands for a connection from one address."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self._peer, 5000) if name == "peername" else default

    def is_closing(self) -> bool:
        return False


def load(**settings: object) -> Settings:
    return load_settings(**{"payment_address": ADDRESS, "recovery_address": ADDRESS, **settings})


def url_of(peer: str, headers: dict[str, str], **settings: object) -> str | None:
    """Return the URL of a path as a caller at this address is told."""
    app = web.Application()
    app[SETTINGS] = load(**settings)
    transport = FakeTransport(peer)
    request = make_mocked_request("GET", "/", headers, app=app, transport=transport)  # type: ignore[arg-type]
    return public_url(request, "/ivxp/stream/x")


@pytest.mark.parametrize("peer", ["127.0.0.1", "203.0.113.9", ""])
def test_the_public_url_is_the_operators_and_not_the_callers(peer: str) -> None:
    told = url_of(
        peer,
        {"Host": "evil.example", "X-Forwarded-Host": "evil.example"},
        public_url="https://shop.example/x",
        path_prefix="/x",
    )

    assert told == "https://shop.example/x/ivxp/stream/x"


@pytest.mark.parametrize(
    ("peer", "host", "url"),
    [
        ("127.0.0.1", "127.0.0.1:8402", "http://127.0.0.1:8402/ivxp/stream/x"),
        ("127.8.8.8", "LocalHost", "http://localhost/ivxp/stream/x"),
        ("::1", "[::1]:8402", "http://[::1]:8402/ivxp/stream/x"),
        ("203.0.113.9", "shop.example", None),
        ("10.0.0.1", "shop.example", None),
        ("", "shop.example", None),
        ("127.0.0.1", "shop.example/path", None),
        ("127.0.0.1", "user@shop.example", None),
        ("127.0.0.1", "shop.example:port", None),
        ("127.0.0.1", "", None),
    ],
)
def test_without_one_only_a_caller_on_this_machine_is_told_the_host_it_asked(
    peer: str, host: str, url: str | None
) -> None:
    assert url_of(peer, {"Host": host}) == url


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"]
)
def test_without_one_nothing_is_told_through_a_proxy(header: str) -> None:
    assert url_of("127.0.0.1", {"Host": "shop.example", header: "x"}) is None


def test_on_a_dev_chain_every_caller_is_told() -> None:
    told = url_of("172.17.0.1", {"Host": "ledger:8402"}, dev_chain=True, path_prefix="/x")

    assert told == "http://ledger:8402/x/ivxp/stream/x"


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "http://shop.example:8080",
        "https://127.0.0.1/a/b",
        "https://[2001:db8::1]:8443/ledger",
        "https://shop.example/~provider/v1.0",
    ],
)
def test_a_base_url_is_taken_as_it_is(url: str) -> None:
    assert load(public_url=url).public_url == url


@pytest.mark.parametrize(
    "url",
    [
        "shop.example",
        "//shop.example",
        "/ledger",
        "ftp://shop.example",
        "https://",
        "https:///path",
        "https://shop.example/",
        "https://shop.example/a/",
        "https://shop.example/a//b",
        "https://shop.example/a/../b",
        "https://shop.example/./b",
        "https://shop.example/a b",
        "https://shop.example?x=1",
        "https://shop.example/a#b",
        "https://user:pass@shop.example",
        "https://shop.example:99999",
        "https://shop.example:0",
        "https://[1::2::3]",
        "https://shop.example\n",
    ],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="LEDGER_PUBLIC_URL: an http or https URL is needed"):
        load(public_url=url)


def test_the_public_url_contains_the_prefix() -> None:
    assert load(path_prefix="/x", public_url="https://shop.example/a/x").path_prefix == "/x"
    for url in ("https://shop.example", "https://shop.example/y", "https://shop.example/x/y"):
        with pytest.raises(Misconfigured, match="has to end with LEDGER_PATH_PREFIX, /x"):
            load(path_prefix="/x", public_url=url)


@pytest.mark.parametrize("prefix", ["", "/x", "/agents/ledger", "/~me", "/v1.0", "/..."])
def test_a_prefix_is_a_path(prefix: str) -> None:
    assert load(path_prefix=prefix).path_prefix == prefix


@pytest.mark.parametrize(
    "prefix", ["x", "/", "/x/", "//x", "/x//y", "/..", "/x/../y", "/{x}", "/ä"]
)
def test_what_is_no_path_is_no_prefix(prefix: str) -> None:
    with pytest.raises(Misconfigured, match="LEDGER_PATH_PREFIX: a path such as /ledger"):
        load(path_prefix=prefix)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("*", ("*",)),
        ("none", ()),
        (" , ", ()),
        ("https://Hub.Example", ("https://hub.example",)),
        ("https://a.example:443, http://b.example:80", ("https://a.example", "http://b.example")),
        (
            "https://a.example:8443,http://[::1]:3000",
            ("https://a.example:8443", "http://[::1]:3000"),
        ),
    ],
)
def test_origins_are_a_list_as_browsers_write_them(text: str, origins: tuple[str, ...]) -> None:
    assert load(cors_origins=text).allowed_origins == origins


@pytest.mark.parametrize(
    "text",
    ["hub.example", "https://hub.example/", "https://*.example", "null", "https://a.example;"],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"LEDGER_CORS_ORIGINS: .* is no origin"):
        load(cors_origins=text)
