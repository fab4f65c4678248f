"""The admin API, `/admin/v1/…` on the control door: for operators, their programs, and our own commands."""
