"""What is done again and again, for ever, whatever fails: said once when it fails, and once when it is back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


async def again_and_again(
    step: Callable[[], Awaitable[None]], wait: Callable[[], Awaitable[None]], name: str, what: str
) -> None:
    """Does `step`, then `wait`, for ever. `what` is said in the log, as NAME_failing and NAME_back."""
    failing = False
    while True:
        try:
            await step()
        except Exception as error:  # whatever it is: it must be tried again
            if not failing:
                log.error(f"{name}_failing", what=what, why=str(error) or repr(error))
            failing = True
        else:
            if failing:
                log.info(f"{name}_back", what=f"no longer: {what}")
            failing = False
        await wait()
