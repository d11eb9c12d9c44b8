"""Whoever shows the token may ask; what a browser sends for a foreign page never changes anything."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.access import Access
from gateway.admin.http import Request

TOKEN = b"correct-horse-battery-staple"
OURS = Access(TOKEN, ["admin.example"])
SOCKET = Access(None)
BEARER = f"Bearer {TOKEN.decode()}"
BASIC = "Basic " + base64.b64encode(b"anyone:" + TOKEN).decode()
HOST = "127.0.0.1:9443"
BROWSER = {"host": HOST, "origin": f"http://{HOST}", "sec-fetch-site": "same-origin", "authorization": BASIC}
CSRF = {"x-csrf-token": OURS.csrf_token}


def status(access: Access, method: str = "GET", **headers: str) -> int | None:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    denied = access.denies(Request(method, "/", headers={"host": HOST, **found}))
    return None if denied is None else denied.status


def posted(access: Access, headers: dict[str, str]) -> int | None:
    denied = access.denies(Request("POST", "/revoke", headers=headers))
    return None if denied is None else denied.status


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != name}


@pytest.mark.parametrize("shown", [BEARER, BASIC, BEARER.replace("Bearer", "bearer"), BEARER + " "])
def test_who_shows_the_token_may_look(shown: str) -> None:
    assert status(OURS, authorization=shown) is None


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer x",
        BEARER[:-1],
        BEARER + "x",
        f"{BEARER}, {BEARER}",
        TOKEN.decode(),
        "Basic",
        "Basic !",
        "Basic " + base64.b64encode(TOKEN).decode(),
        "Basic " + base64.b64encode(TOKEN + b":").decode(),
        "Digest " + TOKEN.decode(),
    ],
)
def test_nothing_else_is_the_token(shown: str) -> None:
    assert status(OURS, authorization=shown) == 401


@given(st.text())
def test_whatever_is_shown_it_is_compared_and_no_fault(shown: str) -> None:
    assert status(OURS, authorization=shown) in (401, None if shown in (BEARER, BASIC) else 401)


def test_with_a_bearer_token_anything_may_be_changed() -> None:
    assert posted(OURS, {"host": "whatever", "authorization": BEARER}) is None


def test_our_page_may_change_things() -> None:
    assert posted(OURS, {**BROWSER, **CSRF}) is None
    assert posted(OURS, {**without(BROWSER, "sec-fetch-site"), **CSRF}) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"x-csrf-token": "0" * 64},
        {"x-csrf-token": "ä"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:80"},
        {"origin": "null"},
        {"origin": f"ftp://{HOST}"},
        {"origin": "http://[::"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
    ],
)
def test_another_page_may_not_though_the_browser_adds_the_password(changed: dict[str, str]) -> None:
    assert posted(OURS, {**BROWSER, **CSRF, **changed}) == 403


def test_without_the_csrf_token_a_browser_changes_nothing() -> None:
    assert posted(OURS, BROWSER) == 403
    assert posted(OURS, {"host": HOST, "authorization": BASIC}) == 403


@pytest.mark.parametrize(
    "host", ["localhost:9443", "LOCALHOST", "127.0.0.1", "[::1]:9443", "10.1.2.3:9443", "Admin.example.:9443"]
)
def test_our_hosts_are_addresses_localhost_and_what_is_configured(host: str) -> None:
    assert status(OURS, authorization=BASIC, host=host) is None


@pytest.mark.parametrize("host", ["", "evil.example:9443", "localhost.evil.example", "[::", "127.0.0.1.evil"])
def test_a_name_that_somebody_points_at_us_is_none(host: str) -> None:
    assert status(OURS, authorization=BASIC, host=host) == 421
    assert status(SOCKET, host=host) == 421


def test_on_the_socket_whoever_is_no_browser_may_do_anything() -> None:
    assert status(SOCKET) is None
    assert posted(SOCKET, {"host": "localhost"}) is None


def test_a_browser_that_reaches_the_socket_is_held_to_its_rules() -> None:
    """By `ssh -L 8080:/run/admin.sock`, say."""
    browser = without(BROWSER, "authorization")
    assert posted(SOCKET, browser) == 403
    assert posted(SOCKET, {**browser, "x-csrf-token": SOCKET.csrf_token}) is None


def test_the_csrf_token_is_another_for_each_token_and_socket_and_stays_with_the_token() -> None:
    tokens: list[Any] = [Access(TOKEN).csrf_token, Access(b"another").csrf_token, Access(None).csrf_token]
    assert len({*tokens, SOCKET.csrf_token}) == 4
    assert OURS.csrf_token == tokens[0]
    assert TOKEN.hex() not in tokens[0]
