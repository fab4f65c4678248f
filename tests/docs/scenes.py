"""What the pages suppose that a reader has: a running server, a project with calls, Redis, PostgreSQL.

A page that isn't named here is read in a fresh folder, with Google's key at hand and no server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from psycopg import sql

from proxy.emulator.app import create_app
from tests.certificates import make_certificate
from tests.docs.blocks import blocks_of_page
from tests.docs.machine import Machine
from tests.pages import ROOT
from tests.postgres_servers import PASSWORD, SUPERUSER, PostgresDatabase, PostgresServer, give, postgres_folder

GOOGLES_KEY = "AIza-of-google"
FLASH, PICTURE, PRO_PICTURE = "gemini-3.8-flash", "gemini-nano-banana-2.1", "gemini-3-pro-image"

Act = Callable[[Machine], None]


@dataclass(frozen=True)
class Scene:
    """Pages that are read one after another on one machine, and what happens there beside what they say."""

    pages: tuple[str, ...]
    begin: Act
    before: Mapping[str, Act] = field(default_factory=dict)
    """What has happened when a command that begins so is run."""
    code: Mapping[str, int] = field(default_factory=dict)
    """With what a command that begins so ends, other than 0: where the page shows a problem."""
    prints: Mapping[str, str] = field(default_factory=dict)
    """Words that a command that begins so prints, where the page tells of them and doesn't show them."""


def google(machine: Machine) -> None:
    """Google answers where it is, and its key is at hand: all that a reader needs."""
    machine.google(create_app(keys={GOOGLES_KEY}))
    machine.export(GEMINI_API_KEY=GOOGLES_KEY)
    machine.stand_ins["export GEMINI_API_KEY=…"] = f"export GEMINI_API_KEY={GOOGLES_KEY}"


def served(machine: Machine) -> None:
    """A server runs; the reader has a key of some project."""
    google(machine)
    machine.start("weighbridge serve")
    key = machine.key("demo")
    machine.export(KEY=key, WEIGHBRIDGE_KEY=key, BASE_URL="http://127.0.0.1:8080")


def call(machine: Machine, key: str, model: str, prompt: str = "hello", status: int = 200) -> None:
    """A call through the server, to its end."""
    body = f'{{"contents":[{{"parts":[{{"text":"{prompt}"}}]}}]}}'
    url = f"http://127.0.0.1:8080/v1beta/models/{model}:generateContent"
    ran = machine.run(f"curl -s -o /dev/null -w '%{{http_code}}' {url} -H 'x-goog-api-key: {key}' -d '{body}'")
    assert ran.printed == str(status)


def of_two_projects(machine: Machine) -> None:
    """What stands on the bill of the README: alice's texts and pictures, and bob's."""
    for project in ("alice", "bob"):
        key = machine.key(project)
        call(machine, key, FLASH)
        call(machine, key, PICTURE if project == "alice" else PRO_PICTURE)


def keys_shown(machine: Machine) -> list[str]:
    """The keys that commands printed, the newest last."""
    return [key for ran in machine.ran for key in re.findall(r"^wb_\w{38}$", ran.printed, re.MULTILINE)]


def take_the_key(machine: Machine) -> None:
    """The reader has the key that was shown this once."""
    (*_, key) = keys_shown(machine)
    machine.export(KEY=key, WEIGHBRIDGE_KEY=key)
    machine.stand_ins["wb_…"] = key


def with_the_emulator(machine: Machine) -> None:
    """The way without a Google key: its file, its variable, and the emulator in another terminal."""
    google(machine)
    (toml,) = (block for block in blocks_of_page(ROOT / "docs/quickstart.md") if block.language == "toml")
    (machine.folder / "weighbridge.toml").write_text(toml.text)
    machine.export(EMULATOR_KEY="emulator-key")
    machine.start("weighbridge emulator")


def a_key_that_is_named(machine: Machine) -> None:
    """The key of the page is the one that there is."""
    ids = re.findall(r"\bkey_\w{16}\b", machine.run("weighbridge key list").printed)
    machine.stand_ins["key_TaFBPyzZgKVCDfNC"] = ids[-1]
    machine.stand_ins["wb_MYlk"] = keys_shown(machine)[-1][:7]


def a_newer_book(machine: Machine) -> None:
    """A price book that was brought: the program's, with a later date and other prices."""
    book = (ROOT / "proxy/billing/price_book.toml").read_text("utf-8")
    (machine.folder / "price_book.toml").write_text(book)


def two_upstreams(machine: Machine) -> None:
    google(machine)


def postgres(machine: Machine) -> None:
    """A PostgreSQL at db.example that shows a certificate; nothing is in it but what the page says to make."""
    google(machine)
    folder = machine.at_end.enter_context(postgres_folder())
    certificate = make_certificate(folder, "db.example")
    give(certificate.path)
    settings = {"ssl": "on", "ssl_cert_file": str(certificate.path), "ssl_key_file": str(certificate.path)}
    server = PostgresServer(folder / "cluster", settings=settings)
    machine.at_end.callback(server.stop)
    server.start()
    machine.forward(5432, server.port)
    toml, make, *_ = blocks_of_page(ROOT / "docs/postgresql.md")
    with PostgresDatabase("postgres", server.port).client(SUPERUSER) as client:
        client.execute("DROP ROLE weighbridge")
        for statement in make.text.replace("'…'", sql.quote(PASSWORD)).split(";\n"):
            client.execute(statement)
    text = toml.text.replace("/etc/weighbridge/db-ca.pem", str(certificate.path))
    (machine.folder / "weighbridge.toml").write_text(text)
    machine.export(DATABASE_PASSWORD=PASSWORD)


def redis(machine: Machine) -> None:
    """A Redis on this machine."""
    google(machine)
    machine.start("redis-server --save ''")


SCENES = (
    Scene(("README.md",), served, {"weighbridge usage report": of_two_projects}),
    Scene(
        ("docs/quickstart.md",),
        with_the_emulator,
        {
            "curl": take_the_key,
            "weighbridge usage report": of_two_projects,
        },
    ),
    Scene(
        ("docs/budgets.md", "docs/account.md", "docs/admin-api.md", "docs/troubleshooting.md"),
        served,
        {"curl": take_the_key},
    ),
    Scene(("docs/emulator.md",), google, prints={"curl": "RESOURCE_EXHAUSTED"}),
    Scene(("docs/commands.md",), served),
    Scene(("docs/security.md",), google, {"weighbridge key rotate": a_key_that_is_named}),
    Scene(("docs/metering.md",), google, {"weighbridge prices update": a_newer_book}),
    Scene(("docs/upstreams.md",), two_upstreams),
    Scene(("docs/postgresql.md",), postgres),
    Scene(("docs/workers.md",), redis),
)
