"""The browser tests need Chromium: without it they are left out, and said to be, unless everything is required."""

from __future__ import annotations

import os
import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("WEIGHBRIDGE_TESTS_REQUIRE") == "all"

collect_ignore = [] if CHROMIUM or REQUIRED else ["test_browser.py"]


def pytest_report_collectionfinish() -> str | None:
    return "left out: tests/browser (no chromium found on the PATH)" if collect_ignore else None
