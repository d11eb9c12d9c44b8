from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.config.load import load
from gateway.config.model import (
    Address,
    Certificate,
    Config,
    CrlCache,
    Duration,
    Listener,
    Revocation,
    Size,
    Stapling,
)
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = """
workers = "auto"
state_dir = "/var/lib/tls-gateway"

[[listeners]]
name = "external"
bind = ["0.0.0.0:8883"]
upstreams = ["127.0.0.1:1883"]             # host:port or unix:/path
proxy_protocol = "off"                     # off | v1 | v2, v2 with the TLS and certificate TLVs
certificates = [{ cert = "server.pem", key = "server.key" }]     # several: chosen by SNI
client_ca = "ca.pem"
verify = "required"                        # required | optional | none
handshake_timeout = "15s"
max_connections = 100_000

[listeners.revocation]
check = "chain"                            # chain | leaf | off
crl_urls = ["http://localhost:8080/ca.crl"]
follow_distribution_points = true
on_unavailable = "reject"
disconnect_revoked = true

[listeners.stapling]
enabled = true
responder_url = "http://ocsp.example"      # left out: from the certificate
issuer = "ocsp-issuer.pem"                 # left out: from the chain
refresh_interval = "5m"
http_timeout = "15s"

[crl_cache]
refresh_interval = "15m"
http_timeout = "15s"
max_bytes = "256MiB"
"""

ROOT = 'workers = "auto"'
NAME = 'name = "external"'
BIND = 'bind = ["0.0.0.0:8883"]'
UPSTREAMS = 'upstreams = ["127.0.0.1:1883"]'
CERTIFICATES = 'certificates = [{ cert = "server.pem", key = "server.key" }]'
CLIENT_CA = 'client_ca = "ca.pem"'
URLS = 'crl_urls = ["http://localhost:8080/ca.crl"]'
RESPONDER = 'responder_url = "http://ocsp.example"'
SECOND = f"""
[[listeners]]
name = "second"
bind = ["127.0.0.1:8884"]
{UPSTREAMS}
{CERTIFICATES}
{CLIENT_CA}
"""
DURATION = 'a duration such as "500ms", "15s", "5m" or "1h30m"'


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return path

    return write


def changed(old: str, new: str) -> str:
    assert EXAMPLE.count(old) == 1
    return EXAMPLE.replace(old, new)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


def test_the_designs_example_loads_as_it_stands(written: Callable[[str], Path]) -> None:
    path = written(EXAMPLE)
    here = path.parent
    expected = Config(
        workers="auto",
        state_dir=Path("/var/lib/tls-gateway"),
        listeners=(
            Listener(
                name="external",
                bind=(Address("0.0.0.0", 8883),),
                upstreams=(Address("127.0.0.1", 1883),),
                certificates=(Certificate(cert=here / "server.pem", key=here / "server.key"),),
                client_ca=here / "ca.pem",
                verify="required",
                handshake_timeout=Duration(15),
                max_connections=100_000,
                revocation=Revocation(crl_urls=("http://localhost:8080/ca.crl",)),
                stapling=Stapling(
                    enabled=True, responder_url="http://ocsp.example", issuer=here / "ocsp-issuer.pem"
                ),
            ),
        ),
        crl_cache=CrlCache(
            refresh_interval=Duration(900), http_timeout=Duration(15), max_bytes=Size(256 << 20)
        ),
    )
    assert load(path)[:2] == (expected, [])


def test_the_example_above_is_the_designs_own(written: Callable[[str], Path]) -> None:
    """docs/configuration.md carries the same example, so that it cannot drift."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()
    assert EXAMPLE.strip() in text


def test_a_state_dir_from_the_command_line_replaces_the_files(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(changed('state_dir = "/var/lib/tls-gateway"', 'state_dir = "state"'))
    assert load(path).config.state_dir == path.parent / "state"
    assert load(path, state_dir=Path("other")).config.state_dir == tmp_path / "other"


CASES = [
    # keys
    (changed(ROOT, "worker = 2"), 'worker: unknown key (did you mean "workers"?)'),
    (changed(ROOT, "colour = 2"), "colour: unknown key"),
    (
        changed(ROOT, 'proxy_protocol = "v1"'),
        "proxy_protocol: unknown key here: it belongs below [[listeners]]",
    ),
    (
        changed(BIND, f'{BIND}\nconnect_timeout = "2s"'),
        "listeners[0].connect_timeout: unknown key here: it belongs above the first table",
    ),
    (changed(ROOT, '"a\\nb` - at `$.c" = 2'), "a\\nb` - at `$.c: unknown key"),
    (
        changed(BIND, 'binds = ["0.0.0.0:8883"]'),
        'listeners[0].binds: unknown key (did you mean "bind"?)',
    ),
    (
        changed(URLS, 'crl_url = ["http://a/"]'),
        'listeners[0].revocation.crl_url: unknown key (did you mean "crl_urls"?)',
    ),
    (
        changed(CERTIFICATES, 'certificates = [{ cert = "a", keys = "b" }]'),
        'listeners[0].certificates[0].keys: unknown key (did you mean "key"?)',
    ),
    # types
    ("listeners = 3", "listeners: expected an array with at least one element, got 3"),
    ("listeners = [3]", "listeners[0]: expected a table, got 3"),
    ("listeners = []", "listeners: expected an array with at least one element, got an empty array"),
    (ROOT, "listeners: expected an array with at least one element, got nothing"),
    (changed(NAME, ""), "listeners[0].name: expected 1 to 64 letters, digits, '_', '.' or '-', got nothing"),
    (
        changed(NAME, 'name = "a b"'),
        "listeners[0].name: expected 1 to 64 letters, digits, '_', '.' or '-', got \"a b\"",
    ),
    (
        changed(NAME, 'name = "x\\n"'),
        "listeners[0].name: expected 1 to 64 letters, digits, '_', '.' or '-', got \"x\\n\"",
    ),
    (changed(CLIENT_CA, "client_ca = 3"), "listeners[0].client_ca: expected the path of a file, got 3"),
    (changed(CLIENT_CA, 'client_ca = ""'), 'listeners[0].client_ca: expected the path of a file, got ""'),
    (
        changed(CLIENT_CA, 'client_ca = "a\\u0000"'),
        'listeners[0].client_ca: expected the path of a file, got "a\\u0000"',
    ),
    (
        changed(CERTIFICATES, 'certificates = [{ cert = "a" }]'),
        "listeners[0].certificates[0].key: expected the path of a file, got nothing",
    ),
    (
        changed(CERTIFICATES, "certificates = []"),
        "listeners[0].certificates: expected an array with at least one element, got an empty array",
    ),
    (
        changed("enabled = true", "enabled = 1"),
        "listeners[0].stapling.enabled: expected true or false, got 1",
    ),
    (
        changed("enabled = true", "enabled = {}"),
        "listeners[0].stapling.enabled: expected true or false, got a table",
    ),
    (
        changed('check = "chain"', 'check = "full"'),
        'listeners[0].revocation.check: expected "chain", "leaf" or "off", got "full"',
    ),
    (
        changed('check = "chain"', 'tls = "x"\ncheck = "chain"'),
        "listeners[0].revocation.tls: unknown key",
    ),
    (
        changed(NAME, f'{NAME}\ntls_versions = ["1.1"]'),
        'listeners[0].tls_versions[0]: expected "1.2" or "1.3", got "1.1"',
    ),
    (
        changed(NAME, f"{NAME}\ntls_versions = []"),
        "listeners[0].tls_versions: expected an array with at least one element, got an empty array",
    ),
    (changed(URLS, "crl_urls = [3]"), "listeners[0].revocation.crl_urls[0]: expected a string, got 3"),
    *(
        (
            changed(NAME, f'{NAME}\nalpn = ["mqtt", {value}]'),
            'listeners[0].alpn[1]: expected a protocol such as "mqtt", 1 to 255 visible characters, got '
            + got,
        )
        for value, got in [('""', '""'), ('"a b"', '"a b"'), ("1", "1")]
    ),
    *(
        (
            changed(NAME, f'{NAME}\nclient_extended_key_usage = ["clientAuth", "{value}"]'),
            (
                'listeners[0].client_extended_key_usage[1]: expected "clientAuth", "serverAuth", '
                '"codeSigning", "emailProtection", "timeStamping", "OCSPSigning" or an OID such as '
                f'"1.3.6.1.5.5.7.3.2", got "{value}"'
            ),
        )
        for value in ("clientauth", "", "1", "3.4", "1.2.x")
    ),
    # numbers
    (
        changed(NAME, f"{NAME}\nverify_depth = -1"),
        "listeners[0].verify_depth: expected a whole number from 0 to 100, got -1",
    ),
    (
        changed(NAME, f"{NAME}\nverify_depth = 101"),
        "listeners[0].verify_depth: expected a whole number from 0 to 100, got 101",
    ),
    *(
        (
            changed(NAME, f'{NAME}\nsession_lifetime = "{value}"'),
            f'listeners[0].session_lifetime: expected whole seconds from "1s" to "7d", got "{value}"',
        )
        for value in ("0s", "500ms", "8d")
    ),
    (
        changed(ROOT, f"{ROOT}\nlog.flood_limit = -1"),
        "log.flood_limit: expected a whole number of 0 or more, got -1",
    ),
    (changed(ROOT, f"{ROOT}\nlog.file = 5"), "log.file: expected the path of a file, got 5"),
    (changed(ROOT, "workers = 0"), 'workers: expected a whole number from 1 to 1024 or "auto", got 0'),
    (changed(ROOT, "workers = -1"), 'workers: expected a whole number from 1 to 1024 or "auto", got -1'),
    (changed(ROOT, 'workers = "2"'), 'workers: expected a whole number from 1 to 1024 or "auto", got "2"'),
    (
        changed(ROOT, f"workers = 0x{'f' * 6000}"),
        'workers: expected a whole number from 1 to 1024 or "auto", got a number of more than 64 bits',
    ),
    (
        changed("max_connections = 100_000", "max_connections = 0"),
        "listeners[0].max_connections: expected a whole number of at least 1, got 0",
    ),
    (
        changed(NAME, f"{NAME}\nmax_conn_rate = 0"),
        "listeners[0].max_conn_rate: expected a number above 0, got 0",
    ),
    (
        changed(NAME, f"{NAME}\nmax_conn_rate = -2.5"),
        "listeners[0].max_conn_rate: expected a number above 0, got -2.5",
    ),
    (
        changed(NAME, f"{NAME}\nmax_conn_rate = nan"),
        "listeners[0].max_conn_rate: expected a number above 0, got nan",
    ),
    (
        changed(NAME, f"{NAME}\nmax_conn_rate = inf"),
        "listeners[0].max_conn_rate: expected a number above 0, got inf",
    ),
    (
        changed('max_bytes = "256MiB"', 'learnt_allow = ["10.0.0.0/8", "10.0.0.1/8"]'),
        'crl_cache.learnt_allow[1]: expected a network such as "10.1.0.0/16", got "10.0.0.1/8"',
    ),
    (
        changed('max_bytes = "256MiB"', "shrink_warning = 1.5"),
        "crl_cache.shrink_warning: expected a number from 0 to 1, got 1.5",
    ),
    # durations and sizes
    (
        changed('handshake_timeout = "15s"', 'handshake_timeout = "15"'),
        f'listeners[0].handshake_timeout: expected {DURATION}, got "15"',
    ),
    (
        changed('handshake_timeout = "15s"', "handshake_timeout = 15"),
        f"listeners[0].handshake_timeout: expected {DURATION}, got 15",
    ),
    (
        changed('handshake_timeout = "15s"', 'handshake_timeout = "0s"'),
        'listeners[0].handshake_timeout: expected a duration above 0, got "0s"',
    ),
    (
        changed(URLS, 'grace = "-5s"'),
        f'listeners[0].revocation.grace: expected {DURATION}, got "-5s"',
    ),
    (changed(ROOT, 'drain_timeout = "-1s"'), f'drain_timeout: expected {DURATION}, got "-1s"'),
    (
        changed('refresh_interval = "5m"', 'refresh_interval = "0m"'),
        'listeners[0].stapling.refresh_interval: expected a duration above 0, got "0s"',
    ),
    (
        changed('refresh_interval = "5m"\nhttp_timeout = "15s"', 'http_timeout = "0s"'),
        'listeners[0].stapling.http_timeout: expected a duration above 0, got "0s"',
    ),
    (
        changed('refresh_interval = "15m"', 'refresh_interval = "0ms"'),
        'crl_cache.refresh_interval: expected a duration above 0, got "0s"',
    ),
    (
        changed('http_timeout = "15s"\nmax_bytes', 'http_timeout = "0s"\nmax_bytes'),
        'crl_cache.http_timeout: expected a duration above 0, got "0s"',
    ),
    (
        changed("256MiB", "256MB"),
        'crl_cache.max_bytes: expected a size such as 4096, "64KiB" or "256MiB", got "256MB"',
    ),
    (changed('"256MiB"', "0"), "crl_cache.max_bytes: expected a size from 1 byte to 1024GiB, got 0"),
    (
        changed('"256MiB"', "true"),
        'crl_cache.max_bytes: expected a size such as 4096, "64KiB" or "256MiB", got true',
    ),
    # addresses
    (
        changed(BIND, 'bind = ["8883"]'),
        'listeners[0].bind[0]: expected "host:port", "[IPv6]:port" or "unix:/path", got "8883"',
    ),
    (
        changed(BIND, "bind = [8883]"),
        'listeners[0].bind[0]: expected "host:port", "[IPv6]:port" or "unix:/path", got 8883',
    ),
    (
        changed(BIND, 'bind = [{host = "a", port = 1}]'),
        'listeners[0].bind[0]: expected "host:port", "[IPv6]:port" or "unix:/path", got a table',
    ),
    (
        changed(BIND, "bind = []"),
        "listeners[0].bind: expected an array with at least one element, got an empty array",
    ),
    (
        changed(BIND, 'bind = ["0.0.0.0:65536"]'),
        'listeners[0].bind[0]: expected a port from 1 to 65535, got "0.0.0.0:65536"',
    ),
    (
        changed(BIND, 'bind = ["unix:/tmp/x"]'),
        'listeners[0].bind[0]: expected "host:port" to listen on, got "unix:/tmp/x"',
    ),
    (
        changed(UPSTREAMS, 'upstreams = ["127.0.0.1:0"]'),
        'listeners[0].upstreams[0]: expected a port from 1 to 65535, got "127.0.0.1:0"',
    ),
    (
        changed(UPSTREAMS, 'upstreams = [":1883"]'),
        'listeners[0].upstreams[0]: expected a host to connect to, got ":1883"',
    ),
    (
        changed(UPSTREAMS, "upstreams = []"),
        "listeners[0].upstreams: expected an array with at least one element, got an empty array",
    ),
    (
        changed(BIND, 'bind = ["127.0.0.1:1", "127.0.0.1:1"]'),
        'listeners[0].bind[1]: expected an address of its own, got "127.0.0.1:1" as in listener "external"',
    ),
    (
        EXAMPLE + SECOND.replace("127.0.0.1:8884", "0.0.0.0:8883"),
        'listeners[1].bind[0]: expected an address of its own, got "0.0.0.0:8883" as in listener "external"',
    ),
    (
        EXAMPLE + SECOND.replace("127.0.0.1:8884", ":8883"),
        'listeners[1].bind[0]: expected an address of its own, got ":8883" as in listener "external"',
    ),
    (
        changed(BIND, 'bind = ["[::1]:1", "[0::1]:1"]'),
        'listeners[0].bind[1]: expected an address of its own, got "[::1]:1" as in listener "external"',
    ),
    (
        EXAMPLE + SECOND.replace("second", "external"),
        'listeners[1].name: expected a name of its own, got "external" as in listeners[0]',
    ),
    # what one key means for another
    (
        changed(CLIENT_CA, ""),
        (
            "listeners[0].client_ca: expected a file of CA certificates, because "
            'verify is "required"; got nothing'
        ),
    ),
    (
        changed(CLIENT_CA, "").replace('verify = "required"', 'verify = "optional"'),
        (
            "listeners[0].client_ca: expected a file of CA certificates, because "
            'verify is "optional"; got nothing'
        ),
    ),
    # URLs
    *(
        (
            changed(URLS, f'crl_urls = ["http://a/", "{url}"]'),
            f'listeners[0].revocation.crl_urls[1]: expected {expected}, got "{url}"',
        )
        for url, expected in [
            ("ftp://a/b", "a URL with the scheme http, https or file"),
            ("ca.crl", "a URL with the scheme http, https or file"),
            ("file:ca.crl", "an absolute file URL, as in file:///path"),
            ("file://ca.crl", "an absolute file URL, as in file:///path"),
            ("http:///ca.crl", "a URL (http, https or file) with a valid host and port"),
            ("http://a:x/", "a URL (http, https or file) with a valid host and port"),
            ("http://a:0/", "a URL (http, https or file) with a valid host and port"),
            ("http://[a/", "a URL (http, https or file) with a valid host and port"),
            ("http://a/ b", "a URL (http, https or file) without spaces and control characters"),
            ("http://a/\\t", "a URL (http, https or file) without spaces and control characters"),
        ]
    ),
    (
        changed(RESPONDER, 'responder_url = "file:///x"'),
        'listeners[0].stapling.responder_url: expected a URL with the scheme http or https, got "file:///x"',
    ),
    (
        changed(f"enabled = true\n{RESPONDER}", f"enabled = false\nrequired = true\n{RESPONDER}"),
        "listeners[0].stapling.enabled: expected true, because stapling.required is; got false",
    ),
    # later versions
    (
        changed('proxy_protocol = "off"', 'proxy_protocol = "v1"\nproxy_protocol_certificate = true'),
        (
            'listeners[0].proxy_protocol_certificate: expected false, because proxy_protocol is "v1" '
            'and not "v2"; got true'
        ),
    ),
    (
        changed("[listeners.revocation]", '[listeners.upstream_tls]\ncert = "a"\n[listeners.revocation]'),
        "listeners[0].upstream_tls.key: expected a file, because cert is there; got nothing",
    ),
    (
        changed("[listeners.revocation]", '[listeners.upstream_tls]\nkey = "a"\n[listeners.revocation]'),
        "listeners[0].upstream_tls.cert: expected a file, because key is there; got nothing",
    ),
    (
        changed('["127.0.0.1:1883"]', '["unix:/run/b.sock"]\nupstream_tls = { enabled = true }'),
        (
            "listeners[0].upstream_tls.server_name: expected the name in the broker's certificate, "
            "because unix:/run/b.sock is none; got nothing"
        ),
    ),
    (
        changed('proxy_protocol = "off"', 'accept_proxy_protocol = ["10.0.0.1/8"]'),
        'listeners[0].accept_proxy_protocol[0]: expected a network such as "10.1.0.0/16", got "10.0.0.1/8"',
    ),
    (
        changed('proxy_protocol = "off"', 'source_addresses = ["10.0.0.0/8"]'),
        'listeners[0].source_addresses[0]: expected an address such as "10.0.0.5", got "10.0.0.0/8"',
    ),
    (
        changed('proxy_protocol = "off"', 'balance = "random"'),
        ('listeners[0].balance: expected "round-robin", "least-connections" or "client", got "random"'),
    ),
    (
        changed('proxy_protocol = "off"', 'health_check = { interval = "0s" }'),
        'listeners[0].health_check.interval: expected a duration above 0, got "0s"',
    ),
    (
        changed('workers = "auto"', 'connect_timeout = "0s"'),
        'connect_timeout: expected a duration above 0, got "0s"',
    ),
    (
        changed('proxy_protocol = "off"', 'proxy_protocol = "v3"'),
        'listeners[0].proxy_protocol: expected "off", "v1" or "v2", got "v3"',
    ),
    (
        changed('proxy_protocol = "off"', "proxy_protocol = []"),
        'listeners[0].proxy_protocol: expected "off", "v1" or "v2", got an empty array',
    ),
    # TOML
    ("workers = = 2", "expected TOML: Invalid value (at line 1, column 11)"),
    ("\n[[listeners]]\nname = 'x", 'expected TOML: Expected "\'" (at end of document)'),
    ("x = " + "[" * 100_000, "expected TOML, got values nested too deeply"),
]


@pytest.mark.parametrize(
    ("text", "expected"), CASES, ids=[re.sub(r"\W+", "-", case[1])[:60] for case in CASES]
)
def test_what_cannot_be_used_is_named_in_one_line(
    text: str, expected: str, written: Callable[[str], Path]
) -> None:
    assert refusal(written(text)) == expected


def test_an_integer_of_too_many_digits_is_refused(written: Callable[[str], Path]) -> None:
    assert refusal(written(f"workers = {'9' * 5000}")).startswith("expected TOML: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml") == "cannot be read: No such file or directory"


def test_a_directory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.mkdir()
    assert refusal(path) == "cannot be read: Is a directory"


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"a = '\xff'")
    assert refusal(path) == "expected UTF-8 text, got another byte at offset 5"


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^a\\x00\.toml: cannot be read: embedded null byte$"):
        load(Path("a\0.toml"))


def test_only_the_two_formats_are_read(tmp_path: Path) -> None:
    expected = "expected a file name that ends in .toml, or in .conf for EMQX keys"
    assert refusal(tmp_path / "gateway.yaml") == expected


@pytest.mark.parametrize(
    "text",
    [
        changed(CLIENT_CA, "").replace('verify = "required"', 'verify = "none"'),
        changed(URLS, 'crl_urls = ["file:///ca.crl", "file://localhost/ca.crl", "https://[::1]:8/ca.crl"]'),
        changed(URLS, 'grace = "0s"'),
        changed(BIND, 'bind = ["0.0.0.0:8883", "[::]:8883", "127.0.0.1:8884"]'),
        changed(UPSTREAMS, 'upstreams = ["unix:/run/mqtt.sock", "broker:1883"]'),
        changed(NAME, f"{NAME}\nmax_conn_rate = 1000"),
        changed('"256MiB"', "4096"),
        EXAMPLE + SECOND,
    ],
)
def test_what_can_be_used_is_not_refused(text: str, written: Callable[[str], Path]) -> None:
    assert load(written(text)).warnings == []


@pytest.mark.parametrize(
    ("off", "why"),
    [
        ('check = "chain"', 'check = "off"'),
        ('verify = "required"', 'verify = "none"'),
    ],
)
def test_serials_of_a_listener_that_looks_nobody_up_are_remarked_upon(
    written: Callable[[str], Path], off: str, why: str
) -> None:
    text = changed(off, why).replace(URLS, f'{URLS}\nrevoked_serials = "revoked.txt"')
    loaded = load(written(text))
    assert loaded.warnings == [
        f"listeners[0].revocation.revoked_serials: this listener looks nobody up in it, because of {why}"
    ]
    [listener] = loaded.config.listeners
    assert listener.revocation.revoked_serials == written(text).parent / "revoked.txt"


def test_a_listener_that_lets_in_whom_a_revoked_ca_has_issued_is_remarked_upon(
    written: Callable[[str], Path],
) -> None:
    text = changed('check = "chain"', 'check = "leaf"')
    assert load(written(text)).warnings == []
    [warning] = load(written(text.replace('"reject"', '"accept"'))).warnings
    assert warning.startswith('listeners[0].revocation.check: "leaf", and on_unavailable is "accept": ')


@pytest.mark.parametrize(
    ("keys", "key", "why"),
    [
        (
            'check = "off"\nocsp = "require"',
            "ocsp",
            'this listener has nobody asked, because of check = "off"',
        ),
        (
            'check = "chain"\nocsp_responder_url = "http://ocsp.example"',
            "ocsp_responder_url",
            'nobody is asked there, because of ocsp = "off"',
        ),
    ],
)
def test_a_responder_that_nobody_asks_is_remarked_upon(
    written: Callable[[str], Path], keys: str, key: str, why: str
) -> None:
    text = changed('check = "chain"', keys)
    assert load(written(text)).warnings == [f"listeners[0].revocation.{key}: {why}"]


def test_a_listener_that_asks_responders_needs_no_list(written: Callable[[str], Path]) -> None:
    text = changed(URLS, 'ocsp = "require"').replace("points = true", "points = false")
    loaded = load(written(text))
    assert loaded.warnings == []
    assert loaded.config.listeners[0].revocation.ocsp_timeout == Duration(2)


def test_a_listener_that_no_list_can_ever_cover_is_remarked_upon(written: Callable[[str], Path]) -> None:
    text = changed(URLS, "").replace("points = true", "points = false")
    assert load(written(text)).warnings == [
        (
            "listeners[0].revocation.crl_urls: empty, and "
            "follow_distribution_points is off: no list ever covers "
            'a client, so on_unavailable = "reject" decides about every one'
        )
    ]


def test_a_cipher_without_forward_secrecy_or_authentication_is_remarked_upon(
    written: Callable[[str], Path],
) -> None:
    good, bad = "ECDHE-RSA-AES128-GCM-SHA256", ["ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256"]
    text = changed(NAME, f"{NAME}\nciphers = {[good, *bad]}")
    assert load(written(text)).warnings == [
        (
            "listeners[0].ciphers: ECDHE-RSA-AES128-SHA256, AES128-GCM-SHA256 without forward secrecy or "
            "authenticated encryption (RFC 9325, section 4.2): keep them only for clients that have nothing "
            "better"
        )
    ]


def test_usages_of_certificates_that_nobody_asks_for_are_remarked_upon(
    written: Callable[[str], Path],
) -> None:
    text = changed(NAME, f'{NAME}\nclient_extended_key_usage = ["clientAuth"]')
    assert load(written(text)).warnings == []
    assert load(written(text.replace('verify = "required"', 'verify = "none"'))).warnings == [
        (
            'listeners[0].client_extended_key_usage: has no effect: verify is "none", so that no client '
            "certificate is asked for"
        )
    ]


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        (
            'accept_proxy_protocol = ["10.0.0.0/8", "::/0"]',
            "accept_proxy_protocol: whoever connects is believed: name your load balancers alone",
        ),
        (
            "upstream_tls = { enabled = true, verify = false }",
            "upstream_tls.verify: off: whoever is on the way to a broker may be that broker",
        ),
        ('balance = "client"', 'balance: "client" has no effect: there is one broker'),
    ],
)
def test_what_is_hardly_meant_towards_brokers_is_remarked_upon(
    line: str, remark: str, written: Callable[[str], Path]
) -> None:
    found = load(written(changed('proxy_protocol = "off"', line))).warnings
    assert found == [f"listeners[0].{remark}"]
