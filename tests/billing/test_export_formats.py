"""What an export's formats make of rows: the same as of records, one by one."""

from __future__ import annotations

import csv
import io
import json
import random
from typing import Any

import msgspec
import pytest

from proxy.billing.export_formats import FORMATS, HEADS, READ
from proxy.billing.records import COLUMNS, UsageRecord, as_cell, to_json, to_row
from tests.billing.sample import NOON, sample
from tests.billing.test_reports import at_random

ODD = ("{broken", '"text"', '{\n  "promptTokenCount": 7,\n  "x": "a\\nb, \\"c\\""\n}', "{}", None)
TEXTS = ("=1+1", "+a", "-a", "@a", "\ta", "plain", "a,b", 'a"b', "a\nb", "a\rb", "ü", "", "'", "100%s")


def rows(*records: UsageRecord) -> list[tuple[Any, ...]]:
    """As SQLite gives them back."""
    values = [[int(value) if isinstance(value, bool) else value for value in to_row(record)] for record in records]
    return [(seq, *value) for seq, value in enumerate(values, 1)]


def odd(number: int, chance: random.Random) -> UsageRecord:
    """A record of any kind, with what a text may hold in every place that holds texts."""
    record = at_random(number, chance)
    for name in ("model_asked", "key_name", "hint", "finish_reason", "response_id", "model_version", "request_id"):
        setattr(record, name, chance.choice(TEXTS))
    record.usage = chance.choice(ODD)
    record.rates = chance.choice((None, {}, {"input_text": (7, None), 'odd "name"': (chance.randrange(10**9), 1)}))
    record.attempts = chance.choice((None, [{"upstream": 'a"b,', "status": 200}]))
    record.finished_at = chance.choice((None, NOON + chance.randrange(10**15)))
    return record


RECORDS = [odd(number, random.Random(number)) for number in range(500)]


def test_json_lines_are_the_records_as_they_are_told_elsewhere() -> None:
    lines = FORMATS["jsonl"](rows(*RECORDS)).decode().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(msgspec.json.encode(to_json(each))) for each in RECORDS]
    assert tuple(json.loads(lines[0])) == COLUMNS


def test_csv_has_a_cell_a_column_objects_as_json_and_nothing_that_a_spreadsheet_would_run() -> None:
    text = (HEADS["csv"] + FORMATS["csv"](rows(*RECORDS))).decode()
    head, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert tuple(head) == COLUMNS
    for record, cells in zip(RECORDS, lines, strict=True):
        for name, value in to_json(record).items():
            cell = cells[COLUMNS.index(name)]
            if name == "usage" and value is not None:
                assert json.loads(cell) == value
            else:
                assert cell == as_cell(name, value), name


@pytest.mark.parametrize("name", FORMATS)
def test_a_page_is_its_rows_one_by_one(name: str) -> None:
    of_page = rows(*RECORDS)
    assert FORMATS[name](of_page) == b"".join(FORMATS[name]([row]) for row in of_page)
    assert FORMATS[name]([]) == b""


def test_usage_stands_in_json_lines_digit_by_digit_as_google_wrote_it() -> None:
    line = FORMATS["jsonl"](rows(sample("a", usage='{"n": 1.50,\n "s": "\\u00e9"}')))
    assert b'"usage":{"n":1.50,"s":"\\u00e9"},' in line


def test_what_is_negative_is_an_amount_and_no_formula() -> None:
    row = rows(sample("a", model="=1+1", cost_usd=-5, estimated=True))
    cells = dict(zip(COLUMNS, next(csv.reader([FORMATS["csv"](row).decode()])), strict=True))
    assert (cells["model"], cells["cost_usd"], cells["estimated"]) == ("'=1+1", "-0.000000005", "true")
    assert cells["prompt_tokens_details"] == '{"TEXT":7}'
    lines = list(csv.DictReader(io.StringIO((HEADS["focus"] + FORMATS["focus"](row)).decode())))
    assert [(line["SkuMeter"], line["ResourceId"]) for line in lines] == [
        ("input_text", "'=1+1"),
        ("output_image", "'=1+1"),
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_made_of_the_columns_that_it_says_it_reads(name: str) -> None:
    whole = rows(*RECORDS)
    read = [
        (row[0], *(value if at in READ[name] else None for at, value in zip(COLUMNS, row[1:], strict=True)))
        for row in whole
    ]
    assert FORMATS[name](read) == FORMATS[name](whole)
