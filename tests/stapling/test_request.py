"""What is asked, and how it is put into a URL."""

from __future__ import annotations

import base64
from urllib.parse import quote, unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StapleError
from gateway.stapling.request import NONCE_OCTETS, CertIdHash, build_request, get_url
from gateway.stapling.response import verify_staple
from tests.authority import NOW, Authority, common_name

CA = Authority.root("Test CA")
SERVER = CA.issue("server", serial=0x1234)


@pytest.mark.parametrize("cert_id_hash", ["sha1", "sha256"])
def test_the_request_asks_for_this_certificate(cert_id_hash: CertIdHash) -> None:
    request = ocsp.load_der_ocsp_request(build_request(SERVER.cert, CA.cert, cert_id_hash=cert_id_hash))

    assert request.serial_number == 0x1234
    assert request.hash_algorithm.name == cert_id_hash
    assert list(request.extensions) == []


def test_sha_1_is_the_default_because_every_responder_expects_it() -> None:
    request = ocsp.load_der_ocsp_request(build_request(SERVER.cert, CA.cert))

    assert request.hash_algorithm.name == "sha1"


def test_a_nonce_goes_along_where_one_is_given() -> None:
    nonce = bytes(range(NONCE_OCTETS))
    request = ocsp.load_der_ocsp_request(build_request(SERVER.cert, CA.cert, nonce=nonce))

    (extension,) = request.extensions
    assert extension.value == x509.OCSPNonce(nonce)
    assert not extension.critical


def test_the_issuer_is_named_as_the_certificate_names_it() -> None:
    """Not as the CA writes its own name: the same text in another string type hashes to another CertID."""
    utf8 = common_name("Test CA")
    printable = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Test CA", x509.name._ASN1Type.PrintableString)]
    )
    ca = Authority.root(printable)
    named = Authority.root(utf8, key=ca.key).issue("server")

    request = ocsp.load_der_ocsp_request(build_request(named.cert, ca.cert))

    digest = hashes.Hash(hashes.SHA1())
    digest.update(utf8.public_bytes())
    assert request.issuer_name_hash == digest.finalize()
    response = Authority(ca.cert, ca.key).ocsp(named.cert)
    assert verify_staple(response, named.cert, ca.cert, now=NOW).status == "good"


def test_a_certificate_that_cannot_be_asked_about_is_told() -> None:
    with pytest.raises(StapleError, match=r"no OCSP request can be made for CN=server \(serial 1234\): "):
        build_request(SERVER.cert, CA.cert, nonce="text")  # type: ignore[arg-type]  # the simplest way to fail


class TestGet:
    """RFC 5019, section 5."""

    def test_the_request_is_base64_in_the_path_with_its_signs_escaped(self) -> None:
        request = b"\xfb\xff\xbf\x00"

        assert get_url("http://ocsp.example", request) == "http://ocsp.example/%2B%2F%2B%2FAA%3D%3D"

    def test_there_is_one_slash_before_it(self) -> None:
        assert get_url("http://ocsp.example/a/", b"abc") == "http://ocsp.example/a/YWJj"

    @given(st.binary(max_size=150))
    def test_the_request_comes_out_as_it_went_in_or_is_posted(self, request: bytes) -> None:
        url = get_url("http://ocsp.example/ca", request)

        wanted = f"http://ocsp.example/ca/{quote(base64.b64encode(request), safe='')}"
        assert (url is None) == (len(wanted) >= 255)
        if url is not None:
            assert base64.b64decode(unquote(url.removeprefix("http://ocsp.example/ca/"))) == request

    def test_an_ordinary_request_is_short_enough(self) -> None:
        assert get_url("http://ocsp.example/", build_request(SERVER.cert, CA.cert)) is not None

    def test_a_long_one_is_posted(self) -> None:
        request = build_request(SERVER.cert, CA.cert, cert_id_hash="sha256", nonce=bytes(NONCE_OCTETS))

        assert get_url(f"http://{'o' * 80}.example/", request) is None

    @pytest.mark.parametrize("url", ["http://ocsp.example/?ca=1", "http://ocsp.example/#1", "http://["])
    def test_a_url_without_room_for_a_path_is_posted_to(self, url: str) -> None:
        assert get_url(url, b"abc") is None
