"""A file's stamp is another when its content may be, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path

from proxy.config.stamps import stamp


def test_a_file_that_was_written_to_or_put_in_place_has_another_stamp(tmp_path: Path) -> None:
    """Also where the new one is as long and says that it is as old."""
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("one")
    first = stamp(file)
    assert stamp(file) == first
    other.write_text("two")
    shutil.copystat(file, other)
    other.replace(file)
    assert stamp(file) != first


def test_a_link_has_the_stamp_of_what_it_leads_to_and_what_is_not_there_has_none(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file")
    assert stamp(link) is None
    (tmp_path / "file").write_text("x")
    assert stamp(link) == stamp(tmp_path / "file") is not None
