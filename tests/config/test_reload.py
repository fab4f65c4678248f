"""A configuration follows its files, but never half-written ones, and never into one that can't be used."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.config.load import DEFAULT_FILE, ConfigError, read
from proxy.config.reload import AT_START, Outcome, Reloader, changes, waiting
from proxy.config.schema import Settings
from tests.certificates import make_certificate

KEY = "AIzaGeheimGeheimGeheimGeheim"
UPSTREAM = '[[upstreams]]\nname = "google"\napi_key_file = "key"\n'


class Following:
    """A configuration in a folder, and what a reloader of it makes of what becomes of the files."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None, *, file: bool = True) -> None:
        self.file, self.key = folder / "weighbridge.toml", folder / "key"
        if file:
            self.key.write_text(KEY)
            self.key.chmod(0o600)
            self.file.write_text(UPSTREAM)
        self.applied: list[Settings] = []
        self.outcomes: list[Outcome] = []
        self.apply: Callable[[Settings], Any] = self.applied.append
        self.logs: list[Any] = []
        environ = environ or {}
        loaded = read(self.file if file else None, environ)
        self.reloader = Reloader(
            loaded, environ, apply=lambda settings: self.apply(settings), done=self.outcomes.append
        )

    def looks(self, times: int, *, told: bool = False) -> list[Outcome]:
        """What so many looks, a second apart, come to."""
        self.outcomes.clear()
        with capture_logs() as logs:
            for _ in range(times):
                self.reloader.look(told=told)
                told = False
        self.logs = logs
        return list(self.outcomes)

    def said(self, event: str, of: str) -> list[str]:
        return [line[of] for line in self.logs if line["event"] == event]


@pytest.fixture
def following(tmp_path: Path) -> Following:
    return Following(tmp_path)


def test_nothing_is_read_while_nothing_changes(following: Following) -> None:
    assert following.looks(10) == []


def test_a_changed_file_is_applied_once_it_has_come_to_rest(following: Following) -> None:
    following.file.write_text("[server]\nmax_body_mb = 7\n" + UPSTREAM)
    assert following.looks(1) == []
    assert following.looks(5) == ["applied"]
    assert [settings.server.max_body_mb for settings in following.applied] == [7]
    assert following.said("configuration_reloaded", "changed") == ["server.max_body_mb"]


def test_a_file_that_is_being_written_is_let_be(following: Following) -> None:
    """What stands there meanwhile may be broken, or a configuration that nobody means."""
    for text in ("[server]\n", "[server]\nmax_body_mb", "[server]\nmax_body_mb = 7\n", "[server]\nmax_body_mb = 70\n"):
        following.file.write_text(text)
        assert following.looks(1) == []
    following.file.write_text("[server]\nmax_body_mb = 70\n" + UPSTREAM)
    assert following.looks(3) == ["applied"]
    assert [settings.server.max_body_mb for settings in following.applied] == [70]


def test_a_bad_file_is_read_again_before_it_is_told(following: Following) -> None:
    """Its writer may have paused."""
    following.file.write_text("[server]\nmax_body_mb")
    assert following.looks(2) == []
    following.file.write_text("[server]\nmax_body_mb = 7\n" + UPSTREAM)
    assert following.looks(5) == ["applied"]
    assert following.said("configuration_rejected", "why") == []


def test_a_bad_file_is_told_once_with_each_problem_and_the_last_good_one_stays(following: Following) -> None:
    following.file.write_text(
        '[server]\nprot = 1\nmax_body_mb = 0\n[[upstreams]]\nname = "google"\napi_key_env = "GONE"\n'
    )
    assert following.looks(10) == ["rejected"]
    with pytest.raises(ConfigError) as same:
        read(following.file, {})
    assert following.said("configuration_rejected", "why") == list(same.value.problems)
    assert len(same.value.problems) == 3
    assert following.applied == []


def test_after_a_bad_file_the_next_good_one_is_applied_also_the_old_one(following: Following) -> None:
    before = following.file.read_text()
    following.file.write_text("broken [")
    assert following.looks(5) == ["rejected"]
    following.file.write_text(before)
    assert following.looks(5) == ["applied"]
    assert following.said("configuration_reloaded", "changed") == ["no setting"]


def test_a_file_that_vanishes_is_no_wish_for_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was found without being named, and where the environment would do."""
    monkeypatch.chdir(tmp_path)
    DEFAULT_FILE.write_text("[server]\nmax_body_mb = 7\n")
    following = Following(tmp_path, {"GEMINI_API_KEY": KEY}, file=False)
    DEFAULT_FILE.unlink()
    assert following.looks(5) == ["rejected"]
    assert "weighbridge.toml: can't be read: No such file" in following.said("configuration_rejected", "why")[0]
    DEFAULT_FILE.write_text("[server]\nmax_body_mb = 8\n")
    assert following.looks(5) == ["applied"]


def test_a_configuration_without_a_file_takes_one_that_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    following = Following(tmp_path, {"GEMINI_API_KEY": KEY}, file=False)
    assert following.looks(3, told=True) == ["applied"]
    assert following.said("configuration_reloaded", "changed") == ["no setting"]
    DEFAULT_FILE.write_text("[server]\nmax_body_mb = 7\n")
    assert following.looks(5) == ["applied"]
    assert following.applied[-1].server.max_body_mb == 7


def test_a_secret_that_is_rotated_is_taken_without_a_word_of_it(following: Following) -> None:
    following.key.write_text("AIzaAnderesGeheimnisAnderes")
    assert following.looks(5) == ["applied"]
    assert following.applied[0].upstreams[0].api_key.get_secret_value() == "AIzaAnderesGeheimnisAnderes"
    assert following.said("configuration_reloaded", "changed") == ["upstreams.0.api_key"]
    assert "Geheim" not in str(following.logs)


def test_a_secret_that_is_put_in_place_by_a_rename_is_taken_though_older(following: Following) -> None:
    other = following.key.with_name("other")
    other.write_text(KEY[::-1])
    os.utime(other, (0, 0))
    other.replace(following.key)
    assert following.looks(5) == ["applied"]
    assert following.applied[0].upstreams[0].api_key.get_secret_value() == KEY[::-1]


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes updates a ConfigMap and a Secret: `..data` is put in place of itself."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    for version, key in (("v1", KEY), ("v2", KEY[::-1])):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(key)
        (tmp_path / version / "weighbridge.toml").write_text(UPSTREAM)
    (folder / "..data").symlink_to(tmp_path / "v1")
    for name in ("key", "weighbridge.toml"):
        (folder / name).symlink_to(Path("..data") / name)
    following = Following(folder)
    following.looks(3)
    (folder / "..data_tmp").symlink_to(tmp_path / "v2")
    (folder / "..data_tmp").replace(folder / "..data")
    assert following.looks(5) == ["applied"]
    assert following.applied[0].upstreams[0].api_key.get_secret_value() == KEY[::-1]


def test_a_secret_that_a_rejected_file_asked_for_is_waited_for(following: Following) -> None:
    following.file.write_text(UPSTREAM.replace('"key"', '"later"'))
    assert following.looks(5) == ["rejected"]
    following.key.with_name("later").write_text("AIzaSpaeter")
    assert following.looks(5) == ["applied"]


def test_a_certificate_that_was_renewed_is_read_again(tmp_path: Path, following: Following) -> None:
    made = make_certificate(tmp_path, "localhost").path
    following.file.write_text(f'[server]\ntls_cert = "{made}"\ntls_key = "{made}"\n' + UPSTREAM)
    assert following.looks(5) == ["applied"]
    assert following.said("configuration", "what")[0] == "server.tls_cert: takes effect at the next start"
    make_certificate(tmp_path, "localhost")
    assert following.looks(5) == ["applied"]


def test_who_is_told_reads_at_once_and_a_bad_file_once_more(following: Following) -> None:
    following.file.write_text("[server]\nmax_body_mb = 7\n" + UPSTREAM)
    assert following.looks(1, told=True) == ["applied"]
    following.file.write_text("broken [")
    assert following.looks(1, told=True) == []
    assert following.looks(1) == ["rejected"]


def test_what_cannot_be_applied_is_rejected_and_following_goes_on(following: Following) -> None:
    def refuse(_: Settings) -> None:
        raise ConfigError(["no such thing"])

    def fail(_: Settings) -> None:
        raise RuntimeError("a mistake of ours")

    for apply, why in ((refuse, "no such thing"), (fail, "RuntimeError('a mistake of ours')")):
        following.apply = apply
        following.file.write_text(following.file.read_text() + "\n")
        assert following.looks(5) == ["rejected"]
        assert following.said("configuration_rejected", "why") == [why]
    following.apply = following.applied.append
    following.file.write_text(following.file.read_text() + "\n")
    assert following.looks(5) == ["applied"]


def test_what_only_a_start_can_change_is_named_until_there_is_one(following: Following) -> None:
    waits = "[server]\nport = 9\nmax_body_mb = 7\n[storage]\ndata_dir = 'elsewhere'\n"
    for text in (waits, waits + "[gateway]\ncors_origins = []\n"):
        following.file.write_text(text + UPSTREAM)
        assert following.looks(5) == ["applied"]
        assert [sentence.partition(":")[0] for sentence in following.said("configuration", "what")] == [
            "server.port",
            "storage.data_dir",
        ]


def test_settings_that_wait_for_a_start_exist() -> None:
    names = {
        f"{section}.{name}"
        for section in ("server", "storage", "limits", "logs")
        for name in type(getattr(Settings(), section)).model_fields
    }
    assert [start for start in AT_START if not any(name.startswith(start) for name in names)] == []
    assert waiting(Settings(), Settings()) == []


def test_entries_of_a_list_are_compared_one_by_one_where_none_came_or_went() -> None:
    def prices(*rates: int) -> Settings:
        return Settings.model_validate({"prices": [{"model": f"m{at}", "input_text": at} for at in rates]})

    assert list(changes(prices(1, 2), prices(1, 3))) == ["prices.1.model", "prices.1.input_text"]
    assert list(changes(prices(1, 2), prices(1))) == ["prices"]


async def test_whoever_watches_looks_at_once_when_told(following: Following) -> None:
    applied = asyncio.Event()
    following.apply = lambda _: applied.set()
    watching = asyncio.get_running_loop().create_task(following.reloader.watch(3600))
    following.reloader.tell()
    await applied.wait()
    watching.cancel()


def test_who_begins_late_takes_what_has_changed_and_refuses_what_is_bad(following: Following) -> None:
    following.reloader.catch_up()
    assert following.applied == [], "nothing has changed"
    following.file.write_text(f"{UPSTREAM}weight = 7\n")
    following.reloader.catch_up()
    assert [settings.upstreams[0].weight for settings in following.applied] == [7]
    assert following.looks(3) == [], "it is in force"
    following.file.write_text("[nonsense\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        following.reloader.catch_up()
