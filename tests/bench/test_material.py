"""What a measurement is made with: certificates that verify, lists that list what they should."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bench import build
from bench.errors import BenchError
from bench.material import SERIAL_OCTETS, Material
from tests.bench.conftest import CLIENTS, REVOKED

if TYPE_CHECKING:
    from pathlib import Path

KEY = re.compile(rb"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----\n", re.DOTALL)


def octets(serial: int) -> int:
    return (serial.bit_length() + 7) // 8


def listed(crl: x509.CertificateRevocationList) -> set[int]:
    return {entry.serial_number for entry in crl}


def test_every_certificate_is_issued_by_the_ca_for_its_own_key(material: Material) -> None:
    for path, count in ((material.clients, CLIENTS), (material.revoked, REVOKED)):
        text = path.read_bytes()
        certificates = x509.load_pem_x509_certificates(text)
        keys = [serialization.load_pem_private_key(key, None) for key in KEY.findall(text)]
        assert len(certificates) == len(keys) == count
        for certificate, key in zip(certificates, keys, strict=True):
            certificate.verify_directly_issued_by(material.authority)
            assert certificate.public_key() == key.public_key()
        assert len(set(KEY.findall(text))) == count


def test_serials_are_those_of_the_certificates(material: Material) -> None:
    for path, serials in (
        (material.clients, material.client_serials),
        (material.revoked, material.revoked_serials),
    ):
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
        assert tuple(certificate.serial_number for certificate in certificates) == serials


def test_no_two_serials_can_be_the_same(material: Material) -> None:
    single = [material.ca, material.server_cert, material.client_cert]
    issued = [x509.load_pem_x509_certificate(path.read_bytes()).serial_number for path in single]
    issued += [*material.client_serials, *material.revoked_serials]
    assert len(set(issued)) == len(issued) == 3 + CLIENTS + REVOKED
    # By length alone none of them is in a list by chance.
    assert {octets(serial) for serial in issued} == {15}
    random = listed(x509.load_der_x509_crl(material.crl(1000)))
    assert {octets(serial) for serial in random} == {SERIAL_OCTETS}


def test_as_many_clients_as_are_asked_for(material: Material) -> None:
    some = x509.load_pem_x509_certificates(material.many_clients(3).read_bytes())
    assert [certificate.serial_number for certificate in some] == list(material.client_serials[:3])
    assert material.many_clients(CLIENTS) == material.clients
    with pytest.raises(BenchError, match=f"{CLIENTS + 1} clients are wanted"):
        material.many_clients(CLIENTS + 1)


@pytest.mark.parametrize("entries", [0, 1, 1000])
def test_a_list_verifies_and_names_whom_it_is_told_to(material: Material, entries: int) -> None:
    crl = x509.load_der_x509_crl(material.crl(entries, number=7, listing=material.revoked_serials))
    assert crl.is_signature_valid(material.authority.public_key())  # type: ignore[arg-type]  # it is P-256
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    assert len(crl) == len(listed(crl)) == entries + REVOKED
    assert set(material.revoked_serials) < listed(crl) or entries == 0
    assert not listed(crl) & set(material.client_serials)


def test_a_list_names_no_revoked_client_unasked(material: Material) -> None:
    assert not listed(x509.load_der_x509_crl(material.crl(100))) & set(material.revoked_serials)


def test_a_list_without_entries_has_none(material: Material) -> None:
    assert len(x509.load_der_x509_crl(material.crl(0))) == 0


def test_a_written_list_is_the_same_in_pem(material: Material) -> None:
    path = material.write_crl(100_000, number=3, listing=material.revoked_serials)
    crl = x509.load_pem_x509_crl(path.read_bytes())
    assert len(crl) == 100_000 + REVOKED
    assert max(map(len, path.read_bytes().splitlines())) == 64
    assert not path.with_suffix(".new").exists()


def test_a_program_is_compiled_again_when_its_source_is_newer(
    programs: build.Programs, tmp_path: Path
) -> None:
    source, program = tmp_path / "answer.c", tmp_path / "bin" / "answer"
    source.write_text("int main(void) { return 0; }\n")
    build.compile_program(program, [source])
    first = program.stat()
    build.compile_program(program, [source])
    assert program.stat().st_ino == first.st_ino
    source.write_text("int main(void) { return 0 }\n")
    with pytest.raises(BenchError, match=r"answer does not compile:\n(?s:.*)expected"):
        build.compile_program(program, [source])
    assert program.stat().st_ino == first.st_ino


def test_a_missing_header_is_named_with_what_to_install(programs: build.Programs, tmp_path: Path) -> None:
    source = tmp_path / "answer.c"
    source.write_text("#include <openssl/not_there.h>\n")
    with pytest.raises(
        build.MissingToolError, match=r"openssl/not_there.h is missing.*apt-get install .*libssl-dev"
    ):
        build.compile_program(tmp_path / "answer", [source])


def test_a_missing_compiler_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.MissingToolError, match=r"compiler.*apt-get install gcc"):
        build.build(tmp_path / "bin")
