"""A real Chromium without a window, driven by selenium."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver.remote.webelement import WebElement

_PACKAGES = {"chromium": "chromium", "chromedriver": "chromium-driver"}
PATIENCE = 20.0


class Browser:
    """One tab."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def look(self, scheme: str, width: int, *, phone: bool = False) -> None:
        """From now on as on such a screen; `scheme` is "light" or "dark"."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str, token: str) -> None:
        """Open it with the token as password, and wait until the page shows something."""
        self.driver.get(url.replace("//", f"//anyone:{token}@", 1))
        self.until(
            lambda: "…" not in self.text("#ready") and self.all("#refusals tr, #no-refusals:not([hidden])")
        )

    def run(self, script: str, *arguments: object) -> Any:
        """The value of JavaScript's `return`."""
        return self.driver.execute_script(script, *arguments)

    def one(self, selector: str) -> WebElement:
        found: WebElement = self.driver.find_element(By.CSS_SELECTOR, selector)
        return found

    def all(self, selector: str) -> list[WebElement]:
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def text(self, selector: str) -> str:
        """What is in it, shown or not."""
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def until(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _driver: condition())

    def press(self, *keys: str) -> None:
        """Into whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    @property
    def focus(self) -> str:
        """What has the focus: its id, else its name, else its text."""
        return str(self.run("const e = document.activeElement; return e.id || e.name || e.textContent"))

    def violations(self) -> list[str]:
        """What axe finds wrong with the page as it is."""
        self.run((resources.files("axe_core_python") / "axe.min.js").read_text())
        script = "axe.run().then((found) => arguments[0](found.violations.map((each) => each.help)))"
        found: list[str] = self.driver.execute_async_script(f"const [done] = arguments; {script}")
        return found

    def complaints(self) -> list[str]:
        """What the console has been told that is no mere note: errors, violations of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        message = f"{name} is missing: apt-get install {_PACKAGES[name]}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@contextmanager
def chromium() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_program("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
