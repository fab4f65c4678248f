"""What the configuration's models accept, refuse and default to."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.billing.price_book import PER_1000, RATE_NAMES
from proxy.config.schema import Alias, Gateway, Limits, Price, Server, Settings, Storage


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValidationError):
        Settings().server.port = 1  # type: ignore[misc]


def test_a_mistyped_time_zone_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValidationError, match="did you mean 'Europe/Berlin'"):
        Limits(timezone="Europe/Berln")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/localtime", "", "a\0b", "America"])
def test_a_time_zone_that_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="no IANA time zone"):
        Limits(timezone=name)


def test_records_are_kept_for_ever_or_for_a_month_that_is_whole() -> None:
    assert Storage().retention_days == 0
    assert Storage(retention_days=35).retention_days == 35
    for days in (34, 1, -1, 36_501):
        with pytest.raises(ValidationError):
            Storage(retention_days=days)


def test_the_browser_sdk_works_from_any_origin_by_default() -> None:
    assert Gateway().cors_origins == ("*",)


@pytest.mark.parametrize("origin", ["https://app.example.com/", "app.example.com", "https://a b", "https://x/?y"])
def test_what_no_browser_sends_as_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is no origin"):
        Gateway(cors_origins=(origin,))


def test_rates_are_exact_to_the_nano_dollar() -> None:
    price = Price(model="gemini-*-image", input_text=Decimal("0.075"), output_image=Decimal("0.000000001"))
    assert (price.input_text, price.output_image) == (Decimal("0.075"), Decimal("0.000000001"))
    with pytest.raises(ValidationError, match="9 decimal places"):
        Price(model="m", input_text=Decimal("0.0000000001"))
    with pytest.raises(ValidationError):
        Price(model="m", input_text=Decimal("-1"))
    with pytest.raises(ValidationError):
        Price(model="m", input_text=Decimal("NaN"))


def test_a_rate_of_zero_is_a_rate_but_no_rate_is_a_mistake() -> None:
    assert Price(model="m", input_text=Decimal(0)).input_text == 0
    with pytest.raises(ValidationError, match="sets no rate"):
        Price(model="m")


def test_two_prices_of_a_model_from_the_same_day_are_refused() -> None:
    price = {"model": "m", "from": "2026-12-01", "input_text": 1}
    assert len(Settings.model_validate({"prices": [price, price | {"from": "2027-01-01"}]}).prices) == 2
    with pytest.raises(ValidationError, match="two entries for m from 2026-12-01"):
        Settings.model_validate({"prices": [price, price]})


@pytest.mark.parametrize("match", ["gemini-2.5-flash-image", "gemini-2.5-*", "gemini-[23].?-pro"])
def test_an_alias_matches_an_id_or_a_glob_and_leads_to_an_id(match: str) -> None:
    alias = Alias(match=match, use="gemini-nano-banana-2.1")
    assert alias.is_glob == (match != "gemini-2.5-flash-image")


@pytest.mark.parametrize(
    ("match", "use", "sentence"),
    [
        ("a", "gemini-*", "no model's id"),
        ("a", "models/b", "no model's id"),
        ("a", "", "no model's id"),
        ("a", "b/c", "no model's id"),
        ("a", "b\n", "no model's id"),
        ("models/a", "b", "without models/"),
        ("a b", "b", "no model's id and no glob"),
        ("a", "a", "stands in for itself"),
    ],
)
def test_an_alias_that_could_not_be_followed_is_refused(match: str, use: str, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Alias(match=match, use=use)


def test_a_glob_may_match_the_model_that_it_leads_to() -> None:
    """All of a family to one of its own: that one is asked for as ever."""
    assert Alias(match="gemini-3*", use="gemini-3.8-flash").is_glob


def test_two_aliases_of_the_same_match_are_refused_but_one_may_lead_to_what_another_matches() -> None:
    first = {"match": "a", "use": "b"}
    assert len(Settings.model_validate({"models": [first, {"match": "b", "use": "c"}]}).models) == 2
    with pytest.raises(ValidationError, match="two entries match a: keep one"):
        Settings.model_validate({"models": [first, {"match": "a", "use": "c"}]})


def test_the_first_alias_that_matches_counts_and_only_once() -> None:
    pairs = ("a", "b"), ("a*", "c"), ("b", "d"), ("x*", "x1")
    settings = Settings(models=tuple(Alias(match=match, use=use) for match, use in pairs))
    asked = ("a", "aa", "b", "c", "x1", "x2", "A")
    assert [settings.model_used(model) for model in asked] == ["b", "c", "d", "c", "x1", "x1", "A"]
    assert Settings().model_used("a") == "a"


def test_half_of_a_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    with pytest.raises(ValidationError, match="tls_cert and tls_key go together"):
        Server(tls_cert=tmp_path / "cert.pem")
    with pytest.raises(ValidationError):
        Server(tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "missing.pem")


def test_the_two_doors_may_not_have_the_same_port_unless_it_is_any_free_one() -> None:
    with pytest.raises(ValidationError, match="two doors"):
        Server(port=8081)
    assert Server(port=0, admin_port=0).port == 0


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("fe80::1", "http://[fe80::1]:8080"),
    ],
)
def test_the_base_url_for_clients_is_one_that_they_can_reach(host: str, base_url: str) -> None:
    assert Server(host=host).base_url == base_url


def test_every_rate_of_the_price_book_can_be_configured_and_no_other() -> None:
    assert set(Price.model_fields) - {"model", "from_"} == {PER_1000.get(name, name) for name in RATE_NAMES}


def test_a_rate_beyond_what_the_ledger_can_hold_is_refused() -> None:
    assert Price(model="m", input_text=Decimal(1000)).input_text == 1000
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        Price(model="m", input_text=Decimal("1000.01"))


def test_limits_for_new_projects_are_read_in_their_one_notation() -> None:
    assert Limits().defaults == ()
    assert Limits(defaults=("tpm=1000,shadow", "rpm = 60")).defaults == ("rpm=60", "tpm=1000,shadow")


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (("rps=5",), "did you mean rpm"),
        (("rpm=5", "rpm=6"), "given twice"),
        (("usd=100",), "say for how long, as in usd=100,per=month"),
        (("rpm=none",), "takes a limit away"),
        (tuple(f"rpm=1,model=m{number}" for number in range(1000)), "1000 limits are too many"),
    ],
)
def test_a_default_that_is_no_limit_is_refused_in_the_words_of_the_notation(
    limits: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Limits(defaults=limits)


def test_trusted_proxies_are_networks_or_addresses() -> None:
    assert Server().trusted_proxies == ()
    server = Server(trusted_proxies=("10.0.0.0/8", "::1", "::ffff:192.0.2.1"))
    assert server.trusted_proxies == ("10.0.0.0/8", "::1/128", "192.0.2.1/32")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "*", "proxy.internal", "fe80::1%eth0", ""])
def test_a_trusted_proxy_that_is_no_network_is_refused(text: str) -> None:
    """A name would have to be looked up at each call, and whoever answers for it would be trusted."""
    with pytest.raises(ValidationError, match=r"no address and no network|within a network|names an interface"):
        Server(trusted_proxies=(text,))
