"""What is done again and again, for ever, whatever fails: said once when it fails, and once when it is back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


async def again_and_again(step: Callable[[], Awaitable[None]], wait: Callable[[], Awaitable[None]], what: str) -> None:
    """Does `step`, then `wait`, for ever. `what` is what the log says while `step` fails."""
    failing = False
    while True:
        try:
            await step()
        except Exception as error:  # whatever it is: it must be tried again
            if not failing:
                log.error("chore_failing", what=what, why=str(error) or repr(error))
            failing = True
        else:
            if failing:
                log.info("chore_back", what=f"no longer: {what}")
            failing = False
        await wait()
