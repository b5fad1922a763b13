"""The options of `ivxp-ledger listen` and `ivxp-ledger dead-letters`.

What they do is imported when they run: the service starts without the libraries of wallets.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import orjson
import typer

from ledger.errors import LedgerError, Misconfigured
from ledger.signing import load_secret
from scripts.dead_letters import DeadLetters

if TYPE_CHECKING:
    from scripts.listen import ListenConfig, Target

EXIT_MISCONFIGURED: Final = 2
EXIT_LEFT: Final = 1
"""Dead letters are left after a replay."""

Text = Annotated[str | None, typer.Option()]
State = Annotated[Path, typer.Option(help="The file with the dead letters.")]
SecretEnv = Annotated[str, typer.Option(help="Name of the variable with whsec_<base64>.")]
Private = Annotated[bool, typer.Option(help="Let http and addresses of this machine be called.")]

letters = typer.Typer(no_args_is_help=True, help="Events that an endpoint never took.")


def listen(
    url: Annotated[str, typer.Option(help="The service.")],
    cursor: Annotated[str, typer.Option(help="The reader's name; its place is kept under it.")],
    party: Annotated[
        str | None, typer.Option(help="Whose feed; the wallet's own if left out.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="The wallet's key, as a file.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Or the variable that holds it.")] = None,
    types: Annotated[str | None, typer.Option(help="Only these, with commas between.")] = None,
    start: Annotated[
        str, typer.Option(help="earliest, latest, a position or a time.")
    ] = "earliest",
    lease_seconds: Annotated[float, typer.Option(help="How long a hand-out is ours.")] = 30.0,
    provider: Annotated[
        str | None, typer.Option(help="The wallet that has to have signed.")
    ] = None,
    forward: Annotated[str | None, typer.Option(help="Post each event to this URL.")] = None,
    secret_env: Annotated[str | None, typer.Option(help="Variable with whsec_<base64>.")] = None,
    state: Annotated[Path | None, typer.Option(help="File for what the URL never takes.")] = None,
    schedule: Annotated[str, typer.Option(help="Seconds before each attempt.")] = "0,5,30,120,600",
    allow_private: Private = False,  # noqa: FBT002 - a flag
    once: Annotated[bool, typer.Option(help="End once everything is printed.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Print a feed, one JSON line per event, and never miss one; post each on with --forward."""
    from api.client.cursor import CursorOptions  # noqa: PLC0415 - see the module's words
    from api.client.event import Pins  # noqa: PLC0415 - likewise
    from scripts.listen import ListenConfig  # noqa: PLC0415 - likewise

    try:
        options = CursorOptions(
            start=int(start) if start.isdigit() else start,
            types=tuple(types.split(",")) if types else None,
            lease_seconds=lease_seconds,
            # Whatever fails again and again, nothing is put aside: this misses no event.
            on_poison="block",
        )
        config = ListenConfig(
            url=url,
            cursor=cursor,
            secret_key=_key(key_file, key_env),
            party=party,
            options=options,
            pins=Pins.of(provider) if provider else Pins(),
            target=_target(forward, secret_env, state, schedule, allow_private=allow_private),
            once=once,
        )
        code = _run(config)
    except (LedgerError, ValueError) as error:
        _fail(error)
    raise typer.Exit(code)


@letters.command("list")
def show(state: State) -> None:
    """Print the dead letters, oldest first, one JSON line each."""
    _require_file(state)
    with DeadLetters(state) as kept:
        for letter in kept.all():
            shown = {name: getattr(letter, name) for name in letter.__slots__ if name != "body"}
            typer.echo(orjson.dumps(shown).decode())


@letters.command("replay")
def replay(
    state: State,
    secret_env: SecretEnv,
    event: Annotated[str, typer.Option(help="Only the event with this id.")] = "",
    forward: Annotated[str, typer.Option(help="To this URL, not where they were meant for.")] = "",
    allow_private: Private = False,  # noqa: FBT002 - a flag
) -> None:
    """Post the dead letters once more, each with the id it had; the ones taken leave the list."""
    from scripts.listen import Target  # noqa: PLC0415 - see the module's words
    from scripts.listen import replay as post_again  # noqa: PLC0415 - likewise

    try:
        target = Target(forward, _environment(secret_env), state, allow_private=allow_private)
        found = post_again(target, event)
    except LedgerError as error:
        _fail(error)
    for letter, outcome in found:
        typer.echo(
            orjson.dumps({"event_id": letter.event_id, "outcome": outcome or "taken"}).decode()
        )
    if any(outcome for _, outcome in found):
        raise typer.Exit(EXIT_LEFT)


def _run(config: ListenConfig) -> int:
    from scripts.listen import listen as run  # noqa: PLC0415 - see the module's words

    return run(config)


def _target(
    url: str | None,
    secret_env: str | None,
    state: Path | None,
    schedule: str,
    *,
    allow_private: bool,
) -> Target | None:
    from scripts.listen import Target  # noqa: PLC0415 - see the module's words

    if url is None:
        return None
    if secret_env is None or state is None:
        raise Misconfigured("--forward needs --secret-env and --state")
    try:
        waits = tuple(float(each) for each in schedule.split(","))
    except ValueError as error:
        raise Misconfigured("--schedule: seconds with commas between") from error
    if min(waits) < 0:
        raise Misconfigured("--schedule: no seconds below zero")
    return Target(url, _environment(secret_env), state, allow_private, waits)


def _key(file: Path | None, variable: str | None) -> bytes:
    if (file is None) is (variable is None):
        raise Misconfigured("one of --key-file and --key-env is needed")
    if file is not None and not file.exists():
        raise Misconfigured(f"--key-file {file}: there is no such file")
    return load_secret(f"file:{file}" if file is not None else f"env:{variable}")


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise Misconfigured(f"the variable {name} is not set")
    return value


def _require_file(state: Path) -> None:
    if not state.exists():
        _fail(Misconfigured(f"--state {state}: there is no such file"))


def _fail(error: LedgerError | ValueError) -> NoReturn:
    text = f"{error.code}: {error.message}" if isinstance(error, LedgerError) else str(error)
    typer.echo(text, err=True)
    raise typer.Exit(EXIT_MISCONFIGURED)
