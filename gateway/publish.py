"""What control tells the workers, and what they tell it, over a Unix socket.

Frames are a 4-byte big-endian length and a msgpack-encoded `Update` or `Answered`
(control to worker), `Sighting` or `Question` (worker to control). A worker that connects gets the whole
current state as its first update, then each change. Either side may die at any
time: a worker goes on with what it has and connects again; control forgets it.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec
import trio

from gateway.errors import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping
    from pathlib import Path

STOP = signal.SIGUSR2
"""What the supervisor sends to a child that shall finish and end."""
HAND_OVER = signal.SIGRTMAX
"""What it sends to a worker that shall accept no more, since others do, and end with its last connection."""
SOCKET_NAME = "control.sock"
_LENGTH = 4
# A frame is paths and OCSP responses: 2,000 lists and 100 staples stay below 1 MiB.
_MAX_FRAME = 16 << 20
_CHUNK = 1 << 16


class Staple(msgspec.Struct, frozen=True):
    """A verified OCSP response (DER) and when to stop stapling it (seconds since 1970)."""

    der: bytes
    expires: int


class Cover(msgspec.Struct, frozen=True):
    """For whose certificates a table speaks, as `native.Cover` has it, with the paths of the tables.

    `issuers` are names and keys (DER); `points` is empty for a list of all points.
    """

    table: str
    delta: str | None
    issuers: tuple[tuple[bytes, bytes], ...]
    crl_issuer: int
    points: tuple[int, ...]
    reasons: int
    subjects: int
    this_update: int
    next_update: int


class Update(msgspec.Struct, frozen=True, tag=True):
    """Covers by a digest of what they say, staples by fingerprint of their certificate; None takes one away.

    `whole` says that this is all there is, `ready` that every list and staple is
    there or its first fetch has been tried. `cas` are CAs (DER) that clients have
    brought along, by digest: resumed sessions of theirs are looked up below them.
    `held` are the names of listeners that must not begin to accept yet. `brokers` is
    whether one is up, by `broker_key`: what health checks have found. `looks` grows
    whenever live connections are to be looked up again in the shared answers. `generation`
    is the number of the configuration that this control process has.
    """

    whole: bool
    ready: bool
    generation: int = 0
    covers: dict[str, Cover | None] = {}
    staples: dict[str, Staple | None] = {}
    cas: dict[str, bytes | None] = {}
    held: dict[str, bool | None] = {}
    brokers: dict[str, bool | None] = {}
    looks: int = 0


class Answered(msgspec.Struct, frozen=True, tag=True):
    """These `Question`s of the worker are settled: what can be known is in the shared answers."""

    numbers: tuple[int, ...]


class Refusal(msgspec.Struct, frozen=True):
    """A client that was refused, or disconnected: when (seconds since 1970), who, why, as the log has it."""

    at: float
    event: str
    listener: str
    peer: str
    reason: str
    subject: str = ""
    issuer: str = ""
    serial: str = ""
    tls: str = ""
    resumed: bool = False


class Sighting(msgspec.Struct, frozen=True, tag=True):
    """Of a verified client that no list covers: its certificates' distribution points, its CAs (DER).

    The CAs are those that the listener does not have (RFC 5280, section 4.2.1.13). Or
    of clients that were refused: the last ones, not all of a storm. `applied` says how
    many updates of this connection are in force, all of what they say.
    """

    urls: tuple[str, ...] = ()
    cas: tuple[bytes, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    applied: int = 0


def broker_key(listener: str, address: str) -> str:
    """A broker of a listener, in `Update.brokers`."""
    return f"{listener} {address}"


class Question(msgspec.Struct, frozen=True, tag=True):
    """What responders say of a verified client is wanted.

    `listener` is the listener's name; `chain` has the client's certificate (DER) and,
    where they are at hand, those above it as they were verified. `applied` is as
    `Sighting` has it.
    """

    number: int
    listener: str
    chain: tuple[bytes, ...]
    applied: int = 0


ToWorker: TypeAlias = Update | Answered
ToControl: TypeAlias = Sighting | Question
FROM_CONTROL: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
FROM_WORKER: msgspec.msgpack.Decoder[ToControl] = msgspec.msgpack.Decoder(ToControl)

Message = TypeVar("Message")
Value = TypeVar("Value")


def merge(state: Update, change: Update) -> Update:
    """The state after `change`.

    A whole state that is not ready takes nothing away: it is of a control process
    that has just been started again and has not looked at everything yet.
    """
    if change.whole and change.ready:
        return change
    return Update(
        whole=True,
        ready=change.ready,
        generation=change.generation,
        covers=_merged(state.covers, change.covers),
        staples=_merged(state.staples, change.staples),
        cas=_merged(state.cas, change.cas),
        held=_merged(state.held, change.held),
        brokers=_merged(state.brokers, change.brokers),
        looks=max(state.looks, change.looks),
    )


def beside(told: Update, own: Update) -> Update:
    """The state of a worker to which a control process of another configuration has `told` so much.

    That says nothing of certificates and CAs that only the worker's own configuration has: of
    these stays what one of its own told last, until it expires.
    """
    known = {issuer for cover in told.covers.values() if cover is not None for issuer in cover.issuers}
    covers = {key: cover for key, cover in own.covers.items() if cover and known.isdisjoint(cover.issuers)}
    return msgspec.structs.replace(
        told,
        covers={**covers, **told.covers},
        staples={**own.staples, **told.staples},
        cas={**own.cas, **told.cas},
        looks=max(own.looks, told.looks),
    )


def difference(told: Update, current: Update) -> Update:
    """The change that makes `current` of `told`, both whole states."""
    return Update(
        whole=False,
        ready=current.ready,
        generation=current.generation,
        covers=_difference(told.covers, current.covers),
        staples=_difference(told.staples, current.staples),
        cas=_difference(told.cas, current.cas),
        held=_difference(told.held, current.held),
        brokers=_difference(told.brokers, current.brokers),
        looks=current.looks,
    )


def _merged(state: Mapping[str, Value | None], change: Mapping[str, Value | None]) -> dict[str, Value | None]:
    return {key: value for key, value in {**state, **change}.items() if value is not None}


def _difference(
    told: Mapping[str, Value | None], current: Mapping[str, Value | None]
) -> dict[str, Value | None]:
    gone: dict[str, Value | None] = dict.fromkeys(told.keys() - current.keys())
    return gone | {key: value for key, value in current.items() if told.get(key) != value}


class Link:
    """One worker's connection: the versions that were sent to it, and the last one that is in force there."""

    def __init__(self, audience: Audience) -> None:
        self.in_force = 0
        self._audience = audience
        self._sent: deque[int] = deque()
        self._applied = 0

    def send(self, version: int) -> None:
        """An update that brings it to this version is on its way."""
        self._sent.append(version)

    def hear(self, applied: int) -> None:
        """So many updates have been put in force."""
        while self._sent and self._applied < applied:
            self.in_force = self._sent.popleft()
            self._applied += 1
        self._audience.stir()


class Audience:
    """All workers, and what is in force in them. Versions are numbers that grow from 1."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._links: set[Link] = set()
        self._stirred = trio.Event()

    @contextmanager
    def link(self) -> Iterator[Link]:
        """A worker that is connected for as long as this lasts."""
        link = Link(self)
        self._links.add(link)
        try:
            yield link
        finally:
            self._links.discard(link)

    def stir(self) -> None:
        """Something has changed."""
        stirred, self._stirred = self._stirred, trio.Event()
        stirred.set()

    async def late(self, version: int, seconds: float) -> int:
        """How many workers do not have this version, or a later one, in force; waits for them so long."""
        with trio.move_on_after(seconds):
            while self._late(version):
                await self._stirred.wait()
        return self._late(version)

    def _late(self, version: int) -> int:
        # More may be connected than there are in this configuration: those before a reload, which drain.
        absent = max(0, self._workers - len(self._links))
        return absent + sum(link.in_force < version for link in self._links)


def bind(directory: Path, name: str = SOCKET_NAME) -> socket.socket:
    """Bind a socket in `directory`; only its owner may connect. Blocking, for the supervisor."""
    path = directory / name
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o177)
    try:
        with short(directory) as base:
            listener.bind(f"{base}/{name}")
    finally:
        os.umask(old_mask)
    listener.listen(128)
    listener.setblocking(False)  # noqa: FBT003 - the library's own signature
    return listener


async def connect(directory: Path) -> trio.SocketStream:
    """Connect to the control socket in `directory`; raises OSError when nobody is there."""
    connection = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        with short(directory) as base:
            await connection.connect(f"{base}/{SOCKET_NAME}")
    except BaseException:
        connection.close()
        raise
    return trio.SocketStream(connection)


async def send(stream: trio.abc.SendStream, message: ToWorker | ToControl) -> None:
    """Send one frame."""
    payload = msgspec.msgpack.encode(message)
    await stream.send_all(len(payload).to_bytes(_LENGTH) + payload)


async def receive(
    stream: trio.abc.ReceiveStream, decoder: msgspec.msgpack.Decoder[Message]
) -> AsyncGenerator[Message, None]:
    """Yield messages until the other side closes or sends what is none (then it is as good as gone)."""
    buffer = bytearray()
    while chunk := await stream.receive_some(_CHUNK):
        buffer += chunk
        while len(buffer) >= _LENGTH:
            end = _LENGTH + int.from_bytes(buffer[:_LENGTH])
            if end > _MAX_FRAME:
                return
            if len(buffer) < end:
                break
            try:
                message = decoder.decode(bytes(buffer[_LENGTH:end]))
            except UNREADABLE:
                return
            del buffer[:end]
            yield message


class short:  # noqa: N801 - used like a function
    """A path for `directory` that fits into a socket address, however long the real one is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> str:
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_exc: object) -> None:
        os.close(self._fd)
