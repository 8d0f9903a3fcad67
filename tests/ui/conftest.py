"""A headless Chromium that is installed already; pages that keep what went wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Tab:
    """A page with what its console and its scripts complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)


# Not for the whole session: while it is there, nothing else in this process can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(_NAMES)} is on the PATH; install Chromium to run it")
    with sync_playwright() as playwright:
        # Its sandbox needs rights that root in a container does not have; pages here are our own.
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Return what opens a tab in a window of its own: width in pixels, colour scheme."""
    contexts = []

    def open_it(address: str, width: int = 1280, scheme: str = "light", **more: bool) -> Tab:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            **more,
        )
        context.set_default_timeout(20_000)
        contexts.append(context)
        tab = Tab(context.new_page())
        tab.page.on(
            "console",
            lambda message: (
                tab.complaints.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.page.goto(address)
        return tab

    yield open_it
    for context in contexts:
        context.close()
