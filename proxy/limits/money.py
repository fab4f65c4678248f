"""What budgets count, pure: what was spent, by project, key, model and period; and what is held for open calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from proxy.config.limits import PERIODS
from proxy.limits.interface import Counter, Spent, period

DAYS_KEPT, MONTHS_KEPT = 3, 2
"""Of each, the last ones: calls that come late are still in them."""


class Spending(NamedTuple):
    """What was spent before: nano-dollars, by whom, and in which period ("2026-11-21", "2026-11", "total")."""

    project: str
    key_id: str
    model: str
    period: str
    usd: int


class Account:
    """What one budget counts in one period, in nano-dollars."""

    __slots__ = ("counter", "held", "period", "spent")

    def __init__(self, counter: Counter, of: str, spent: int) -> None:
        self.counter = counter
        self.period = of
        self.spent = spent
        self.held = 0

    @property
    def name(self) -> str:
        return f"{self.counter.name}:{self.period}"


class Money:
    """All that was spent, and the accounts that were opened on it.

    Sums are kept of everybody, also of those without a budget: one that is set in mid-month counts from the month's
    beginning, the calls included that were in flight when it was set.
    """

    def __init__(self, spendings: Iterable[Spending] = ()) -> None:
        self._sums: dict[str, dict[str, dict[tuple[str, str], int]]] = {}  # by project and period: by key and model
        self._accounts: dict[str, dict[str, dict[str, Account]]] = {}  # by project and key, "" being its own: by name
        self._day = self._newest = self._swept_at = ""
        self._periods: tuple[str, ...] = ()
        for project, key_id, model, of, usd in spendings:
            self._add(project, of, (key_id, model), usd)

    def account(self, counter: Counter, day: str) -> Account:
        """The account of a budget for the period that `day` lies in; opened where it is met the first time."""
        accounts = self._accounts.setdefault(counter.project, {}).setdefault(counter.key_id, {})
        of = period(counter.per, day)
        account = accounts.get(f"{counter.name}:{of}")
        if account is None:
            account = Account(counter, of, self._spent(counter, of))
            accounts[account.name] = account
        return account

    def spend(self, spent: Spent) -> None:
        """Adds what a call cost to the sums, and to all accounts that it counts in."""
        if not spent.usd:
            return
        self._newest = max(self._newest, spent.day)
        for of in self._periods_of(spent.day):
            self._add(spent.project, of, (spent.key_id, spent.model), spent.usd)
        for account in self.counting(spent):
            account.spent += spent.usd

    def counting(self, spent: Spent) -> Iterator[Account]:
        """The accounts that a call counts in: of its project, and of its key."""
        accounts = self._accounts.get(spent.project)
        if not accounts:
            return
        periods = self._periods_of(spent.day)
        for key_id in ("", spent.key_id) if spent.key_id else ("",):
            for account in accounts.get(key_id, {}).values():
                if account.period in periods and spent.on(account.counter):
                    yield account

    def accounts(self) -> Iterator[Account]:
        """All that were opened."""
        for of_project in self._accounts.values():
            for accounts in of_project.values():
                yield from accounts.values()

    def budgets(self, project: str, day: str) -> Iterator[Counter]:
        """Those of a project whose accounts were opened, for a period that `day` lies in."""
        periods = self._periods_of(day)
        for accounts in self._accounts.get(project, {}).values():
            yield from (account.counter for account in accounts.values() if account.period in periods)

    def sweep(self) -> Iterator[None]:
        """Forgets days and months that are over. Yields between projects, for others to have their turn."""
        if self._newest == self._swept_at:
            return
        self._swept_at = self._newest
        for project in list(self._sums.keys() | self._accounts.keys()):
            sums, accounts = self._sums.get(project, {}), self._accounts.get(project, {}).values()
            periods = sorted(sums.keys() | {account.period for of in accounts for account in of.values()})
            days = [of for of in periods if len(of) == len("2026-11-21")]
            months = [of for of in periods if len(of) == len("2026-11")]
            over = {*days[:-DAYS_KEPT], *months[:-MONTHS_KEPT]}
            for period_over in over:
                sums.pop(period_over, None)
            for of_key in accounts:
                for name in [name for name, account in of_key.items() if account.period in over]:
                    del of_key[name]
            yield

    def _periods_of(self, day: str) -> tuple[str, ...]:
        if day != self._day:
            self._day, self._periods = day, tuple(period(per, day) for per in PERIODS)
        return self._periods

    def _spent(self, counter: Counter, of: str) -> int:
        return sum(
            usd
            for (key_id, model), usd in self._sums.get(counter.project, {}).get(of, {}).items()
            if Spent(counter.project, key_id, model, of, usd).on(counter)
        )

    def _add(self, project: str, of: str, who: tuple[str, str], usd: int) -> None:
        sums = self._sums.setdefault(project, {}).setdefault(of, {})
        sums[who] = sums.get(who, 0) + usd
