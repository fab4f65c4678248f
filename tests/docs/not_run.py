"""THE list of blocks that could be run and aren't run from here: each with its reason, or with the test that runs it.

Everything else in a language of `RUN` is run by a test of this folder. An entry that matches no block fails a test, and
so does one that names a test which isn't there: what is excused can't grow old.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import NamedTuple

from tests.docs.blocks import Block, all_blocks
from tests.pages import text_of

RUN = ("sh", "console", "toml", "json", "python", "javascript", "promql", "sql", "go", "java", "php", "yaml")
"""Languages whose blocks somebody may type or save: they are run, loaded or parsed."""
DATA = ("text", "mermaid")
"""Languages of blocks that are only to be looked at: pictures, and what something looks like."""


class NotRun(NamedTuple):
    """Blocks of these pages (a glob) that begin so, and why they aren't run here."""

    pages: str
    begins: str
    why: str


ALERTS = re.findall(r'runbook_url: ".*/([\w-]+\.md)"', text_of("deploy/prometheus/alerts.yml"))
"""The runbooks of alerts."""

NOT_RUN = (
    NotRun("docs/deploy/bare-metal.md", "", "tests/deploy/test_bare_metal.py"),
    NotRun("README.md", "make demo", "is `weighbridge demo`: tests/journeys/test_demo.py runs that, CI the installing"),
    NotRun("CONTRIBUTING.md", "make test", "is what runs this; tests/test_scripts.py looks that each target is there"),
    NotRun("docs/quickstart.md", "make demo", "is `weighbridge demo`: tests/journeys/test_demo.py runs that"),
    NotRun("docs/proofs.md", "make", "takes minutes to hours; `make test` runs all of it in small"),
    NotRun(
        "docs/performance.md", "make bench", "takes an hour, and a machine of its own; tests/test_bench.py runs a part"
    ),
    NotRun(
        "docs/performance.md",
        "python3 -m venv",
        "installs other programs and takes ten minutes; tests/test_bench.py runs a part",
    ),
    NotRun(
        "docs/guides/*", "", "is followed chapter by chapter in tests/journeys/test_guides.py, or has its reason there"
    ),
    *(
        NotRun(f"docs/runbooks/{page}.md", "", "tests/deploy/test_runbooks_followed.py follows it")
        for page in ("backup-and-restore", "leaked-secret", "moving-house", "upgrade-and-rollback", "upstream-keys")
    ),
    NotRun(
        "docs/doctor.md",
        "$ weighbridge doctor --assumptions",
        "asks at a terminal only, and shows what Google may answer",
    ),
    NotRun(
        "docs/store-move.md",
        "weighbridge",
        "tests/journeys/test_store_move.py::test_limits_and_budgets_go_on_from_where_they_stood",
    ),
    NotRun(
        "docs/postgresql.md",
        "GRANT CONNECT",
        "tests/cli/doctor/test_postgres_server.py::test_the_rights_that_the_docs_have_an_operator_grant_are_enough_to_serve",
    ),
    NotRun(
        "docs/events.md",
        "import base64",
        "tests/control/test_webhook.py::test_what_the_docs_say_of_the_signature_tells_ours_from_others_in_python",
    ),
    NotRun(
        "docs/events.md",
        "const crypto",
        "tests/control/test_webhook.py::test_what_the_docs_say_of_the_signature_tells_ours_from_others_in_javascript",
    ),
    NotRun(
        "docs/keys.md",
        "import re",
        "tests/test_docs.py::test_what_the_docs_say_of_the_checksum_tells_a_key_from_junk",
    ),
    NotRun("docs/deploy/docker.md", "", "takes a Docker engine; tests/deploy/test_pages.py holds it against the files"),
    NotRun("docs/deploy/kubernetes.md", "", "takes a cluster; tests/deploy/test_pages.py holds it against the chart"),
    *(
        NotRun(
            f"docs/runbooks/{page}",
            "",
            "tests/deploy/test_runbooks.py::test_commands_and_queries_of_the_runbooks_are_understood",
        )
        for page in ALERTS
    ),
)


def why_not(block: Block) -> NotRun | None:
    """The entry that excuses a block from being run here."""
    fits = (entry for entry in NOT_RUN if fnmatch(block.page, entry.pages) and block.text.startswith(entry.begins))
    return next(fits, None)


def to_run(*languages: str) -> list[Block]:
    """The blocks of these languages that are run here."""
    return [block for block in all_blocks(*languages) if why_not(block) is None]
