"""The command `ivxp-ledger`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer
from aiohttp import web

from api.app import make_app
from api.config import Settings, load_settings
from ledger.errors import LedgerError, Misconfigured
from scripts import listen_cli
from scripts.listening import serve_application
from scripts.witness import WitnessConfig, run_witness

main = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
config = typer.Typer(no_args_is_help=True, help="Look at the settings.")
main.add_typer(config, name="config")
main.command("listen")(listen_cli.listen)
main.add_typer(listen_cli.letters, name="dead-letters")

Text = Annotated[str | None, typer.Option()]
EXIT_MISCONFIGURED = 2


@main.callback()
def ledger() -> None:
    """Order ledger for agents that sell work to agents. Settings: LEDGER_* in the environment."""


@main.command()
def serve(  # options mirror the settings
    host: Text = None,
    port: Annotated[int | None, typer.Option()] = None,
    data_dir: Annotated[Path | None, typer.Option()] = None,
    rpc_urls: Text = None,
    network: Text = None,
    catalog: Annotated[Path | None, typer.Option()] = None,
    public_url: Text = None,
    path_prefix: Text = None,
    trusted_proxies: Text = None,
    cors_origins: Text = None,
) -> None:
    """Run the service until it is told to stop."""
    configure_logging()
    settings = _settings(
        host=host,
        port=port,
        data_dir=data_dir,
        rpc_urls=rpc_urls,
        network=network,
        catalog=catalog,
        public_url=public_url,
        path_prefix=path_prefix,
        trusted_proxies=trusted_proxies,
        cors_origins=cors_origins,
    )
    try:
        serve_application(_application(settings), settings.host, settings.port)
    except LedgerError as error:
        _fail(error)
    except OSError as error:  # the port is taken, or is not ours to take
        _fail(Misconfigured(f"LEDGER_HOST, LEDGER_PORT: {error}"))


@main.command()
def witness(
    state: Annotated[Path, typer.Option(help="The record of what was cosigned; keep it.")],
    key: Annotated[str, typer.Option(help="file:PATH or env:NAME; a missing file is made.")],
    log: Annotated[list[str], typer.Option(help="ORIGIN=VKEY of a log; may be repeated.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT")] = "127.0.0.1:8403",
    name: Annotated[str | None, typer.Option(help="Of the key; a URL without scheme.")] = None,
    new_state: Annotated[bool, typer.Option(help="Begin a record for a key that exists.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Cosign checkpoints of other logs, or of this one, until told to stop."""
    configure_logging()
    settings = WitnessConfig(
        listen=listen, state=state, key=key, logs=log, name=name, new_state=new_state
    )
    try:
        run_witness(settings)
    except LedgerError as error:
        _fail(error)
    except OSError as error:
        _fail(Misconfigured(f"--listen {listen}: {error}"))


@config.command("check")
def check() -> None:
    """Check the settings and print every problem at once."""
    settings = _settings()
    _application(settings)
    typer.echo("settings: ok")


def configure_logging() -> None:
    """Log one JSON object per line on standard error. Order ids are secrets and never logged."""
    # The server's own log quotes requests that it cannot parse, and with them order ids.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(typer.get_text_stream("stderr")),
    )


def _settings(**options: object) -> Settings:
    try:
        return load_settings(**options)
    except LedgerError as error:
        _fail(error)


def _application(settings: Settings) -> web.Application:
    try:
        return make_app(settings)
    except LedgerError as error:
        _fail(error)


def _fail(error: LedgerError) -> NoReturn:
    typer.echo(f"{error.code}: {error.message}", err=True)
    raise typer.Exit(EXIT_MISCONFIGURED)


if __name__ == "__main__":
    main()
