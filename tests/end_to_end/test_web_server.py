"""A gateway whose lists come from nginx, which then does whatever a web server can do wrong."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import trustme
from click.testing import CliRunner

from gateway.cli import main
from tests.authority import Authority, Revoked
from tests.end_to_end.clients import Echo, echoes
from tests.end_to_end.gateways import furnish
from tests.end_to_end.parts import Gateway, Process, accepts, free_port, program, until

if TYPE_CHECKING:
    from collections.abc import Iterator

# Who starts it as root is it, too: the directory of a test is its user's alone. Others it ignores that for.
_NGINX = """\
user root;
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  default_type application/pkix-crl;
  gzip on; gzip_types *; gzip_min_length 1; gzip_vary on;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{secure} ssl;
    ssl_certificate {directory}/{certificate}.pem;
    ssl_certificate_key {directory}/{certificate}.key;
    root {directory}/web;
    {locations}
    location / {{ try_files /ca.crl =404; }}
  }}
}}
"""
# What nginx does for a list of that name, and what the status says of it then.
FAULTS = {
    "missing": ("return 404;", "status 404 Not Found"),
    "broken": ("return 500;", "status 500 Internal Server Error"),
    "loop": ("return 302 /loop;", "more than 5 redirects"),
    "closed": ("return 444;", "Server disconnected without sending a response"),
    "page": (
        "default_type text/html; return 200 '<!DOCTYPE html><title>Soon</title>';",
        "neither DER nor PEM",
    ),
    "truncated": ("try_files /truncated =404;", "not a CRL in DER"),
    "slow": ("gzip off; limit_rate 10; try_files /ca.crl =404;", "no complete answer within 2 s"),
    "huge": ("gzip off; try_files /huge =404;", "larger than 1048576 bytes"),
    "bomb": ("try_files /huge =404;", "larger than 1048576 bytes"),
    "elsewhere": (
        "return 302 http://169.254.169.254/latest;",
        "169.254.169.254, where only a configured URL may lead",
    ),
}
SECURE = "TLS: unable to get local issuer certificate"


class Nginx(Process):
    """With a directory `web`; `serve` changes what it does."""

    def __init__(self, directory: Path) -> None:
        self.port, self.secure = free_port(), free_port()
        self._config = directory / "nginx.conf"
        self._directory = directory
        super().__init__([program("nginx"), "-e", "stderr", "-c", self._config], directory / "nginx.log")

    def __enter__(self) -> Self:
        super().__enter__()
        until(lambda: accepts(self.port), "nginx to listen")
        return self

    def serve(self, certificate: str, locations: str = "") -> None:
        self._config.write_text(
            _NGINX.format(
                directory=self._directory,
                port=self.port,
                secure=self.secure,
                certificate=certificate,
                locations=locations,
            )
        )

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)


class House:
    def __init__(self, directory: Path, broker: int) -> None:
        self.directory = directory
        self.root = Authority.root("Fleet Root")
        self.nginx = Nginx(directory)
        trusted = trustme.CA()
        trusted.cert_pem.write_to_path(directory / "web-ca.pem")
        for name, authority in (("good", trusted), ("stranger", trustme.CA())):
            issued = authority.issue_cert("127.0.0.1")
            issued.private_key_and_cert_chain_pem.write_to_path(directory / f"{name}.pem")
            issued.private_key_pem.write_to_path(directory / f"{name}.key")
        web = directory / "web"
        web.mkdir()
        good = self.root.crl([Revoked(1 << 40 | serial) for serial in range(100)])
        (web / "ca.crl").write_bytes(good)
        (web / "truncated").write_bytes(good[:-20])
        with (web / "huge").open("wb") as huge:
            huge.truncate(2 << 30)
        self.urls = {name: f"http://127.0.0.1:{self.nginx.port}/{name}" for name in FAULTS}
        self.urls["secure"] = f"https://127.0.0.1:{self.nginx.secure}/secure"
        self.urls["nobody"] = "http://nobody.invalid/ca.crl"
        cache = 'http_timeout = "2s"\nmax_bytes = "1MiB"'
        urls = list(self.urls.values())
        self.config, self.port = furnish(directory, self.root, broker, urls, workers=1, cache=cache)
        self.context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        self.context.load_cert_chain(*self.root.issue("device").write(directory, "device"))

    def status(self) -> dict[str, Any]:
        """What `tls-gateway status` says of each list, by its name above."""
        arguments = ["status", "--state-dir", str(self.directory / "state"), "--json"]
        sources = json.loads(CliRunner().invoke(main, arguments).output)["sources"]
        by_url = {source["url"]: source for source in sources}
        return {name: by_url[url] for name, url in self.urls.items()}

    def gets_in(self) -> bool:
        with (
            socket.create_connection(("127.0.0.1", self.port), 30) as plain,
            self.context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            return echoes(connection)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    echo = Echo()
    made = House(tmp_path, echo.port)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "web-ca.pem"))
    yield made
    echo.close()


def most_memory(pid: int) -> int:
    """What a process has ever had at most, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) >> 10


def test_whatever_the_web_server_does_the_lists_stay_and_the_status_says_why(house: House) -> None:
    said = {**{name: why for name, (_locations, why) in FAULTS.items()}, "secure": SECURE}
    faults = "\n".join(f"location = /{name} {{ {what} }}" for name, (what, _why) in FAULTS.items())
    house.nginx.serve("good")
    with house.nginx, Gateway(house.config, house.port) as gateway:
        until(lambda: all(house.status()[name]["number"] == "1" for name in said), "all lists to be in force")
        nobody = house.status()["nobody"]
        assert nobody["this_update"] is None
        assert "cannot resolve nobody.invalid" in nobody["last_error"]
        control = gateway.children()["gw-control"]
        before = most_memory(control)

        house.nginx.serve("stranger", faults)
        house.nginx.reload()
        until(
            lambda: all((house.status()[name]["consecutive_failures"] or 0) >= 2 for name in said),
            "all lists to fail, twice",
        )
        for name, source in house.status().items():
            if name in said:
                assert said[name] in source["last_error"], name
                assert (source["number"], source["entries"]) == ("1", 100)
                # An interval of a second leaves no more for the back-off.
                assert source["next_attempt"] - source["last_attempt"] <= 1 + 2.5
        assert house.gets_in()
        # Of a body of 2 GiB, twice.
        assert most_memory(control) < before + 32

        house.nginx.serve("good")
        house.nginx.reload()
        until(lambda: all(house.status()[name]["last_error"] is None for name in said), "all to be well")
        assert house.gets_in()
