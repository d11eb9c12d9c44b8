"""What an operator asks of the running gateway, over a Unix socket that only the gateway's own user may use.

One request and one answer a connection, each a 4-byte big-endian length and
msgpack: a `Command` there, an `Answer` back. The kernel says who is asking; nobody
but the gateway's user and root is answered.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec
import trio

from gateway.errors import UNREADABLE, GatewayError
from gateway.publish import short

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

SOCKET_NAME = "command.sock"
_LENGTH = 4
_MAX_COMMAND = 1 << 16
# A list of a hundred thousand revocations in text and JSON.
_MAX_ANSWER = 64 << 20
# Seconds for a request to come and for an answer to go; what is asked for takes its own time.
_TALK = 5.0
_MOST_AT_ONCE = 32
# Those who wait for one of these to end; who comes then is told so at once.
_MOST_WAITING = 128
_CREDENTIALS = struct.Struct("3i")


class Refresh(msgspec.Struct, frozen=True, tag=True):
    """Ask a source now; None is all of them."""

    url: str | None


class Revoke(msgspec.Struct, frozen=True, tag=True):
    """Revoke a certificate: its issuer's Name (DER), its serial in hexadecimal, why."""

    issuer: bytes
    # No integer: msgpack's end at 64 bits.
    serial: str
    reason: str
    note: str


class Unrevoke(msgspec.Struct, frozen=True, tag=True):
    """Take back a `Revoke`."""

    issuer: bytes
    serial: str


class ListRevoked(msgspec.Struct, frozen=True, tag=True):
    """Tell what is revoked here."""


class Status(msgspec.Struct, frozen=True, tag=True):
    """Tell how the sources are."""


class Reload(msgspec.Struct, frozen=True, tag=True):
    """Read the configuration anew, and take it if it is good."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Let nobody in any more, and end when those who are in have gone, or their time is up."""


Command: TypeAlias = Refresh | Revoke | Unrevoke | ListRevoked | Status | Reload | Drain
_DECODER: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


class Answer(msgspec.Struct, frozen=True):
    """What came of it: lines for people, and JSON for machines where there is more to say."""

    ok: bool
    lines: tuple[str, ...]
    data: bytes = b""


class Handler(Protocol):
    """Who does what is asked."""

    async def handle(self, command: Command, by: str) -> Answer:
        """Do it for `by`, a person's name; a GatewayError is told as a failure."""


def ask(state_dir: Path, command: Command, timeout: float = 30.0) -> Answer:
    """Ask the gateway that runs in `state_dir`. Blocking, at most `timeout` seconds.

    Raises:
        GatewayError: none runs there, or not for this user, or it does not answer.
    """
    deadline = time.monotonic() + timeout
    path = state_dir / "run" / SOCKET_NAME
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            request = _frame(command)
            if len(request) > _MAX_COMMAND:
                got = f"{_MAX_COMMAND} octets, got {len(request)}"
                raise GatewayError(f"expected a request of at most {got}; nothing is done")
            with short(path.parent) as base:
                connection.connect(f"{base}/{SOCKET_NAME}")
            # Whoever is one too many has its answer before it has asked.
            with suppress(BrokenPipeError):
                connection.sendall(request)
            length = int.from_bytes(_receive(connection, _LENGTH, deadline))
            if length > _MAX_ANSWER:
                raise GatewayError(
                    f"{path}: expected an answer, got what is none; another version runs there"
                )
            return msgspec.msgpack.decode(_receive(connection, length, deadline), type=Answer)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as exc:
        raise GatewayError(
            f"{path}: expected a running gateway, but nobody is there; nothing is done"
        ) from exc
    except PermissionError as exc:
        raise GatewayError(f"{path}: only the gateway's own user and root may ask; nothing is done") from exc
    except BlockingIOError as exc:
        # A Unix socket does not wait for room in the other one's queue.
        raise GatewayError(f"{path}: too many ask at once; nothing is done") from exc
    except TimeoutError as exc:
        raise GatewayError(
            f"{path}: no answer within {timeout:g} s; what was asked for may still be done"
        ) from exc
    except (OSError, EOFError) as exc:
        raise GatewayError(f"{path}: the gateway hung up without an answer; its log says why") from exc
    except UNREADABLE as exc:
        raise GatewayError(
            f"{path}: expected an answer, got what is none; another version runs there"
        ) from exc


async def serve(
    listening: socket.socket, handler: Handler, log: FilteringBoundLogger, *, most: int = _MOST_AT_ONCE
) -> None:
    """Answer until cancelled; `listening` is of `publish.bind`."""
    limiter = trio.CapacityLimiter(most)

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            if limiter.statistics().tasks_waiting >= _MOST_WAITING:
                await _send(stream, Answer(ok=False, lines=("too many ask at once; nothing is done",)))
                return
            async with limiter:
                await _converse(stream, handler, log)

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    await trio.serve_listeners(answer, [listener])


async def _converse(stream: trio.SocketStream, handler: Handler, log: FilteringBoundLogger) -> None:
    uid = peer(stream)
    if uid not in (os.geteuid(), 0):
        log.warning("command refused", by=_name(uid), reason="not the gateway's own user")
        return
    command = None
    with trio.move_on_after(_TALK):
        command = await _hear(stream)
    if command is None:
        log.warning("command refused", by=_name(uid), reason="expected one request, got none or nonsense")
        return
    try:
        answer = await handler.handle(command, _name(uid))
    except GatewayError as exc:
        answer = Answer(ok=False, lines=(str(exc),))
    if not await _send(stream, answer):
        log.warning("answer not taken", by=_name(uid), command=type(command).__name__)


async def _send(stream: trio.SocketStream, answer: Answer) -> bool:
    """Whether it was taken in time, or nobody waits for it any more."""
    frame = _frame(answer)
    if len(frame) > _MAX_ANSWER:
        frame = _frame(
            Answer(ok=False, lines=(f"the answer has {len(frame) >> 20} MiB: more than can be told",))
        )
    with trio.move_on_after(_TALK) as scope, suppress(trio.BrokenResourceError):
        await stream.send_all(frame)
    return not scope.cancelled_caught


async def _hear(stream: trio.SocketStream) -> Command | None:
    """The one request, or None where there is none that makes sense."""
    data = bytearray()
    wanted = _LENGTH
    try:
        while len(data) < wanted:
            chunk = await stream.receive_some(wanted - len(data))
            if not chunk:
                return None
            data += chunk
            if len(data) == wanted == _LENGTH:
                wanted += int.from_bytes(data)
                if wanted > _MAX_COMMAND:
                    return None
        return _DECODER.decode(data[_LENGTH:])
    except (trio.BrokenResourceError, *UNREADABLE):
        return None


def peer(stream: trio.SocketStream) -> int:
    """The user id of who connected, as the kernel has it."""
    octets = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(octets)
    return int(uid)


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _frame(message: Command | Answer) -> bytes:
    payload = msgspec.msgpack.encode(message)
    return len(payload).to_bytes(_LENGTH) + payload


def _receive(connection: socket.socket, count: int, deadline: float) -> bytes:
    """Just `count` bytes; raises EOFError, TimeoutError."""
    data = bytearray()
    while len(data) < count:
        # Zero would mean not to block.
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)
