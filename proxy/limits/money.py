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
        self._sums: dict[str, dict[tuple[str, str, str], int]] = {}  # by project: by key, model and period
        self._accounts: dict[str, dict[str, Account]] = {}  # by project: by name
        self._day = self._newest = self._swept_at = ""
        self._periods: tuple[str, ...] = ()
        for project, key_id, model, of, usd in spendings:
            self._add(self._sums.setdefault(project, {}), (key_id, model, of), usd)

    def account(self, counter: Counter, day: str) -> Account:
        """The account of a budget for the period that `day` lies in; opened where it is met the first time."""
        accounts = self._accounts.setdefault(counter.project, {})
        of = period(counter.per, day)
        account = accounts.get(f"{counter.name}:{of}")
        if account is None:
            account = Account(counter, of, self._spent(counter, of))
            accounts[account.name] = account
        return account

    def spend(self, spent: Spent) -> None:
        """Adds what a call cost to the sums, and to all accounts that it counts in."""
        project, key_id, model, day, usd = spent
        if not usd:
            return
        if day != self._day:
            self._day, self._periods = day, tuple(period(per, day) for per in PERIODS)
            self._newest = max(self._newest, day)
        sums, periods = self._sums.setdefault(project, {}), self._periods
        for of in periods:
            self._add(sums, (key_id, model, of), usd)
        for account in self._accounts.get(project, {}).values():
            if account.period in periods and spent.on(account.counter):
                account.spent += usd

    def accounts(self, project: str | None = None) -> Iterator[Account]:
        """Those that were opened, of one project or of all."""
        for accounts in self._accounts.values() if project is None else [self._accounts.get(project, {})]:
            yield from accounts.values()

    def sweep(self) -> Iterator[None]:
        """Forgets days and months that are over. Yields between projects, for others to have their turn."""
        if self._newest == self._swept_at:
            return
        self._swept_at = self._newest
        for project in list(self._sums.keys() | self._accounts.keys()):
            sums, accounts = self._sums.get(project, {}), self._accounts.get(project, {})
            periods = sorted({of for _, _, of in sums} | {account.period for account in accounts.values()})
            days = [of for of in periods if len(of) == len("2026-11-21")]
            months = [of for of in periods if len(of) == len("2026-11")]
            over = {*days[:-DAYS_KEPT], *months[:-MONTHS_KEPT]}
            for key in [key for key in sums if key[2] in over]:
                del sums[key]
            for name in [name for name, account in accounts.items() if account.period in over]:
                del accounts[name]
            yield

    def _spent(self, counter: Counter, of: str) -> int:
        return sum(
            usd
            for (key_id, model, at), usd in self._sums.get(counter.project, {}).items()
            if at == of and Spent(counter.project, key_id, model, at, usd).on(counter)
        )

    @staticmethod
    def _add(sums: dict[tuple[str, str, str], int], key: tuple[str, str, str], usd: int) -> None:
        sums[key] = sums.get(key, 0) + usd
