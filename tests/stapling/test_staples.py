"""Which server certificates are asked about, and what an operator is told of their staples."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
from cryptography.x509 import OCSPNoCheck, ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from structlog.testing import capture_logs

from gateway.config.certificates import ServerCertificate
from gateway.config.model import Address, Certificate, Listener, Stapling
from gateway.fetch import Fetched
from gateway.log import get_logger
from gateway.names import fingerprint
from gateway.schedule import Limits
from gateway.stapling.staples import Staples
from gateway.store import StateStore
from tests.authority import DAY, NOW, Authority

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cryptography import x509
    from trio.testing import MockClock

    from gateway.publish import Staple
    from gateway.stapling.refresh import StapleRefresher
    from gateway.stapling.response import VerifiedResponse
    from tests.authority import Credential

CA = Authority.root("Test CA")
URL = "http://ocsp.example/"
ON = Stapling(enabled=True)


class Place:
    """Listeners whose responder is this very object; it says good of each certificate, but for `statuses`."""

    def __init__(self, directory: Path) -> None:
        self.store = StateStore(directory)
        self.store.prepare()
        self.listeners: list[Listener] = []
        self.materials: list[Any] = []
        self.statuses: dict[int, ocsp.OCSPCertStatus] = {}
        self.asked: list[ocsp.OCSPRequest] = []
        self.told: list[dict[str, Staple | None]] = []
        self.released: list[str] = []
        self.now = float(NOW)
        self.issued_at = NOW
        self.signer: Credential | None = None
        self.revoked: list[x509.Certificate] = []

    def listen(self, name: str, *servers: Credential, stapling: Stapling = ON, url: str | None = URL) -> None:
        self.listeners.append(
            Listener(
                name=name,
                bind=(Address("", 8883),),
                upstreams=(Address("127.0.0.1", 1883),),
                certificates=(Certificate(cert=Path("server.pem"), key=Path("server.key")),),
                stapling=stapling,
            )
        )
        certificates = [
            ServerCertificate((server.cert,), server.key, CA.cert if url else None, url) for server in servers
        ]
        self.materials.append(SimpleNamespace(certificates=certificates))

    async def ask(self, url: str, request: bytes, **_bounds: Any) -> Fetched:
        await trio.lowlevel.checkpoint()
        parsed = ocsp.load_der_ocsp_request(request)
        self.asked.append(parsed)
        (cert,) = {
            server.leaf
            for material in self.materials
            for server in material.certificates
            if server.leaf.serial_number == parsed.serial_number
        }
        status = self.statuses.get(parsed.serial_number, ocsp.OCSPCertStatus.GOOD)
        begin = self.issued_at
        answer = CA.ocsp(cert, status=status, this_update=begin, next_update=begin + DAY, signer=self.signer)
        return Fetched(answer, None, None, None)

    def change(self, staples: Mapping[str, Staple | None], held: Mapping[str, None]) -> None:
        self.told.append(dict(staples))
        self.released += held

    def staples(self) -> Staples:
        return Staples(
            self.listeners,
            self.materials,
            ask=self.ask,
            store=self.store,
            limits=Limits(),
            change=self.change,
            revoked=lambda certificate, _issuer: certificate in self.revoked,
            log=get_logger(process="control"),
            now=lambda: self.now,
        )


async def ask_all(staples: Iterable[StapleRefresher[VerifiedResponse]], times: int = 1) -> None:
    sources = [each.schedule for each in staples]
    async with trio.open_nursery() as nursery:
        for source in sources:
            nursery.start_soon(source.run)
            left = times if source.first_attempt_done.is_set() else times - 1
            await source.first_attempt_done.wait()
            for _ in range(left):
                await source.refresh()
        nursery.cancel_scope.cancel()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "state")


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


async def test_each_certificate_is_asked_about_once_however_many_listeners_present_it(place: Place) -> None:
    one, two = CA.issue("one", serial=1), CA.issue("two", serial=2)
    place.listen("a", one, two)
    place.listen("b", one)
    place.listen("off", CA.issue("three"), stapling=Stapling())
    staples = place.staples()
    await ask_all(staples)
    assert sorted(request.serial_number for request in place.asked) == [1, 2]
    told = {key: staple for change in place.told for key, staple in change.items()}
    assert told.keys() == {fingerprint(one.cert), fingerprint(two.cert)}
    assert {staple.expires for staple in told.values() if staple} == {NOW + DAY}


@pytest.mark.parametrize("cert_id_hash", ["sha1", "sha256"])
async def test_it_is_asked_as_configured(place: Place, cert_id_hash: Any) -> None:
    place.listen("a", CA.issue(), stapling=Stapling(enabled=True, cert_id_hash=cert_id_hash, nonce=True))
    await ask_all(place.staples())
    (request,) = place.asked
    assert request.hash_algorithm.name == cert_id_hash
    assert len(request.extensions) == 1


async def test_a_certificate_without_a_responder_is_told_of_once_and_never_asked_about(
    place: Place, events: list[Any]
) -> None:
    mute = CA.issue("mute", serial=7)
    place.listen("a", mute, url=None)
    place.listen("b", mute, url=None)
    staples = place.staples()
    staples.begin()
    assert list(staples) == []
    (event,) = events
    assert event == {
        "event": "certificate without responder",
        "log_level": "info",
        "process": "control",
        "listener": "a",
        "certificate": "CN=mute (serial 07)",
        "consequence": "nothing is stapled for it",
    }


async def test_a_revoked_certificate_is_an_error_at_each_refresh_and_is_shown(
    place: Place, events: list[Any], autojump_clock: MockClock
) -> None:
    place.listen("a", CA.issue(serial=1))
    place.statuses[1] = ocsp.OCSPCertStatus.REVOKED
    staples = place.staples()
    await ask_all(staples, times=3)
    assert [event["log_level"] for event in events] == ["error"] * 3
    assert {event["event"] for event in events} == {"staple not refreshed"}
    assert "revoked since" in events[0]["error"]
    assert events[0]["consequence"] == "nothing is stapled"
    (refresher,) = staples
    assert refresher.state.revoked
    assert place.told == []


@pytest.mark.parametrize("nocheck", [False, True])
async def test_a_delegate_that_its_ca_has_revoked_is_not_believed_unless_it_is_not_to_be_checked(
    place: Place, *, nocheck: bool
) -> None:
    extensions = [OCSPNoCheck()] if nocheck else []
    delegate = CA.issue("responder", usages=[ExtendedKeyUsageOID.OCSP_SIGNING], extensions=extensions)
    place.signer, place.revoked = delegate, [delegate.cert]
    place.listen("a", CA.issue(serial=1))
    staples = place.staples()
    await ask_all(staples)
    (refresher,) = staples
    error = refresher.state.last_error or ""
    assert ("the responder CN=responder" in error, "was revoked by its CA" in error) == (not nocheck,) * 2
    assert bool(place.told) == nocheck


async def test_what_is_stored_is_told_to_the_workers_before_anything_is_asked(place: Place) -> None:
    server = CA.issue(serial=1)
    place.listen("a", server)
    await ask_all(place.staples())
    place.asked.clear()
    place.told.clear()
    (refresher,) = place.staples()
    assert await refresher.restore() is None
    assert place.asked == []
    (told,) = place.told
    assert told.keys() == {fingerprint(server.cert)}


REQUIRED = Stapling(enabled=True, required=True)


def said(events: list[Any], event: str) -> list[str]:
    """Of which listeners it was said."""
    return [each["listener"] for each in events if each["event"] == event]


async def test_a_listener_that_requires_staples_waits_for_those_of_all_its_certificates(
    place: Place, events: list[Any]
) -> None:
    place.listen("patient", CA.issue(serial=1), CA.issue(serial=2), stapling=REQUIRED)
    place.listen("other", CA.issue(serial=3))
    staples = place.staples()
    assert list(staples.held) == ["patient"]
    first, second, third = staples
    await ask_all([first, third])
    staples.look()
    staples.look()
    assert said(events, "listener waits for staple") == ["patient"]
    assert list(staples.held) == ["patient"]
    assert place.released == []
    await ask_all([second])
    assert list(staples.held) == []
    assert place.released == ["patient"]
    assert said(events, "listener has its staple") == ["patient"]


async def test_a_staple_that_is_there_at_once_is_not_told_to_be_waited_for(
    place: Place, events: list[Any]
) -> None:
    place.listen("patient", CA.issue(serial=1), stapling=REQUIRED)
    await ask_all(place.staples())
    place.released.clear()
    staples = place.staples()
    (refresher,) = staples
    await refresher.restore()
    staples.look()
    assert place.released == ["patient"]
    assert not [event for event in events if event["event"].startswith("listener ")]


async def test_a_listener_that_has_begun_to_accept_goes_on_when_its_staple_expires(place: Place) -> None:
    place.listen("patient", CA.issue(serial=1), stapling=REQUIRED)
    staples = place.staples()
    await ask_all(staples)
    place.now += 2 * DAY
    staples.look()
    assert list(staples.held) == []


async def test_staples_that_have_expired_meanwhile_release_nobody(place: Place) -> None:
    place.listen("patient", CA.issue(serial=1), CA.issue(serial=2), stapling=REQUIRED)
    staples = place.staples()
    first, second = staples
    await ask_all([first])
    place.now += 2 * DAY
    place.issued_at = int(place.now)
    await ask_all([second])
    assert list(staples.held) == ["patient"]
    await ask_all([first])
    assert list(staples.held) == []


async def test_a_certificate_that_demands_a_staple_and_has_none_is_told_of_each_time_it_loses_it(
    place: Place, events: list[Any]
) -> None:
    place.listen("a", CA.issue(serial=1, must_staple=True), CA.issue(serial=2))
    staples = place.staples()
    staples.look()
    staples.look()
    assert said(events, "must-staple without staple") == ["a"]
    await ask_all(staples)
    staples.look()
    assert len(said(events, "must-staple without staple")) == 1
    place.now += 2 * DAY
    staples.look()
    assert len(said(events, "must-staple without staple")) == 2
