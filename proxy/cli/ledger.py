"""`weighbridge ledger`: rerate."""

from __future__ import annotations

from proxy.cli import options, rerating

app = options.group("The ledger itself.")


@app.callback()
def _group() -> None:
    """Keeps `rerate` a command of its own while it is the only one."""


app.command()(rerating.rerate)
