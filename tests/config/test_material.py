from __future__ import annotations

import os
import ssl
import subprocess
from typing import TYPE_CHECKING, Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from gateway.config.material import ListenerMaterial, check_state_dir, load_material
from gateway.config.model import Address, Certificate, Listener, Revocation, Stapling, UpstreamTls
from gateway.errors import ConfigError
from tests.authority import DAY, DER, NOW, Authority, Credential, KeyKind

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = "gateway.toml: listeners[0]"
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority.root("Root")


@pytest.fixture(scope="module")
def sub(root: Authority) -> Authority:
    return root.intermediate("Sub")


@pytest.fixture(scope="module")
def server(sub: Authority) -> Credential:
    return sub.issue("server", ocsp_urls=["ldap://a/", "http://ocsp.example/"])


class Place:
    """A directory with the files of one good listener, and the listener."""

    def __init__(self, directory: Path, root: Authority, server: Credential) -> None:
        self.directory = directory
        self.cert, self.key = server.write(directory, "server")
        self.ca = self.write("ca.pem", root.pem)
        self.key.chmod(0o600)
        self.client_ca: Path | None = self.ca
        self.options: dict[str, Any] = {}
        self.trust: Literal["ca", "intermediate"] = "ca"
        self.revocation = Revocation()
        self.stapling = Stapling()
        self.more: list[tuple[Path, Path]] = []
        self.upstream_tls = UpstreamTls()

    def write(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path

    def load(self) -> ListenerMaterial:
        pairs = [(self.cert, self.key), *self.more]
        listener = Listener(
            name="external",
            bind=(Address("127.0.0.1", 8883),),
            upstreams=(Address("127.0.0.1", 1883),),
            certificates=tuple(Certificate(cert=cert, key=key) for cert, key in pairs),
            client_ca=self.client_ca,
            verify="required" if self.client_ca else "none",
            trust=self.trust,
            **self.options,
            revocation=self.revocation,
            stapling=self.stapling,
            upstream_tls=self.upstream_tls,
        )
        return load_material(listener, lambda key: f"{SOURCE}.{key}")

    def add(self, credential: Credential, stem: str) -> None:
        """One more certificate of the listener."""
        cert, key = credential.write(self.directory, stem)
        key.chmod(0o600)
        self.more.append((cert, key))

    def refusal(self) -> str:
        with pytest.raises(ConfigError) as caught:
            self.load()
        assert str(caught.value).isprintable()
        return str(caught.value).replace(f"{self.directory}/", "")


@pytest.fixture
def place(tmp_path: Path, root: Authority, server: Credential) -> Place:
    return Place(tmp_path, root, server)


def test_a_good_listener_is_read_whole(
    place: Place, root: Authority, sub: Authority, server: Credential
) -> None:
    material = place.load()
    (certificate,) = material.certificates
    assert certificate.chain == (server.cert, sub.cert)
    assert certificate.private_key.public_key() == server.key.public_key()
    assert material.client_cas == (root.cert,)
    assert (certificate.ocsp_issuer, certificate.ocsp_responder_url) == (None, None)
    assert material.warnings == ()


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519", "ed448"])
def test_every_kind_of_key_that_tls_signs_with_is_taken(kind: KeyKind, place: Place, root: Authority) -> None:
    server = root.issue("server", kind=kind)
    place.cert, place.key = server.write(place.directory, kind)
    place.key.chmod(0o600)
    assert place.load().certificates[0].private_key.public_key() == server.key.public_key()


def test_a_listener_that_asks_for_no_certificate_needs_no_ca(place: Place) -> None:
    place.client_ca = None
    assert place.load().client_cas == ()


def test_a_file_that_is_not_there_is_named(place: Place) -> None:
    place.cert.unlink()
    assert (
        place.refusal()
        == f"{SOURCE}.certificates[0].cert: server.pem: cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "no PEM"),
        (b"hello", "no PEM"),
        (b"-----BEGIN PRIVATE KEY-----\n", "PEM without one"),
        (b"\x30\x82", "DER"),
    ],
)
@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("certificates[0].cert", "server.pem"),
        ("client_ca", "ca.pem"),
        ("stapling.issuer", "issuer.pem"),
    ],
)
def test_a_file_without_a_certificate_in_pem_is_refused(
    key: str, file: str, content: bytes, got: str, place: Place, sub: Authority
) -> None:
    place.stapling = Stapling(enabled=True, issuer=place.write("issuer.pem", sub.pem))
    place.write(file, content)
    assert place.refusal() == f"{SOURCE}.{key}: {file}: expected a certificate in PEM, got {got}"


def test_a_certificate_that_cannot_be_decoded_is_refused(place: Place) -> None:
    place.write("server.pem", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    assert place.refusal().startswith(
        f"{SOURCE}.certificates[0].cert: server.pem: expected a certificate in "
        "PEM, got one that cannot be decoded: "
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"hello", "expected a private key in PEM, got no PEM"),
        (b"\x30\x82", "expected a private key in PEM, got DER"),
        (b"-----BEGIN CERTIFICATE-----\n", "expected a private key in PEM, got PEM without one"),
        (
            b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
            "expected a private key in PEM, got one that cannot be decoded",
        ),
        (
            x25519.X25519PrivateKey.generate().private_bytes(PEM, PKCS8, serialization.NoEncryption()),
            "expected a key that signs (EC, RSA, Ed25519 or Ed448), got X25519",
        ),
    ],
)
def test_a_file_without_a_usable_key_is_refused(content: bytes, problem: str, place: Place) -> None:
    place.write("server.key", content)
    assert place.refusal() == f"{SOURCE}.certificates[0].key: server.key: {problem}"


@pytest.mark.parametrize("form", [PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_not_supported(
    form: serialization.PrivateFormat, place: Place, server: Credential
) -> None:
    encrypted = server.key.private_bytes(PEM, form, serialization.BestAvailableEncryption(b"secret"))
    place.write("server.key", encrypted)
    assert place.refusal() == (
        f"{SOURCE}.certificates[0].key: server.key: expected a private key without a passphrase: "
        "encrypted ones are not supported"
    )


def test_a_key_of_another_certificate_is_refused(place: Place, root: Authority) -> None:
    place.write("server.key", root.key_pem)
    assert place.refusal() == (
        f"{SOURCE}.certificates[0].key: server.key: expected the key of "
        '"server" in server.pem, got another one'
    )


def test_a_ca_file_without_a_ca_is_refused(place: Place, server: Credential) -> None:
    place.write("ca.pem", server.pem)
    assert place.refusal() == (
        f'{SOURCE}.client_ca: ca.pem: expected a CA certificate (basicConstraints cA true), got "server"'
    )


def test_a_root_of_version_1_is_a_ca(place: Place, tmp_path: Path) -> None:
    """Made by openssl, because cryptography writes version 3 alone."""
    run = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", str(tmp_path / "v1.key")]
    request = subprocess.run([*run, "-subj", "/CN=Old Root"], capture_output=True, check=True).stdout
    sign = ["openssl", "x509", "-req", "-signkey", str(tmp_path / "v1.key"), "-days", "1"]
    old = subprocess.run(sign, input=request, capture_output=True, check=True).stdout
    cert = x509.load_pem_x509_certificate(old)
    assert cert.version is x509.Version.v1
    place.write("ca.pem", old)
    assert place.load().client_cas == (cert,)


def test_what_is_no_ca_is_left_out_of_the_cas_with_a_warning(
    place: Place, root: Authority, server: Credential
) -> None:
    place.write("ca.pem", server.pem + root.pem)
    material = place.load()
    assert material.client_cas == (root.cert,)
    assert material.warnings == (
        f'listener "external": client_ca: {place.ca}: "server" is no CA and is left out',
    )


def test_a_ca_that_may_not_sign_crls_is_warned_about_where_crls_are_asked_for(place: Place) -> None:
    ca = Authority.root("Mute", crl_sign=False)
    place.write("ca.pem", ca.pem)
    expected = (
        f'listener "external": client_ca: {place.ca}: "Mute" may not sign CRLs (keyUsage without cRLSign)'
    )
    assert place.load().warnings == (expected,)
    place.revocation = Revocation(check="off")
    assert place.load().warnings == ()


def test_a_ca_without_key_usage_may_sign_crls(place: Place) -> None:
    place.write("ca.pem", Authority.root("Bare", key_usage=False).pem)
    assert place.load().warnings == ()


def test_a_certificate_out_of_its_time_is_a_warning(place: Place, root: Authority) -> None:
    old = root.issue("old", not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    place.cert, place.key = old.write(place.directory, "old")
    place.key.chmod(0o600)
    place.write("ca.pem", root.pem + Authority.root("Future", not_before=NOW + DAY).pem)
    expired, early = place.load().warnings
    until = old.cert.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    where = f'listener "external": certificates[0].cert: {place.cert}'
    assert expired == f'{where}: "old" expired at {until}; nobody accepts it any more'
    assert early.startswith(f'listener "external": client_ca: {place.ca}: "Future" is not valid before 2')
    assert early.endswith(" here: whose clock is wrong?")


@pytest.mark.parametrize(
    ("life", "left", "warned"),
    [(365, 31, False), (365, 29, True), (90, 16, False), (90, 14, True), (6, 2, False), (6, 0.9, True)],
)
def test_a_certificate_that_is_about_to_expire_is_a_warning(
    life: float, left: float, *, warned: bool, place: Place, root: Authority
) -> None:
    end = NOW + int(left * DAY)
    soon = root.issue("soon", not_before=end - life * DAY, not_after=end)  # type: ignore[arg-type]  # whole days
    place.cert, place.key = soon.write(place.directory, "soon")
    place.key.chmod(0o600)
    until = soon.cert.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    expected = f'listener "external": certificates[0].cert: {place.cert}: "soon" expires at {until}'
    assert place.load().warnings == ((expected,) if warned else ())


def test_a_certificate_without_any_known_issuer_is_a_warning(place: Place) -> None:
    stranger = Authority.root("Stranger")
    place.write("server.pem", stranger.issue("server", key=place.load().certificates[0].private_key).pem)
    expected = (
        f'listener "external": certificates[0].cert: {place.cert}: no CA stands behind "server": '
        "clients refuse it unless they have the one that issued it"
    )
    assert place.load().warnings == (expected,)
    place.write("ca.pem", stranger.pem)
    assert place.load().warnings == ()


def test_missing_intermediates_are_taken_from_the_client_cas(
    place: Place, root: Authority, sub: Authority, server: Credential
) -> None:
    place.write("server.pem", server.pem)
    place.write("ca.pem", root.pem + sub.pem)
    assert place.load().certificates[0].chain == (server.cert, sub.cert)
    assert place.load().warnings == ()


def test_a_name_in_two_certificates_of_one_kind_is_a_warning(place: Place, root: Authority) -> None:
    place.add(root.issue("twin", hosts=["localhost", "other"]), "twin")
    place.add(root.issue("rsa", kind="rsa"), "rsa")
    place.add(root.issue("wild", hosts=["*.other"]), "wild")
    twin = place.more[0][0]
    expected = (
        f'listener "external": certificates[1].cert: {twin}: "localhost" is also in certificates[0], '
        "of the same kind of key (ECDSA): that one is presented"
    )
    assert place.load().warnings == (expected,)


def test_each_certificate_has_its_own_issuer_and_responder(
    place: Place, root: Authority, sub: Authority
) -> None:
    place.add(root.issue("direct", ocsp_urls=["http://direct/"]), "direct")
    place.stapling = Stapling(enabled=True, issuer=place.write("issuer.pem", root.pem))
    first, second = place.load().certificates
    assert (first.ocsp_issuer, first.ocsp_responder_url) == (sub.cert, "http://ocsp.example/")
    assert (second.ocsp_issuer, second.ocsp_responder_url) == (root.cert, "http://direct/")


def test_a_mistake_in_a_further_certificate_names_it(place: Place, root: Authority) -> None:
    place.add(root.issue("second"), "second")
    place.write("second.key", root.key_pem)
    assert place.refusal().startswith(f"{SOURCE}.certificates[1].key: second.key: expected the key of")


def test_a_chain_out_of_order_is_a_warning(
    place: Place, root: Authority, sub: Authority, server: Credential
) -> None:
    place.write("server.pem", server.pem + root.pem + sub.pem)
    where = f'listener "external": certificates[0].cert: {place.cert}:'
    assert place.load().warnings == (
        f'{where} "Root" did not issue "server" before it: clients may refuse it',
        f'{where} "Sub" did not issue "Root" before it: clients may refuse it',
    )


def test_a_key_that_anyone_may_read_is_a_warning(place: Place) -> None:
    place.key.chmod(0o644)
    assert place.load().warnings == (
        (
            f'listener "external": certificates[0].key: {place.key}: '
            f"everyone on this machine may read the private key: chmod o-r {place.key}"
        ),
    )


def test_a_subject_cannot_break_the_line(place: Place, root: Authority) -> None:
    place.write("ca.pem", root.issue("a\nb").pem)
    assert place.refusal().endswith('got "a\\nb"')


def test_stapling_takes_issuer_and_responder_from_the_certificate(place: Place, sub: Authority) -> None:
    place.stapling = Stapling(enabled=True)
    (certificate,) = place.load().certificates
    assert certificate.ocsp_issuer == sub.cert
    assert certificate.ocsp_responder_url == "http://ocsp.example/"


def test_what_is_configured_for_stapling_comes_first(
    place: Place, root: Authority, sub: Authority, server: Credential
) -> None:
    place.write("server.pem", server.pem)
    issuer = place.write("issuer.pem", root.pem + sub.pem)
    place.stapling = Stapling(enabled=True, issuer=issuer, responder_url="http://mine/")
    (certificate,) = place.load().certificates
    assert (certificate.ocsp_issuer, certificate.ocsp_responder_url) == (sub.cert, "http://mine/")


def test_an_issuer_that_did_not_issue_the_certificate_is_refused(place: Place, root: Authority) -> None:
    place.stapling = Stapling(enabled=True, issuer=place.write("issuer.pem", root.pem))
    assert place.refusal() == (
        f'{SOURCE}.stapling.issuer: issuer.pem: expected the certificate that issued "server", got "Root"'
    )


def test_an_issuer_of_the_right_name_and_another_key_is_refused(place: Place) -> None:
    place.stapling = Stapling(enabled=True, issuer=place.write("issuer.pem", Authority.root("Sub").pem))
    assert place.refusal().endswith('expected the certificate that issued "server", got "Sub"')


def test_stapling_without_an_issuer_is_refused(place: Place, server: Credential) -> None:
    place.write("server.pem", server.pem)
    place.stapling = Stapling(enabled=True)
    assert place.refusal() == (
        f"{SOURCE}.stapling.issuer: expected the certificate that issued "
        '"server", because server.pem has none '
        "behind it; got nothing"
    )


@pytest.mark.parametrize("urls", [(), ("ldap://a/",)])
def test_a_certificate_without_a_responder_is_normal_and_needs_no_issuer(
    place: Place, root: Authority, sub: Authority, urls: tuple[str, ...]
) -> None:
    mute = sub.issue("mute", ocsp_urls=urls)
    place.cert, place.key = mute.write(place.directory, "mute")
    place.key.chmod(0o600)
    place.write("mute.pem", mute.pem)
    place.write("ca.pem", root.pem + sub.pem)
    place.stapling = Stapling(enabled=True)
    (certificate,) = place.load().certificates
    assert (certificate.ocsp_issuer, certificate.ocsp_responder_url) == (None, None)
    assert place.load().warnings == ()


def test_a_certificate_without_a_responder_is_refused_where_a_staple_is_required(
    place: Place, sub: Authority
) -> None:
    place.cert, place.key = sub.issue("mute").write(place.directory, "mute")
    place.stapling = Stapling(enabled=True, required=True)
    assert place.refusal() == (
        f"{SOURCE}.stapling.responder_url: expected a URL, because stapling.required is true and "
        '"mute" names no OCSP responder; got nothing'
    )


@pytest.mark.parametrize(
    ("stapling", "urls", "because"),
    [
        (Stapling(), ["http://ocsp.example/"], "stapling is not enabled"),
        (Stapling(enabled=True), [], "it names no OCSP responder"),
        (Stapling(enabled=True), ["http://ocsp.example/"], None),
    ],
)
def test_a_certificate_that_demands_a_staple_which_it_will_not_have_is_warned_of(
    place: Place, sub: Authority, stapling: Stapling, urls: list[str], because: str | None
) -> None:
    demanding = sub.issue("server", ocsp_urls=urls, must_staple=True)
    place.cert, place.key = demanding.write(place.directory, "demanding")
    place.key.chmod(0o600)
    place.stapling = stapling
    warnings = [warning.replace(f"{place.directory}/", "") for warning in place.load().warnings]
    expected = (
        'listener "external": certificates[0].cert: demanding.pem: "server" demands a stapled OCSP response '
        f"(must-staple), but {because}: clients that insist refuse it"
    )
    assert warnings == ([expected] if because else [])


def test_der_is_told_from_pem(place: Place, server: Credential) -> None:
    place.write("server.pem", server.cert.public_bytes(DER))
    assert place.refusal().endswith("server.pem: expected a certificate in PEM, got DER")


@pytest.mark.parametrize("below", [".", "new", "new/er"])
def test_a_state_dir_is_there_or_can_be_made(below: str, tmp_path: Path) -> None:
    check_state_dir(tmp_path / below)
    assert list(tmp_path.iterdir()) == []


def test_a_state_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError) as caught:
        check_state_dir(file)
    assert str(caught.value) == f"state_dir: {file}: expected a directory, but it is a file"


def test_a_state_dir_below_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError) as caught:
        check_state_dir(file / "state")
    assert str(caught.value) == f"state_dir: {file}/state: expected a directory, but {file} is a file"


def test_a_state_dir_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ConfigError) as caught:
        check_state_dir(tmp_path / "a" / "b")
    expected = f"state_dir: {tmp_path}/a/b: expected a directory that can be written, but {tmp_path} cannot"
    assert str(caught.value) == expected


def test_a_state_dir_that_no_file_system_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used: File name too long$"):
        check_state_dir(tmp_path / ("a" * 5000))


def test_a_file_of_revoked_serials_is_read(place: Place) -> None:
    path = place.write("revoked.txt", b"5\n6 CN=Root\n")
    place.revocation = Revocation(revoked_serials=path)
    loaded = place.load()
    assert loaded.revoked_serials is not None
    assert [line.serial for line in loaded.revoked_serials.lines] == [5, 6]
    assert loaded.warnings == ()


def test_a_file_of_revoked_serials_that_cannot_be_used_is_refused_with_its_line(place: Place) -> None:
    path = place.directory / "revoked.txt"
    place.revocation = Revocation(revoked_serials=path)
    assert place.refusal() == (
        f"{SOURCE}.revocation.revoked_serials: revoked.txt: cannot be read: No such file or directory"
    )
    place.write("revoked.txt", b"5\nFleet\n")
    assert place.refusal() == (
        f"{SOURCE}.revocation.revoked_serials: revoked.txt: "
        'line 2: expected a serial number in hexadecimal digits, got "Fleet"'
    )


def test_an_issuer_that_is_no_client_ca_is_a_warning(place: Place) -> None:
    path = place.write("revoked.txt", b"5 CN=root\n6 CN=Fleet CA\n7 CN=Fleet CA\n")
    place.revocation = Revocation(revoked_serials=path)
    [warning] = place.load().warnings
    assert "revoked_serials" in warning
    assert "line 2: no CA in client_ca is called CN=Fleet CA" in warning


def test_a_ca_without_its_root_is_warned_about_unless_it_is_an_anchor(place: Place, sub: Authority) -> None:
    place.write("ca.pem", sub.pem)
    (warning,) = place.load().warnings
    assert warning == (
        f'listener "external": client_ca: {place.ca}: "Sub" is no root, and what issued it is not there: '
        'clients below it are refused unless trust is "intermediate"'
    )
    place.trust = "intermediate"
    assert place.load().warnings == ()


def test_a_ca_beside_its_root_is_no_reason_for_a_warning(
    place: Place, root: Authority, sub: Authority
) -> None:
    place.write("ca.pem", sub.pem + root.pem)
    assert place.load().warnings == ()


def test_a_file_of_revoked_serials_that_anyone_may_write_is_a_warning(place: Place) -> None:
    path = place.write("revoked.txt", b"5\n")
    path.chmod(0o646)
    place.revocation = Revocation(revoked_serials=path)
    [warning] = place.load().warnings
    assert "everyone on this machine may revoke, and take back: chmod o-w" in warning


def test_a_broker_in_plain_tcp_needs_no_context(place: Place) -> None:
    assert place.load().upstream_tls is None


def test_a_broker_is_verified_by_its_ca_and_name_alone(place: Place, root: Authority) -> None:
    place.upstream_tls = UpstreamTls(enabled=True, ca=place.ca, cert=place.cert, key=place.key)
    context = place.load().upstream_tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.get_ca_certs(binary_form=True) == [root.cert.public_bytes(DER)]
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_broker_is_not_verified_only_where_that_was_asked_for(place: Place) -> None:
    place.upstream_tls = UpstreamTls(enabled=True, verify=False)
    context = place.load().upstream_tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_a_key_of_another_certificate_for_brokers_is_refused(place: Place, root: Authority) -> None:
    _cert, key = root.issue("other").write(place.directory, "other")
    key.chmod(0o600)
    place.upstream_tls = UpstreamTls(enabled=True, ca=place.ca, cert=place.cert, key=key)
    assert place.refusal() == (
        f"{SOURCE}.upstream_tls.key: other.key: "
        "expected the key of the certificate in server.pem, got another one"
    )


def test_a_file_of_cas_for_brokers_that_is_not_there_is_named(place: Place) -> None:
    place.upstream_tls = UpstreamTls(enabled=True, ca=place.directory / "no.pem")
    assert place.refusal() == f"{SOURCE}.upstream_tls.ca: no.pem: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("kind", "named", "other"), [("ec", "ECDSA", "RSA"), ("ed25519", "ECDSA", "RSA"), ("rsa", "RSA", "ECDSA")]
)
def test_ciphers_of_another_kind_than_the_certificate_are_warned_about(
    kind: KeyKind, named: str, other: str, place: Place, root: Authority
) -> None:
    place.cert, place.key = root.issue("server", kind=kind).write(place.directory, kind)
    place.key.chmod(0o600)
    place.options = {"ciphers": (f"ECDHE-{other}-AES128-GCM-SHA256",)}
    (warning,) = place.load().warnings
    assert warning == (
        f'listener "external": ciphers: none goes with an {named} certificate: clients of TLS 1.2 are refused'
    )
    place.options["tls_versions"] = ("1.3",)
    assert place.load().warnings == ()
    place.options = {"ciphers": (f"ECDHE-{other}-AES128-GCM-SHA256", f"ECDHE-{named}-AES128-GCM-SHA256")}
    assert place.load().warnings == ()
