"""The cases of NIST's PKITS that are about revocation: what is presented, and what has to come out.

PKITS (Public Key Interoperability Test Suite, Certification Path Validation) has 79 of them, in its sections
4.4, 4.5, 4.7, 4.14 and 4.15. A case is a number, a title, what stands above its end entity, and for an
invalid path why it is refused. The results are NIST's; the reasons are those of RFC 5280, section 6.3.3.
"""

from __future__ import annotations

from typing import NamedTuple

TRUST_ANCHOR = "TrustAnchorRootCertificate"
TRUST_ANCHOR_CRL = "TrustAnchorRootCRL"

# What the reason of a refusal begins with.
KINDS = ("revoked", "no usable list", "expired list", "not trusted")


class Issuers(NamedTuple):
    """What stands between the trust anchor and an end entity: names of files, without their suffix."""

    path: tuple[str, ...]
    crls: tuple[str, ...] = ()
    # Certificates that sign CRLs and are in no path.
    signers: tuple[str, ...] = ()


class Case(NamedTuple):
    """One case."""

    number: str
    # NIST's, without its "Test" and number.
    title: str
    issuers: Issuers
    # Empty where the path is valid; else one of KINDS, and what decides.
    refused: str = ""
    # Why not everyone has this result, if so.
    disputed: str = ""

    @property
    def valid(self) -> bool:
        """Whether the path is to be accepted."""
        return not self.refused

    @property
    def kind(self) -> str:
        """Which of KINDS the refusal is; nothing where there is none."""
        return self.refused.partition(":")[0]

    @property
    def section(self) -> str:
        """The section of PKITS that has the case."""
        return self.number.rpartition(".")[0]

    @property
    def end_entity(self) -> str:
        """The end entity's certificate, which NIST names after the case."""
        name = self.title.replace(" ", "").replace("-", "")
        return f"{name}Test{self.number.rpartition('.')[2]}EE"

    @property
    def path(self) -> tuple[str, ...]:
        """The certificates from just below the trust anchor to the end entity."""
        return (*self.issuers.path, self.end_entity)

    @property
    def crls(self) -> tuple[str, ...]:
        """The CRLs of the path and of those who sign them."""
        return (TRUST_ANCHOR_CRL, *self.issuers.crls)

    @property
    def signers(self) -> tuple[str, ...]:
        """Certificates that sign CRLs and are in no path."""
        return self.issuers.signers


def _ca(name: str) -> Issuers:
    """A CA with one CRL."""
    return Issuers((f"{name}Cert",), (f"{name}CRL",))


def _reasons(name: str) -> Issuers:
    """A CA with one CRL for compromised keys and one for all other reasons."""
    return Issuers((f"{name}Cert",), (f"{name}compromiseCRL", f"{name}otherreasonsCRL"))


def _delta(name: str) -> Issuers:
    """A CA with a complete CRL and a delta to it."""
    return Issuers((f"{name}Cert",), (f"{name}CRL", f"{name}deltaCRL"))


_NO_CRL = Issuers(("NoCRLCACert",))
_GOOD = _ca("GoodCA")
_REVOKED_CA = Issuers(("GoodCACert", "RevokedsubCACert"), ("GoodCACRL", "RevokedsubCACRL"))
_TWO_CRLS = Issuers(("TwoCRLsCACert",), ("TwoCRLsCAGoodCRL", "TwoCRLsCABadCRL"))
_UNKNOWN_1 = _ca("UnknownCRLEntryExtensionCA")
_UNKNOWN_2 = _ca("UnknownCRLExtensionCA")
_GENERALIZED_TIME = _ca("GeneralizedTimeCRLnextUpdateCA")
_NEGATIVE_SERIAL = _ca("NegativeSerialNumberCA")
_LONG_SERIAL = _ca("LongSerialNumberCA")

# One name with two keys, both certified by the trust anchor: one signs certificates, the other one the CRL.
_KEYS_1 = Issuers(
    ("SeparateCertificateandCRLKeysCertificateSigningCACert",),
    ("SeparateCertificateandCRLKeysCRL",),
    ("SeparateCertificateandCRLKeysCRLSigningCert",),
)
_KEYS_2 = Issuers(
    ("SeparateCertificateandCRLKeysCA2CertificateSigningCACert",),
    ("SeparateCertificateandCRLKeysCA2CRL",),
    ("SeparateCertificateandCRLKeysCA2CRLSigningCert",),
)

# One name with two keys, of which the trust anchor certifies one, and that one the other.
_OLD_WITH_NEW = Issuers(
    ("BasicSelfIssuedNewKeyCACert", "BasicSelfIssuedNewKeyOldWithNewCACert"),
    ("BasicSelfIssuedNewKeyCACRL",),
)
_NEW_WITH_OLD = Issuers(
    ("BasicSelfIssuedOldKeyCACert", "BasicSelfIssuedOldKeyNewWithOldCACert"),
    ("BasicSelfIssuedOldKeyCACRL", "BasicSelfIssuedOldKeySelfIssuedCertCRL"),
)
_OLD_KEY = Issuers(_NEW_WITH_OLD.path[:1], _NEW_WITH_OLD.crls, _NEW_WITH_OLD.path[1:])
_BELOW_CRL_KEY = Issuers(
    ("BasicSelfIssuedCRLSigningKeyCACert", "BasicSelfIssuedCRLSigningKeyCRLCert"),
    ("BasicSelfIssuedCRLSigningKeyCACRL", "BasicSelfIssuedCRLSigningKeyCRLCertCRL"),
)
_CRL_KEY = Issuers(_BELOW_CRL_KEY.path[:1], _BELOW_CRL_KEY.crls, _BELOW_CRL_KEY.path[1:])

_USE_1, _USE_2 = _ca("keyUsageCriticalkeyCertSignFalseCA"), _ca("keyUsageNotCriticalkeyCertSignFalseCA")
_USE_4, _USE_5 = _ca("keyUsageCriticalcRLSignFalseCA"), _ca("keyUsageNotCriticalcRLSignFalseCA")

_POINT_1, _POINT_2 = _ca("distributionPoint1CA"), _ca("distributionPoint2CA")
_ONLY_USERS, _ONLY_CAS = _ca("onlyContainsUserCertsCA"), _ca("onlyContainsCACertsCA")
_ONLY_ATTRIBUTES = _ca("onlyContainsAttributeCertsCA")
_REASONS_1, _REASONS_3, _REASONS_4 = (_reasons(f"onlySomeReasonsCA{number}") for number in (1, 3, 4))
_REASONS_2 = Issuers(("onlySomeReasonsCA2Cert",), ("onlySomeReasonsCA2CRL1", "onlySomeReasonsCA2CRL2"))

# Indirect CRLs: CA1's is for CA2 too, CA5's for CA6 too; CA3 and CA4 have an issuer of CRLs that is no CA.
_INDIRECT_1, _INDIRECT_5 = _ca("indirectCRLCA1"), _ca("indirectCRLCA5")
_INDIRECT_2 = Issuers(("indirectCRLCA2Cert",), ("indirectCRLCA1CRL",), ("indirectCRLCA1Cert",))
_INDIRECT_2_GOOD = Issuers(("indirectCRLCA2Cert",), ("GoodCACRL",), ("GoodCACert",))
_INDIRECT_3 = Issuers(
    ("indirectCRLCA3Cert",),
    ("indirectCRLCA3CRL", "indirectCRLCA3cRLIssuerCRL"),
    ("indirectCRLCA3cRLIssuerCert",),
)
_INDIRECT_4 = Issuers(
    ("indirectCRLCA4Cert",),
    ("indirectCRLCA4cRLIssuerCRL",),
    ("indirectCRLCA4cRLIssuerCert",),
)
_INDIRECT_6 = Issuers(("indirectCRLCA6Cert",), ("indirectCRLCA5CRL",), ("indirectCRLCA5Cert",))

_NO_BASE = _ca("deltaCRLIndicatorNoBaseCA")
_DELTA_1, _DELTA_2, _DELTA_3 = (_delta(f"deltaCRLCA{number}") for number in (1, 2, 3))

CASES = (
    # Basic certificate revocation
    Case("4.4.1", "Invalid Missing CRL", _NO_CRL, "no usable list: there is none"),
    Case("4.4.2", "Invalid Revoked CA", _REVOKED_CA, "revoked: the lower CA"),
    Case("4.4.3", "Invalid Revoked EE", _GOOD, "revoked"),
    Case("4.4.4", "Invalid Bad CRL Signature", _ca("BadCRLSignatureCA"), "no usable list: wrong signature"),
    Case("4.4.5", "Invalid Bad CRL Issuer Name", _ca("BadCRLIssuerNameCA"), "no usable list: another name"),
    Case("4.4.6", "Invalid Wrong CRL", _ca("WrongCRLCA"), "no usable list: the trust anchor's"),
    Case("4.4.7", "Valid Two CRLs", _TWO_CRLS),
    Case("4.4.8", "Invalid Unknown CRL Entry Extension", _UNKNOWN_1, "no usable list: critical extension"),
    Case("4.4.9", "Invalid Unknown CRL Extension", _UNKNOWN_2, "no usable list: critical extension"),
    Case("4.4.10", "Invalid Unknown CRL Extension", _UNKNOWN_2, "no usable list: critical extension"),
    Case("4.4.11", "Invalid Old CRL nextUpdate", _ca("OldCRLnextUpdateCA"), "expired list"),
    Case("4.4.12", "Invalid pre2000 CRL nextUpdate", _ca("pre2000CRLnextUpdateCA"), "expired list: in 1999"),
    Case("4.4.13", "Valid GeneralizedTime CRL nextUpdate", _GENERALIZED_TIME),
    Case("4.4.14", "Valid Negative Serial Number", _NEGATIVE_SERIAL),
    Case("4.4.15", "Invalid Negative Serial Number", _NEGATIVE_SERIAL, "revoked: -1"),
    Case("4.4.16", "Valid Long Serial Number", _LONG_SERIAL),
    Case("4.4.17", "Valid Long Serial Number", _LONG_SERIAL),
    Case("4.4.18", "Invalid Long Serial Number", _LONG_SERIAL, "revoked: 20 octets"),
    Case("4.4.19", "Valid Separate Certificate and CRL Keys", _KEYS_1),
    Case("4.4.20", "Invalid Separate Certificate and CRL Keys", _KEYS_1, "revoked"),
    Case("4.4.21", "Invalid Separate Certificate and CRL Keys", _KEYS_2, "no usable list: signer revoked"),
    # Paths with self-issued certificates
    Case("4.5.1", "Valid Basic Self-Issued Old With New", _OLD_WITH_NEW),
    Case("4.5.2", "Invalid Basic Self-Issued Old With New", _OLD_WITH_NEW, "revoked"),
    Case("4.5.3", "Valid Basic Self-Issued New With Old", _NEW_WITH_OLD),
    Case("4.5.4", "Valid Basic Self-Issued New With Old", _OLD_KEY),
    Case("4.5.5", "Invalid Basic Self-Issued New With Old", _OLD_KEY, "revoked"),
    Case("4.5.6", "Valid Basic Self-Issued CRL Signing Key", _CRL_KEY),
    Case("4.5.7", "Invalid Basic Self-Issued CRL Signing Key", _CRL_KEY, "revoked"),
    Case("4.5.8", "Invalid Basic Self-Issued CRL Signing Key", _BELOW_CRL_KEY, "not trusted: of no CA"),
    # Key usage
    Case("4.7.1", "Invalid keyUsage Critical keyCertSign False", _USE_1, "not trusted: no keyCertSign"),
    Case("4.7.2", "Invalid keyUsage Not Critical keyCertSign False", _USE_2, "not trusted: no keyCertSign"),
    Case("4.7.3", "Valid keyUsage Not Critical", _ca("keyUsageNotCriticalCA")),
    Case("4.7.4", "Invalid keyUsage Critical cRLSign False", _USE_4, "no usable list: no cRLSign"),
    Case("4.7.5", "Invalid keyUsage Not Critical cRLSign False", _USE_5, "no usable list: no cRLSign"),
    # Distribution points
    Case("4.14.1", "Valid distributionPoint", _POINT_1),
    Case("4.14.2", "Invalid distributionPoint", _POINT_1, "revoked"),
    Case("4.14.3", "Invalid distributionPoint", _POINT_1, "no usable list: another point"),
    Case("4.14.4", "Valid distributionPoint", _POINT_1),
    Case("4.14.5", "Valid distributionPoint", _POINT_2),
    Case("4.14.6", "Invalid distributionPoint", _POINT_2, "revoked"),
    Case("4.14.7", "Valid distributionPoint", _POINT_2),
    Case("4.14.8", "Invalid distributionPoint", _POINT_2, "no usable list: another point, the CA's name"),
    Case("4.14.9", "Invalid distributionPoint", _POINT_2, "no usable list: of a point, certificate has none"),
    Case("4.14.10", "Valid No issuingDistributionPoint", _ca("NoissuingDistributionPointCA")),
    Case("4.14.11", "Invalid onlyContainsUserCerts", _ONLY_USERS, "no usable list: CAs are not in its scope"),
    Case("4.14.12", "Invalid onlyContainsCACerts", _ONLY_CAS, "no usable list: only CAs are in its scope"),
    Case("4.14.13", "Valid onlyContainsCACerts", _ONLY_CAS),
    Case("4.14.14", "Invalid onlyContainsAttributeCerts", _ONLY_ATTRIBUTES, "no usable list: not its scope"),
    Case("4.14.15", "Invalid onlySomeReasons", _REASONS_1, "revoked: keyCompromise, first list"),
    Case("4.14.16", "Invalid onlySomeReasons", _REASONS_1, "revoked: certificateHold, second list"),
    Case("4.14.17", "Invalid onlySomeReasons", _REASONS_2, "no usable list: for four of eight reasons"),
    Case("4.14.18", "Valid onlySomeReasons", _REASONS_3),
    Case("4.14.19", "Valid onlySomeReasons", _REASONS_4),
    Case("4.14.20", "Invalid onlySomeReasons", _REASONS_4, "revoked: keyCompromise, first list"),
    Case("4.14.21", "Invalid onlySomeReasons", _REASONS_4, "revoked: affiliationChanged, second list"),
    Case("4.14.22", "Valid IDP with indirectCRL", _INDIRECT_1),
    Case("4.14.23", "Invalid IDP with indirectCRL", _INDIRECT_1, "revoked"),
    Case("4.14.24", "Valid IDP with indirectCRL", _INDIRECT_2),
    Case("4.14.25", "Valid IDP with indirectCRL", _INDIRECT_2),
    Case("4.14.26", "Invalid IDP with indirectCRL", _INDIRECT_2, "no usable list: not of the cRLIssuer"),
    Case("4.14.27", "Invalid cRLIssuer", _INDIRECT_2_GOOD, "no usable list: the cRLIssuer's is not indirect"),
    Case("4.14.28", "Valid cRLIssuer", _INDIRECT_3),
    Case("4.14.29", "Valid cRLIssuer", _INDIRECT_3),
    Case("4.14.30", "Valid cRLIssuer", _INDIRECT_4, disputed="circular: the list covers its own signer"),
    Case("4.14.31", "Invalid cRLIssuer", _INDIRECT_6, "revoked: an entry that names the CA"),
    Case("4.14.32", "Invalid cRLIssuer", _INDIRECT_6, "revoked: an entry behind one that names the CA"),
    Case("4.14.33", "Valid cRLIssuer", _INDIRECT_6),
    Case("4.14.34", "Invalid cRLIssuer", _INDIRECT_5, "revoked: an entry behind one that names the CA"),
    Case("4.14.35", "Invalid cRLIssuer", _INDIRECT_5, "no usable list: not of the cRLIssuer"),
    # Delta CRLs
    Case("4.15.1", "Invalid deltaCRLIndicator No Base", _NO_BASE, "no usable list: a delta"),
    Case("4.15.2", "Valid delta-CRL", _DELTA_1),
    Case("4.15.3", "Invalid delta-CRL", _DELTA_1, "revoked: in the base"),
    Case("4.15.4", "Invalid delta-CRL", _DELTA_1, "revoked: in the delta"),
    Case("4.15.5", "Valid delta-CRL", _DELTA_1),
    Case("4.15.6", "Invalid delta-CRL", _DELTA_1, "revoked: on hold in the base, for good in the delta"),
    Case("4.15.7", "Valid delta-CRL", _DELTA_1),
    Case("4.15.8", "Valid delta-CRL", _DELTA_2),
    Case("4.15.9", "Invalid delta-CRL", _DELTA_2, "revoked: in both"),
    Case("4.15.10", "Invalid delta-CRL", _DELTA_3, "expired list: the base; the delta is to a later one"),
)
