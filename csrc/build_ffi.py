"""Describe the extension `gateway._native` to cffi (API mode, abi3).

The extension links no OpenSSL: see openssl_table.h. Paths are relative to the
project root, which is where setuptools runs.
"""

from pathlib import Path

from cffi import FFI

SOURCES = [
    "openssl_table",
    "crl_walk",
    "revoked",
    "table_compile",
    "certificate",
    "world",
    "answers",
    "verify",
    "staple",
    "sni",
    "alpn",
    "conn",
    "admission",
    "front",
    "relay_link",
    "relay_loop",
    "relay",
]
# What the glue includes; `depends` has every header, so that none goes unnoticed.
PUBLIC = [
    "error",
    "counters",
    "openssl_table",
    "revoked",
    "certificate",
    "world",
    "answers",
    "verify",
    "staple",
    "sni",
    "alpn",
    "conn",
    "front",
    "relay",
]

# -Werror=incompatible-pointer-types: a cdef that drifts from the headers is
# only a warning in gcc 12, and a crash at run time.
FLAGS = ["-std=c11", "-O2", "-g", "-fvisibility=hidden", "-Werror=incompatible-pointer-types"]

root = Path(__file__).resolve().parent

ffibuilder = FFI()
ffibuilder.cdef((root / "gateway.cdef.h").read_text())
ffibuilder.set_source(
    "gateway._native",
    "\n".join(["#include <sys/prctl.h>", *(f'#include "{name}.h"' for name in PUBLIC)]),
    sources=[f"csrc/{name}.c" for name in SOURCES],
    depends=[f"csrc/{header.name}" for header in sorted(root.glob("*.h"))],
    include_dirs=["csrc"],
    define_macros=[("_GNU_SOURCE", "1")],
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
