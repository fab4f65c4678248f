"""Keys and projects changed under a running server: in force within two seconds, whatever becomes of the database."""

from __future__ import annotations

import json
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import h11
import httpx2

from proxy.config.schema import Storage
from proxy.store.database import open_database
from proxy.tenants import keys, projects
from proxy.tenants.key_format import mint
from proxy.tenants.keys import Key
from tests.journeys.watching import PICTURE, TEXT, body, connect, until
from tests.stand import Weighbridge, weighbridge

PATH = f"{TEXT}generateContent"


def command(stand: Weighbridge, *arguments: str) -> str:
    """Runs one of `weighbridge`'s commands on the server's files."""
    config = ["--config", str(stand.folder / "weighbridge.toml")]
    run = [sys.executable, "-m", "proxy", *arguments, *config]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


def call(stand: Weighbridge, key: str) -> httpx2.Response:
    return httpx2.post(stand.base_url + PATH, json=body("hi"), headers={"x-goog-api-key": key}, timeout=60)


def refused(stand: Weighbridge, key: str) -> httpx2.Response:
    """The key's first refusal; it is awaited."""

    def refusal() -> httpx2.Response | None:
        answer = call(stand, key)
        return None if answer.status_code == 200 else answer

    answer = until(refusal, "the key is refused")
    assert answer is not None
    return answer


def error_of(answer: httpx2.Response) -> tuple[str, str, str]:
    """An error in Google's shape: its status, its message, and the reason that ErrorInfo gives."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert error["details"][0]["reason"] == answer.headers["x-weighbridge-refused"]
    return error["status"], error["message"], error["details"][0]["reason"]


def test_a_key_works_as_soon_as_it_is_made_and_no_longer_when_it_is_revoked(stand: Weighbridge) -> None:
    command(stand, "project", "create", "made")
    made = json.loads(command(stand, "key", "create", "made", "--name", "notebook", "--json"))
    assert call(stand, made["key"]).status_code == 200
    other = stand.key("made")
    assert call(stand, other).status_code == 200

    command(stand, "key", "revoke", made["id"])
    answer = refused(stand, made["key"])
    invalid = ("INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", "API_KEY_INVALID")
    assert (answer.status_code, error_of(answer)) == (400, invalid)
    assert call(stand, other).status_code == 200, "another key of the project goes on"
    assert ("made", "notebook") in {(record.project, record.key_name) for record in stand.records()}


def test_a_key_that_was_refused_before_it_was_there_works_once_it_is(stand: Weighbridge, tmp_path: Path) -> None:
    """As with a database restored from a backup: what is remembered of unknown keys goes with every change."""
    key = ""
    for data_dir in (tmp_path, stand.data_dir):
        database = open_database(Storage(data_dir=data_dir))
        projects.create(database, "restored", 0, actor="test")
        key = keys.create(database, "restored", "same", 0, random.Random(7).randrange, actor="test")[1]
        if data_dir is tmp_path:
            assert error_of(call(stand, key))[2] == "API_KEY_INVALID"
    until(lambda: call(stand, key).status_code == 200, "the key is known")


def test_a_disabled_project_is_refused_with_all_its_keys_and_no_other_is(stand: Weighbridge) -> None:
    shut, other = [stand.key("shut"), stand.key("shut")], stand.key("open")
    assert [call(stand, key).status_code for key in (*shut, other)] == [200, 200, 200]
    command(stand, "project", "disable", "shut")
    for key in shut:
        answer = refused(stand, key)
        status, message, reason = error_of(answer)
        assert (answer.status_code, status, reason) == (403, "PERMISSION_DENIED", "PROJECT_DISABLED")
        assert "disabled" in message
    assert call(stand, other).status_code == 200


def test_a_project_that_is_enabled_again_is_served_with_the_keys_it_had(stand: Weighbridge) -> None:
    key, database = stand.key("reopened"), open_database(stand.storage)
    projects.disable(database, "reopened", 1, actor="test")
    refused(stand, key)
    projects.enable(database, "reopened", 2, actor="test")
    until(lambda: call(stand, key).status_code == 200, "the key is served again")


def new_key(stand: Weighbridge, project: str, **options: Any) -> tuple[Key, str]:
    stand.key(project)
    now = time.time_ns() // 1000
    return keys.create(open_database(stand.storage), project, "a", now, secrets.randbelow, actor="test", **options)


def rotated(stand: Weighbridge, key: Key, overlap: int) -> tuple[Key, str]:
    database, now = open_database(stand.storage), time.time_ns() // 1000
    return keys.rotate(database, key.id, now, secrets.randbelow, actor="test", overlap=overlap)[1:]


def test_a_key_is_refused_once_it_has_expired(stand: Weighbridge) -> None:
    expires_at = time.time_ns() // 1000 + 2_000_000
    _, secret = new_key(stand, "expiring", expires_at=expires_at)
    assert call(stand, secret).status_code == 200
    assert error_of(refused(stand, secret))[2] == "API_KEY_INVALID"
    assert time.time_ns() // 1000 >= expires_at


def test_a_rotated_key_is_served_beside_its_successor_until_the_overlap_ends(stand: Weighbridge) -> None:
    first, first_secret = new_key(stand, "rotating")
    second, second_secret = rotated(stand, first, 3_600_000_000)
    assert [call(stand, key).status_code for key in (first_secret, second_secret)] == [200, 200]
    _, third_secret = rotated(stand, second, 0)
    assert error_of(refused(stand, second_secret))[2] == "API_KEY_INVALID"
    assert [call(stand, key).status_code for key in (first_secret, third_secret)] == [200, 200]


def test_the_last_use_of_a_key_is_told_also_when_the_server_has_ended(upstream: str, tmp_path: Path) -> None:
    with weighbridge(tmp_path, upstream) as stand:
        of = {name: stand.key("used", name) for name in ("first", "second", "never")}

        def last_uses() -> dict[str, int | None]:
            return {key.name: key.last_used_at for key in keys.list_keys(open_database(stand.storage))}

        assert call(stand, of["first"]).status_code == 200
        until(lambda: last_uses()["first"], "the first use is written down")
        began = time.time_ns() // 1000
        assert call(stand, of["second"]).status_code == 200
        assert last_uses()["second"] is None, "a minute has not passed"
        assert stand.stop(signal.SIGTERM) == 0
        assert last_uses()["never"] is None
        assert (last_uses()["second"] or 0) >= began


def test_known_keys_go_on_while_the_database_is_away_and_unknown_ones_are_told_to_try_again(
    stand: Weighbridge,
) -> None:
    known, unknown = stand.key("known"), mint(random.Random(5).randrange)
    assert call(stand, known).status_code == 200
    database = stand.data_dir / "weighbridge.db"
    away = database.rename(database.with_suffix(".away"))
    until(lambda: "database_failing" in stand.log(), "the server notices")
    answer = call(stand, unknown)
    assert (answer.status_code, error_of(answer)[2]) == (503, "STORE_UNAVAILABLE")
    assert call(stand, known).status_code == 200
    assert httpx2.get(f"{stand.base_url}/readyz").status_code == 200
    away.rename(database)
    until(lambda: "database_back" in stand.log(), "the server notices")
    assert call(stand, unknown).status_code == 400


def test_known_keys_go_on_while_another_process_holds_the_database(stand: Weighbridge) -> None:
    known = stand.key("held")
    assert call(stand, known).status_code == 200
    noticed = stand.log().count("database_failing")
    with closing(sqlite3.connect(stand.data_dir / "weighbridge.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        until(lambda: stand.log().count("database_failing") > noticed, "the server notices")
        assert call(stand, known).status_code == 200
        holder.execute("ROLLBACK")


def test_requests_with_several_keys_on_one_connection_are_each_billed_to_their_own_project(stand: Weighbridge) -> None:
    """Sent ahead of their answers, as a client with a pool of connections behind another proxy may."""
    order = ["first", "second", "nobody", "first", "third"]
    key_of = {name: stand.key(name) for name in order if name != "nobody"} | {"nobody": "wb_" + "0" * 38}
    content = json.dumps(body("hi")).encode()
    sent = b"".join(
        b"POST %b HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (path.encode(), key_of[name].encode(), len(content), content)
        for name, path in zip(order, (PATH, PICTURE, PATH, f"{TEXT}streamGenerateContent?alt=sse", PATH), strict=True)
    )
    statuses = []
    with connect(stand.base_url) as connection:
        connection.sendall(sent)
        parser = h11.Connection(h11.CLIENT)
        for _ in order:
            parser.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
            parser.send(h11.EndOfMessage())
            while (event := parser.next_event()) is h11.NEED_DATA or not isinstance(event, h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    parser.receive_data(connection.recv(65536))
                elif isinstance(event, h11.Response):
                    statuses.append(event.status_code)
            parser.start_next_cycle()
    assert statuses == [200, 200, 400, 200, 200]
    billed = [record.project for record in stand.records() if record.project in order]
    assert billed == ["first", "second", "first", "third"]
