"""Compiles the C programs of the benchmarks into bench/results/bin, when their sources are newer.

Needs a C compiler and the headers of the system's OpenSSL 3.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

_FLAGS = ["-D_GNU_SOURCE", "-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
_TABLE_SOURCES = ("revoked", "table_compile", "crl_walk")
_MISSING = "{} is missing; on Debian: apt-get install gcc libc6-dev libssl-dev"


@dataclass(frozen=True)
class Programs:
    """Where the compiled programs are."""

    load: Path
    echo: Path


def build(directory: Path = RESULTS / "bin") -> Programs:
    """Compile what is not up to date into `directory`, which is made if need be.

    Raises:
        BenchError: the compiler, OpenSSL's headers, or the compilation failed; says what to install.
    """
    compiler = _compiler()
    directory.mkdir(parents=True, exist_ok=True)
    load, echo = directory / "load", directory / "echo"
    _compile(compiler, load, sorted(HERE.glob("load*.c")), ["-lssl", "-lcrypto", "-lm"])
    _compile(compiler, echo, [HERE / "echo.c"], [])
    return Programs(load, echo)


def build_lookup(directory: Path = RESULTS / "bin") -> Path:
    """Compile csrc/tests/bench_lookup.c with the table it measures; the program's path.

    Raises:
        BenchError: as `build`.
    """
    program = directory / "lookup"
    directory.mkdir(parents=True, exist_ok=True)
    csrc = HERE.parent / "csrc"
    sources = [csrc / "tests" / "bench_lookup.c", *(csrc / f"{name}.c" for name in _TABLE_SOURCES)]
    _compile(_compiler(), program, sources, [f"-I{csrc}"])
    return program


def _compiler() -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError(_MISSING.format("cc, a C compiler,"))
    return compiler


def _compile(compiler: str, program: Path, sources: list[Path], arguments: list[str]) -> None:
    inputs = [*sources, *(header for source in sources for header in source.parent.glob("*.h"))]
    if program.exists() and program.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return
    command = [compiler, *_FLAGS, *map(str, sources), "-o", str(program), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        if "openssl/" in result.stderr or "-lssl" in result.stderr:
            raise BenchError(_MISSING.format("OpenSSL's development package"))
        raise BenchError(f"{program.name} does not compile:\n{result.stderr}")
