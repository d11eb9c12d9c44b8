"""The bench's responder gives answers that the gateway believes, to either kind of request."""

from __future__ import annotations

import base64
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from bench.material import Material
from bench.responder import Responder
from gateway.stapling.request import build_request
from gateway.stapling.response import verify_response

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("way", ["GET", "POST"])
def test_it_says_good_of_every_certificate_of_its_ca(tmp_path: Path, way: str) -> None:
    material = Material.make(tmp_path)
    client = x509.load_pem_x509_certificate(material.client_cert.read_bytes())
    request = build_request(client, material.authority)
    with Responder(material, 0) as responder:
        path = urllib.parse.quote(base64.b64encode(request), safe="") if way == "GET" else ""
        asked = urllib.request.Request(f"{responder.url}/{path}", data=None if way == "GET" else request)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            said = verify_response(answer.read(), client, material.authority, now=int(time.time()))
        assert (said.status, responder.answers) == ("good", 1)
        assert said.expires > time.time() + 3600
