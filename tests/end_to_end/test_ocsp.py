"""OCSP decides about clients: a responder that is real, dead, or stalls, and one that changes its mind."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

import pytest

from tests.end_to_end.clients import Echo, client, echoes, resume, tls_context
from tests.end_to_end.gateways import configure
from tests.end_to_end.parts import TIMEOUT, Gateway, OcspResponder, OpensslCa, Web, free_port, refused
from tests.end_to_end.test_commands import command, end_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def responder(ca: OpensslCa) -> Iterator[OcspResponder]:
    """Knows what has been issued when it starts; signs with a certificate of its own."""
    ca.issue("other")
    ca.issue("ocsp", "ocsp")
    with OcspResponder(ca) as running:
        yield running


@contextmanager
def restarted(responder: OcspResponder) -> Iterator[None]:
    """Knows what the CA has revoked since: `openssl ocsp` reads the index but once."""
    responder.__exit__()
    with responder:
        yield


class Stall:
    """In front of a responder: hands requests on until it is told to take them and say nothing."""

    def __init__(self, responder: OcspResponder) -> None:
        self._behind = ("127.0.0.1", responder.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.stalling = threading.Event()
        self.taken = threading.Event()
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                front, _ = self._listener.accept()
                if self.stalling.is_set():
                    self._held.append(front)
                    self.taken.set()
                else:
                    self._hand_on(front)

    def _hand_on(self, front: socket.socket) -> None:
        with front, socket.create_connection(self._behind, TIMEOUT) as back:
            back.sendall(front.recv(65536))
            while data := back.recv(65536):
                front.sendall(data)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)
        for held in [self._listener, *self._held]:
            held.close()


def asking(mode: str, url: str, *more: str) -> str:
    return "\n".join([f'ocsp = "{mode}"', f'ocsp_responder_url = "{url}"', *more])


def answers(config: Path) -> int:
    """How often the responder has answered."""
    [responder] = json.loads(command("status", config, "--json").stdout)["responders"]
    return int(responder["answers"])


def comes_in(gateway: Gateway, ca: OpensslCa, stem: str = "device") -> bool:
    with client(gateway.port, ca, stem) as connection:
        return echoes(connection)


def test_all_workers_let_a_good_client_in_upon_one_answer_and_no_list(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, responder: OcspResponder
) -> None:
    (ca.web / "ca.crl").unlink()
    config, port = configure(tmp_path, ca, web, echo.port, revocation=asking("require", responder.url))
    with Gateway(config, port) as gateway:
        assert all(comes_in(gateway, ca) for _ in range(12))
        assert answers(config) == 1
        assert not gateway.lines("error ")


def test_a_revoked_client_is_out_and_hears_why_from_the_second_time_on(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, responder: OcspResponder
) -> None:
    ca.revoke("device")
    config, port = configure(tmp_path, ca, web, echo.port, revocation=asking("prefer", responder.url))
    with restarted(responder), Gateway(config, port) as gateway:
        assert "closed" in refused(port, ca, "device")
        [line] = gateway.wait_for("client refused")
        assert "reason=certificate_revoked" in line
        assert "revocation_reason=keyCompromise" in line
        assert "certificate revoked" in refused(port, ca, "device")
        assert len(gateway.wait_for("revoked by OCSP", "CN=device")) == 1
        assert answers(config) == 1


def test_an_answer_that_changes_to_revoked_ends_the_live_connection_and_the_session(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, responder: OcspResponder
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, revocation=asking("require", responder.url))
    context = tls_context(ca)
    with Gateway(config, port) as gateway, client(port, ca, "other") as other, client(port, ca) as connection:
        echoed, _, session = resume(port, context, None)
        assert echoed
        assert resume(port, context, session)[:2] == (True, True)
        ca.revoke("device")
        with restarted(responder):
            asked = command("refresh", config, responder.url).stdout
            assert "asked again about each client that is connected" in asked
            end_of(connection)
            [line] = gateway.wait_for("client disconnected")
            assert "CN=device" in line
            assert echoes(other)
            assert resume(port, context, session)[:2] == (False, True)
            gateway.wait_for("client refused", "reason=certificate_revoked", "resumed=True")


@pytest.mark.parametrize(
    ("mode", "policy", "logged"),
    [
        ("prefer", "reject", ""),
        ("require", "accept", "client let in unchecked"),
        ("require", "reject", "client refused"),
    ],
)
def test_a_dead_responder_costs_what_the_policy_says(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, mode: str, policy: str, logged: str
) -> None:
    rules = asking(mode, f"http://127.0.0.1:{free_port()}", f'on_unavailable = "{policy}"')
    config, port = configure(tmp_path, ca, web, echo.port, revocation=rules)
    with Gateway(config, port) as gateway:
        if logged == "client refused":
            assert "closed" in refused(port, ca, "device")
        else:
            assert comes_in(gateway, ca)
        if logged:
            gateway.wait_for(logged, "reason=no_ocsp_answer", "CN=device")
        else:
            assert not gateway.lines("reason=no_ocsp_answer")


def test_answers_outlive_the_control_process_and_a_reload(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, responder: OcspResponder
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, revocation=asking("require", responder.url))
    with Gateway(config, port) as gateway:
        assert comes_in(gateway, ca)
        responder.__exit__()
        os.kill(gateway.children()["gw-control"], signal.SIGKILL)
        gateway.wait_for(" ready ", count=2)
        assert all(comes_in(gateway, ca) for _ in range(6))
        config.write_text(config.read_text().replace('refresh_interval = "1s"', 'refresh_interval = "2s"'))
        command("reload", config)
        gateway.wait_for(" reloaded ")
        assert all(comes_in(gateway, ca) for _ in range(6))
        assert "closed" in refused(port, ca, "other")
        responder.__enter__()


@pytest.mark.parametrize("allowed", [False, True])
def test_a_responder_that_a_certificate_names_on_this_machine_is_asked_where_that_is_allowed(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, *, allowed: bool
) -> None:
    ca.issue("ocsp", "ocsp")
    port = free_port()
    with (ca.directory / "openssl.cnf").open("a") as config_file:
        config_file.write(
            f"[named]\nextendedKeyUsage = clientAuth\nauthorityInfoAccess = OCSP;URI:http://127.0.0.1:{port}\n"
        )
    ca.issue("named", "named")
    rules = 'ocsp = "require"'
    config, gateway_port = configure(tmp_path, ca, web, echo.port, revocation=rules)
    if allowed:
        config.write_text(config.read_text() + 'learnt_allow = ["127.0.0.1/32"]\n')
    with OcspResponder(ca, port=port) as responder, Gateway(config, gateway_port) as gateway:
        if allowed:
            assert comes_in(gateway, ca, "named")
        else:
            assert "closed" in refused(gateway_port, ca, "named")
            [told] = json.loads(command("status", config, "--json").stdout)["responders"]
            assert "where only a configured URL may lead" in told["last_error"]
            assert "request" not in responder.log.lower()


def test_who_waits_for_a_stalling_responder_waits_alone_and_no_longer_than_is_allowed(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, responder: OcspResponder
) -> None:
    with Stall(responder) as stall:
        rules = asking("require", stall.url, 'ocsp_timeout = "2s"')
        config, port = configure(tmp_path, ca, web, echo.port, revocation=rules)
        with Gateway(config, port) as gateway:
            assert comes_in(gateway, ca)
            stall.stalling.set()
            said: list[str] = []
            late = threading.Thread(target=lambda: said.append(refused(port, ca, "other")))
            late.start()
            assert stall.taken.wait(TIMEOUT)
            assert all(comes_in(gateway, ca) for _ in range(4))
            assert not gateway.lines("client refused")
            late.join(TIMEOUT)
            gateway.wait_for("client refused", "reason=no_ocsp_answer", "CN=other")
