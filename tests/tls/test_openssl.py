"""An OpenSSL that is not the one the extension was made for is refused before it is called."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import __version__ as cryptography_version
from OpenSSL import __version__ as pyopenssl_version

from gateway.errors import UnsupportedOpenSSLError
from gateway.native import ffi
from gateway.tls import openssl

REAL = openssl._binding


class _Lib:
    """The real binding's functions, with some constants of our own."""

    def __init__(self, constants: dict[str, int]) -> None:
        self._constants = constants

    def __getattr__(self, name: str) -> Any:
        return self._constants[name] if name in self._constants else getattr(REAL.lib, name)


class _Ffi:
    """The real binding's ffi, to which one function is missing, or another one stands in its place."""

    def __init__(self, replaced: dict[str, str | None]) -> None:
        self._replaced = replaced

    def addressof(self, _lib: object, name: str) -> Any:
        other = self._replaced.get(name, name)
        if other is None:
            raise AttributeError(name)
        return REAL.ffi.addressof(REAL.lib, other)

    def __getattr__(self, name: str) -> Any:
        return getattr(REAL.ffi, name)


class Binding:
    """cryptography's binding as it might look in another release."""

    def __init__(
        self, *, replaced: dict[str, str | None] | None = None, constants: dict[str, int] | None = None
    ) -> None:
        self.ffi = _Ffi(replaced or {})
        self.lib = _Lib(constants or {})


def refusal(monkeypatch: pytest.MonkeyPatch, binding: Binding) -> str:
    monkeypatch.setattr(openssl, "_binding", binding)
    with pytest.raises(UnsupportedOpenSSLError) as caught:
        openssl.install()
    return str(caught.value)


def test_the_binding_that_is_installed_fits_however_often_it_is_asked() -> None:
    openssl.install()
    openssl.install()
    assert all(ffi.cast("uintptr_t *", slot.address)[0] for slot in openssl._slots())


def test_a_function_that_is_missing_is_named_with_the_versions_that_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert refusal(monkeypatch, Binding(replaced={"SSL_read": None})) == (
        f"cryptography {cryptography_version} (with pyOpenSSL {pyopenssl_version}) cannot be used: "
        f"it has no function SSL_read; install {openssl.TESTED}"
    )


def test_a_function_of_another_type_is_named_with_both_types(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, Binding(replaced={"SSL_read": "SSL_free"}))
    assert "its SSL_read is void(*)(SSL*), expected int(*)(SSL*,void*,int)" in said
    assert openssl.TESTED in said


@pytest.mark.parametrize(("name", "value"), [("SSL_ERROR_WANT_READ", 7), ("X509_V_ERR_CERT_REVOKED", 24)])
def test_a_constant_of_another_value_is_named_with_both_values(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    said = refusal(monkeypatch, Binding(constants={name: value}))
    assert f"its {name} is {value}, expected {getattr(REAL.lib, name, openssl._CONSTANTS[name])}" in said


def test_every_function_that_the_extension_calls_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Curious(_Ffi):
        def addressof(self, _lib: object, name: str) -> Any:
            asked.append(name)
            return super().addressof(_lib, name)

    binding = Binding()
    binding.ffi = Curious({})
    monkeypatch.setattr(openssl, "_binding", binding)
    openssl.install()
    assert asked == [ffi.string(slot.name).decode() for slot in openssl._slots()]
    assert len(asked) > 20


def test_the_version_is_openssls_own_word() -> None:
    assert openssl.openssl_version().startswith("OpenSSL ")
