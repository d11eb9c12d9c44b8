"""What the gateway is to reach, as ratios within one run, and whether a run reached it.

A ratio holds on any machine and on a noisy one, because both its sides are
measured there, in turns. Only what has no counterpart is an absolute figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import OURS

if TYPE_CHECKING:
    from bench.figures import Figure, Run


@dataclass(frozen=True)
class Place:
    """Which figures a target is about; without a parameter those with the highest `at`."""

    scenario: str
    what: str
    parameter: str | None = None


@dataclass(frozen=True)
class Peer:
    """Ours as a share of one server's."""

    name: str


@dataclass(frozen=True)
class BestPeer:
    """Ours as a share of the lowest of all others'."""


@dataclass(frozen=True)
class Own:
    """Ours as a share of our own under another condition."""

    parameter: str


@dataclass(frozen=True)
class Absolute:
    """Ours as it is, in its unit."""

    unit: str


Against = Peer | BestPeer | Own | Absolute


@dataclass(frozen=True)
class Target:
    """Our figure at `place`, set against another, is to be at most `limit`."""

    place: Place
    against: Against
    limit: float

    @property
    def claim(self) -> str:
        """The target in words."""
        where = self.place.what + (f", {self.place.parameter}" if self.place.parameter else "")
        match self.against:
            case Peer(name):
                return f"{where}: share of {name}'s"
            case BestPeer():
                return f"{where}: share of the best other's"
            case Own(parameter):
                return f"{where}: share of our own with {parameter}"
            case Absolute():
                return where


@dataclass(frozen=True)
class Verdict:
    """What a run says about a target; `measured` is None where a figure is missing, and `why` says which."""

    target: Target
    measured: float | None
    why: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where that was not measured."""
        return None if self.measured is None else self.measured <= self.target.limit

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        return {True: "met", False: "not met", None: f"not measured: {self.why}"}[self.met]


_HANDSHAKE = ("handshakes", "full handshake")
_NONE, _MILLION = "no CRL", "1,000,000 entries"
_RESUMED = Place("resumed", "resumed handshake")
_IDLE = Place("idle", "memory an idle connection", "PSS")
_STORM = Place("storm", "p99 of a connected client", "during the storm")


def _lookups(entries: str, nanoseconds: float) -> list[Target]:
    places = [Place("lookup", f"lookup of a random {kind}", entries) for kind in ("hit", "miss")]
    limits = [Target(place, Absolute("ns"), nanoseconds) for place in places]
    return limits + [Target(place, BestPeer(), 1.0) for place in places]


TARGETS: tuple[Target, ...] = (
    Target(Place(*_HANDSHAKE, _NONE), Peer("haproxy"), 0.60),
    Target(Place(*_HANDSHAKE, _NONE), Peer("nginx"), 0.65),
    Target(Place(*_HANDSHAKE, _NONE), Peer("envoy"), 1.10),
    Target(Place(*_HANDSHAKE, _MILLION), Own(_NONE), 1.03),
    Target(Place(*_HANDSHAKE, _MILLION), Peer("haproxy"), 1 / 80),
    Target(Place(*_HANDSHAKE, _MILLION), Peer("envoy"), 1 / 60),
    Target(Place("answers", "full handshake, OCSP", "list and OCSP"), Own("list alone"), 1.05),
    Target(_RESUMED, Peer("haproxy"), 0.65),
    Target(_RESUMED, Peer("envoy"), 1.20),
    Target(Place("echo", "64-byte round trip", "16 connections"), BestPeer(), 0.95),
    Target(Place("echo", "64-byte round trip", "1,000 connections"), BestPeer(), 0.95),
    Target(Place("bulk", "1 MiB round trip"), BestPeer(), 0.95),
    Target(_IDLE, Peer("haproxy"), 0.60),
    Target(_IDLE, Peer("envoy"), 0.80),
    *_lookups("1,000,000 entries", 100.0),
    *_lookups("10,000,000 entries", 250.0),
    Target(Place("compile", "1,000,000 entries to a table", "DER to published"), Absolute("s"), 0.7),
    Target(Place("compile", "memory above idle", "1,000,000 entries"), Absolute("MiB"), 200.0),
    Target(_STORM, Peer("haproxy"), 0.80),
)


def judge(run: Run) -> list[Verdict]:
    """Every target against a run."""
    return [_judge(run, target) for target in TARGETS]


def _judge(run: Run, target: Target) -> Verdict:
    ours = _ours(run, target.place)
    if ours is None:
        return Verdict(target, None, "no figure of ours")
    match target.against:
        case Absolute():
            return Verdict(target, ours.value)
        case Own(parameter):
            other = run.find(ours.scenario, ours.what, OURS, parameter)
            missing = f"no figure of ours with {parameter}"
        case Peer(name):
            other = run.find(ours.scenario, ours.what, name, ours.parameter)
            missing = f"no figure of {name}"
        case BestPeer():
            others = run.peers(ours.scenario, ours.what, ours.parameter)
            other = min(others, key=lambda figure: figure.value, default=None)
            missing = "nothing to compare with"
    if other is None or not other.value:
        return Verdict(target, None, missing)
    return Verdict(target, ours.value / other.value)


def _ours(run: Run, place: Place) -> Figure | None:
    found = [figure for figure in run.select(place.scenario, place.what) if figure.server == OURS]
    if place.parameter is None:
        return max(found, key=lambda figure: figure.at or 0.0, default=None)
    return next((figure for figure in found if figure.parameter == place.parameter), None)
