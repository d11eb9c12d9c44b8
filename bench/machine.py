"""The machine and the software that a run was made with."""

from __future__ import annotations

import os
import platform
import ssl
from pathlib import Path

from bench.figures import Machine


def describe() -> Machine:
    """The machine that this runs on, now."""
    return Machine(
        cpu=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        processors=len(os.sched_getaffinity(0)),
        memory_bytes=_kibibytes("MemTotal"),
        kernel=platform.release(),
        system=platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        load_average=os.getloadavg()[0],
    )


def memory_available() -> int:
    """Bytes that can be had without swapping (proc(5), MemAvailable)."""
    return _kibibytes("MemAvailable")


def versions() -> dict[str, str]:
    """What the gateway and the load generator stand on; the servers' own are added by who knows them."""
    # The gateway's OpenSSL is the one in cryptography's wheel, the generator's is the system's.
    from cryptography.hazmat.backends.openssl import backend  # noqa: PLC0415 - slow, and only for a run

    return {
        "Python": platform.python_version(),
        "OpenSSL of cryptography": backend.openssl_version_text(),
        "OpenSSL of Python": ssl.OPENSSL_VERSION,
    }


def _kibibytes(name: str) -> int:
    value = _field(Path("/proc/meminfo"), name)
    return int(value.split()[0]) * 1024 if value else 0


def _field(path: Path, name: str) -> str:
    """The first value of a field in a file of `name: value` lines, empty if there is none."""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
