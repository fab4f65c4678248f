"""Exports of Google's, read whatever their columns are called, and refused where they can't be."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from proxy.control.google_export import Export, ExportUnreadable, Row, read

MODELS = {name: name for name in ("gemini-2.5-flash", "gemini-2.5-flash-image", "gemini-3-flash", "gemini-3.8-flash")}
MODELS |= {"gemini-3-flash-preview": "gemini-3-flash", "gemini-embedding-2": "gemini-embedding-2"}

COST_TABLE = """\
Invoice number,1234567890,
Invoice date,2026-11-30,
Currency,USD,
Billing account name,Billing account ID,Project name,Project ID,Service description,Service ID,SKU description,SKU ID,\
Credit type,Cost type,Usage start date,Usage end date,Usage amount,Usage unit,Unrounded Cost ($),Cost ($)
A,0,P,p,Gemini API,X,Generate content output token count gemini 2.5 flash short input text,S,,Usage,2026-11-20,\
2026-11-20,"461,280",count,1.153197,1.15
A,0,P,p,Gemini API,X,Generate content input token count gemini 2.5 flash short input text,S,,Usage,2026-11-20,\
2026-11-21,1000,count,0.0003,0.00
A,0,P,p,Cloud Storage,X,Standard storage,S,,Usage,2026-11-20,2026-11-20,1,gibibyte month,0.02,0.02
A,0,P,p,Gemini API,X,,,,Tax,2026-11-20,2026-11-20,,,0.21,0.21
,,,,,,,,,Total,,,,,1.38,1.38
"""


def export(text: str, **mapped: str) -> Export:
    return read(text.splitlines(keepends=True), MODELS, mapped)


def test_a_cost_table_is_read_from_below_its_particulars_and_without_what_is_no_usage() -> None:
    found = export(COST_TABLE)
    day = date(2026, 11, 20)
    assert found.rows == [
        Row(day, day, "gemini-2.5-flash", Decimal("1.153197"), None, None, 461_280),
        Row(day, day, "gemini-2.5-flash", Decimal("0.0003"), None, 1_000, None),
    ]
    assert found.columns["cost"] == "Unrounded Cost ($)"
    assert found.left_out == {
        "other services": (1, Decimal("0.02")),
        "cost type Tax": (1, Decimal("0.21")),
        "rows without a day, such as totals": (1, Decimal("1.38")),
    }


def test_usage_of_ai_studio_is_read() -> None:
    [row] = export(
        "\ufeffDate,Model,Requests,Input tokens,Output tokens\n2026-11-20,models/gemini-3-flash-preview,3,7,9\n"
    ).rows
    assert row == Row(date(2026, 11, 20), date(2026, 11, 20), "gemini-3-flash", None, 3, 7, 9)


def test_a_time_is_of_the_day_in_los_angeles() -> None:
    times = "2026-11-21 07:59:59 UTC", "2026-11-21T08:00:00Z", "2026-11-21T23:00:00-08:00", "2026-11-21 01:00:00"
    rows = export("\n".join(["usage_start_time,sku.description,cost", *(f"{time},x,1" for time in times)])).rows
    assert [row.first.day for row in rows] == [20, 21, 21, 21]


@pytest.mark.parametrize(
    ("sku", "model", "direction"),
    [
        ("Generate content output token count gemini 3 flash text flex", "gemini-3-flash", "output_tokens"),
        ("Generate_content text output token count for gemini 3 flash batch", "gemini-3-flash", "output_tokens"),
        ("Generate_content cached text input token count for gemini 3 flash", "gemini-3-flash", "input_tokens"),
        ("Gemini 3.8 Flash Global Text Input", "gemini-3.8-flash", "input_tokens"),
        ("Gemini 2.5 Flash Image Image Output", "gemini-2.5-flash-image", "output_tokens"),
        ("EmbedContent input token count for gemini-embedding-2 text", "gemini-embedding-2", "input_tokens"),
        ("Gemini 3.8 Flash Text Input Caching Storage", "gemini-3.8-flash", None),
        ("Grounding with Google Search on Gemini 3", "Grounding with Google Search on Gemini 3", None),
        (
            "Generate content input token count gemini 9 ultra",
            "Generate content input token count gemini 9 ultra",
            "input_tokens",
        ),
    ],
)
def test_a_sku_names_its_model_and_which_tokens_it_counts(sku: str, model: str, direction: str | None) -> None:
    [row] = export(f"date,sku,cost,usage,usage unit\n2026-11-20,{sku},1,5,count\n").rows
    assert row.model == model
    counted = {"input_tokens": row.input_tokens, "output_tokens": row.output_tokens}
    assert {name for name, count in counted.items() if count is not None} == ({direction} if direction else set())


@pytest.mark.parametrize(
    ("unit", "tokens"), [("count", 2), ("Tokens", 2), ("", 2), ("1M", 2_000_000), ("thousand", 2_000), ("hour", None)]
)
def test_units_are_understood_or_not_counted(unit: str, tokens: int | None) -> None:
    [row] = export(f"day,sku,cost,usage amount,usage unit\n2026-11-20,gemini 3 flash input,$1.50,2,{unit}\n").rows
    assert (row.cost, row.input_tokens) == (Decimal("1.50"), tokens)


def test_columns_of_other_names_are_mapped() -> None:
    [row] = export("Tag,Modell,Kosten\n2026-11-20,gemini-3-flash,1\n", day="Tag", model="Modell", cost="Kosten").rows
    assert (row.model, row.cost) == ("gemini-3-flash", 1)


@pytest.mark.parametrize(
    ("text", "mapped", "says"),
    [
        (
            "Tag,Modell,Kosten\n",
            {},
            r"the day \(day\) and the model .* and what was used .*Columns there: Tag, Modell, Kosten",
        ),
        ("Date,Model,Kosten\n", {"cost": "Costs"}, "no column is known to hold what was used"),
        ("Date,Model,Cost\n", {"price": "Cost"}, "there is no field price: fields are day"),
        ("", {}, "Columns there: none"),
        ("Date,Model,Cost (€)\n2026-11-20,m,1\n", {}, "isn't in US dollars"),
        ("Currency,EUR\nDate,Model,Cost\n2026-11-20,m,1\n", {}, "line 3: it is in EUR"),
        ("Date,Model,Cost,Currency\n2026-11-20,m,1,AUD\n", {}, "line 2: it is in AUD"),
        ("Date,Model,Cost\n11/20/2026,m,1\n", {}, "line 2: '11/20/2026' is no day"),
        ("Date,Model,Cost\n2026-11-20,m,one\n", {}, "line 2: 'one' is no number"),
        ("Date,Model,Cost\n2026-11-20,m,NaN\n", {}, "line 2: 'NaN' is no number"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_to_do(text: str, mapped: dict[str, str], says: str) -> None:
    with pytest.raises(ExportUnreadable, match=says):
        export(text, **mapped)
