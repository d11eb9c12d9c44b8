"""Real servers that wait for the PROXY protocol's header read who the client is."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

import pytest

from tests.end_to_end.clients import tls_context
from tests.end_to_end.parts import TIMEOUT, Gateway, OpensslCa, Process, accepts, free_port, program, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    """A server, and the gateway's port for each version of the header."""
    config = tmp_path / "gateway.toml"
    with Server(request.param, tmp_path) as server:
        ports = {version: free_port() for version in VERSIONS}
        listeners = [
            _LISTENER.format(name=version, port=port, broker=server.port, ca=ca, version=version)
            for version, port in ports.items()
        ]
        config.write_text(_GATEWAY.format(directory=tmp_path) + "".join(listeners))
        with Gateway(config, ports["v1"]):
            yield request.param, ports


def ask(port: int, ca: OpensslCa) -> tuple[str, int]:
    """The body of the answer, and the port that it was asked from."""
    context = tls_context(ca)
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
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
        authority = " localhost" if (name, version) == ("haproxy", "v2") else ""
        assert body == f"127.0.0.1:{own_port} {port}{authority}"
