"""The admin interface of a running gateway, asked by a real HTTP client."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.admin.browser import chromium
from tests.end_to_end.clients import Echo, client, echoes
from tests.end_to_end.gateways import configure
from tests.end_to_end.parts import TIMEOUT, Gateway, OpensslCa, Web, accepts, free_port, refused, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "0123456789abcdef0123456789abcdef"


@contextmanager
def running(
    directory: Path, ca: OpensslCa, web: Web, echo: Echo, *, drain: str = "1s"
) -> Iterator[tuple[Gateway, httpx.Client]]:
    """A gateway with an admin interface on a port, and a client that has its token."""
    token = directory / "token"
    token.touch(0o600)
    token.write_text(f"{TOKEN}\n")
    config, port = configure(directory, ca, web, echo.port, drain=drain)
    admin = free_port()
    config.write_text(f'{config.read_text()}\n[admin]\nbind = "127.0.0.1:{admin}"\ntoken_file = "token"\n')
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        Gateway(config, port) as gateway,
        httpx.Client(base_url=f"http://127.0.0.1:{admin}", headers=headers, trust_env=False) as asking,
    ):
        yield gateway, asking


def sample(asking: httpx.Client, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(asking.get("/metrics").raise_for_status().text)
    samples = [each for family in families for each in family.samples]
    return next(each.value for each in samples if (each.name, each.labels) == (f"tls_gateway_{name}", labels))


def test_what_clients_do_is_in_the_metrics(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    ca.issue("lost")
    ca.revoke("lost")
    ca.publish()
    with running(tmp_path, ca, web, echo) as (gateway, asking):
        with client(gateway.port, ca):
            assert sample(asking, "connections_live") == 1
            assert sample(asking, "connections", listener="front") == 1
        refused(gateway.port, ca, "lost", "-tls1_2")
        until(lambda: sample(asking, "connections_live") == 0, "the client to be gone")
        assert sample(asking, "handshakes_total", result="completed", tls_version="TLSv1.3") == 1
        assert sample(asking, "clients_refused_total", reason="revoked") == 1
        assert sample(asking, "relayed_bytes_total", direction="in") == 4
        assert sample(asking, "handshake_duration_seconds_count") == 1
        assert sample(asking, "list_entries", url=f"{web.url}/ca.crl") == 1
        assert sample(asking, "ready") == 1
        status = asking.get("/status").json()
        assert status["totals"]["refused_revoked"] == 1
        assert (asking.get("/healthz").status_code, asking.get("/readyz").text) == (200, "ready\n")


def test_without_the_token_there_is_nothing_to_see_and_it_is_never_logged(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    with running(tmp_path, ca, web, echo) as (gateway, asking):
        wrong = asking.get("/metrics", headers={"Authorization": "Bearer wrong-wrong-wrong"})
        assert (wrong.status_code, wrong.text) == (401, "expected the token of admin.token_file\n")
        assert asking.get("/metrics", headers={"Authorization": ""}).status_code == 401
        assert httpx.get(f"{asking.base_url}/healthz", trust_env=False).status_code == 200
        gateway.wait_for("admin request denied")
        assert TOKEN not in gateway.log
        assert "wrong-wrong" not in gateway.log


def test_processes_that_were_started_again_are_counted_and_the_interface_is_back(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    with running(tmp_path, ca, web, echo) as (gateway, asking):
        processes = gateway.children()
        os.kill(processes["gw-worker-0"], signal.SIGKILL)
        until(lambda: sample(asking, "process_restarts_total", process="worker") == 1, "the count")
        os.kill(processes["gw-control"], signal.SIGKILL)
        gateway.wait_for(" ready ", count=2)
        with httpx.Client(base_url=asking.base_url, headers=asking.headers, trust_env=False) as again:
            assert sample(again, "process_restarts_total", process="control") == 1


def test_what_is_revoked_here_is_refused_looked_up_and_in_the_history(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    with running(tmp_path, ca, web, echo) as (gateway, asking):
        pem = ca.cert("device").read_text()
        serial = asking.get("/lookup", params={"certificate": pem}).json()
        assert (serial["revoked"], [each["by"] for each in serial["findings"]]) == (False, ["list"])
        with client(gateway.port, ca) as live:
            done = asking.post(
                "/revoke", json={"certificate": pem, "reason": "keyCompromise", "note": "lost"}
            )
            assert (done.status_code, done.json()["ok"]) == (200, True)
            assert live.recv(1) == b""
        refused(gateway.port, ca, "device")
        found = asking.get(
            "/lookup", params={"serial": serial["serial"], "issuer": "CN=Test Fleet CA"}
        ).json()
        assert (found["revoked"], found["findings"][0]["reason"]) == (True, "keyCompromise")
        assert asking.get("/revoked").json()[0]["by"].startswith("admin interface, 127.0.0.1:")
        until(lambda: len(asking.get("/history").json()["refusals"]) == 2, "both refusals")
        past = asking.get("/history").json()
        assert {each["event"] for each in past["refusals"]} == {"client refused", "client disconnected"}
        assert {each["serial"] for each in past["refusals"]} == {serial["serial"]}
        assert past["samples"]["at"]
        assert asking.post("/unrevoke", json={"certificate": pem}).json()["ok"]
        with client(gateway.port, ca):
            pass
        assert asking.post("/unrevoke", json={"certificate": pem}).status_code == 409


def test_a_source_is_asked_at_once(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    with running(tmp_path, ca, web, echo) as (_gateway, asking):
        answer = asking.post("/refresh").json()
        assert answer == {"ok": True, "lines": [f"{web.url}/ca.crl: unchanged"]}
        (ca.web / "ca.crl").unlink()
        failed = asking.post("/refresh", json={"url": f"{web.url}/ca.crl"})
        assert (failed.status_code, failed.json()["ok"]) == (502, False)


def test_a_foreign_page_changes_nothing(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    with running(tmp_path, ca, web, echo) as (_gateway, asking):
        browser = httpx.Client(base_url=asking.base_url, auth=("x", TOKEN), trust_env=False)
        with browser:
            foreign = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
            assert browser.post("/refresh", headers=foreign).status_code == 403
            assert browser.post("/refresh").status_code == 403
            assert browser.get("/status", headers={"Host": "evil.example"}).status_code == 421
            assert browser.get("/status").status_code == 200


def test_a_client_is_revoked_on_the_page_and_cut_off(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    with running(tmp_path, ca, web, echo) as (gateway, asking), chromium() as browser:
        browser.open(str(asking.base_url), TOKEN)
        assert browser.text("#ready") == "Ready"
        assert browser.text("#lists .name") == f"{web.url}/ca.crl"
        with client(gateway.port, ca) as live:
            browser.one("#search summary").click()
            browser.run(
                "document.querySelector('textarea').value = arguments[0]", ca.cert("device").read_text()
            )
            browser.one("#revoke").click()
            browser.one("#confirm-yes").click()
            assert live.recv(1) == b""
        browser.until(lambda: browser.all("#found .bad") and browser.all("#revoked li"))
        browser.until(lambda: "while connected" in browser.text("#refusals"))
        assert browser.complaints() == []


def test_without_its_list_it_is_not_ready_and_says_why(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    (ca.web / "ca.crl").unlink()
    with running(tmp_path, ca, web, echo) as (gateway, asking):
        answer = asking.get("/readyz")
        assert (answer.status_code, answer.text) == (503, f"not ready: list {web.url}/ca.crl: missing\n")
        assert "web" not in httpx.get(f"{asking.base_url}/readyz", trust_env=False).text
        ca.publish()
        until(lambda: asking.get("/readyz").status_code == 200, "the list")
        assert accepts(gateway.port)


def test_a_drain_lets_nobody_in_and_ends_when_the_last_has_gone(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    with running(tmp_path, ca, web, echo, drain="30s") as (gateway, asking):
        with client(gateway.port, ca) as live:
            assert asking.post("/drain").json()["ok"]
            until(lambda: not accepts(gateway.port), "the port to be closed")
            answer = asking.get("/readyz")
            assert (answer.status_code, answer.text) == (
                503,
                "not ready: draining: nobody comes in any more\n",
            )
            again = asking.post("/drain")
            assert (again.status_code, "drains already" in again.text) == (409, True)
            assert echoes(live)
        assert gateway.process.wait(TIMEOUT) == 0


def test_on_a_unix_socket_its_owner_needs_no_token(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    path = tmp_path / "admin.sock"
    config, port = configure(tmp_path, ca, web, echo.port)
    config.write_text(f'{config.read_text()}\n[admin]\nbind = "unix:{path}"\n')
    with (
        Gateway(config, port),
        httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as asking,
    ):
        assert asking.get("/status").json()["ready"]
        assert asking.get("/status", headers={"Host": "evil.example"}).status_code == 421
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_address_that_is_taken_is_told(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    (tmp_path / "admin.sock").write_text("precious")
    config, port = configure(tmp_path, ca, web, echo.port)
    config.write_text(f'{config.read_text()}\n[admin]\nbind = "unix:{tmp_path}/admin.sock"\n')
    gateway = Gateway(config, port)
    with (
        pytest.raises(AssertionError, match=r"admin.bind: cannot listen on unix:.*: there is a file"),
        gateway,
    ):
        pass
    assert (tmp_path / "admin.sock").read_text() == "precious"
