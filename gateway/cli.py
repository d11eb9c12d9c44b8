"""The command line. Every error that is ours is one line on standard error and exit code 1."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway import __version__, cli_live, log
from gateway.config import dump, load
from gateway.config.values import one_line
from gateway.errors import ConfigError, GatewayError
from gateway.privileges import identity

if TYPE_CHECKING:
    from gateway.privileges import Identity

# Whether it can be read is said by whoever reads it, in one line like all else.
_FILE = click.Path(path_type=Path)


def _hidden_from(user: Identity | None) -> list[str]:
    """A line where whom the other processes become cannot read what they are made of."""
    # Of the interpreter's library, of packages that were installed, and of our own.
    modules = map(Path, (os.__file__, click.__file__, __file__))
    hidden = user.cannot_read(modules) if user is not None else None
    if user is None or hidden is None:
        return []
    what = f'"{user.user}" cannot read {hidden}, as its processes may have to: they can crash'
    return [f"user: {what}; install Python and the package where that user can read them"]


class _Commands(click.Group):
    """Turns the errors of the gateway into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except GatewayError as exc:
            click.echo(f"tls-gateway: {exc}", err=True)
            ctx.exit(1)


def _config_options(command: click.decorators.FC) -> click.decorators.FC:
    state = click.option(
        "--state-dir",
        type=_FILE,
        help="Overrides state_dir or node.data_dir.",
    )
    config = click.option(
        "--config",
        "path",
        type=_FILE,
        required=True,
        help="A .toml file, or a .conf file with EMQX 4.4 keys.",
    )
    return config(state(command))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tls-gateway")
def main() -> None:
    """A TLS front door for brokers: revoked clients stay out, OCSP responses are stapled."""


@main.command()
@_config_options
def serve(path: Path, state_dir: Path | None) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    # Only here and in check: the other commands do without OpenSSL and the extension.
    from gateway import reading  # noqa: PLC0415
    from gateway.supervisor import Supervisor  # noqa: PLC0415

    # Whoever rotates logs may be earlier than we are.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    found = reading.read(path, state_dir)
    try:
        user = identity(found.config.user, found.config.group)
        log.configure(found.config.log, user)
        logger = log.get_logger(process="supervisor")
        for warning in (*found.warnings, *_hidden_from(user)):
            logger.warning("configuration", file=path, warning=warning)
        supervisor = Supervisor(
            found, partial(reading.read, path, state_dir), partial(reading.watched, path, state_dir)
        )
    except ConfigError as exc:
        raise ConfigError(f"{one_line(str(path))}: {exc}") from exc
    except OSError as exc:
        # What `check` cannot know: a file where a directory of ours should be, a full disk, too many sockets.
        raise GatewayError(f"{one_line(str(path))}: cannot start: {one_line(str(exc))}") from exc
    sys.exit(supervisor.run())


@main.command()
@_config_options
@click.option(
    "--client",
    type=_FILE,
    help="A client's certificate (PEM, CAs behind it): tell from the stored lists what becomes of it.",
)
@click.option("--listener", help="With --client: the one listener to ask about.")
def check(path: Path, state_dir: Path | None, client: Path | None, listener: str | None) -> None:
    """Find all that can be known of a configuration without listening; exit code 0 or 1.

    With --client it is 0 when every listener that is asked about would let the client in.
    """
    from gateway import reading  # noqa: PLC0415 - as above
    from gateway.stapling import stored  # noqa: PLC0415 - as above
    from gateway.store import StateStore  # noqa: PLC0415 - as above
    from gateway.tls.context import make_contexts  # noqa: PLC0415 - as above

    config, materials, warnings = reading.read(path, state_dir)
    try:
        make_contexts(config.listeners, materials)
    except ConfigError as exc:
        raise ConfigError(f"{one_line(str(path))}: {exc}") from exc
    for warning in warnings:
        click.echo(f"{path}: warning: {warning}", err=True)
    kept = StateStore(config.state_dir)
    for remark in stored.remarks(config.listeners, materials, kept.load_staple, now=int(time.time())):
        click.echo(f"{path}: {'warning' if remark.warning else 'note'}: {remark.text}", err=remark.warning)
    if client is not None:
        from gateway import offline  # noqa: PLC0415 - as above

        answer = offline.ask(config, materials, client, listener=listener)
        for line in answer.lines:
            click.echo(line)
        sys.exit(0 if answer.let_in else 1)
    names = ", ".join(listener.name for listener in config.listeners)
    click.echo(f"{path}: good; listeners: {names}")


@main.command()
@click.argument("path", type=_FILE)
def convert(path: Path) -> None:
    """Print the TOML that behaves like an EMQX 4.4 .conf file."""
    loaded = load.load(path)
    click.echo(dump.to_toml(loaded.config, loaded.warnings), nl=False)


@main.command()
@click.argument("path", type=_FILE)
@click.option(
    "--entries",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many revoked serials to list; 0 for all.",
)
def inspect(path: Path, entries: int) -> None:
    """Tell people what is in a CRL, a revocation table or an OCSP response."""
    from gateway.inspection import describe  # noqa: PLC0415 - as above

    try:
        data = path.read_bytes()
    except OSError as exc:
        raise GatewayError(f"{one_line(str(path))}: cannot be read: {exc.strerror}") from exc
    try:
        for line in describe(data, limit=entries or None):
            click.echo(line)
    except GatewayError as exc:
        raise GatewayError(f"{one_line(str(path))}: {exc}") from exc


@main.command()
@click.option("--once", is_flag=True, help="Exit when the story is told: 0 if every step did what it should.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8883,
    show_default=True,
    help="Where the gateway listens.",
)
def demo(*, once: bool, port: int) -> None:
    """Own CA, CRL server, OCSP responder, small broker, gateway: see it work in a minute."""
    try:
        from gateway.demo import run  # noqa: PLC0415 - as above
    except ModuleNotFoundError as exc:
        raise GatewayError(
            f"the demonstration needs {exc.name}: install tls-gateway[demo], or use make run"
        ) from exc
    sys.exit(run(once=once, port=port))


for _command in cli_live.COMMANDS:
    main.add_command(_command)
