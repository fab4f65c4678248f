"""The reader of fenced blocks; and every block of the docs is run, is excused in one list, or is no command."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.docs.blocks import Block, Command, all_blocks, blocks_in, commands
from tests.docs.not_run import DATA, NOT_RUN, RUN, NotRun, to_run, why_not
from tests.docs.scenes import block_of
from tests.pages import ROOT

PAGE = """# A page

<!-- run: x -->
```sh
one
```

- in a list:

  ````console
  $ two \\
      more
  shown
    indented
  ```
  $ three
  ````
~~~text
`$` four
~~~
"""


def test_blocks_are_read_with_place_language_mark_and_text() -> None:
    """Also in a list, with longer fences, and with tildes."""
    assert list(blocks_in("page.md", PAGE)) == [
        Block("page.md", 4, "sh", "one\n", "run: x"),
        Block("page.md", 10, "console", "$ two \\\n    more\nshown\n  indented\n```\n$ three\n"),
        Block("page.md", 18, "text", "`$` four\n"),
    ]


def test_a_fence_that_is_not_closed_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"page.md:1"):
        list(blocks_in("page.md", "```sh\none\n"))


def test_a_console_has_commands_and_what_each_shows() -> None:
    _, console, _ = blocks_in("page.md", PAGE)
    assert commands(console) == [
        Command("two \\\n    more\n", "shown\n  indented\n```\n"),
        Command("three\n"),
    ]


def test_a_block_of_shell_is_its_commands() -> None:
    """One that goes on over several lines is one; what isn't complete by itself takes the next lines, too."""
    text = "# first\nexport A=1   # why\ncurl \\\n  -d '{\n}' url\n\nfor a in b; do\n  echo $a\ndone\n"
    assert [command.text for command in commands(Block("page.md", 1, "sh", text))] == [
        "export A=1   # why\n",
        "curl \\\n  -d '{\n}' url\n",
        "for a in b; do\n  echo $a\ndone\n",
    ]


@pytest.mark.parametrize("block", all_blocks(), ids=lambda block: block.where)
def test_every_block_says_what_it_is(block: Block) -> None:
    """Its language is one that is run, or one of data: what nobody knows how to run isn't passed over in silence."""
    assert block.language in RUN + DATA, f"{block.where}: no test runs {block.language!r}; see tests/docs/not_run.py"
    assert block.language != "console" or block.text.startswith("$ "), f"{block.where}: a console begins with a prompt"


@pytest.mark.parametrize("entry", NOT_RUN, ids=lambda entry: f"{entry.pages}: {entry.begins}")
def test_what_is_excused_is_there(entry: NotRun) -> None:
    """Each entry excuses a block, has a reason, and names only tests that exist."""
    assert any(why_not(block) is entry for block in all_blocks(*RUN)), "no block begins so, or another entry has it"
    assert len(entry.why) > 10
    for file, test in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", entry.why):
        assert f"def {test}" in (ROOT / file).read_text("utf-8")


def test_what_is_run_in_one_place_stands_in_one_place() -> None:
    """SQL of one page is run where that is walked; what has no runner here has a test of its own."""
    assert to_run("sql") == [block_of("docs/postgresql.md", "sql")]
    assert to_run("go", "java", "php", "yaml") == []


def test_commands_are_not_called_text() -> None:
    """What a reader is to type has a language that is run."""
    typed = re.compile(r"(?:\$ |export |curl |make |pip |npm )", re.MULTILINE)
    assert [block.where for block in all_blocks(*DATA) if typed.match(block.text)] == []


def test_most_blocks_are_run_here() -> None:
    """Whole pages that have a test of their own aside."""
    entries = [why_not(block) for block in all_blocks(*RUN)]
    excused = Counter(entry is not None for entry in entries if entry is None or entry.begins)
    assert excused[False] > 3 * excused[True]
