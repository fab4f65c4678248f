"""What budgets count: sums of everybody, accounts that begin with them, and what is let go of."""

from __future__ import annotations

from collections import deque

from proxy.config.limits import Limit
from proxy.limits.interface import Counter, Spent, counters
from proxy.limits.money import Money, Spending

DAY = "2026-11-21"
TEXT, IMAGE = "gemini-3.8-flash", "gemini-3-pro-image"


def budget(per: str, key_id: str = "", model: str = "*") -> Counter:
    limit = Limit("usd", 10, model, per=per)
    [made] = counters("alice", key_id, () if key_id else (limit,), (limit,) if key_id else ())
    return made


def spent(usd: int, day: str = DAY, key_id: str = "key_1", model: str = TEXT, project: str = "alice") -> Spent:
    return Spent(project, key_id, model, day, usd)


def test_an_account_begins_with_all_that_was_spent_in_its_period() -> None:
    """By the process before, and by this one; by its key, its models."""
    money = Money([Spending("alice", "key_1", TEXT, at, 5) for at in (DAY, "2026-11", "total")])
    money.spend(spent(1))
    money.spend(spent(2, key_id="key_2", model=IMAGE))
    money.spend(spent(4, day="2026-11-20"))
    money.spend(spent(8, day="2026-10-31"))
    money.spend(spent(100, project="bob"))
    sums = {per: money.account(budget(per), DAY).spent for per in ("day", "month", "total")}
    assert sums == {"day": 8, "month": 12, "total": 20}
    assert money.account(budget("total", "key_2"), DAY).spent == 2
    assert money.account(budget("month", model="*-image"), DAY).spent == 2


def test_an_account_goes_on_with_what_is_spent_then() -> None:
    """Each call in all that it counts in: the project's and its key's, of whatever period; an adjustment down, too."""
    money = Money()
    mine = [money.account(one, DAY) for one in (budget("day"), budget("month", "key_1"), budget("total"))]
    others = [money.account(one, DAY) for one in (budget("day", "key_2"), budget("total", model="*-image"))]
    money.spend(spent(7))
    money.spend(spent(-2))
    assert [account.spent for account in mine] == [5, 5, 5]
    money.spend(spent(3, key_id=""))  # an adjustment of no key
    assert [account.spent for account in mine] == [8, 5, 8]
    assert [account.spent for account in others] == [0, 0]
    assert money.account(budget("day"), "2026-11-22").spent == 0
    assert money.account(budget("day"), DAY) is mine[0]


def test_days_and_months_that_are_over_are_forgotten_and_totals_never() -> None:
    money = Money()
    for day in ("2026-09-30", "2026-10-31", "2026-11-18", "2026-11-19", "2026-11-20", DAY):
        money.spend(spent(1, day=day))
        for per in ("day", "month", "total"):
            money.account(budget(per), day)
    deque(money.sweep(), 0)
    names = [account.name for account in money.accounts()]
    assert names == [
        "{alice}:usd:total:total",
        "{alice}:usd:month:2026-10",
        "{alice}:usd:month:2026-11",
        "{alice}:usd:day:2026-11-19",
        "{alice}:usd:day:2026-11-20",
        "{alice}:usd:day:2026-11-21",
    ]
    assert money.account(budget("total", "key_1"), DAY).spent == 6
    assert list(money.sweep()) == []
