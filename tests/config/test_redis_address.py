"""Redis's addresses: what is understood, and what is said of mistakes."""

from __future__ import annotations

import pytest

from proxy.config.redis_address import RedisAddress, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://r", RedisAddress("single", False, (("r", 6379),))),
        ("redis://10.0.0.1:7000/3", RedisAddress("single", False, (("10.0.0.1", 7000),), 3)),
        ("redis://[::1]:7000/", RedisAddress("single", False, (("::1", 7000),))),
        ("rediss://proxy@r", RedisAddress("single", True, (("r", 6379),), user="proxy")),
        ("rediss://a%40b@r", RedisAddress("single", True, (("r", 6379),), user="a@b")),
        ("redis+cluster://a,b:7001,c", RedisAddress("cluster", False, (("a", 6379), ("b", 7001), ("c", 6379)))),
        ("rediss+cluster://a/0", RedisAddress("cluster", True, (("a", 6379),))),
        (
            "redis+sentinel://s1,s2:5000/limits/2",
            RedisAddress("sentinel", False, (("s1", 26379), ("s2", 5000)), 2, "limits"),
        ),
        ("rediss+sentinel://s1/limits", RedisAddress("sentinel", True, (("s1", 26379),), master="limits")),
    ],
)
def test_addresses_are_taken_apart(url: str, address: RedisAddress) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:6379", "must begin with one of redis://"),
        ("http://r", "must begin with one of redis://"),
        ("redis+unix:///run/redis.sock", "must begin with one of redis://"),
        ("redis:///0", "must name each server"),
        ("redis://a b", "no spaces"),
        ("redis://r?db=1", "no query"),
        ("redis://r#1", "no fragment"),
        ("redis://r:99999", "a port that is none"),
        ("redis://r:0", "a port that is none"),
        ("redis://r:x", "must name each server"),
        ("redis://::1", "must name each server"),
        ("redis://a,b", "redis+cluster:// or redis+sentinel://"),
        ("redis://r/one", "number of a database"),
        ("redis://r/1/2", "number of a database"),
        ("redis+cluster://a/1", "only number 0"),
        ("redis+sentinel://s", "must name the master"),
        ("redis+sentinel://s/", "must name the master"),
        ("redis+sentinel://s/limits/one", "number of a database"),
    ],
)
def test_a_mistake_in_an_address_is_told_in_a_sentence(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^(must|names|may|has) ") as caught:
        parse(url)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://:geheim@r", "rediss://u:geheim@r", "redis+cluster://u:ge@heim@a", "redis://u:/geheim@r/0"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="redis_password_env") as caught:
        parse(url)
    assert "heim" not in str(caught.value)
