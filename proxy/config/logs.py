"""[logs]: how log lines are written, and of which calls one is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.section import Section


class Logs(Section):
    """What goes to standard error."""

    format: Literal["auto", "json", "people"] = "auto"
    """For people or one JSON object a line; "auto": for people on a terminal, JSON elsewhere."""
    access: bool = True
    """Whether each request leaves a line `call`."""
    sample_successes: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    """Which part of those that ended well; what was refused or failed is told always."""
