"""Lists and CAs that nobody has configured: found in certificates and in chains, from a running gateway."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tests.authority import Authority, Credential, Revoked, extension
from tests.end_to_end.clients import Echo, echoes
from tests.end_to_end.gateways import furnish
from tests.end_to_end.parts import TIMEOUT, Gateway, Web, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class House:
    """A root that is configured, CAs below it that are not, and the web with their lists."""

    def __init__(self, directory: Path, broker: int) -> None:
        self.directory = directory
        self.files = directory / "web"
        self.files.mkdir()
        self.web = Web(self.files)
        self.root = Authority.root("Fleet Root")
        self.publish("root", self.root)
        cache = 'learnt_allow = ["127.0.0.1/32"]'
        self.config, self.port = furnish(directory, self.root, broker, [self.url("root")], cache=cache)

    def url(self, name: str) -> str:
        return f"{self.web.url}/{name}.crl"

    def publish(
        self, name: str, ca: Authority, *serials: int, number: int = 1, extensions: bytes = b""
    ) -> None:
        """Put a list on the web, in one step."""
        new = self.directory / "new.crl"
        new.write_bytes(ca.crl(map(Revoked, serials), number=number, extensions=extensions))
        new.rename(self.files / f"{name}.crl")

    def gateway(self) -> Gateway:
        return Gateway(self.config, self.port)

    def context(self, credential: Credential) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        context.load_cert_chain(*credential.write(self.directory, f"client-{credential.cert.serial_number}"))
        return context

    @contextmanager
    def client(
        self, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> Iterator[ssl.SSLSocket]:
        """A connection that has echoed once."""
        with (
            socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
        ):
            assert echoes(connection)
            yield connection

    def gets_in(self, context: ssl.SSLContext) -> bool:
        try:
            with self.client(context):
                return True
        except (OSError, AssertionError):
            return False


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    echo = Echo()
    made = House(tmp_path, echo.port)
    with made.web:
        yield made
    echo.close()


def gone(connection: ssl.SSLSocket) -> bool:
    """Whether the gateway has closed it: told, or about to be."""
    connection.settimeout(TIMEOUT)
    return connection.recv(1) == b""


def stays_out(house: House, context: ssl.SSLContext) -> None:
    """The other worker may hear of it a moment later than the one that has closed the connection."""
    until(lambda: not any(house.gets_in(context) for _ in range(4)), "both workers to refuse it")


def test_a_ca_that_a_client_brings_along_is_learnt_with_its_list_and_stays_known(house: House) -> None:
    sub = house.root.intermediate("Plant CA", crl_urls=[house.url("root")])
    house.publish("plant", sub)
    device = sub.issue("device", crl_urls=[house.url("plant")])
    context = house.context(device)
    with house.gateway() as gateway:
        until(lambda: house.gets_in(context), "the client to be covered by the list of its CA")
        gateway.wait_for("client refused", "no_list")
        gateway.wait_for("CA found", "Plant CA")
        with house.client(context) as connection:
            session = connection.session
        with house.client(context, session) as connection:
            assert connection.session_reused
    with house.gateway() as gateway:
        assert house.gets_in(context)
        assert not gateway.lines("client refused")


def test_when_the_ca_is_revoked_every_connection_below_it_goes_and_others_stay(house: House) -> None:
    sub, other = house.root.intermediate("Plant CA"), house.root.intermediate("Other CA")
    for name, ca in (("plant", sub), ("other", other)):
        house.publish(name, ca)
    devices = [sub.issue(f"device-{number}", crl_urls=[house.url("plant")]) for number in range(3)]
    stranger = house.context(other.issue("stranger", crl_urls=[house.url("other")]))
    with house.gateway() as gateway:
        contexts = [house.context(device) for device in devices]
        until(lambda: house.gets_in(stranger) and house.gets_in(contexts[0]), "both CAs to be known")
        held = [house.client(context) for context in contexts]
        connections = [each.__enter__() for each in held]
        with house.client(stranger) as staying:
            house.publish("root", house.root, sub.cert.serial_number, number=2)
            assert all(gone(connection) for connection in connections)
            assert echoes(staying)
        gateway.wait_for("client disconnected", "depth=1", count=3)
        for connection in connections:
            connection.close()
        stays_out(house, contexts[0])


def freshest(url: str) -> x509.FreshestCRL:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
    return x509.FreshestCRL([point])


DELTA = extension(x509.DeltaCRLIndicator(1), critical=True)


def test_a_delta_is_found_through_the_list_that_it_changes(house: House) -> None:
    device = house.root.issue("device")
    context = house.context(device)
    house.publish("delta", house.root, number=2, extensions=DELTA)
    house.publish("root", house.root, extensions=extension(freshest(house.url("delta"))))
    with house.gateway() as gateway:
        gateway.wait_for("list in force", "delta_of=1")
        with house.client(context) as connection:
            house.publish("delta", house.root, device.cert.serial_number, number=3, extensions=DELTA)
            assert gone(connection)
        stays_out(house, context)


def test_a_delta_is_found_through_a_client_that_its_list_covers(house: House) -> None:
    device = house.root.issue("device", extensions=[freshest(house.url("delta"))])
    context = house.context(device)
    house.publish("delta", house.root, number=2, extensions=DELTA)
    with house.gateway() as gateway, house.client(context) as connection:
        gateway.wait_for("list in force", "delta_of=1")
        house.publish("delta", house.root, device.cert.serial_number, number=3, extensions=DELTA)
        assert gone(connection)
        stays_out(house, context)
        assert not gateway.lines("no_list")


def test_a_certificate_is_covered_by_the_list_of_its_own_distribution_point_alone(house: House) -> None:
    sub = house.root.intermediate("Sharded CA")
    points = [house.url(f"shard-{number}") for number in range(2)]

    def scope(url: str) -> bytes:
        point = x509.IssuingDistributionPoint(
            full_name=[x509.UniformResourceIdentifier(url)],
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        return extension(point, critical=True)

    devices = [sub.issue(f"device-{number}", crl_urls=[url]) for number, url in enumerate(points)]
    contexts = [house.context(device) for device in devices]
    house.publish("shard-0", sub, extensions=scope(points[0]))
    with house.gateway():
        until(lambda: house.gets_in(contexts[0]), "the first shard")
        assert not house.gets_in(contexts[1])
        house.publish("shard-1", sub, devices[0].cert.serial_number, extensions=scope(points[1]))
        until(lambda: house.gets_in(contexts[1]), "the second shard")
        # What stands in the list of another point says nothing about it.
        assert house.gets_in(contexts[0])
