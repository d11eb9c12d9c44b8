"""What is told of a client without asking it in: the same as would become of it, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.names import issuer_name_der
from gateway.revocation import local
from gateway.revocation.local import LocalRevocation
from gateway.store import StateStore, StoredCrl
from tests.authority import DAY, HOUR, NOW, Authority, Credential, Revoked, extension
from tests.test_cli import Place, only_line, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from click.testing import Result

POINT = "http://ca.example/part.crl"


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority.root("Root")


@pytest.fixture(scope="module")
def sub(root: Authority) -> Authority:
    return root.intermediate("Sub")


class Desk(Place):
    """A configuration whose lists are put into the state directory as the gateway would."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        super().__init__(directory, authority)
        self.url = f"file://{directory}/ca.crl"

    def keep(self, crl: bytes, url: str | None = None, *, learnt: bool = False) -> None:
        store = StateStore(self.state)
        store.prepare()
        store.save_crl(url or self.url, StoredCrl(crl, None, None, float(NOW), learnt=learnt))

    def ask(self, client: Credential, *options: str) -> Result:
        file = self.write("client.pem", client.chain_pem)
        return run("check", "--config", self.config, "--client", file, *options)


@pytest.fixture
def desk(tmp_path: Path, root: Authority) -> Desk:
    return Desk(tmp_path, root)


def told(result: Result, key: str) -> list[str]:
    """The values of all lines with this key."""
    lines = (line.partition(":") for line in result.output.splitlines())
    return [value.strip() for name, _, value in lines if name == key]


def test_a_good_client_would_be_let_in_and_its_list_is_named(desk: Desk, root: Authority) -> None:
    desk.keep(root.crl(number=7))
    result = desk.ask(root.issue("device"))
    assert result.exit_code == 0
    (words,) = told(result, "list")
    assert words.startswith("CN=Root, number 7, all certificates, fresh until 20")
    assert (told(result, "status"), told(result, "verdict")) == (["not revoked"], ["let in"])


@pytest.mark.parametrize(
    ("ocsp", "fresh", "verdict"),
    [
        ("prefer", True, "let in"),
        ("prefer", False, "refused: list_expired"),
        ("require", False, "let in if a responder says that it is good, whatever the lists say"),
    ],
)
def test_that_a_responder_decides_and_is_not_asked_here_is_told(
    desk: Desk, root: Authority, ocsp: str, verdict: str, *, fresh: bool
) -> None:
    desk.replace("[listeners.revocation]", f'[listeners.revocation]\nocsp = "{ocsp}"')
    desk.keep(root.crl(next_update=NOW + DAY if fresh else NOW - 1))
    result = desk.ask(root.issue("device"))
    assert told(result, "verdict") == [verdict]
    assert result.exit_code == ("let in" not in verdict)
    assert f'ocsp is "{ocsp}", and no responder is asked here' in told(result, "note")[-1]


def test_a_revoked_client_is_told_since_when_and_why(desk: Desk, root: Authority) -> None:
    client = root.issue("device")
    desk.keep(root.crl([Revoked(client.serial, reason=1)]))
    result = desk.ask(client)
    assert result.exit_code == 1
    (status,) = told(result, "status")
    assert status.startswith("REVOKED since 20")
    assert status.endswith(": keyCompromise")
    assert told(result, "verdict") == ["refused: certificate_revoked"]


def test_a_revoked_ca_refuses_whom_it_has_issued(desk: Desk, root: Authority, sub: Authority) -> None:
    desk.keep(root.crl([Revoked(sub.serial)]))
    desk.keep(sub.crl(), POINT, learnt=True)
    result = desk.ask(sub.issue("device"))
    assert result.exit_code == 1
    assert told(result, "verdict") == ["refused: certificate_revoked (depth 1)"]


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [
        ("reject", "refused: no_list"),
        ("accept", 'let in unchecked, because on_unavailable is "accept": no_list'),
    ],
)
def test_what_its_signer_loses_by_being_revoked_is_told(
    desk: Desk, root: Authority, sub: Authority, policy: str, verdict: str
) -> None:
    section = "[listeners.revocation]"
    desk.replace(section, f'{section}\ncheck = "leaf"\non_unavailable = "{policy}"')
    desk.keep(root.crl([Revoked(sub.serial)]))
    client = sub.issue("device")
    desk.keep(sub.crl([Revoked(client.serial)]), POINT, learnt=True)
    result = desk.ask(client)
    assert told(result, "verdict") == [verdict]
    (note,) = told(result, "note")
    assert note.startswith("the list of CN=Sub does not count: revoked on the path of its signer")


@pytest.mark.parametrize(("check", "code", "asked"), [("leaf", 0, 1), ("chain", 1, 2)])
def test_as_much_of_the_chain_is_told_of_as_the_listener_checks(
    desk: Desk, root: Authority, sub: Authority, check: str, code: int, asked: int
) -> None:
    desk.replace("[listeners.revocation]", f'[listeners.revocation]\ncheck = "{check}"')
    desk.keep(sub.crl(), POINT, learnt=True)
    result = desk.ask(sub.issue("device"))
    assert (result.exit_code, len(told(result, "certificate"))) == (code, asked)


def test_a_client_without_a_list_is_refused_with_the_reason_of_the_log(
    desk: Desk, root: Authority, sub: Authority
) -> None:
    desk.keep(root.crl())
    result = desk.ask(sub.issue("device"))
    assert result.exit_code == 1
    assert told(result, "status") == ["covered by no list", "not revoked"]
    assert told(result, "verdict") == ["refused: no_list"]


@pytest.mark.parametrize(("policy", "code", "begins"), [("accept", 0, "let in"), ("wait", 1, "waits 15 s")])
def test_the_policy_of_the_listener_decides(
    desk: Desk, root: Authority, sub: Authority, policy: str, code: int, begins: str
) -> None:
    desk.replace("[listeners.revocation]", f'[listeners.revocation]\non_unavailable = "{policy}"')
    desk.keep(root.crl())
    result = desk.ask(sub.issue("device"))
    assert result.exit_code == code
    assert told(result, "verdict")[0].startswith(begins)


@pytest.mark.parametrize(
    ("grace", "code", "verdict"), [("0s", 1, "refused: list_expired"), ("2h", 0, "let in")]
)
def test_an_expired_list_counts_within_grace_alone(
    desk: Desk, root: Authority, grace: str, code: int, verdict: str
) -> None:
    desk.replace("[listeners.revocation]", f'[listeners.revocation]\ngrace = "{grace}"')
    desk.keep(root.crl(this_update=NOW - DAY, next_update=NOW - HOUR))
    result = desk.ask(root.issue("device"))
    assert (result.exit_code, told(result, "verdict")) == (code, [verdict])
    assert "expired at 20" in told(result, "list")[0].lower()


def partial(
    reasons: frozenset[x509.ReasonFlags] | None, names: list[x509.GeneralName] | None = None
) -> bytes:
    point = x509.IssuingDistributionPoint(
        full_name=names,
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=reasons,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    return extension(point, critical=True)


def test_the_reasons_that_no_list_covers_are_told(desk: Desk, root: Authority) -> None:
    flags = frozenset(x509.ReasonFlags) - {
        x509.ReasonFlags.superseded,
        x509.ReasonFlags.unspecified,
        x509.ReasonFlags.remove_from_crl,
    }
    desk.keep(root.crl(extensions=partial(flags)))
    result = desk.ask(root.issue("device"))
    assert result.exit_code == 1
    assert told(result, "status") == ["covered by no list for superseded"]


def test_a_list_of_another_distribution_point_is_not_told_of(desk: Desk, root: Authority) -> None:
    crl = root.crl(extensions=partial(None, [x509.UniformResourceIdentifier(POINT)]))
    desk.keep(crl)
    assert told(desk.ask(root.issue("device")), "list") == []
    result = desk.ask(root.issue("device", crl_urls=[POINT]))
    assert result.exit_code == 0
    assert f"of the distribution point {POINT}" in told(result, "list")[0]


def test_a_stranger_is_untrusted(desk: Desk, root: Authority) -> None:
    desk.keep(root.crl())
    result = desk.ask(Authority.root("Stranger").issue("device"))
    assert result.exit_code == 1
    assert told(result, "verdict")[0].startswith("refused: untrusted: ")


def test_a_client_that_has_expired_is_untrusted(desk: Desk, root: Authority) -> None:
    desk.keep(root.crl())
    result = desk.ask(root.issue("device", not_after=NOW - HOUR))
    assert "expired" in told(result, "verdict")[0]


def test_asking_changes_nothing_in_the_state_directory(desk: Desk, root: Authority) -> None:
    desk.keep(root.crl())
    (damaged,) = (desk.state / "crl").glob("*.der")
    damaged.write_bytes(b"damaged")
    before = {path: path.read_bytes() for path in desk.state.rglob("*") if path.is_file()}
    desk.ask(root.issue("device"))
    assert {path: path.read_bytes() for path in desk.state.rglob("*") if path.is_file()} == before


def test_without_a_state_directory_it_is_one_line(desk: Desk, root: Authority) -> None:
    result = desk.ask(root.issue("device"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no state directory" in only_line(result.stderr)


def test_without_lists_it_is_one_line(desk: Desk, root: Authority) -> None:
    StateStore(desk.state).prepare()
    result = desk.ask(root.issue("device"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no usable list is stored" in only_line(result.stderr)


@pytest.mark.parametrize("content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAA\n"])
def test_a_file_that_is_no_certificate_is_one_line(desk: Desk, content: bytes) -> None:
    result = run("check", "--config", desk.config, "--client", desk.write("odd.pem", content))
    assert result.exit_code == 1
    assert "expected certificates in PEM" in only_line(result.stderr)


def test_a_listener_that_is_not_there_is_one_line(desk: Desk, root: Authority) -> None:
    result = desk.ask(root.issue("device"), "--listener", "internal")
    assert result.exit_code == 1
    assert "expected one of external" in only_line(result.stderr)


def by_hand(desk: Desk, client: Credential) -> None:
    store = StateStore(desk.state)
    store.prepare()
    issuer = issuer_name_der(client.cert)
    one = LocalRevocation(issuer, client.serial, "keyCompromise", NOW - DAY, "operator")
    store.save_local(local.encode((one,)))


@pytest.mark.parametrize("listed", [True, False])
def test_what_was_revoked_by_hand_is_told_as_such_with_a_list_and_without(
    desk: Desk, root: Authority, listed: bool
) -> None:
    client = root.issue("device")
    by_hand(desk, client)
    if listed:
        desk.keep(root.crl())
    result = desk.ask(client)
    (words,) = (each for each in told(result, "list") if not each.startswith("CN=Root, number"))
    assert words == "revoked by hand in this gateway, by operator"
    assert told(result, "status")[0].startswith("REVOKED since 20")
    assert told(result, "verdict") == ["refused: certificate_revoked"]


def test_damaged_revocations_by_hand_are_told_of_and_stay_where_they_are(desk: Desk, root: Authority) -> None:
    desk.keep(root.crl())
    client = root.issue("device")
    by_hand(desk, client)
    (file,) = (desk.state / "local").iterdir()
    file.write_bytes(file.read_bytes().replace(b"operator", b"OPERATOR"))
    result = desk.ask(client)
    assert "what was revoked by hand cannot be read, and does not count" in told(result, "note")
    assert [each.name for each in (desk.state / "local").iterdir()] == [file.name]


@pytest.mark.parametrize("named", ["", " CN=Root"])
def test_what_a_file_of_the_configuration_revokes_is_told_with_its_line(
    desk: Desk, root: Authority, named: str
) -> None:
    client, other = root.issue("device"), root.issue("other")
    desk.keep(root.crl())
    file = desk.write("revoked.txt", f"# lost\n{client.serial:x}{named}\n")
    desk.replace("[listeners.revocation]", '[listeners.revocation]\nrevoked_serials = "revoked.txt"')
    result = desk.ask(client)
    assert result.exit_code == 1
    (words,) = (each for each in told(result, "list") if not each.startswith("CN=Root, number"))
    assert words == f"revoked by hand in this gateway, by {file} line 2"
    assert told(result, "verdict") == ["refused: certificate_revoked"]
    assert desk.ask(other).exit_code == 0


@pytest.mark.parametrize(
    ("trust", "status", "verdict"),
    [("ca", 1, "refused: untrusted: unable to get issuer certificate"), ("intermediate", 0, "let in")],
)
def test_a_ca_without_its_root_is_an_anchor_where_trust_says_so(
    trust: str, status: int, verdict: str, tmp_path: Path, root: Authority, sub: Authority
) -> None:
    desk = Desk(tmp_path, root)
    desk.write("ca.pem", sub.pem)
    desk.config.write_text(desk.toml().replace("proxy_protocol", f'trust = "{trust}"\nproxy_protocol'))
    desk.keep(sub.crl())
    result = desk.ask(sub.issue("device"))
    assert result.exit_code == status
    assert told(result, "verdict")[0].startswith(verdict)


def test_a_chain_that_is_longer_than_the_listener_allows_is_untrusted(
    tmp_path: Path, root: Authority, sub: Authority
) -> None:
    desk = Desk(tmp_path, root)
    desk.keep(root.crl())
    desk.config.write_text(desk.toml().replace("proxy_protocol", "verify_depth = 0\nproxy_protocol"))
    result = desk.ask(sub.issue("device"))
    assert result.exit_code == 1
    assert told(result, "verdict") == [
        "refused: untrusted: 1 CAs below the trusted one, and verify_depth is 0"
    ]


@pytest.mark.parametrize(
    ("usages", "verdict"),
    [
        ((ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION), "let in"),
        (
            (ExtendedKeyUsageOID.CLIENT_AUTH,),
            "refused: untrusted: without emailProtection in extendedKeyUsage",
        ),
        ((), "refused: untrusted: without clientAuth in extendedKeyUsage"),
        ((ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,), "refused: untrusted: not for TLS clients"),
    ],
)
def test_a_client_without_the_usages_that_are_asked_for_is_untrusted(
    usages: Sequence[x509.ObjectIdentifier], verdict: str, tmp_path: Path, root: Authority
) -> None:
    desk = Desk(tmp_path, root)
    desk.keep(root.crl())
    asked = 'client_extended_key_usage = ["clientAuth", "emailProtection"]'
    desk.config.write_text(desk.toml().replace("proxy_protocol", f"{asked}\nproxy_protocol"))
    result = desk.ask(root.issue("device", usages=usages))
    assert told(result, "verdict")[0].startswith(verdict)
