"""Real servers that wait for the header read who the client is, and real load balancers send it."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.end_to_end.clients import tls_context
from tests.end_to_end.parts import (
    TIMEOUT,
    Gateway,
    OpensslCa,
    Process,
    accepts,
    free_port,
    missing,
    program,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_HAPROXY = """\
global
  nbthread 1
defaults
  mode http
  timeout connect 10s
  timeout client 10s
  timeout server 10s
frontend told
  bind 127.0.0.1:{port} accept-proxy
  http-request return content-type text/plain lf-string "%[src]:%[src_port] %[dst_port] %[fc_pp_authority]"
"""
_NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} proxy_protocol;
    return 200 "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_port";
  }}
}}
"""
_GATEWAY = """\
state_dir = "{directory}/state"
workers = 1
drain_timeout = "1s"
"""
_LISTENER = """
[[listeners]]
name = "{name}"
bind = ["127.0.0.1:{port}"]
upstreams = ["127.0.0.1:{broker}"]
certificates = [{{ cert = "{ca.directory}/server.pem", key = "{ca.directory}/server.key" }}]
client_ca = "{ca.directory}/ca.pem"
proxy_protocol = "{version}"
revocation = {{ check = "off" }}
"""
VERSIONS = ("v1", "v2")


class Server(Process):
    """haproxy or nginx, which answers HTTP with what the header said."""

    def __init__(self, name: str, directory: Path) -> None:
        self.port = free_port()
        config = directory / f"{name}.conf"
        text = {"haproxy": _HAPROXY, "nginx": _NGINX}[name]
        config.write_text(text.format(port=self.port, directory=directory))
        arguments = {"haproxy": ["-db", "-f"], "nginx": ["-e", "stderr", "-c"]}[name]
        super().__init__([program(name), *arguments, config], directory / f"{name}.log")

    def __enter__(self) -> Self:
        super().__enter__()
        until(lambda: accepts(self.port), "the server to listen")
        return self


@pytest.fixture(params=["haproxy", "nginx"])
def told(
    request: pytest.FixtureRequest, tmp_path: Path, ca: OpensslCa
) -> Iterator[tuple[str, dict[str, int]]]:
    """A server, and the gateway's port for each version of the header, and for 2 with a certificate."""
    config = tmp_path / "gateway.toml"
    with Server(request.param, tmp_path) as server:
        ports = {kind: free_port() for kind in (*VERSIONS, "certificate")}
        listeners = [
            _LISTENER.format(name=version, port=ports[version], broker=server.port, ca=ca, version=version)
            for version in VERSIONS
        ]
        whole = _LISTENER.format(name="c", port=ports["certificate"], broker=server.port, ca=ca, version="v2")
        listeners.append(f"{whole}proxy_protocol_certificate = true\n")
        config.write_text(_GATEWAY.format(directory=tmp_path) + "".join(listeners))
        with Gateway(config, ports["v1"]):
            yield request.param, ports


_HAPROXY_BALANCER = """\
global
  nbthread 1
defaults
  mode tcp
  timeout connect 10s
  timeout client 10s
  timeout server 10s
listen one
  bind 127.0.0.1:{ports[v1]}
  server gateway 127.0.0.1:{gateway} send-proxy
listen two
  bind 127.0.0.1:{ports[v2]}
  server gateway 127.0.0.1:{gateway} send-proxy-v2 proxy-v2-options crc32c,authority
"""
_NGINX_BALANCER = """\
load_module {module};
daemon off;
worker_processes 1;
pid {directory}/balancer.pid;
error_log stderr;
events {{ }}
stream {{
  server {{
    listen 127.0.0.1:{ports[v1]};
    proxy_pass 127.0.0.1:{gateway};
    proxy_protocol on;
  }}
}}
"""
_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


@pytest.fixture(params=["haproxy", "nginx"])
def introduced(
    request: pytest.FixtureRequest, tmp_path: Path, ca: OpensslCa
) -> Iterator[tuple[Gateway, dict[str, int]]]:
    """The gateway behind a load balancer and before haproxy, which says whom the gateway tells it of."""
    config, balancer = tmp_path / "gateway.toml", tmp_path / "balancer.conf"
    if request.param == "nginx" and not _STREAM_MODULE.exists():
        missing("libnginx-mod-stream")
    with Server("haproxy", tmp_path) as server:
        gateway = free_port()
        ports = {version: free_port() for version in VERSIONS if (request.param, version) != ("nginx", "v2")}
        text = {"haproxy": _HAPROXY_BALANCER, "nginx": _NGINX_BALANCER}[request.param]
        balancer.write_text(
            text.format(ports=ports, gateway=gateway, directory=tmp_path, module=_STREAM_MODULE)
        )
        listener = _LISTENER.format(name="behind", port=gateway, broker=server.port, ca=ca, version="v2")
        config.write_text(
            f'{_GATEWAY.format(directory=tmp_path)}{listener}accept_proxy_protocol = ["127.0.0.1/32"]\n'
        )
        arguments = {"haproxy": ["-db", "-f"], "nginx": ["-e", "stderr", "-c"]}[request.param]
        with (
            Gateway(config, gateway) as behind,
            Process([program(request.param), *arguments, balancer], tmp_path / "balancer.log"),
        ):
            for port in ports.values():
                until(partial(accepts, port), "the load balancer to listen")
            yield behind, ports


def test_the_client_is_the_one_behind_the_load_balancer(
    introduced: tuple[Gateway, dict[str, int]], ca: OpensslCa
) -> None:
    gateway, ports = introduced
    for port in ports.values():
        for _ in range(2):
            body, own_port = ask(port, ca, host="127.0.0.9")
            assert body == f"127.0.0.9:{own_port} {gateway.port} localhost"


def test_who_goes_around_the_load_balancer_is_refused(
    introduced: tuple[Gateway, dict[str, int]], ca: OpensslCa
) -> None:
    gateway, _ports = introduced
    for host, error in (
        ("127.0.0.1", "no PROXY protocol header"),
        ("127.0.0.9", "not in accept_proxy_protocol"),
    ):
        with pytest.raises(OSError, match=r"reset|EOF|closed"):
            ask(gateway.port, ca, host=host)
        if host == "127.0.0.1":
            assert "peer=127.0.0.1:" in gateway.wait_for("PROXY header refused", error)[0]


def ask(port: int, ca: OpensslCa, host: str = "") -> tuple[str, int]:
    """The body of the answer, and the port that it was asked from."""
    context = tls_context(ca)
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT, (host, 0) if host else None) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
        return answer.partition(b"\r\n\r\n")[2].decode().strip(), connection.getsockname()[1]


def test_the_server_sees_the_clients_address_and_port(
    told: tuple[str, dict[str, int]], ca: OpensslCa
) -> None:
    name, ports = told
    for version, port in ports.items():
        body, own_port = ask(port, ca)
        authority = " localhost" if name == "haproxy" and version != "v1" else ""
        assert body == f"127.0.0.1:{own_port} {port}{authority}"
