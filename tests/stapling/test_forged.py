"""Each way in which a response can be wrong, one test each, and the unusual ways in which it can be right."""

from __future__ import annotations

import copy
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import der
from gateway.errors import StapleError
from gateway.stapling.response import CLOCK_SKEW, verify_response, verify_staple
from tests.authority import (
    DAY,
    ECDSA_SHA1,
    ECDSA_SHA256,
    ED25519,
    HOUR,
    NOW,
    RSA_MD5,
    RSA_SHA256,
    Authority,
    sign,
    tlv,
)
from tests.end_to_end.parts import program
from tests.stapling.forgery import (
    GOOD,
    UNKNOWN,
    cert_id,
    critical,
    harmless,
    moment,
    response,
    revoked,
    single,
)
from tests.stapling.test_response import OCSP_SIGNING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Mutants have odd names and serials; cryptography warns of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]

CA = Authority.root("Test CA")
OTHER_CA = Authority.root("Other CA")
SERVER = CA.issue("server", serial=0x1234)
OTHER = CA.issue("other", serial=0x5678)
DELEGATE = CA.issue("responder", usages=OCSP_SIGNING)

OURS = cert_id(SERVER.cert, CA.cert)
THEIRS = cert_id(OTHER.cert, CA.cert)
PLAIN = response(single(OURS), signer=CA)
DELEGATED = response(single(OURS), signer=DELEGATE, certs=[DELEGATE.der])


def status(data: bytes, *, now: int = NOW) -> str:
    return verify_response(data, SERVER.cert, CA.cert, now=now).status


def refusal(data: bytes, *, now: int = NOW) -> str:
    with pytest.raises(StapleError) as caught:
        verify_staple(data, SERVER.cert, CA.cert, now=now)
    text = str(caught.value)
    assert text.isprintable()
    assert not caught.value.revoked
    return text


def key_hash_responder(ca: Authority) -> bytes:
    """ResponderID byKey: what cryptography's builder writes for it."""
    data = ca.ocsp(SERVER.cert)
    found = ocsp.load_der_ocsp_response(data).responder_key_hash
    assert found is not None
    return tlv(0xA2, tlv(0x04, found))


RIGHT = {
    "as it should be": PLAIN,
    "of a delegate": DELEGATED,
    "by key hash": response(single(OURS), signer=CA, responder=key_hash_responder(CA)),
    "with a SHA-256 CertID": response(single(cert_id(SERVER.cert, CA.cert, algorithm="sha256")), signer=CA),
    "behind another's answer": response(single(THEIRS), single(OURS), signer=CA),
    "before another's answer": response(single(OURS), single(THEIRS, status=revoked()), signer=CA),
    "among answers of other hashes": response(
        single(cert_id(SERVER.cert, CA.cert, algorithm="sha512")), single(OURS), signer=CA
    ),
    "twice": response(single(OURS), single(OURS), signer=CA),
    "with harmless extensions": response(
        single(OURS, extensions=harmless("1.2.3")), signer=CA, extensions=harmless("1.2.4")
    ),
    "with certificates that have no part in it": response(
        single(OURS), signer=DELEGATE, certs=[OTHER.der, DELEGATE.der, OTHER_CA.der]
    ),
    "as far ahead as a clock may be": response(single(OURS, this_update=moment(NOW + CLOCK_SKEW)), signer=CA),
    "in its last second": response(single(OURS, next_update=tlv(0xA0, moment(NOW))), signer=CA),
}


@pytest.mark.parametrize("data", RIGHT.values(), ids=RIGHT)
def test_it_is_good(data: bytes) -> None:
    found = verify_staple(data, SERVER.cert, CA.cert, now=NOW)
    assert found.der == data
    assert found.expires >= NOW


def test_openssl_finds_good_whatever_is_found_good_here(tmp_path: Path) -> None:
    """The client of OpenSSL looks at clocks, so the one with the clock ahead is told of its tolerance."""
    ca, _ = CA.write(tmp_path, "ca")
    server, _ = SERVER.write(tmp_path, "server")
    for name, data in RIGHT.items():
        # It is over when openssl looks.
        if name == "in its last second":
            continue
        (tmp_path / "response").write_bytes(data)
        digest = ["-sha256"] if "SHA-256" in name else ["-sha1"]
        done = subprocess.run(
            [
                program("openssl"),
                "ocsp",
                "-respin",
                tmp_path / "response",
                "-CAfile",
                ca,
                "-issuer",
                ca,
                *digest,
                "-cert",
                server,
                "-no_nonce",
                "-validity_period",
                str(HOUR),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Response verify OK" in done.stderr, (name, done.stderr)
        assert f"{server}: good" in done.stdout, (name, done.stdout)


@pytest.mark.parametrize(
    ("singles", "worst"),
    [
        ([GOOD, revoked()], "revoked"),
        ([revoked(), GOOD], "revoked"),
        ([GOOD, UNKNOWN], "unknown"),
        ([UNKNOWN, GOOD, revoked()], "revoked"),
    ],
)
def test_of_two_answers_about_one_certificate_the_worse_counts(singles: list[bytes], worst: str) -> None:
    data = response(*(single(OURS, status=each) for each in singles), signer=CA)
    assert status(data) == worst
    with pytest.raises(StapleError):
        verify_staple(data, SERVER.cert, CA.cert, now=NOW)


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (b"", "unspecified"),
        (tlv(0xA0, b"\x0a\x01\x01"), "keyCompromise"),
        (tlv(0xA0, b"\x0a\x01\x0a"), "aACompromise"),
    ],
)
def test_revoked_tells_when_and_why(reason: bytes, name: str) -> None:
    data = response(single(OURS, status=revoked(NOW - HOUR, reason)), signer=CA)
    found = verify_response(data, SERVER.cert, CA.cert, now=NOW)
    assert (found.status, found.revoked_at, found.reason) == ("revoked", NOW - HOUR, name)


NO_RESPONSE = "not an OCSP response"
WRONG_CERTIFICATE = "the response is not about CN=server (serial 1234)"


def changed_delegate(old: bytes, new: bytes) -> bytes:
    """The delegate's certificate with other bytes in it, which the CA has signed."""
    assert len(old) == len(new)
    listed = DELEGATE.cert.tbs_certificate_bytes
    assert old in listed
    listed = listed.replace(old, new)
    return tlv(0x30, listed, ECDSA_SHA256, tlv(0x03, b"\0", sign(CA.key, ECDSA_SHA256, listed)))


WRONG: dict[str, tuple[bytes, str]] = {
    # The wrapper
    "nothing behind the status": (tlv(0x30, b"\x0a\x01\x00"), NO_RESPONSE),
    "a status that RFC 6960 does not have": (tlv(0x30, b"\x0a\x01\x04"), NO_RESPONSE),
    "a status with an answer behind it": (
        response(single(OURS), signer=CA, status=b"\x0a\x01\x03"),
        "the responder gives no answer: tryLater",
    ),
    "a type of response that is not basic": (
        response(single(OURS), signer=CA, response_type=bytes.fromhex("06092b0601050507300109")),
        NO_RESPONSE,
    ),
    "more inside than a response": (response(single(OURS), signer=CA, behind=b"\x05\x00"), NO_RESPONSE),
    "bytes behind its end": (PLAIN + b"\0", NO_RESPONSE),
    "the last byte missing": (PLAIN[:-1], NO_RESPONSE),
    "a length in more octets than it takes": (
        b"\x30\x83\x00" + (len(PLAIN) - 4).to_bytes(2) + PLAIN[4:],
        NO_RESPONSE,
    ),
    "a length that is told by an end": (b"\x30\x80" + PLAIN[4:] + b"\0\0", NO_RESPONSE),
    # ResponseData
    "a version that is not v1": (response(single(OURS), signer=CA, version=b"\x02\x01\x01"), NO_RESPONSE),
    "no responder": (response(single(OURS), signer=CA, responder=b""), NO_RESPONSE),
    "a responder of another name": (
        response(single(OURS), signer=CA, responder=tlv(0xA1, OTHER_CA.cert.subject.public_bytes())),
        "signed by CN=Other CA, which is neither CN=Test CA",
    ),
    "a responder of another key": (
        response(single(OURS), signer=CA, responder=tlv(0xA2, tlv(0x04, bytes(20)))),
        f"signed by the key {'00' * 20}, which is neither CN=Test CA",
    ),
    "a key hash that is cut off": (
        response(single(OURS), signer=CA, responder=tlv(0xA2, key_hash_responder(CA)[2:-1])),
        NO_RESPONSE,
    ),
    "a time that is no GeneralizedTime": (
        response(single(OURS), signer=CA, produced_at=tlv(0x17, b"260101000000Z")),
        NO_RESPONSE,
    ),
    "a time with parts of seconds": (
        response(single(OURS), signer=CA, produced_at=tlv(0x18, b"20260101000000.5Z")),
        NO_RESPONSE,
    ),
    "a day that no calendar has": (
        response(single(OURS), signer=CA, produced_at=tlv(0x18, b"20260230000000Z")),
        NO_RESPONSE,
    ),
    "no answers": (response(signer=CA), WRONG_CERTIFICATE),
    "a critical extension": (
        response(single(OURS), signer=CA, extensions=critical("1.2.3.4")),
        "critical extension 1.2.3.4 of the response is not known",
    ),
    "an extension twice": (
        response(single(OURS), signer=CA, extensions=harmless("1.2.3.4") * 2),
        "extensions in the OCSP response",
    ),
    # CertID
    "an answer about another certificate": (
        response(single(THEIRS), signer=CA),
        f"{WRONG_CERTIFICATE}; it answers for serial 5678",
    ),
    "another serial": (
        response(single(cert_id(SERVER.cert, CA.cert, serial=0x1235)), signer=CA),
        f"{WRONG_CERTIFICATE}; it answers for serial 1235",
    ),
    "a serial with another sign": (
        response(single(cert_id(SERVER.cert, CA.cert, serial=-0x1234)), signer=CA),
        f"{WRONG_CERTIFICATE}; it answers for serial -1234",
    ),
    "another issuer's name": (
        response(single(cert_id(SERVER.cert, CA.cert, name_hash=bytes(20))), signer=CA),
        f"{WRONG_CERTIFICATE}; it answers for serial 1234 of another issuer",
    ),
    "another issuer's key": (
        response(single(cert_id(SERVER.cert, CA.cert, key_hash=bytes(20))), signer=CA),
        f"{WRONG_CERTIFICATE}; it answers for serial 1234 of another issuer",
    ),
    "hashes that are not of the algorithm": (
        response(
            single(cert_id(SERVER.cert, CA.cert, oid=bytes.fromhex("0609608648016503040201"))), signer=CA
        ),
        f"{WRONG_CERTIFICATE}; it answers for serial 1234 of another issuer",
    ),
    "a hash that nobody knows": (
        response(single(cert_id(SERVER.cert, CA.cert, oid=bytes.fromhex("06032a0304"))), signer=CA),
        NO_RESPONSE,
    ),
    # CertStatus
    "a status that is none of the three": (
        response(single(OURS, status=b"\x83\x00"), signer=CA),
        NO_RESPONSE,
    ),
    "good with something in it": (response(single(OURS, status=b"\x80\x01\x00"), signer=CA), NO_RESPONSE),
    "good that is put together": (response(single(OURS, status=b"\xa0\x02\x05\x00"), signer=CA), NO_RESPONSE),
    "revoked without a time": (response(single(OURS, status=b"\xa1\x00"), signer=CA), NO_RESPONSE),
    "revoked for a reason that is none": (
        response(single(OURS, status=revoked(reason=tlv(0xA0, b"\x0a\x01\x07"))), signer=CA),
        NO_RESPONSE,
    ),
    "unknown": (
        response(single(OURS, status=UNKNOWN), signer=CA),
        "the responder does not know the certificate (status unknown)",
    ),
    # Times
    "not yet valid": (
        response(single(OURS, this_update=moment(NOW + CLOCK_SKEW + 1)), signer=CA),
        f"thisUpdate is {CLOCK_SKEW + 1} s in the future",
    ),
    "expired": (
        response(single(OURS, next_update=tlv(0xA0, moment(NOW - 1))), signer=CA),
        "the response has expired: nextUpdate was 1 s ago",
    ),
    "ended before it began": (
        response(
            single(OURS, this_update=moment(NOW + 60), next_update=tlv(0xA0, moment(NOW + 30))), signer=CA
        ),
        "nextUpdate is 30 s before thisUpdate",
    ),
    "one of two answers expired": (
        response(single(OURS), single(OURS, next_update=tlv(0xA0, moment(NOW - 1))), signer=CA),
        "the response has expired",
    ),
    "old, and without an end": (
        response(single(OURS, this_update=moment(NOW - 2 * DAY), next_update=b""), signer=CA),
        f"the response is too old: no nextUpdate, thisUpdate was {2 * DAY} s ago",
    ),
    "a nextUpdate that is empty": (
        response(single(OURS, next_update=b"\xa0\x00"), signer=CA),
        NO_RESPONSE,
    ),
    # singleExtensions
    "a critical extension of the answer": (
        response(single(OURS, extensions=critical("1.2.3.4")), signer=CA),
        "critical extension 2a0304 of the answer is not known",
    ),
    # The signature
    "a signature of another key": (
        response(single(OURS), signer=OTHER_CA, responder=tlv(0xA1, CA.cert.subject.public_bytes())),
        "signature does not verify with the key of CN=Test CA",
    ),
    "no signature": (
        response(single(OURS), signer=CA, signature=b"\x03\x01\x00"),
        "signature does not verify with the key of CN=Test CA",
    ),
    "a signature of some bits": (
        response(single(OURS), signer=CA, signature=b"\x03\x03\x04\x00\x10"),
        "signature does not verify",
    ),
    "a signature with SHA-1": (
        response(single(OURS), signer=CA, algorithm=ECDSA_SHA1),
        "signature uses sha1, which can be forged",
    ),
    "a signature with MD5": (
        response(single(OURS), signer=CA, named_algorithm=RSA_MD5),
        "signature uses md5, which can be forged",
    ),
    "a signature of another kind than the key": (
        response(single(OURS), signer=CA, named_algorithm=RSA_SHA256),
        "does not fit the key",
    ),
    "a signature of a kind that is another's": (
        response(single(OURS), signer=CA, named_algorithm=ED25519),
        "does not fit the key",
    ),
    "a signature of a kind that nobody knows": (
        response(single(OURS), signer=CA, named_algorithm=tlv(0x30, bytes.fromhex("06032a0304"))),
        "signature algorithm",
    ),
    # Who signed
    "a delegate that sends no certificate": (
        response(single(OURS), signer=DELEGATE),
        "signed by CN=responder, which is neither CN=Test CA",
    ),
    "a certificate that is none": (
        response(single(OURS), signer=DELEGATE, certs=[b"\x30\x00"]),
        NO_RESPONSE,
    ),
    "a delegate whose key is of a curve that nobody knows": (
        response(
            single(OURS),
            signer=DELEGATE,
            certs=[changed_delegate(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030163"))],
        ),
        "cannot be used: Curve 1.2.840.10045.3.1.99 is not supported",
    ),
    "a delegate whose issuer cannot be read": (
        response(
            single(OURS),
            signer=DELEGATE,
            certs=[changed_delegate(b"\x0c\x07Test CA", b"\x0c\x07\xffest CA")],
        ),
        "was not appointed by CN=Test CA",
    ),
    "another certificate of the CA": (
        response(single(OURS), signer=OTHER, certs=[OTHER.der]),
        "no extendedKeyUsage OCSPSigning",
    ),
}


@pytest.mark.parametrize(("data", "said"), WRONG.values(), ids=WRONG)
def test_it_is_refused(data: bytes, said: str) -> None:
    assert said in refusal(data)


@pytest.mark.parametrize("nocheck", [False, True])
def test_a_delegate_is_told_whether_or_not_it_asks_not_to_be_checked(*, nocheck: bool) -> None:
    """id-pkix-ocsp-nocheck (RFC 6960, section 4.2.2.2.1)."""
    extensions = [x509.OCSPNoCheck()] if nocheck else []
    delegate = CA.issue("responder", usages=OCSP_SIGNING, extensions=extensions)
    data = response(single(OURS), signer=delegate, certs=[delegate.der])
    assert verify_staple(data, SERVER.cert, CA.cert, now=NOW).delegate == delegate.cert


def test_a_delegate_whose_certificate_has_a_critical_extension_that_nobody_knows_may_not_answer() -> None:
    """RFC 5280, section 4.2."""
    stranger = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    delegate = CA.issue("responder", usages=OCSP_SIGNING, critical=[stranger])
    data = response(single(OURS), signer=delegate, certs=[delegate.der])
    assert "its critical extension 1.2.3.4 is not known" in refusal(data)


@dataclass
class Node:
    """One element of DER: its content, or the elements in it."""

    tag: int
    content: bytes = b""
    inside: list[Node] | None = None

    @classmethod
    def all(cls, data: bytes) -> list[Node]:
        """The elements that `data` is made of, to the leaves; an OCTET STRING may hold others."""
        found, at = [], 0
        while at < len(data):
            element = der.read(data, at)
            node = cls(data[at], data[element.content])
            if node.tag & 0x20 or (node.tag == 0x04 and node.content[:1] == b"\x30"):
                node.inside = cls.all(node.content)
            found.append(node)
            at = element.end
        return found

    def der(self) -> bytes:
        """Encoded again, all lengths right."""
        return tlv(self.tag, self.content if self.inside is None else b"".join(n.der() for n in self.inside))

    def places(self) -> Iterator[tuple[list[Node], int]]:
        """Every element below this one, as the list that it is in and where."""
        for index, node in enumerate(self.inside or []):
            yield self.inside or [], index
            yield from node.places()


@st.composite
def mutants(draw: st.DrawFn, original: bytes) -> bytes:
    """The response, elements taken out, put in twice, exchanged or changed; lengths are put right."""
    (root,) = Node.all(original)
    for _ in range(draw(st.integers(1, 2))):
        places = list(root.places())
        siblings, index = draw(st.sampled_from(places))
        others, other = draw(st.sampled_from(places))
        match draw(st.sampled_from(["out", "twice", "exchange", "tag", "content"])):
            case "out":
                del siblings[index]
            case "twice":
                siblings.insert(index, copy.deepcopy(siblings[index]))
            case "exchange":
                siblings[index] = copy.deepcopy(others[other])
            case "tag":
                siblings[index].tag = draw(st.integers(0, 255))
            case _:
                siblings[index] = Node(siblings[index].tag, draw(st.binary(max_size=24)))
    return root.der()


@given(st.sampled_from([PLAIN, DELEGATED, RIGHT["behind another's answer"]]).flatmap(mutants))
# A busy machine must not fail it: the first examples of a run are slow.
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_mutated_is_stapled_unless_what_was_signed_is_untouched(mutant: bytes) -> None:
    try:
        found = verify_staple(mutant, SERVER.cert, CA.cert, now=NOW)
    except StapleError as exc:
        assert not exc.revoked  # noqa: PT017 - either outcome is good
    else:
        signed = ocsp.load_der_ocsp_response(mutant).tbs_response_bytes
        assert any(signed == ocsp.load_der_ocsp_response(each).tbs_response_bytes for each in RIGHT.values())
        assert (found.status, found.this_update, found.next_update) == ("good", NOW - 60, NOW + DAY)


def test_mutants_come_apart_and_together_again() -> None:
    for data in RIGHT.values():
        assert b"".join(node.der() for node in Node.all(data)) == data
