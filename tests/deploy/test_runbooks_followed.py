"""The runbooks, followed chapter by chapter as they are printed, where a server has callers and a bill."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from proxy.emulator.app import create_app
from tests.docs.blocks import Block, blocks_of_page, commands
from tests.docs.machine import Machine, machine
from tests.docs.scenes import FLASH, postgres
from tests.pages import ROOT
from tests.postgres_servers import PASSWORD, SUPERUSER

OLD, NEW = "AIza-of-google-the-old-one", "AIza-of-google-the-new-one"
SERVER = "[server]\nlame_duck_seconds = 0\n"
SYSTEMCTL = r"""#!/bin/sh
# systemctl, as far as runbooks need it: the unit's command, and what systemd does to begin, end and reload it.
begin() {
    setsid weighbridge serve >>"$HOME/log" 2>&1 </dev/null &
    echo $! >"$HOME/pid"
    until curl -fsS http://127.0.0.1:8081/readyz >/dev/null 2>&1; do
        kill -0 "$(cat "$HOME/pid")" 2>/dev/null || exit 1
        sleep 0.05
    done
}
end() {
    kill -TERM "$(cat "$HOME/pid")"
    while kill -0 "$(cat "$HOME/pid")" 2>/dev/null; do sleep 0.05; done
}
case "$1 $2" in
"start weighbridge") begin ;;
"stop weighbridge") end ;;
"restart weighbridge") end && begin ;;
*) echo "no stand-in for: $*" >&2; exit 2 ;;
esac
"""


class Google:
    """Google's API, where keys are revoked and made."""

    def __init__(self, *keys: str) -> None:
        self.accepts(*keys)

    def accepts(self, *keys: str) -> None:
        self._app = create_app(keys=set(keys))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


@pytest.fixture
def reader(environment: Path, tmp_path: Path) -> Iterator[Machine]:
    """An operator at the server's machine. Nothing runs yet."""
    with machine(tmp_path, environment, 443, 5432, 9000) as made:
        (made.folder / "bin").mkdir()
        (made.folder / "bin/systemctl").write_text(SYSTEMCTL)
        (made.folder / "bin/systemctl").chmod(0o755)
        made.run('export PATH="$HOME/bin:$PATH"')
        made.export(DATA_DIR=str(made.folder / "weighbridge-data"), BACKUP=str(made.folder / "backup"))
        try:
            yield made
        finally:
            made.run('kill -KILL "$(cat "$HOME/pid")"')


@pytest.fixture
def google(reader: Machine) -> Google:
    answers = Google(OLD)
    reader.google(answers)
    return answers


@pytest.fixture
def key(reader: Machine, google: Google) -> str:
    """Of alice, who has called three times through the server that runs."""
    (reader.folder / "google.key").write_text(OLD)
    (reader.folder / "google.key").chmod(0o600)
    (reader.folder / "weighbridge.toml").write_text(
        f'{SERVER}[[upstreams]]\nname = "google"\napi_key_file = "google.key"\n'
    )
    return served(reader)


def served(reader: Machine) -> str:
    """Has the server run, and alice call three times: her key."""
    well(reader, "systemctl start weighbridge")
    made = well(reader, "weighbridge project create alice >/dev/null && weighbridge key create alice --name notebook")
    (key,) = set(re.findall(r"wb_\w{38}", made))
    assert [asked(reader, key) for _ in range(3)] == ["200"] * 3
    return str(key)


def well(reader: Machine, command: str) -> str:
    """What a command prints that ends well."""
    ran = reader.run(command)
    assert ran.code == 0, f"{command}\n{ran.printed}\n{reader.run('cat log').printed}"
    return ran.printed


def asked(reader: Machine, key: str) -> str:
    """The status of a call."""
    url = f"http://127.0.0.1:8080/v1beta/models/{FLASH}:generateContent"
    body = '{"contents":[{"parts":[{"text":"hello"}]}]}'
    return reader.run(
        f"curl -s -o /dev/null -w '%{{http_code}}' {url} -H 'x-goog-api-key: {key}' --json '{body}'"
    ).printed


def bill(reader: Machine) -> str:
    return well(reader, "weighbridge usage report")


def chapter(page: str, heading: str) -> list[Block]:
    """The blocks below a heading, to the next one."""
    lines = (ROOT / "docs/runbooks" / page).read_text("utf-8").splitlines()
    begins = lines.index(f"## {heading}") + 1
    ends = next((at for at, line in enumerate(lines, 1) if line.startswith("## ") and at > begins), len(lines))
    found = [block for block in blocks_of_page(ROOT / "docs/runbooks" / page) if begins < block.line < ends]
    assert found, f"{page} has no commands below {heading}"
    return found


def follow(reader: Machine, page: str, *headings: str, besides: Callable[[str], None] = lambda command: None) -> str:
    """Runs the commands of these chapters, each after what is done `besides`; all must end well. What they print."""
    printed = []
    for block in (block for heading in headings for block in chapter(page, heading)):
        for command in commands(block):
            besides(command.text)
            printed.append(well(reader, command.text))
    return "\n".join(printed)


def test_every_chapter_with_commands_is_followed() -> None:
    """In this file, by its heading."""
    followed = Path(__file__).read_text("utf-8")
    for page in sorted((ROOT / "docs/runbooks").glob("*.md")):
        for block in blocks_of_page(page) if page.name in followed else ():
            above = page.read_text("utf-8").splitlines()[: block.line]
            heading = next(line for line in reversed(above) if line.startswith("## ")).removeprefix("## ")
            assert f'"{heading}"' in followed, f"{block.where}: {heading}"


def test_what_was_backed_up_is_restored_and_the_bill_goes_on(reader: Machine, key: str) -> None:
    page, before = "backup-and-restore.md", bill(reader)
    assert "ok" in follow(reader, page, "Back up a data folder")
    assert asked(reader, key) == "200"
    assert bill(reader) != before
    follow(reader, page, "Restore a data folder")
    assert bill(reader) == before
    assert asked(reader, key) == "200"
    assert bill(reader) != before


def test_postgresql_is_restored_and_what_it_lacks_is_shipped_again(reader: Machine) -> None:
    postgres(reader)
    config = reader.folder / "weighbridge.toml"
    config.write_text(SERVER + config.read_text())
    (url,) = re.findall(r'database_url = "(.*)"', config.read_text())
    reader.export(DATABASE_URL=url, PGHOST="db.example", PGUSER=SUPERUSER, PGPASSWORD=PASSWORD)
    well(reader, "weighbridge db upgrade")
    key, page = served(reader), "backup-and-restore.md"
    well(reader, "until weighbridge usage report --json | grep -q '\"calls\": 3'; do sleep 0.2; done")
    follow(reader, page, "Back up PostgreSQL")
    assert asked(reader, key) == "200"
    well(reader, "until weighbridge usage report --json | grep -q '\"calls\": 4'; do sleep 0.2; done")
    before = bill(reader)
    follow(reader, page, "Restore PostgreSQL")
    well(reader, "until weighbridge usage report --json | grep -q '\"calls\": 4'; do sleep 0.2; done")
    assert bill(reader) == before
    assert asked(reader, key) == "200"


def test_an_upgrade_can_be_taken_back(reader: Machine, key: str) -> None:
    """Here the newer version leaves a ledger that the older one can't read, so it has to go back as well."""
    page, before = "upgrade-and-rollback.md", bill(reader)
    follow(reader, page, "Upgrade one machine", "Upgrade a fleet without a failed call")
    assert bill(reader) == before
    first, restored = chapter(page, "Roll back")
    *stopping, starting = commands(first)
    for command in stopping:
        well(reader, command.text)
    with closing(sqlite3.connect(reader.folder / "weighbridge-data/ledger/0.db")) as ledger, ledger:
        ledger.execute("UPDATE file SET schema_version = 99")
    assert reader.run(starting.text).code == 1
    assert "was written by a newer version" in well(reader, "tail -n 5 log")
    for command in commands(restored)[1:]:  # it has stopped by itself
        well(reader, command.text)
    assert bill(reader) == before
    assert asked(reader, key) == "200"


def test_a_new_key_of_google_is_taken_before_the_old_one_is_revoked(reader: Machine, key: str, google: Google) -> None:
    page = "upstream-keys.md"
    config = reader.folder / "weighbridge.toml"
    spare = '[[upstreams]]\nname = "spare"\napi_key_env = "SPARE"\nweight = 1\n'
    file = reader.folder / "google.key"
    file.chmod(0o640)  # root's, and of the server's group, as docs/deploy/bare-metal.md has it
    owners = file.stat().st_mode, file.stat().st_uid, file.stat().st_gid
    google.accepts(OLD, NEW)
    reader.export(NEW_KEY=NEW, KEY_FILE=str(file), SPARE=NEW, OLD_UPSTREAM="google")
    assert asked(reader, key) == "200"

    def besides(command: str) -> None:
        if command.startswith("weighbridge doctor"):
            well(reader, "until grep -q configuration_reloaded log; do sleep 0.1; done")

    follow(reader, page, "With the key in a file", besides=besides)
    assert (file.stat().st_mode, file.stat().st_uid, file.stat().st_gid) == owners
    google.accepts(NEW)
    assert "ready" in follow(reader, page, "Then revoke the old key at Google")
    assert [asked(reader, key) for _ in range(3)] == ["200"] * 3
    config.write_text(config.read_text() + spare)
    follow(reader, page, "With the key in a variable", "Without anybody noticing, where Google may refuse the new key")
    well(reader, "until weighbridge upstreams | grep -q 'google .*disabled'; do sleep 0.1; done")
    assert asked(reader, key) == "200"
    assert not re.search(f"{OLD}|{NEW}", well(reader, "cat log"))


def test_a_data_folder_moves_house(reader: Machine, key: str) -> None:
    page, before = "moving-house.md", bill(reader)
    reader.export(NEW_DATA_DIR=str(reader.folder / "new"))
    config = reader.folder / "weighbridge.toml"

    def besides(command: str) -> None:
        if command.startswith("weighbridge doctor"):
            config.write_text(f'{config.read_text()}[storage]\ndata_dir = "{reader.folder}/new"\n')

    follow(reader, page, "One process, or workers on one machine, to another machine", besides=besides)
    assert bill(reader) == before
    assert asked(reader, key) == "200"
    assert "alice" in bill(reader)
    follow(reader, page, "A node of a fleet to another machine")


def test_secrets_that_leaked_are_taken_back(reader: Machine, key: str) -> None:
    page, came = "leaked-secret.md", list[dict[str, str]]()

    async def receiver(scope: Scope, receive: Receive, send: Send) -> None:
        came.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await Response(status_code=204)(scope, receive, send)

    reader.serve(9000, receiver)
    reader.export(FIRST_FOUR=key[3:7], PROJECT="alice", NAME="notebook")
    (key_id,) = set(re.findall(r"key_\w{16}", well(reader, "weighbridge key list")))
    reader.export(KEY_ID=str(key_id))
    printed = follow(reader, page, "A virtual key (`wb_…`)")
    asks = f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:8080/v1beta/models -H 'x-goog-api-key: {key}'"
    well(reader, f"until {asks} | grep -q 400; do sleep 0.1; done")
    (new,) = set(re.findall(r"wb_\w{38}", printed)) - {key}
    assert asked(reader, new) == "200"
    follow(reader, page, "Google's key")
    before = (reader.folder / "weighbridge-data/admin-token").read_text()
    follow(reader, page, "The admin token", "The password of PostgreSQL or Redis")
    assert (reader.folder / "weighbridge-data/admin-token").read_text() != before
    (reader.folder / "webhook").write_text("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")
    (reader.folder / "webhook").chmod(0o600)
    events = '[events]\nwebhook_url = "http://127.0.0.1:9000/"\nwebhook_secret_file = "webhook"\n'
    config = reader.folder / "weighbridge.toml"
    config.write_text(events + config.read_text())
    follow(reader, page, "The webhook's secret")
    assert len(came) == 1
