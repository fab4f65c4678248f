"""Looks at large bodies: few at once, each project's one after another, and nobody behind all of another's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from proxy.gateway.looks import AT_ONCE, Looks

pytestmark = pytest.mark.anyio


async def settled() -> None:
    """All that can go on has gone on."""
    for _ in range(5):
        await asyncio.sleep(0)


class Looking:
    """A project's look, which lasts until it is told to end."""

    def __init__(self, looks: Looks, project: str) -> None:
        self.has_begun = False
        self._ends = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._look(looks, project))

    async def _look(self, looks: Looks, project: str) -> None:
        async with looks.turn(project):
            self.has_begun = True
            await self._ends.wait()

    async def end(self) -> None:
        self._ends.set()
        await self.task
        await settled()


async def test_a_project_waits_for_itself_and_not_for_all_that_another_has_sent() -> None:
    looks = Looks()
    many = [Looking(looks, "many") for _ in range(10)]
    await settled()
    one = Looking(looks, "one")
    await settled()
    assert one.has_begun
    for place, look in enumerate(many):
        assert [each.has_begun for each in many] == [at <= place for at in range(len(many))]
        await look.end()
    await one.end()


async def test_of_all_projects_a_few_look_at_once_and_the_next_in_the_order_of_asking() -> None:
    looks = Looks()
    others = [Looking(looks, f"project {number}") for number in range(AT_ONCE + 3)]
    await settled()
    for place, look in enumerate(others):
        assert [each.has_begun for each in others] == [at < place + AT_ONCE for at in range(len(others))]
        await look.end()


async def test_who_gives_up_waiting_holds_up_nobody() -> None:
    looks = Looks()
    async with AsyncExitStack() as held:
        for number in range(AT_ONCE):
            await held.enter_async_context(looks.turn(f"project {number}"))
        first, second, same = (Looking(looks, project) for project in ("first", "second", "first"))
        await settled()
        first.task.cancel()
        await settled()
    await settled()
    assert (first.has_begun, second.has_begun, same.has_begun) == (False, True, True)
    await second.end()
    await same.end()
