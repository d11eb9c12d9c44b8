"""The status page in a real browser: what it shows, to whom, and that it is safe with whatever it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from selenium.webdriver.common.keys import Keys

from gateway.commands import Refresh, Reload, Revoke, Unrevoke
from gateway.publish import Refusal
from gateway.status import BrokerStatus, CertificateStatus, ListenerStatus, ResponderStatus
from tests.admin.browser import Browser, chromium
from tests.admin.stage import FLEET, TOKEN, Stage, name, served
from tests.statuses import a_source

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\"'>&amp;{{csrf_token}}"
    "\u202etxet desrever\u2066\x1b[31m"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[Browser]:
    """The page, open."""
    with served(stage) as url:
        browser.look("light", 1400)
        browser.open(url, TOKEN)
        yield browser
        browser.driver.get("about:blank")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "phone"), [(1400, False), (390, True), (320, True)])
def test_it_fits_any_screen_in_light_and_dark_without_a_complaint(
    browser: Browser, stage: Stage, scheme: str, width: int, phone: bool
) -> None:
    with served(stage) as url:
        browser.look(scheme, width, phone=phone)
        browser.complaints()
        browser.open(url, TOKEN)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        ground = browser.run("return getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(",")))
        assert (brightness > 384) == (scheme == "light")
        assert browser.complaints() == []
        browser.driver.get("about:blank")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_say_against_it(browser: Browser, stage: Stage, scheme: str) -> None:
    """Contrast, names, roles, structure: what a program can know of accessibility."""
    stage.revoked = [dict.fromkeys(("issuer", "serial", "reason", "revoked_at", "by", "note"), "05")]
    with served(stage) as url:
        browser.look(scheme, 1400)
        browser.open(url, TOKEN)
        browser.one("input[name=serial]").send_keys("0A", Keys.ENTER)
        browser.until(lambda: browser.all("#found div") and browser.all("#revoked li"))
        assert browser.violations() == []
        browser.run("document.querySelector('select[name=issuer]').selectedIndex = 1")
        browser.one("#revoke").click()
        assert browser.violations() == []
        browser.driver.get("about:blank")


def test_it_shows_what_an_operator_wants_at_a_glance(page: Browser) -> None:
    assert page.text("#ready") == "Ready"
    assert page.text("#notices") == "list http://crl.partner.example/partner-delta.crl: missing"
    assert "68,412" in page.text("#tiles")
    assert [row.text.split("\n")[0] for row in page.all("#lists .name")] == [
        # Those that need somebody come first.
        "http://crl.partner.example/partner-delta.crl",
        "http://crl.partner.example/partner.crl",
        "http://crl.example/fleet.crl",
        "http://crl.example/fleet-delta.crl",
    ]
    assert page.text("#lists li .error").startswith("failed 9 times: ")
    assert "1,204,331 entries" in page.text("#lists li:nth-child(3)")
    assert page.one("#lists li:nth-child(3) .bar").get_attribute("aria-valuenow") == "31"
    assert "CN=mqtt.example" in page.text("#staples")
    assert len(page.all("#certificates li")) == 3
    assert "brokers 3 of 3 up" in page.text("#listeners li")
    assert len(page.all("#refusals tr")) == 14
    assert page.text("#refusals time") not in ("", "0 s ago")


def test_the_charts_are_drawn_and_told_to_who_does_not_see_them(page: Browser) -> None:
    for chart in ("live", "handshakes", "refused"):
        ink = page.run(
            "const c = document.querySelector(arguments[0]); const d = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; return d.filter((v, i) => i % 4 == 3 && v).length",
            f"#{chart} canvas",
        )
        assert ink > 500
        assert "over the last hour: now " in (page.one(f"#{chart}").get_attribute("aria-label") or "")


def test_responders_are_shown_where_any_are_asked_about_clients(page: Browser, stage: Stage) -> None:
    assert not page.one("#responders-card").is_displayed()
    one = ResponderStatus("http://ocsp.example/", 90, 10, 9, given_up=True, last_error=HOSTILE)
    stage.status = msgspec.structs.replace(stage.status, responders=(one,))
    page.until(lambda: page.all("#responders li"))
    assert page.one("#responders-card").is_displayed()
    assert page.text("#responders .pill") == "given up"
    assert page.text("#responders .error") == f"the last error: {HOSTILE}"
    assert page.one("#responders .bar").get_attribute("aria-valuenow") == "90"


def test_it_keeps_itself_up_to_date_and_the_focus_where_it_is(page: Browser, stage: Stage) -> None:
    page.run("document.querySelector('#lists li:nth-child(3) button').focus()")
    before = page.run("return document.activeElement.getAttribute('aria-label')")
    stage.refusals = [
        *stage.refusals,
        Refusal(stage.now + 5, "client refused", "external", "192.0.2.77:1", "no_list"),
    ]
    new = a_source(url="http://crl.example/another.crl")
    totals = {**stage.status.totals, "live": 7}
    stage.status = msgspec.structs.replace(
        stage.status, ready=False, reasons=("starting",), sources=(new, *stage.status.sources), totals=totals
    )
    page.until(lambda: page.text("#ready") == "Not ready")
    page.until(lambda: len(page.all("#refusals tr")) == 15)
    assert page.text("#lists li:nth-child(3) .name") == "http://crl.example/another.crl"
    assert page.text("#tiles dd") == "7"
    assert page.text("#notices .bad") == "starting"
    assert page.run("return document.activeElement.getAttribute('aria-label')") == before


def test_a_gateway_that_does_not_answer_is_told(browser: Browser, stage: Stage) -> None:
    with served(stage) as url:
        browser.open(url, TOKEN)
    browser.until(lambda: browser.text("#ready") == "No answer")
    browser.until(lambda: "does not answer" in browser.text("#toast"))
    browser.driver.get("about:blank")
    browser.complaints()


def tab_to(page: Browser, wanted: str) -> None:
    for _ in range(60):
        if page.focus == wanted:
            return
        page.press(Keys.TAB)
    raise AssertionError(f"{wanted} is not reached with the Tab key")


def test_a_certificate_is_revoked_without_a_mouse_and_not_without_a_confirmation(
    page: Browser, stage: Stage
) -> None:
    tab_to(page, "serial")
    page.press("0A:FF", Keys.TAB, "CN=F")
    assert page.run("return document.activeElement.value") == FLEET
    tab_to(page, "revoke")
    page.press(Keys.ENTER)
    page.until(lambda: page.one("#confirm").is_displayed())
    assert page.text("#confirm-what") == f"Serial 0A:FF of {FLEET}"
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.one("#confirm").is_displayed())
    assert stage.done == []
    # Who has confirmed nothing is where he was.
    assert page.focus == "revoke"
    page.press(Keys.ENTER)
    tab_to(page, "reason")
    page.press("key", Keys.TAB, "lost", Keys.TAB)
    assert page.focus == "Cancel"
    page.press(Keys.TAB, Keys.ENTER)
    page.until(lambda: stage.done)
    assert stage.done == [Revoke(stage.issuers[0], "aff", "keyCompromise", "lost")]
    page.until(lambda: page.text("#toast") == "done: Revoke")


def test_revoking_nothing_in_particular_asks_for_it(page: Browser, stage: Stage) -> None:
    page.one("#revoke").click()
    assert "give the serial number and its issuer" in page.text("#toast")
    assert (page.focus, stage.done) == ("serial", [])


def test_a_revocation_is_taken_back_after_a_confirmation(page: Browser, stage: Stage) -> None:
    revoked = {
        "issuer": FLEET,
        "serial": "0AFF",
        "reason": "keyCompromise",
        "revoked_at": "2026",
        "by": "root",
    }
    stage.revoked = [{**revoked, "note": HOSTILE}]
    stage.status = msgspec.structs.replace(stage.status, local_revocations=2)
    page.until(lambda: page.all("#revoked li"))
    page.one("#revoked button").click()
    page.one("#confirm-yes").click()
    page.until(lambda: stage.done)
    assert stage.done == [Unrevoke(stage.issuers[0], "aff")]


def test_of_many_that_are_revoked_by_hand_the_last_are_shown(browser: Browser, stage: Stage) -> None:
    one = {"issuer": FLEET, "reason": "unspecified", "revoked_at": "2026", "by": "root", "note": ""}
    stage.revoked = [{**one, "serial": f"{serial:04X}"} for serial in range(5000)]
    with served(stage) as url:
        browser.open(url, TOKEN)
        browser.until(lambda: browser.all("#revoked li"))
        assert len(browser.all("#revoked li")) == 100
        assert browser.text("#revoked .mono") == "1387"
        assert browser.text("#revoked-more").startswith("The last 100 of 5,000; ")
        browser.driver.get("about:blank")


def test_a_source_is_fetched_at_once_or_all_of_them(page: Browser, stage: Stage) -> None:
    page.one("#lists button").click()
    page.until(lambda: stage.done)
    page.one("#refresh-all").click()
    page.until(lambda: len(stage.done) == 2)
    assert stage.done == [Refresh("http://crl.partner.example/partner-delta.crl"), Refresh(None)]


def test_the_configuration_is_reloaded_after_a_confirmation(page: Browser, stage: Stage) -> None:
    page.one("#reload").click()
    page.one("#confirm button[value=cancel]").click()
    page.one("#reload").click()
    page.one("#confirm-yes").click()
    page.until(lambda: stage.done)
    assert stage.done == [Reload()]


def test_the_serial_of_a_refusal_is_looked_up(page: Browser) -> None:
    page.one("#refusals button").click()
    page.until(lambda: page.text("#found"))
    assert page.text("#found") == (
        "No list in force covers the issuer: serial 5A31C0DE7700 is not known to be good"
    )


def test_what_is_no_serial_is_told(page: Browser) -> None:
    page.one("input[name=serial]").send_keys("xyz", Keys.ENTER)
    page.until(lambda: page.text("#found"))
    assert page.text("#found").startswith("serial xyz: expected a serial number in hexadecimal digits")


def test_whatever_a_certificate_or_url_says_it_is_text(browser: Browser, stage: Stage) -> None:
    one = stage.status
    stage.issuers.append(name("<b>CA</b>"))
    stage.refusals = [
        Refusal(stage.now, "client refused", HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    ]
    stage.revoked = [dict.fromkeys(("issuer", "serial", "reason", "revoked_at", "by", "note"), HOSTILE)]
    stage.status = msgspec.structs.replace(
        one,
        version=HOSTILE,
        reasons=(HOSTILE,),
        warnings=(HOSTILE,),
        issuers=(HOSTILE,),
        sources=(
            a_source(url=HOSTILE, last_error=HOSTILE, number=HOSTILE),
            a_source(kind="staple", url=HOSTILE, subject=HOSTILE, serial=HOSTILE),
        ),
        certificates=(CertificateStatus(HOSTILE, "server", HOSTILE, HOSTILE, HOSTILE, 5),),
        listeners=(
            ListenerStatus(
                HOSTILE,
                (HOSTILE,),
                1,
                2,
                HOSTILE,
                HOSTILE,
                HOSTILE,
                stapling=True,
                brokers=(BrokerStatus(HOSTILE, up=False),),
            ),
        ),
    )
    with served(stage) as url:
        browser.complaints()
        browser.open(url, TOKEN)
        browser.until(lambda: browser.all("#revoked li"))
        assert browser.run("return window.pwned ?? null") is None
        assert browser.all("main img, main script, main b") == []
        for place in ("#notices bdi", "#lists .name bdi", "#staples .name bdi", "#certificates .name bdi"):
            assert browser.text(place) == HOSTILE
        assert HOSTILE in browser.text("#refusals")
        assert HOSTILE in browser.text("#revoked")
        # An override of the writing direction ends with the name that has it.
        assert (
            browser.run("return getComputedStyle(document.querySelector('#lists bdi')).unicodeBidi")
            == "isolate"
        )
        browser.one("#refusals button").click()
        browser.until(lambda: browser.text("#found"))
        assert browser.run("return window.pwned ?? null") is None
        # The lookup of such a serial is refused, and nothing else is complained of.
        assert [each for each in browser.complaints() if "/lookup?" not in each] == []
        browser.driver.get("about:blank")


def test_everything_that_can_be_used_has_a_name(page: Browser) -> None:
    nameless = page.run(
        "return [...document.querySelectorAll('button, input, select, textarea, [role=img], [role=meter]')]"
        ".filter((e) => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim()))"
        ".map((e) => e.outerHTML)"
    )
    # Its name is of what is about to be confirmed.
    assert [each for each in nameless if "confirm-yes" not in each] == []
    assert page.run("return document.documentElement.lang") == "en"
    page.press(Keys.TAB, Keys.ENTER)
    assert page.focus == "main"


def test_without_the_csrf_token_the_browser_changes_nothing(page: Browser, stage: Stage) -> None:
    """As a page from elsewhere would try it: the browser adds the password by itself."""
    request = "fetch(new URL('/refresh', location.origin), {method: 'POST', body: '{}'})"
    status = page.run(f"return {request}.then((answer) => answer.status)")
    assert (status, stage.done) == (403, [])
    page.complaints()
