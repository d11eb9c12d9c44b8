"""The commands that ask the running gateway: revoke, unrevoke, revoked, refresh, reload, drain, status."""

from __future__ import annotations

import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import msgspec
from cryptography import x509

from gateway import commands, names
from gateway.config import load
from gateway.config.values import one_line
from gateway.errors import GatewayError
from gateway.revocation.local import REASONS

_FILE = click.Path(path_type=Path)
# As long as `operations` waits for a source, and a little more.
_REFRESH_TIMEOUT = 150.0


def _gateway_options(command: click.decorators.FC) -> click.decorators.FC:
    state = click.option("--state-dir", type=_FILE, help="The gateway's state_dir.")
    config = click.option("--config", "path", type=_FILE, help="Its configuration, instead.")
    return config(state(command))


def _certificate_options(command: click.decorators.FC) -> click.decorators.FC:
    cert = click.option("--cert", type=_FILE, help="The certificate, in PEM or DER.")
    issuer = click.option("--issuer", type=_FILE, help="Without it: the certificate of its CA …")
    serial = click.option("--serial", help="… and its serial number, in hexadecimal.")
    return cert(issuer(serial(command)))


# As gateway/status_text.py writes it.
_WRONG = re.compile(r"^not ready:|NOT READY|\b(?:DOWN|EXPIRED|MISSING|REVOKED|GIVEN UP)\b|^ +failed ")
# Seconds between two looks of `status --watch`.
_EVERY = 2.0

_json = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.command()
@_gateway_options
@_certificate_options
@click.option("--reason", type=click.Choice(tuple(REASONS)), default="unspecified", show_default=True)
@click.option("--note", default="", help="For whoever asks later why.")
def revoke(
    path: Path | None,
    state_dir: Path | None,
    cert: Path | None,
    issuer: Path | None,
    serial: str | None,
    reason: str,
    note: str,
) -> None:
    """Revoke a certificate here and now, before its CA publishes it."""
    name, number = _certificate(cert, issuer, serial)
    _tell(commands.ask(_state_dir(path, state_dir), commands.Revoke(name, f"{number:x}", reason, note)))


@click.command()
@_gateway_options
@_certificate_options
def unrevoke(
    path: Path | None, state_dir: Path | None, cert: Path | None, issuer: Path | None, serial: str | None
) -> None:
    """Take back a `revoke`; what a CA's list revokes stays revoked."""
    name, number = _certificate(cert, issuer, serial)
    _tell(commands.ask(_state_dir(path, state_dir), commands.Unrevoke(name, f"{number:x}")))


@click.command()
@_gateway_options
@_json
def revoked(path: Path | None, state_dir: Path | None, *, as_json: bool) -> None:
    """List what was revoked here: what, why, when, by whom."""
    _tell(commands.ask(_state_dir(path, state_dir), commands.ListRevoked()), as_json=as_json)


@click.command()
@_gateway_options
@click.argument("url", required=False)
def refresh(path: Path | None, state_dir: Path | None, url: str | None) -> None:
    """Fetch a list or staple now, or all of them, and wait for what comes of it."""
    _tell(commands.ask(_state_dir(path, state_dir), commands.Refresh(url), _REFRESH_TIMEOUT))


@click.command()
@_gateway_options
@_json
@click.option("--watch", is_flag=True, help="Again every two seconds, until Ctrl-C.")
def status(path: Path | None, state_dir: Path | None, *, as_json: bool, watch: bool) -> None:
    """Tell how the gateway is: whether it is ready, its clients, lists, staples and certificates."""
    directory = _state_dir(path, state_dir)
    if watch:
        _watch(directory, as_json=as_json)
    else:
        _tell(commands.ask(directory, commands.Status()), as_json=as_json)


@click.command()
@_gateway_options
def reload(path: Path | None, state_dir: Path | None) -> None:
    """Have the gateway take its configuration anew; a bad one is refused, and nothing changes."""
    _tell(commands.ask(_state_dir(path, state_dir), commands.Reload()))


@click.command()
@_gateway_options
def drain(path: Path | None, state_dir: Path | None) -> None:
    """Have the gateway let nobody in any more, and end when the last client has gone."""
    _tell(commands.ask(_state_dir(path, state_dir), commands.Drain()))


COMMANDS = (revoke, unrevoke, revoked, refresh, reload, drain, status)


class _Seen(msgspec.Struct):
    """What two looks at the status are compared by."""

    now: float
    totals: dict[str, int]


def _watch(directory: Path, *, as_json: bool) -> None:
    """Tell it again and again, with rates; a control process that is being started again is waited for."""
    before: _Seen | None = None
    with suppress(KeyboardInterrupt):
        while True:
            try:
                answer = commands.ask(directory, commands.Status())
                lines = [answer.data.decode()] if as_json else list(answer.lines)
                seen = msgspec.json.decode(answer.data, type=_Seen)
                if before is not None and not as_json:
                    lines.insert(1, _rates(before, seen))
                before = seen
            except GatewayError as exc:
                if before is None:
                    raise
                lines = [f"tls-gateway: {exc}"]
            if as_json:
                click.echo(lines[0])
            else:
                click.clear()
                for line in _fitting(lines):
                    click.echo(_painted(line))
            time.sleep(_EVERY)


def _fitting(lines: list[str]) -> list[str]:
    """What fits on the terminal: its end would push its beginning out."""
    rows = shutil.get_terminal_size().lines - 1
    if not sys.stdout.isatty() or len(lines) <= rows:
        return lines
    return [*lines[: rows - 1], f"… {len(lines) - rows + 1} lines more; without --watch all of them"]


def _painted(line: str) -> str:
    """For a terminal: what is wrong is red, what may become so yellow, headings are bold."""
    text = one_line(line)
    if line.isupper():
        return click.style(text, bold=True)
    if line.startswith("warning:"):
        return click.style(text, fg="yellow")
    return click.style(text, fg="red") if _WRONG.search(line) else text


def _rates(before: _Seen, after: _Seen) -> str:
    seconds = max(0.001, after.now - before.now)

    def rate(*names: str) -> float:
        # A gateway that was started again counts from 0.
        return max(0, sum(after.totals[name] - before.totals[name] for name in names)) / seconds

    refused = rate("refused_revoked", "refused_no_list", "refused_stale", "refused_no_answer")
    kib = [rate(name) / 1024 for name in ("bytes_in", "bytes_out")]
    return (
        f"per second: {rate('handshakes'):.1f} handshakes, {refused:.1f} refused, "
        f"{kib[0]:.1f} KiB in, {kib[1]:.1f} KiB out"
    )


def _tell(answer: commands.Answer, *, as_json: bool = False) -> None:
    if not answer.ok:
        for line in answer.lines:
            click.echo(f"tls-gateway: {one_line(line)}", err=True)
        raise click.exceptions.Exit(1)
    if as_json:
        click.echo(answer.data.decode())
        return
    for line in answer.lines:
        click.echo(_painted(line), err=line.startswith("warning:"))


def _state_dir(path: Path | None, state_dir: Path | None) -> Path:
    if state_dir is not None:
        return state_dir
    if path is None:
        raise GatewayError("expected --config or --state-dir, to know which gateway; nothing is done")
    return load.load(path).config.state_dir


def _certificate(cert: Path | None, issuer: Path | None, serial: str | None) -> tuple[bytes, int]:
    """The issuer's Name (DER) and the serial number that are meant."""
    if cert is not None and issuer is None and serial is None:
        certificate = _load(cert)
        return names.issuer_name_der(certificate), certificate.serial_number
    if cert is None and issuer is not None and serial is not None:
        return names.issuer_id(_load(issuer)).name, _serial(serial)
    raise GatewayError("expected either --cert, or --issuer and --serial; nothing is done")


def _serial(text: str) -> int:
    try:
        return names.parse_serial(text)
    except ValueError as exc:
        raise GatewayError(f'--serial: {exc}, got "{one_line(text[:80])}"; nothing is done') from exc


def _load(path: Path) -> x509.Certificate:
    file = one_line(str(path))
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise GatewayError(f"{file}: cannot be read: {exc.strerror}; nothing is done") from exc
    load_one = x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate
    try:
        return load_one(data)
    except ValueError as exc:
        raise GatewayError(f"{file}: expected a certificate in PEM or DER; nothing is done") from exc
