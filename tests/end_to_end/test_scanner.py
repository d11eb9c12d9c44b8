"""What sslyze finds in a gateway whose TLS options are left as they are: nothing that costs an A."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.parts import TIMEOUT

if TYPE_CHECKING:
    from tests.end_to_end.tls_house import House

# It needs another version of cryptography than the gateway.
SSLYZE = Path(__file__).resolve().parents[2] / ".scanner" / "bin" / "sslyze"
# Of the tests' own CA, which is in no trust store.
OF_THE_CERTIFICATE = {"certificate_path_validation"}
GOOD_12 = {"AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"}


def scan(house: House, listener: str, *options: str) -> tuple[dict[str, Any], str]:
    """Everything that sslyze found, by the name of the scan, and what it says of compliance."""
    if not SSLYZE.exists():
        message = "sslyze is missing: make scanner"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    found = house.directory / f"{listener}.json"
    command: list[str | Path] = [
        SSLYZE, "--json_out", found, "--sni", "localhost", "--cert", house.directory / "device.pem",
        "--key", house.directory / "device.key", *options, f"127.0.0.1:{house.ports[listener]}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * TIMEOUT, check=False)
    (server,) = json.loads(found.read_text())["server_scan_results"]
    assert server["scan_status"] == "COMPLETED", done.stdout
    results = {
        name: outcome["result"]
        for name, outcome in server["scan_result"].items()
        if outcome["status"] == "COMPLETED"
    }
    return results, done.stdout


def complaints(said: str) -> set[str]:
    """What is against the configuration that was asked for."""
    judged = said.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    assert "Checking results" in judged
    return set(re.findall(r"^ +\* (\w+):", judged, re.MULTILINE))


@pytest.mark.parametrize(
    ("listener", "configuration"),
    [("default", "intermediate"), ("rsa", "intermediate"), ("only_1.3", "modern")],
)
def test_mozillas_recommendations_are_met(listener: str, configuration: str, house: House) -> None:
    _, said = scan(house, listener, "--mozilla_config", configuration)
    assert complaints(said) == OF_THE_CERTIFICATE


def test_a_cipher_that_mozilla_does_not_recommend_is_found(house: House) -> None:
    """The question of the test above, where the answer is another one."""
    _, said = scan(house, "weak", "--mozilla_config", "intermediate")
    assert complaints(said) == {*OF_THE_CERTIFICATE, "ciphers"}


@pytest.mark.parametrize("listener", ["default", "rsa"])
def test_nothing_is_offered_that_can_be_attacked(listener: str, house: House) -> None:
    results, _ = scan(
        house, listener, "--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--reneg",
        "--resum", "--compression", "--early_data", "--heartbleed", "--robot", "--openssl_ccs", "--fallback",
        "--ems",
    )  # fmt: skip
    accepted = {
        name.removesuffix("_cipher_suites"): [
            suite["cipher_suite"]["name"] for suite in result["accepted_cipher_suites"]
        ]
        for name, result in results.items()
        if name.endswith("_cipher_suites")
    }
    assert [name for name, suites in sorted(accepted.items()) if suites] == ["tls_1_2", "tls_1_3"]
    assert {re.sub(r"TLS_ECDHE_(ECDSA|RSA)_WITH_", "", suite) for suite in accepted["tls_1_2"]} == GOOD_12
    assert results["session_renegotiation"] == {
        "supports_secure_renegotiation": True,
        "is_vulnerable_to_client_renegotiation_dos": False,
        "client_renegotiations_success_count": 0,
    }
    assert results["tls_compression"] == {"supports_compression": False}
    assert results["tls_1_3_early_data"] == {"supports_early_data": False}
    assert results["heartbleed"] == {"is_vulnerable_to_heartbleed": False}
    assert results["openssl_ccs_injection"] == {"is_vulnerable_to_ccs_injection": False}
    assert results["robot"] == {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"}
    assert results["tls_fallback_scsv"] == {"supports_fallback_scsv": True}
    assert results["tls_extended_master_secret"] == {"supports_ems_extension": True}
    assert results["session_resumption"]["tls_ticket_resumption_result"] == "FULLY_SUPPORTED"
