"""Each TLS option on and off, as `openssl s_client` sees it: one gateway, a listener for each setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.parts import run
from tests.end_to_end.tls_house import ECHOED

if TYPE_CHECKING:
    from tests.end_to_end.tls_house import House

# s_client says so when it has been let in and told to leave.
OVER = "\nDONE\n"


@pytest.mark.parametrize(
    ("listener", "version", "spoken"),
    [
        ("default", "-tls1_2", True),
        ("default", "-tls1_3", True),
        ("only_1.2", "-tls1_2", True),
        ("only_1.2", "-tls1_3", False),
        ("only_1.3", "-tls1_2", False),
        ("only_1.3", "-tls1_3", True),
    ],
)
def test_the_versions_are_those_that_are_listed(
    listener: str, version: str, spoken: bool, house: House
) -> None:
    said = house.ask(listener, version)
    assert (OVER in said) == spoken
    assert ("protocol version" in said) == (not spoken)


@pytest.mark.parametrize(
    ("version", "cipher", "listed"),
    [
        ("-tls1_2", "-cipher ECDHE-ECDSA-AES256-GCM-SHA384", True),
        ("-tls1_2", "-cipher ECDHE-ECDSA-AES128-GCM-SHA256", False),
        ("-tls1_3", "-ciphersuites TLS_AES_256_GCM_SHA384", True),
        ("-tls1_3", "-ciphersuites TLS_AES_128_GCM_SHA256", False),
    ],
)
def test_a_cipher_suite_is_spoken_only_where_it_is_listed(
    version: str, cipher: str, listed: bool, house: House
) -> None:
    option, name = cipher.split()
    assert f"Cipher is {name}" in house.ask("default", version, option, name)
    said = house.ask("one_cipher", version, option, name)
    assert (f"Cipher is {name}" in said) == listed
    assert ("handshake failure" in said) == (not listed)


def test_a_group_is_spoken_only_where_it_is_listed(house: House) -> None:
    assert "Server Temp Key: X25519, 253 bits" in house.ask("default")
    assert "Server Temp Key: ECDH, secp384r1, 384 bits" in house.ask("one_group")
    assert "handshake failure" in house.ask("one_group", "-groups", "X25519")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_the_protocol_is_the_first_of_the_listeners_that_is_offered(version: str, house: House) -> None:
    assert "ALPN protocol: mqtt" in house.ask("alpn", version, "-alpn", "http/1.1,x-amzn-mqtt-ca,mqtt")
    assert "ALPN protocol: x-amzn-mqtt-ca" in house.ask("alpn", version, "-alpn", "x-amzn-mqtt-ca")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_who_offers_other_protocols_alone_is_refused(version: str, house: House) -> None:
    """RFC 7301, section 3.2: "the server SHALL respond with a fatal "no_application_protocol" alert"."""
    said = house.ask("alpn", version, "-alpn", "http/1.1,h2")
    assert OVER not in said
    assert "SSL alert number 120" in said


@pytest.mark.parametrize(
    ("listener", "options"), [("alpn", []), ("default", ["-alpn", "mqtt"])], ids=["no-offer", "no-list"]
)
def test_without_an_offer_or_a_list_there_is_no_protocol(
    listener: str, options: list[str], house: House
) -> None:
    said = house.ask(listener, *options)
    assert OVER in said
    assert "No ALPN negotiated" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_ticket_says_for_how_long_it_is_good(version: str, house: House) -> None:
    for listener, seconds in ("default", 7200), ("short_sessions", 90):
        hint = f"TLS session ticket lifetime hint: {seconds} (seconds)"
        assert hint in house.stay(listener, version, until="lifetime hint")


@pytest.mark.parametrize(
    ("listener", "version", "resumes"),
    [("default", "-tls1_2", True), ("default", "-tls1_3", True), ("no_tickets", "-tls1_3", False)],
)
def test_a_session_resumes_where_tickets_are_on(
    listener: str, version: str, resumes: bool, house: House
) -> None:
    kept = str(house.directory / f"{listener}{version}.session")
    assert "session ticket:" in house.stay(listener, version, "-sess_out", kept, until="session ticket:")
    said = house.ask(listener, version, "-sess_in", kept)
    assert OVER in said
    assert ("Reused, " in said, "New, " in said) == (resumes, not resumes)


def test_without_tickets_tls_1_2_keeps_no_session_at_all(house: House) -> None:
    assert "session ticket:" in house.ask("default", "-tls1_2")
    said = house.ask("no_tickets", "-tls1_2")
    assert OVER in said
    assert "session ticket:" not in said
    assert "Session-ID: \n" in said


def test_the_names_of_client_cas_are_told_or_not(house: House) -> None:
    assert "Acceptable client certificate CA names\nCN = Root\n" in house.ask("default")
    assert "No client certificate CA names sent" in house.ask("no_names")
    assert OVER in house.ask("no_names")


@pytest.mark.parametrize(
    ("listener", "client", "let_in"),
    [
        ("depth_0", "device", True),
        ("depth_0", "below-sub", False),
        ("depth_1", "below-sub", True),
        ("depth_1", "below-low", False),
        ("default", "below-low", True),
    ],
)
def test_a_chain_may_be_as_long_as_verify_depth_says(
    listener: str, client: str, let_in: bool, house: House
) -> None:
    said = house.ask(listener, "-tls1_2", client=client)
    assert (OVER in said) == let_in
    assert ("unknown ca" in said) == (not let_in)


@pytest.mark.parametrize(
    ("listener", "client", "let_in"),
    [
        ("default", "no-usage", True),
        ("default", "server-alone", False),
        ("default", "any-usage", False),
        ("needs_client_auth", "device", True),
        ("needs_client_auth", "no-usage", False),
        ("needs_it_with_list", "below-sub", True),
        ("needs_it_with_list", "sub-no-usage", False),
        ("partial_with_list", "sub-no-usage", True),
        ("needs_both", "of-fleet", True),
        ("needs_both", "nearly-of-fleet", False),
        ("needs_both", "device", False),
    ],
)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_client_has_the_usages_that_are_asked_for(
    listener: str, client: str, let_in: bool, version: str, house: House
) -> None:
    said = house.stay(listener, version, client=client, until=ECHOED)
    assert (ECHOED in said) == let_in
    assert ("unsupported certificate" in said) == (not let_in)


@pytest.mark.parametrize(
    ("listener", "client", "let_in", "alert"),
    [
        ("rootless", "below-sub", False, "unknown ca"),
        ("partial", "below-sub", True, ""),
        ("partial", "below-low", True, ""),
        ("partial", "device", False, "unknown ca"),
    ],
)
def test_an_intermediate_ca_is_an_anchor_where_trust_says_so(
    listener: str, client: str, let_in: bool, alert: str, house: House
) -> None:
    said = house.ask(listener, "-tls1_2", client=client)
    assert (OVER in said) == let_in
    assert alert in said


@pytest.mark.parametrize("listener", ["partial_with_list", "partial_with_root"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_an_intermediate_anchor_needs_no_list_above_it(listener: str, version: str, house: House) -> None:
    """Nor does a session of a client below it that resumes."""
    kept = str(house.directory / f"{listener}{version}.session")
    ticket = "session ticket:"
    assert ticket in house.stay(listener, version, "-sess_out", kept, client="below-sub", until=ticket)
    said = house.stay(listener, version, "-sess_in", kept, client="below-sub", until=ECHOED)
    assert "Reused, " in said
    assert ECHOED in said
    refused = house.stay(listener, version, client="revoked", until="nothing")
    assert "certificate revoked" in refused


def test_an_intermediate_ca_that_is_no_anchor_is_looked_up_in_its_roots_list(house: House) -> None:
    """There is none here."""
    said = house.ask("full_with_root", "-tls1_2", client="below-sub")
    assert OVER not in said
    assert "unknown ca" in said


def test_an_anchor_that_its_roots_list_revokes_lets_nobody_in(house: House) -> None:
    """No list covers the anchor itself, but its own lists do not count any more."""
    assert OVER in house.ask("partial_with_root", "-tls1_2", client="below-sub")
    said = house.ask("revoked_anchor", "-tls1_2", client="below-doomed")
    assert OVER not in said
    assert "unknown ca" in said


def test_nobody_renegotiates(house: House) -> None:
    """R makes s_client ask for another handshake (RFC 5246, section 7.4.1.1)."""
    done = run(*house.command("default", "-tls1_2"), said="R\n", check=False)
    assert "Secure Renegotiation IS supported" in done.stdout
    assert "RENEGOTIATING" in done.stderr
    assert "no renegotiation" in done.stderr


def test_nothing_is_compressed_and_no_early_data_taken(house: House) -> None:
    said = house.stay("default", "-tls1_2", until="Compression:")
    assert "Compression: NONE" in said
    assert "Max Early Data: 0" in house.stay("default", "-tls1_3", until="Max Early Data")
