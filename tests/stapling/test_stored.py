"""What `check` says of staples, before anybody is asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.config.certificates import ServerCertificate
from gateway.config.model import Address, Certificate, Listener, Stapling
from gateway.names import fingerprint
from gateway.stapling.stored import Remark, remarks
from tests.authority import DAY, NOW, Authority

if TYPE_CHECKING:
    from tests.authority import Credential

CA = Authority.root("Test CA")
SERVER = CA.issue("server", serial=0x1234)
DEMANDING = CA.issue("server", serial=0x1234, must_staple=True)
URL = "http://user:secret@ocsp.example/"
WHO = 'listener "external": CN=server (serial 1234)'


def said(
    server: Credential,
    *,
    stored: bytes | None = None,
    url: str | None = URL,
    enabled: bool = True,
    required: bool = False,
) -> list[Remark]:
    listener = Listener(
        name="external",
        bind=(Address("", 8883),),
        upstreams=(Address("127.0.0.1", 1883),),
        certificates=(Certificate(cert=Path("server.pem"), key=Path("server.key")),),
        stapling=Stapling(enabled=enabled, required=required),
    )
    material: Any = SimpleNamespace(
        certificates=[ServerCertificate((server.cert,), server.key, CA.cert if url else None, url)]
    )
    kept = {fingerprint(server.cert): stored}
    return list(remarks([listener], [material], lambda key: kept[key], now=NOW))


def test_a_certificate_without_a_responder_is_no_more_than_a_note() -> None:
    text = f"{WHO} names no OCSP responder: nothing is stapled for it"
    assert said(SERVER, url=None) == [Remark(text, warning=False)]


def test_nothing_is_said_where_nobody_insists() -> None:
    assert said(SERVER) == []
    assert said(DEMANDING, enabled=False, url=None) == []


@pytest.mark.parametrize(
    ("server", "required", "effect"),
    [
        (SERVER, True, "the listener accepts nobody"),
        (DEMANDING, False, "clients refuse it (must-staple)"),
        (DEMANDING, True, "the listener accepts nobody and clients refuse it (must-staple)"),
    ],
)
def test_what_will_be_missed_is_a_warning(server: Credential, effect: str, *, required: bool) -> None:
    until = "until http://ocsp.example/ answers"
    nothing = Remark(f"{WHO}: no OCSP response is stored: {effect} {until}", warning=True)
    assert said(server, required=required) == [nothing]
    expired = CA.ocsp(server.cert, this_update=NOW - 2 * DAY, next_update=NOW - DAY)
    (remark,) = said(server, required=required, stored=expired)
    assert remark.text.startswith(f"{WHO}: the stored OCSP response is not good (the response has expired: ")
    assert remark.text.endswith(f"): {effect} {until}")
    assert said(server, required=required, stored=CA.ocsp(server.cert)) == []
