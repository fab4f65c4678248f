"""@google/genai in a browser: a page of another origin calls through Weighbridge, which must allow it (CORS)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.browser.conftest import CHROMIUM
from tests.sdk.node import modules
from tests.servers import running
from tests.stand import Weighbridge, emulator, weighbridge

# No traffic of the browser's own, no sandbox (which a container has no right to), no proxy of the machine's.
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-proxy-server"]


class Site(NamedTuple):
    """Two origins that serve the same page; only the first stands in `cors_origins`."""

    listed: str
    foreign: str
    stand: Weighbridge

    def address(self, origin: str) -> str:
        return f"{origin}/?{urlencode({'baseUrl': self.stand.base_url, 'key': self.stand.key()})}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browser")
    with (
        running(pages()) as listed,
        running(pages()) as foreign,
        emulator() as upstream,
        weighbridge(folder, upstream, {"gateway": {"cors_origins": listed}}) as stand,
    ):
        yield Site(listed, foreign, stand)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "WEIGHBRIDGE_TESTS_REQUIRE=all, but there is no chromium on the PATH: install it, or unset that."
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def test_a_page_of_a_listed_origin(site: Site, browser: Browser) -> None:
    """It reads an answer, a stream as it comes, an error with its status, a picture, and the request's id."""
    page = opened(browser, site.address(site.listed))
    assert shown(page, "single") == "gemini-3.8-flash answers turn 1: Hello"
    pieces = re.findall(r"\((.*?)\)", shown(page, "stream"))
    assert (len(pieces), "".join(pieces)) == (5, "gemini-3.8-flash answers turn 1: Hello")
    assert shown(page, "error").startswith("ApiError 429: ")
    assert "You exceeded your current quota" in shown(page, "error")
    assert page.evaluate("[picture.naturalWidth, picture.naturalHeight]") == [512, 512]
    assert shown(page, "header") in [record.request_id for record in site.stand.records()]


def test_a_page_of_another_origin(site: Site, browser: Browser) -> None:
    """It gets nothing to read, and nothing that it asks for costs anything: the preflight is not allowed."""
    before = len(site.stand.records())
    page = opened(browser, site.address(site.foreign))
    assert "Failed to fetch" in shown(page, "single")
    assert "Failed to fetch" in shown(page, "stream")
    assert len(site.stand.records()) == before


def opened(browser: Browser, address: str) -> Page:
    """The page, once its script has ended."""
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("document.title === 'done'", timeout=20_000)
    return page


def shown(page: Page, place: str) -> str:
    return page.text_content(f"#{place}") or ""


def pages() -> Starlette:
    """A web server with the page and the modules that its import map names."""
    page = Path(__file__).with_name("page.html").read_text()
    sdk = (modules() / "@google/genai/dist/web/index.mjs").read_bytes()
    retry = as_module(
        "p-retry",
        {
            "p-retry": "p-retry/index.js",
            "retry": "retry/index.js",
            "./lib/retry": "retry/lib/retry.js",
            "./retry_operation": "retry/lib/retry_operation.js",
        },
    )

    def show(request: Request) -> Response:
        return HTMLResponse(page)

    def module(source: str | bytes) -> Response:
        return Response(source, media_type="text/javascript")

    return Starlette(
        routes=[
            Route("/", show),
            Route("/sdk.mjs", lambda _: module(sdk)),
            Route("/p-retry.mjs", lambda _: module(retry)),
        ]
    )


def as_module(name: str, files: dict[str, str]) -> str:
    """A CommonJS package and what it requires, by the names they are required by, as one module: a bundler's work."""
    functions = [
        f"{json.dumps(required)}: function (module, exports, require) {{\n{(modules() / file).read_text()}\n}}"
        for required, file in files.items()
    ]
    return f"""
const files = {{{", ".join(functions)}}};
function require(name) {{
  const module = {{ exports: {{}} }};
  files[name](module, module.exports, require);
  return module.exports;
}}
export default require({json.dumps(name)});
"""
