"""PostgreSQL's addresses: what is understood, and what is said of mistakes."""

from __future__ import annotations

import pytest

from proxy.config.database_address import DatabaseAddress, parse


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("postgresql://p/bill", DatabaseAddress((("p", 5432),), "bill", None), "postgresql://p:5432/bill"),
        ("postgres://u@p:6000/b", DatabaseAddress((("p", 6000),), "b", "u"), "postgresql://u@p:6000/b"),
        ("postgresql://u@[::1]:1/b", DatabaseAddress((("::1", 1),), "b", "u"), "postgresql://u@[::1]:1/b"),
        (
            "postgresql://a%40b@p/my%20db",
            DatabaseAddress((("p", 5432),), "my db", "a@b"),
            "postgresql://a@b@p:5432/my db",
        ),
        (
            "postgresql://u@a,b:6000/x?target_session_attrs=read-write",
            DatabaseAddress((("a", 5432), ("b", 6000)), "x", "u", (("target_session_attrs", "read-write"),)),
            "postgresql://u@a:5432,b:6000/x",
        ),
        (
            "postgresql://u@p/b?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            DatabaseAddress((("p", 5432),), "b", "u", (("sslmode", "verify-full"), ("sslrootcert", "/etc/ca.pem"))),
            "postgresql://u@p:5432/b",
        ),
        (
            "postgresql://u@p/b?sslrootcert=system",
            DatabaseAddress((("p", 5432),), "b", "u", (("sslrootcert", "system"),)),
            "postgresql://u@p:5432/b",
        ),
        (
            "postgresql://u@/b?host=/run/postgresql",
            DatabaseAddress((("/run/postgresql", 5432),), "b", "u"),
            "postgresql://u@/b?host=/run/postgresql",
        ),
    ],
)
def test_addresses_are_taken_apart_and_shown(url: str, address: DatabaseAddress, shown: str) -> None:
    assert parse(url) == address
    assert str(parse(url)) == shown


def test_libpq_is_given_them_by_its_own_names() -> None:
    assert parse("postgresql://u@a,b:6000/x?sslmode=require").connection == {
        "host": "a,b",
        "port": "5432,6000",
        "dbname": "x",
        "user": "u",
        "sslmode": "require",
    }


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost/b", "must begin with postgresql://"),
        ("mysql://p/b", "must begin with postgresql://"),
        ("postgresql+psycopg://p/b", "must begin with postgresql://"),
        ("postgresql://p", "must end with the name of a database"),
        ("postgresql://p/", "must end with the name of a database"),
        ("postgresql://p/a/b", "must end with the name of a database"),
        ("postgresql://p/a b", "without spaces"),
        ("postgresql://p/b#x", "without a fragment"),
        ("postgresql://p:99999/b", "a port that is none"),
        ("postgresql://p:x/b", "must name each server"),
        ("postgresql://::1/b", "must name each server"),
        ("postgresql:///b", "or the folder of its socket"),
        ("postgresql:///b?host=run", "or the folder of its socket"),
        ("postgresql://p/b?host=/run", "or the folder of its socket"),
        ("postgresql://p/b?options=-csearch_path%3Dx", "that isn't known here"),
        ("postgresql://p/b?sslmode=on", "has a sslmode that is none of disable, allow"),
        ("postgresql://p/b?sslmode=require&sslmode=allow", "gives sslmode twice"),
        ("postgresql://p/b?sslrootcert=ca.pem", "must give sslrootcert as an absolute path"),
        ("postgresql://p/b?sslcert=system", "must give sslcert as an absolute path"),
    ],
)
def test_a_mistake_in_an_address_is_told_in_a_sentence(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^(must|names|may|has|gives) ") as caught:
        parse(url)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://:geheim@p/b",
        "postgresql://u:geheim@p/b",
        "postgresql://u:ge@heim@p/b",
        "postgresql://u:/geheim@p/b",
        "postgresql://u:ge?heim@p/b",
        "postgresql://u@p/b?password=geheim",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="database_password_env") as caught:
        parse(url)
    assert "heim" not in str(caught.value)
