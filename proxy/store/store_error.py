"""What is raised where the database can't be used."""

from __future__ import annotations


class StoreError(Exception):
    """The database can't be read or written; the text says why, and what to do. It never holds a password."""

    @property
    def sqlstate(self) -> str:
        """PostgreSQL's code of the error (its Appendix A); "" where it wasn't PostgreSQL that said no."""
        return getattr(getattr(self.__cause__, "orig", None), "sqlstate", None) or ""
