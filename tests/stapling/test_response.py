"""What `verify_response` accepts, and each way in which a response can be wrong."""

from __future__ import annotations

import datetime as dt
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import StapleError
from gateway.stapling.request import build_request
from gateway.stapling.response import (
    CLOCK_SKEW,
    MAX_AGE_WITHOUT_NEXT_UPDATE,
    VerifiedResponse,
    verify_response,
    verify_staple,
)
from tests.authority import DAY, HOUR, NOW, Authority, KeyKind

if TYPE_CHECKING:
    from pathlib import Path

# Odd names and serials are made on purpose here; cryptography warns of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]

OCSP_SIGNING = (ExtendedKeyUsageOID.OCSP_SIGNING,)

CA = Authority.root("Test CA")
OTHER = Authority.root("Other CA")
SERVER = CA.issue("server", serial=0x1234)
DELEGATE = CA.issue("responder", usages=OCSP_SIGNING)
GOOD = CA.ocsp(SERVER.cert)


def verify(
    data: bytes, cert: x509.Certificate = SERVER.cert, issuer: x509.Certificate = CA.cert, *, now: int = NOW
) -> VerifiedResponse:
    return verify_staple(data, cert, issuer, now=now)


def refused(data: bytes, *, now: int = NOW) -> StapleError:
    with pytest.raises(StapleError) as caught:
        verify(data, now=now)
    assert str(caught.value).isprintable()
    return caught.value


def refusal(data: bytes, *, now: int = NOW) -> str:
    error = refused(data, now=now)
    assert not error.revoked
    return str(error)


def test_a_good_response_is_good_until_its_next_update() -> None:
    data = CA.ocsp(SERVER.cert, this_update=NOW - 10, next_update=NOW + HOUR)

    response = verify(data)

    assert response.der == data
    assert (response.this_update, response.next_update, response.expires) == (
        NOW - 10,
        NOW + HOUR,
        NOW + HOUR,
    )
    assert abs(response.produced_at - NOW) < HOUR


def test_without_next_update_it_is_good_for_a_day() -> None:
    data = CA.ocsp(SERVER.cert, this_update=NOW, next_update=None)

    response = verify(data)

    assert response.next_update == 0
    assert response.expires == NOW + MAX_AGE_WITHOUT_NEXT_UPDATE
    assert "too old" in refusal(data, now=NOW + MAX_AGE_WITHOUT_NEXT_UPDATE + 1)


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()])
@pytest.mark.parametrize("by_name", [False, True])
def test_each_form_of_cert_id_and_responder_id_is_understood(
    algorithm: hashes.HashAlgorithm, *, by_name: bool
) -> None:
    for signer in (None, DELEGATE):
        data = CA.ocsp(SERVER.cert, cert_id_hash=algorithm, by_name=by_name, signer=signer)
        assert verify(data).der == data


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519", "ed448"])
def test_every_kind_of_key_may_sign(kind: KeyKind) -> None:
    issuer = Authority.root("Test CA", kind=kind)
    cert = issuer.issue("server").cert

    assert verify(issuer.ocsp(cert), cert, issuer.cert).expires == NOW + DAY


def test_the_issuer_may_send_its_own_certificate_along() -> None:
    assert verify(CA.ocsp(SERVER.cert, include=[CA.cert])).expires == NOW + DAY


def test_the_delegate_is_found_among_other_certificates() -> None:
    data = CA.ocsp(SERVER.cert, signer=DELEGATE, include=[OTHER.cert, CA.cert, DELEGATE.cert])

    assert verify(data).der == data


def test_it_is_not_stapled_after_the_delegate_expires() -> None:
    delegate = CA.issue("responder", usages=OCSP_SIGNING, not_after=NOW + HOUR)

    assert verify(CA.ocsp(SERVER.cert, signer=delegate)).expires == NOW + HOUR


class TestNoAnswer:
    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "not an OCSP response, it is empty"),
            (b"garbage", "not an OCSP response, it begins with 'garbage'"),
            (b"<html>\n<head>", "not an OCSP response, it begins with '<html>\\n<head>'"),
            (b"\x30\x00", "not an OCSP response in DER: "),
            (b"\x30\x80\x00\x00", "not an OCSP response in DER: "),
        ],
    )
    def test_garbage_is_refused(self, data: bytes, said: str) -> None:
        assert refusal(data).startswith(said)

    def test_what_is_cut_off_or_goes_on_is_refused(self) -> None:
        assert refusal(GOOD[:-1]).startswith("not an OCSP response")
        assert refusal(GOOD + b"\0").startswith("not an OCSP response")

    @pytest.mark.parametrize(
        ("status", "word"),
        [
            (ocsp.OCSPResponseStatus.TRY_LATER, "tryLater"),
            (ocsp.OCSPResponseStatus.UNAUTHORIZED, "unauthorized"),
            (ocsp.OCSPResponseStatus.INTERNAL_ERROR, "internalError"),
            (ocsp.OCSPResponseStatus.MALFORMED_REQUEST, "malformedRequest"),
            (ocsp.OCSPResponseStatus.SIG_REQUIRED, "sigRequired"),
        ],
    )
    def test_a_responder_that_will_not_answer_is_quoted(
        self, status: ocsp.OCSPResponseStatus, word: str
    ) -> None:
        data = ocsp.OCSPResponseBuilder.build_unsuccessful(status)

        assert f"no answer: {word}" in refusal(data.public_bytes(serialization.Encoding.DER))


class TestCertId:
    def test_another_serial_is_not_ours(self) -> None:
        other = CA.issue("server", serial=0x9999)

        assert refusal(CA.ocsp(other.cert)) == (
            "the response is not about CN=server (serial 1234); it answers for serial 9999"
        )

    def test_our_serial_of_another_issuer_is_not_ours(self) -> None:
        assert "serial 1234 of another issuer" in refusal(CA.ocsp(SERVER.cert, issuer=OTHER.cert))

    def test_an_issuer_of_the_same_name_with_another_key_is_another_issuer(self) -> None:
        assert "of another issuer" in refusal(CA.ocsp(SERVER.cert, issuer=Authority.root("Test CA").cert))


class TestSigner:
    def test_another_ca_may_not_answer(self) -> None:
        data = CA.ocsp(SERVER.cert, signer=OTHER)

        assert "the responder CN=Other CA" in refusal(data)
        assert "was not appointed by CN=Test CA" in refusal(data)

    def test_an_unknown_key_may_not_answer(self) -> None:
        assert "which is neither CN=Test CA" in refusal(CA.ocsp(SERVER.cert, signer=OTHER, include=[]))

    def test_a_delegate_that_did_not_send_its_certificate_is_unknown(self) -> None:
        text = refusal(CA.ocsp(SERVER.cert, signer=DELEGATE, include=[], by_name=True))

        assert text.startswith("signed by CN=responder, which is neither")

    def test_a_certificate_of_the_ca_without_that_right_may_not_answer(self) -> None:
        assert "no extendedKeyUsage OCSPSigning" in refusal(CA.ocsp(SERVER.cert, signer=CA.issue("client")))

    def test_a_certificate_without_any_usage_may_not_answer(self) -> None:
        assert "no extendedKeyUsage OCSPSigning" in refusal(
            CA.ocsp(SERVER.cert, signer=CA.issue("client", usages=()))
        )

    def test_the_certificate_itself_may_not_answer_for_itself(self) -> None:
        assert "OCSPSigning" in refusal(CA.ocsp(SERVER.cert, signer=SERVER))

    def test_a_delegate_of_another_ca_may_not_answer(self) -> None:
        delegate = OTHER.issue("responder", usages=OCSP_SIGNING)

        assert "it was issued by CN=Other CA" in refusal(CA.ocsp(SERVER.cert, signer=delegate))

    def test_a_delegate_of_a_ca_of_the_same_name_may_not_answer(self) -> None:
        delegate = Authority.root("Test CA").issue("responder", usages=OCSP_SIGNING)

        assert "was not appointed" in refusal(CA.ocsp(SERVER.cert, signer=delegate))

    def test_a_delegate_of_a_ca_below_may_not_answer(self) -> None:
        delegate = CA.intermediate("Sub").issue("responder", usages=OCSP_SIGNING)

        assert "it was issued by CN=Sub" in refusal(CA.ocsp(SERVER.cert, signer=delegate))

    @pytest.mark.parametrize(
        ("begins", "ends", "fault"),
        [(NOW - 9 * DAY, NOW - DAY, "has expired"), (NOW + HOUR, NOW + DAY, "is not yet valid")],
        ids=["expired", "not yet valid"],
    )
    def test_a_delegate_answers_within_its_validity(self, begins: int, ends: int, fault: str) -> None:
        delegate = CA.issue("responder", usages=OCSP_SIGNING, not_before=begins, not_after=ends)

        assert fault in refusal(CA.ocsp(SERVER.cert, signer=delegate))


class TestSignature:
    def test_a_key_that_is_not_the_named_ones_is_found_out(self) -> None:
        forged = CA.ocsp(SERVER.cert, signer=Authority.root("Test CA"), include=[], by_name=True)

        assert "signature does not verify with the key of CN=Test CA" in refusal(forged)

    def test_a_delegates_certificate_with_another_key_is_found_out(self) -> None:
        impostor = OTHER.issue("responder", usages=OCSP_SIGNING)
        forged = CA.ocsp(SERVER.cert, signer=impostor, include=[DELEGATE.cert], by_name=True)

        assert "signature does not verify with the key of CN=responder" in refusal(forged)

    def test_sha_1_is_refused(self) -> None:
        weak = bytes.fromhex("06072a8648ce3d0401")
        strong = bytes.fromhex("06082a8648ce3d040302")
        # Named in place of the real one, all lengths put right: the builder cannot write it any more.
        parsed = ocsp.load_der_ocsp_response(GOOD)
        at = GOOD.index(parsed.tbs_response_bytes) + len(parsed.tbs_response_bytes)
        changed = GOOD[:at] + GOOD[at:].replace(b"\x30\x0a" + strong, b"\x30\x09" + weak)
        changed = _shorten(changed)

        assert "signature uses sha1" in refusal(changed)


def _shorten(data: bytes) -> bytes:
    """Take one from each length around the signature algorithm, which lost a byte."""
    out = bytearray(data)
    # What stands before the next of them: responseStatus (3 bytes), responseType (11).
    at = 0
    for skip in (0, 3, 0, 11, 0):
        at += skip
        octets = out[at + 1] & 0x7F
        length = int.from_bytes(out[at + 2 : at + 2 + octets], "big") - 1
        out[at + 2 : at + 2 + octets] = length.to_bytes(octets, "big")
        at += 2 + octets
    return bytes(out)


class TestTime:
    def test_one_that_has_expired_is_refused(self) -> None:
        data = CA.ocsp(SERVER.cert, this_update=NOW - DAY, next_update=NOW - 5)

        assert refusal(data) == "the response has expired: nextUpdate was 5 s ago"
        assert verify(data, now=NOW - 5).expires == NOW - 5

    def test_one_from_the_future_is_refused(self) -> None:
        data = CA.ocsp(SERVER.cert, this_update=NOW + CLOCK_SKEW + 1)

        assert "301 s in the future" in refusal(data)
        assert verify(data, now=NOW + 1).this_update == NOW + CLOCK_SKEW + 1


class TestStatus:
    def test_revoked_says_since_when_and_why(self) -> None:
        data = CA.ocsp(
            SERVER.cert,
            status=ocsp.OCSPCertStatus.REVOKED,
            revoked_at=1_700_000_000,
            reason=x509.ReasonFlags.key_compromise,
        )

        error = refused(data)

        assert error.revoked
        assert str(error) == "the certificate is revoked since 2023-11-14T22:13:20Z (reason keyCompromise)"

    @pytest.mark.parametrize("reason", [None, *x509.ReasonFlags])
    def test_revoked_for_any_reason(self, reason: x509.ReasonFlags | None) -> None:
        data = CA.ocsp(SERVER.cert, status=ocsp.OCSPCertStatus.REVOKED, reason=reason)

        assert refused(data).revoked

    def test_only_who_may_say_so_revokes(self) -> None:
        data = CA.ocsp(SERVER.cert, status=ocsp.OCSPCertStatus.REVOKED, signer=OTHER)

        assert not refused(data).revoked

    def test_unknown_is_not_good(self) -> None:
        assert "status unknown" in refusal(CA.ocsp(SERVER.cert, status=ocsp.OCSPCertStatus.UNKNOWN))


def with_extension(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    """A good response with an extension of the response."""
    when = dt.datetime.fromtimestamp(NOW, dt.UTC)
    good = ocsp.OCSPCertStatus.GOOD
    builder = ocsp.OCSPResponseBuilder().add_response(
        SERVER.cert, CA.cert, hashes.SHA256(), good, when, None, None, None
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, CA.cert)
    builder = builder.add_extension(value, critical=critical)
    return builder.sign(CA.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


class TestNonce:
    """RFC 9654, section 2.1."""

    ASKED = bytes(range(32))

    def status(self, data: bytes, nonce: bytes | None) -> str:
        return verify_response(data, SERVER.cert, CA.cert, now=NOW, nonce=nonce).status

    def test_the_one_that_was_sent_is_good(self) -> None:
        assert self.status(with_extension(x509.OCSPNonce(self.ASKED)), self.ASKED) == "good"

    def test_none_is_good_as_responders_that_answer_from_a_store_have_none(self) -> None:
        assert self.status(GOOD, self.ASKED) == "good"

    @pytest.mark.parametrize("other", [bytes(32), ASKED[:-1], ASKED + b"x"])
    def test_another_one_is_an_old_answer(self, other: bytes) -> None:
        with pytest.raises(StapleError, match="the nonce is that of another request"):
            self.status(with_extension(x509.OCSPNonce(other)), self.ASKED)

    @pytest.mark.parametrize("critical", [False, True])
    def test_one_that_nobody_asked_for_does_not_matter(self, *, critical: bool) -> None:
        assert self.status(with_extension(x509.OCSPNonce(b"nonce"), critical=critical), None) == "good"


class TestVerdict:
    """What a responder says is told whatever it is; only good is stapled."""

    def test_revoked_with_when_and_why(self) -> None:
        data = CA.ocsp(
            SERVER.cert,
            status=ocsp.OCSPCertStatus.REVOKED,
            revoked_at=NOW - DAY,
            reason=x509.ReasonFlags.ca_compromise,
        )
        found = verify_response(data, SERVER.cert, CA.cert, now=NOW)
        assert (found.status, found.revoked_at, found.reason) == ("revoked", NOW - DAY, "cACompromise")
        assert found.expires == NOW + DAY

    def test_unknown(self) -> None:
        data = CA.ocsp(SERVER.cert, status=ocsp.OCSPCertStatus.UNKNOWN)
        assert verify_response(data, SERVER.cert, CA.cert, now=NOW).status == "unknown"

    def test_the_delegate_that_signed_is_told(self) -> None:
        delegated = verify_response(CA.ocsp(SERVER.cert, signer=DELEGATE), SERVER.cert, CA.cert, now=NOW)
        assert delegated.delegate == DELEGATE.cert
        assert verify_response(GOOD, SERVER.cert, CA.cert, now=NOW).delegate is None


def test_a_critical_stranger_is_refused() -> None:
    stranger = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert "critical extension 1.2.3.4" in refusal(with_extension(stranger, critical=True))
    assert verify(with_extension(stranger)).status == "good"


def test_an_issuer_that_has_expired_answers_no_more() -> None:
    issuer = Authority.root("Test CA", not_after=NOW + HOUR)
    cert = issuer.issue("server").cert
    data = issuer.ocsp(cert)
    assert verify(data, cert, issuer.cert).expires == NOW + HOUR
    with pytest.raises(
        StapleError, match=r"CN=Test CA .*may not answer any more: its certificate has expired"
    ):
        verify(data, cert, issuer.cert, now=NOW + HOUR + 1)


@pytest.mark.parametrize("delegated", [False, True])
@pytest.mark.parametrize("status", ["good", "revoked"])
def test_a_response_of_openssl_is_understood(tmp_path: Path, status: str, *, delegated: bool) -> None:
    ca, _ = CA.write(tmp_path, "ca")
    signer, signer_key = (DELEGATE if delegated else CA).write(tmp_path, "signer")
    flag, when = ("R", "250101000000Z,superseded") if status == "revoked" else ("V", "")
    (tmp_path / "index.txt").write_text(f"{flag}\t360101000000Z\t{when}\t1234\tunknown\t/CN=server\n")
    (tmp_path / "request").write_bytes(build_request(SERVER.cert, CA.cert))
    answer = ["openssl", "ocsp", "-index", "index.txt", "-reqin", "request", "-respout", "response"]
    subprocess.run(
        [*answer, "-CA", ca, "-rsigner", signer, "-rkey", signer_key, "-ndays", "1"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    data = (tmp_path / "response").read_bytes()
    now = int(ocsp.load_der_ocsp_response(data).produced_at_utc.timestamp())

    if status == "good":
        assert verify(data, now=now).expires == now + DAY
    else:
        with pytest.raises(StapleError, match=r"revoked since 2025-01-01T00:00:00Z .reason superseded"):
            verify(data, now=now)


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_are_a_response_or_a_staple_error(data: bytes) -> None:
    with pytest.raises(StapleError):
        verify(data)


DELEGATED = CA.ocsp(SERVER.cert, signer=DELEGATE)


def is_still_the_same_answer(changed: bytes, original: bytes) -> bool:
    """Whether an accepted mutant has all that is signed of the original: the wrapper and `certs` are not."""
    return (
        ocsp.load_der_ocsp_response(changed).tbs_response_bytes
        == ocsp.load_der_ocsp_response(original).tbs_response_bytes
    )


@given(st.sampled_from([GOOD, DELEGATED]), st.integers(0, len(DELEGATED) * 8 - 1))
@settings(max_examples=400, deadline=None)
@example(GOOD, 0)
def test_no_flipped_bit_changes_the_answer(original: bytes, bit: int) -> None:
    flipped = bytearray(original)
    flipped[bit // 8 % len(original)] ^= 1 << bit % 8

    try:
        accepted = verify(bytes(flipped))
    except StapleError as exc:
        assert not exc.revoked  # noqa: PT017 - either outcome is good
    else:
        assert is_still_the_same_answer(accepted.der, original)


@given(
    st.sampled_from([GOOD, DELEGATED]),
    st.integers(0, len(DELEGATED)),
    st.integers(0, 8),
    st.binary(max_size=8),
)
@settings(deadline=None)
def test_no_other_bytes_change_the_answer(original: bytes, at: int, cut: int, put: bytes) -> None:
    changed = original[:at] + put + original[at + cut :]

    try:
        accepted = verify(changed)
    except StapleError as exc:
        assert not exc.revoked  # noqa: PT017 - either outcome is good
    else:
        assert is_still_the_same_answer(accepted.der, original)
