"""What a broker is sent is what another implementation reads, whatever clients and certificates hold."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxyprotocol.result import ProxyResult, ProxyResultLocal, ProxyResultUnknown
from proxyprotocol.tlv import ProxyProtocolTLV, SSLClient
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from gateway.proxy_protocol import Endpoint, Tls, encode_v1, encode_v1_local, encode_v2, encode_v2_local

V4 = Endpoint(bytes([192, 0, 2, 1]), 40000)
HERE = Endpoint(bytes([198, 51, 100, 7]), 8883)
V6 = Endpoint(ip_address("2001:db8::1").packed, 50000)
MAPPED = Endpoint(ip_address("::ffff:192.0.2.1").packed, 40000)
PLAIN = Tls(
    version="TLSv1.3",
    cipher="TLS_AES_128_GCM_SHA256",
    server_name="gw.example",
    alpn=b"mqtt",
    has_certificate=True,
    resumed=False,
    verify=0,
    common_name="device-1",
    certificate=b"",
    signature_algorithm="ecdsa-with-SHA256",
    key_algorithm="EC256",
)
ID = bytes(range(16))

ENDPOINTS = st.builds(
    Endpoint, st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), st.integers(0, 65535)
)
TLS = st.builds(
    Tls,
    version=st.sampled_from(["TLSv1.2", "TLSv1.3"]),
    cipher=st.just("TLS_AES_128_GCM_SHA256"),
    server_name=st.text(max_size=300),
    alpn=st.binary(max_size=255),
    has_certificate=st.booleans(),
    resumed=st.booleans(),
    verify=st.integers(0, 2**32 - 1),
    common_name=st.text(max_size=300),
    certificate=st.binary(max_size=2000),
    signature_algorithm=st.sampled_from(["", "RSA-SHA256"]),
    key_algorithm=st.sampled_from(["", "RSA2048"]),
)


def read_v1(header: bytes) -> ProxyResult:
    return ProxyProtocolV1().unpack(header)


def read_v2(header: bytes) -> ProxyResult:
    """The header as `proxyprotocol` reads it, its checksum found right."""
    result = ProxyProtocolV2().unpack(header)
    assert result.tlv.crc32c is not None
    return result


def whole(endpoint: Endpoint) -> int:
    """The address as a number in which IPv4 and what it is mapped to are the same."""
    octets = endpoint.address if len(endpoint.address) == 16 else bytes(10) + b"\xff\xff" + endpoint.address
    return int.from_bytes(octets)


def agrees(result: ProxyResult, client: Endpoint, gateway: Endpoint) -> bool:
    source, target = result.source, result.dest
    assert isinstance(source, tuple)
    assert isinstance(target, tuple)
    found = [(whole(Endpoint(address.packed, port)), port) for address, port in (source, target)]
    return found == [(whole(client), client.port), (whole(gateway), gateway.port)]


@given(ENDPOINTS, ENDPOINTS)
def test_version_1_is_read_as_it_was_meant(client: Endpoint, gateway: Endpoint) -> None:
    header = encode_v1(client, gateway)
    assert len(header) <= 107  # section 2.1
    assert agrees(read_v1(header), client, gateway)


@given(ENDPOINTS, ENDPOINTS, TLS)
def test_version_2_is_read_as_it_was_meant(client: Endpoint, gateway: Endpoint, tls: Tls) -> None:
    result = read_v2(encode_v2(client, gateway, tls, ID))
    assert agrees(result, client, gateway)
    assert result.tlv.unique_id == ID
    assert (result.tlv.alpn or b"") == tls.alpn
    ssl = result.tlv.ssl
    assert (ssl.version, ssl.cipher) == (tls.version, tls.cipher)
    assert (ssl.sig_alg or "", ssl.key_alg or "") == (tls.signature_algorithm, tls.key_algorithm)
    assert ssl.get(0x28, b"") == tls.certificate
    assert ssl.verified is (tls.has_certificate and tls.verify == 0)
    assert bool(ssl.client & SSLClient.PP2_CLIENT_CERT_SESS) is tls.has_certificate
    assert bool(ssl.client & SSLClient.PP2_CLIENT_CERT_CONN) is (tls.has_certificate and not tls.resumed)
    for told, known in (ssl.cn, tls.common_name), (result.tlv.authority, tls.server_name):
        assert told is None or (told == known and known.isprintable())


def test_the_line_of_version_1_is_that_of_the_specification() -> None:
    assert encode_v1(V4, HERE) == b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 8883\r\n"
    assert encode_v1(V6, V6) == b"PROXY TCP6 2001:db8::1 2001:db8::1 50000 50000\r\n"


def test_addresses_of_two_families_are_told_in_the_one_that_holds_both() -> None:
    assert encode_v1(V6, HERE) == b"PROXY TCP6 2001:db8::1 ::ffff:198.51.100.7 50000 8883\r\n"
    assert encode_v1(MAPPED, HERE) == encode_v1(V4, HERE)


@pytest.mark.parametrize(("client", "gateway"), [(None, HERE), (V4, None)])
def test_an_address_that_is_not_known_is_not_made_up(
    client: Endpoint | None, gateway: Endpoint | None
) -> None:
    assert encode_v1(client, gateway) == b"PROXY UNKNOWN\r\n"
    header = encode_v2(client, gateway, PLAIN, ID)
    assert isinstance(ProxyProtocolV2().unpack(header), ProxyResultUnknown)
    assert ProxyProtocolTLV(header[16:]).ssl.cn == "device-1"


@pytest.mark.parametrize("name", ["admin\0", "a\nb", "\x1b[2J", "a\x7f", "a\u202eb", "x" * 257, "é" * 200])
def test_a_name_that_is_no_plain_text_is_left_out_whole(name: str) -> None:
    tlv = read_v2(encode_v2(V4, HERE, PLAIN._replace(common_name=name, server_name=name), ID)).tlv
    assert (tlv.ssl.cn, tlv.authority) == (None, None)


def test_a_name_in_another_script_is_told_in_utf_8() -> None:
    assert read_v2(encode_v2(V4, HERE, PLAIN._replace(common_name="Gerät 7"), ID)).tlv.ssl.cn == "Gerät 7"


def test_a_client_without_a_certificate_is_not_verified() -> None:
    ssl = read_v2(encode_v2(V4, HERE, PLAIN._replace(has_certificate=False, common_name=""), ID)).tlv.ssl
    assert (ssl.client, ssl.verified, ssl.cn) == (SSLClient.PP2_CLIENT_SSL, False, None)


@pytest.mark.parametrize("size", [65_300, 65_500, 65_535, 70_000])
def test_a_certificate_that_makes_the_header_too_long_is_left_out_and_the_rest_is_there(size: int) -> None:
    header = encode_v2(V4, HERE, PLAIN._replace(certificate=bytes(size)), ID)
    ssl = read_v2(header).tlv.ssl
    assert len(header) <= 16 + 65_535
    assert ssl.get(0x28, b"") in (b"", bytes(size))
    assert ssl.cn == "device-1"


def test_a_long_certificate_is_told_as_long_as_there_is_room() -> None:
    ssl = read_v2(encode_v2(V4, HERE, PLAIN._replace(certificate=bytes(65_000)), ID)).tlv.ssl
    assert ssl[0x28] == bytes(65_000)


def test_a_connection_of_the_gateways_own_has_no_client() -> None:
    assert isinstance(read_v1(encode_v1_local()), ProxyResultUnknown)
    assert isinstance(read_v2(encode_v2_local()), ProxyResultLocal)
