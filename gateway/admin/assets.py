"""The status page's files, as they are in the package: read once, when control starts.

No build step and nothing from elsewhere: its Content-Security-Policy lets scripts and
styles come from here alone, and no text become markup (trusted types).
"""

from __future__ import annotations

from pathlib import Path

from gateway.admin.http import Response

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_DIRECTORY = Path(__file__).with_name("page")
_PAGE = ("index.html", "page.css", "page.js", "uplot.css", "uplot.js", "icon.svg")


def responses(csrf_token: str) -> dict[str, Response]:
    """The answers by path; the page has the CSRF token in it."""
    found = {}
    for name in _PAGE:
        body = (_DIRECTORY / name).read_bytes()
        if name == "index.html":
            body = body.replace(b"{{csrf_token}}", csrf_token.encode())
        path = "/" if name == "index.html" else f"/{name}"
        found[path] = Response(200, body, _TYPES[name.rpartition(".")[2]], policy=_POLICY)
    return found
