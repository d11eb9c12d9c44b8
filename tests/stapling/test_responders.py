"""Real `openssl ocsp` responders: one that works, one that dies, one that stalls, some that lie."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
from cryptography.x509 import load_pem_x509_certificate
from structlog.testing import capture_logs

from gateway.addresses import AddressPolicy
from gateway.config.certificates import ServerCertificate
from gateway.config.model import Address, Certificate, Duration, Listener, Stapling
from gateway.fetch import Fetcher
from gateway.log import get_logger
from gateway.schedule import Limits
from gateway.stapling.ask import Asker
from gateway.stapling.request import build_request
from gateway.stapling.staples import Staples
from gateway.store import StateStore
from tests.end_to_end.parts import OcspResponder, OpensslCa, run
from tests.http_server import http, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from gateway.publish import Staple
    from gateway.schedule import Source


@pytest.fixture
def ca(tmp_path: Path) -> OpensslCa:
    """A CA with a certificate for the gateway and one for its responder."""
    authority = OpensslCa(tmp_path / "ca")
    authority.issue("server", "server")
    authority.issue("ocsp", "ocsp")
    return authority


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


class Spy(Fetcher):
    """Remembers how it was asked."""

    def __init__(self) -> None:
        super().__init__(AddressPolicy())
        self.ways: list[str] = []

    async def get(self, *arguments: Any, **options: Any) -> Any:
        self.ways.append("GET")
        return await super().get(*arguments, **options)

    async def post(self, *arguments: Any, **options: Any) -> Any:
        self.ways.append("POST")
        return await super().post(*arguments, **options)


class Gate:
    """What a gateway does about the staple of `server.pem`, without the gateway."""

    def __init__(self, ca: OpensslCa, url: str, **stapling: Any) -> None:
        leaf, issuer = (load_pem_x509_certificate(ca.cert(stem).read_bytes()) for stem in ("server", "ca"))
        listener = Listener(
            name="external",
            bind=(Address("", 8883),),
            upstreams=(Address("127.0.0.1", 1883),),
            certificates=(Certificate(cert=Path("server.pem"), key=Path("server.key")),),
            stapling=Stapling(enabled=True, **stapling),
        )
        # Its key is never used here.
        server = ServerCertificate((leaf,), SimpleNamespace(), issuer, url)  # type: ignore[arg-type]  # as said
        store = StateStore(ca.directory / "state")
        store.prepare()
        self.told: list[Staple | None] = []
        self.fetcher = Spy()
        self.staples = Staples(
            [listener],
            [SimpleNamespace(certificates=[server])],  # type: ignore[list-item]  # as much as is needed
            ask=Asker(self.fetcher).ask,
            store=store,
            limits=Limits(),
            change=self._change,
            revoked=lambda _certificate, _issuer: False,
            log=get_logger(process="control"),
        )

    def _change(self, staples: Mapping[str, Staple | None], held: Mapping[str, None]) -> None:
        self.told += staples.values()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Source]:
        """While its one source runs, and has been tried once."""
        (refresher,) = self.staples
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refresher.schedule.run)
            await refresher.schedule.first_attempt_done.wait()
            yield refresher.schedule
            nursery.cancel_scope.cancel()

    async def failure(self) -> str:
        """What one attempt comes to, which brings no staple."""
        async with self.asking() as source:
            assert self.told == []
            assert source.state.last_error is not None
            return source.state.last_error


@pytest.mark.parametrize("cert_id_hash", ["sha1", "sha256"])
@pytest.mark.parametrize("signer", ["ca", "ocsp"])
async def test_one_that_works_is_understood_by_get(ca: OpensslCa, signer: str, cert_id_hash: str) -> None:
    with OcspResponder(ca, signer=signer) as responder:
        gate = Gate(ca, responder.url, cert_id_hash=cert_id_hash)
        async with gate.asking() as source:
            assert source.state.last_error is None
            assert len(gate.told) == 1
            assert gate.fetcher.ways == ["GET"]


async def test_one_that_works_repeats_the_nonce_and_is_posted_to_with_it(ca: OpensslCa) -> None:
    with OcspResponder(ca) as responder:
        gate = Gate(ca, responder.url, nonce=True)
        async with gate.asking() as source:
            assert source.state.last_error is None
            assert gate.fetcher.ways == ["POST"]
    assert gate.told[0] is not None
    nonce_id = bytes.fromhex("06092b0601050507300102")
    assert nonce_id in gate.told[0].der


async def test_one_that_dies_leaves_what_it_said_in_force(ca: OpensslCa) -> None:
    with OcspResponder(ca) as responder:
        gate = Gate(ca, responder.url)
        async with gate.asking() as source:
            responder.process.kill()
            responder.process.wait()
            await source.refresh()
            assert source.state.last_error is not None
            assert source.state.last_error.startswith(f"{responder.url}: cannot connect to 127.0.0.1 ")
            assert source.state.next_update is not None
    assert len(gate.told) == 1


async def test_one_that_stalls_costs_its_timeout_and_answers_when_it_goes_on(ca: OpensslCa) -> None:
    with OcspResponder(ca) as responder:
        responder.process.send_signal(signal.SIGSTOP)
        gate = Gate(ca, responder.url, http_timeout=Duration(0.2))
        async with gate.asking() as source:
            assert gate.told == []
            assert "no complete answer within 0.2 s" in (source.state.last_error or "")
            responder.process.send_signal(signal.SIGCONT)
            while source.state.last_error is not None:
                await source.refresh()
    assert len(gate.told) == 1


async def test_one_with_the_key_of_another_ca_is_found_out(ca: OpensslCa, tmp_path: Path) -> None:
    other = OpensslCa(tmp_path / "other", name="Test Fleet CA")
    other.issue("ocsp", "ocsp")
    for stem in ("ca", "ocsp"):
        (ca.directory / f"liar-{stem}.pem").write_bytes(other.cert(stem).read_bytes())
        (ca.directory / f"liar-{stem}.key").write_bytes(other.key(stem).read_bytes())
    for stem in ("ca", "ocsp"):
        with OcspResponder(ca, signer=f"liar-{stem}") as responder:
            assert "was not appointed by CN=Test Fleet CA" in await Gate(ca, responder.url).failure()


async def test_one_that_the_ca_did_not_appoint_is_found_out(ca: OpensslCa) -> None:
    ca.issue("device")
    with OcspResponder(ca, signer="device") as responder:
        assert "no extendedKeyUsage OCSPSigning" in await Gate(ca, responder.url).failure()


async def test_one_that_answers_for_another_certificate_is_found_out(ca: OpensslCa) -> None:
    ca.issue("other", "server")
    answer = _answer(ca, "other")
    async with serving() as server:
        server.answers = _Always(http("200 OK", answer))
        assert "the response is not about CN=server" in await Gate(ca, server.base).failure()


async def test_one_that_answers_another_nonce_is_found_out(ca: OpensslCa) -> None:
    answer = _answer(ca, "server", bytes(32))
    async with serving() as server:
        server.answers = _Always(http("200 OK", answer))
        text = await Gate(ca, server.base, nonce=True).failure()
        assert "the nonce is that of another request" in text


async def test_one_that_says_revoked_is_an_error_and_shown(ca: OpensslCa, events: list[Any]) -> None:
    ca.revoke("server")
    with OcspResponder(ca) as responder:
        gate = Gate(ca, responder.url)
        assert "revoked since" in await gate.failure()
    assert [event["log_level"] for event in events] == ["error"]
    (refresher,) = gate.staples
    assert refresher.state.revoked


async def test_one_that_does_not_know_the_certificate_is_not_believed_to_say_good(ca: OpensslCa) -> None:
    (ca.directory / "index.txt").write_text("")
    with OcspResponder(ca) as responder:
        assert "status unknown" in await Gate(ca, responder.url).failure()


class _Always(dict[str, Any]):
    """The same answer for every path."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answer = answer

    def __missing__(self, _path: str) -> Any:
        return self._answer


def _answer(ca: OpensslCa, stem: str, nonce: bytes | None = None) -> bytes:
    """What `openssl ocsp` says of a certificate."""
    leaf, issuer = (load_pem_x509_certificate(ca.cert(name).read_bytes()) for name in (stem, "ca"))
    request, answer = ca.directory / "request", ca.directory / "response"
    request.write_bytes(build_request(leaf, issuer, nonce=nonce))
    run(
        "openssl", "ocsp", "-index", ca.directory / "index.txt", "-reqin", request, "-respout", answer,
        "-CA", ca.cert("ca"), "-rsigner", ca.cert("ocsp"), "-rkey", ca.key("ocsp"), "-nmin", "10",
    )  # fmt: skip
    return answer.read_bytes()
