"""Forms taken apart: what OpenAI's SDKs and curl send is read byte for byte; what is damaged or too much is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import CallerErred
from proxy.gateway.images import forms
from proxy.gateway.images.forms import File, Form

TYPE = b"multipart/form-data; boundary=b"
END = b"--b--\r\n"


def part(name: str, content: bytes, *, filename: str | None = None, more: bytes = b"") -> bytes:
    options = f'; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
    return b"--b\r\nContent-Disposition: form-data" + options.encode() + b"\r\n" + more + b"\r\n" + content + b"\r\n"


def parse(*parts: bytes) -> Form:
    return forms.parse(b"".join(parts) + END, TYPE)


def refusal(body: bytes, content_type: bytes = TYPE) -> CallerErred:
    with pytest.raises(CallerErred) as refused:
        forms.parse(body, content_type)
    return refused.value


def test_fields_and_files_are_read_in_order() -> None:
    form = parse(
        part("prompt", "ein Käfer\r\nauf Gras".encode()),
        part("image[]", b"\x89PNG\r\n\x1a\n\0", filename="a.png", more=b"Content-Type: image/png\r\n"),
        part("n", b"1"),
        part("n", b"2"),
        part("mask", b"m", filename="ü\\\"; name=x"),
        part("image", b"by its name alone"),
        part("image[]", b"", filename="empty"),
    )  # fmt: skip
    assert form.fields == {"prompt": "ein Käfer\r\nauf Gras", "n": "2"}
    files = [("image[]", b"\x89PNG\r\n\x1a\n\0"), ("mask", b"m"), ("image", b"by its name alone"), ("image[]", b"")]
    assert form.files == [File(*file) for file in files]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([b"\r\n--b", b"\r", b"\n", b"-", b"--b--", b"\0", b"x" * 77])), st.integers(1, 9))
def test_a_file_is_byte_for_byte_wherever_the_pieces_end(content: list[bytes], piece: int) -> None:
    file = b"".join(content).replace(b"\r\n--b", b"\r\n--c")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "_PIECE", piece)
        assert parse(part("image", file), part("n", b"1")) == Form({"n": "1"}, [File("image", file)])


@pytest.mark.parametrize(
    "content_type",
    [
        *(b"multipart/form-data", b"multipart/form-data; boundary", b"multipart/form-data; boundary="),
        *(b'multipart/form-data; boundary=""', b"multipart/form-data; boundary=" + b"b" * 201, b"", b"\xff;\xff"),
    ],
)
def test_without_a_boundary_it_says_how_one_comes(content_type: bytes) -> None:
    assert "boundary" in refusal(part("n", b"1") + END, content_type).message


@pytest.mark.parametrize("quoted", [b'"b"', b"b; charset=utf-8"])
def test_the_boundary_may_be_quoted_and_followed(quoted: bytes) -> None:
    body = part("n", b"1") + END
    assert forms.parse(body, b"Multipart/Form-Data; Boundary=" + quoted).fields == {"n": "1"}


def test_half_of_it_is_refused_wherever_it_is_cut() -> None:
    body = part("prompt", b"a lorry") + part("image", b"content", filename="a")
    for length in range(len(body) + 4):
        assert "form" in refusal((body + END)[:length]).message


def test_many_parts_are_refused_and_no_more_of_them_are_read() -> None:
    assert len(parse(*(part(f"f{number}", b"") for number in range(forms.MOST_PARTS))).fields) == forms.MOST_PARTS
    for count in (forms.MOST_PARTS + 1, 10_000):
        # What follows is no form, and isn't reached.
        assert "more than 64 parts" in refusal(part("f", b"x") * count + b"--b no form").message


@pytest.mark.parametrize(
    ("parts", "param", "says"),
    [
        (part("image", b"x", filename="a") * 18, "image", "More than 16"),
        (part("document", b"x", filename="a"), "document", "Files are taken as image"),
        (part("p" * 99, b"x", filename="a"), "p" * 40, "Files are taken as image"),
        (part("prompt", b"\xff"), "prompt", "not UTF-8"),
        (part("prompt", b"x" * (forms.LONGEST_FIELD + 1)), "prompt", "longer than"),
        (b"--b\r\n\r\nx\r\n", "", "no name"),
        (b"--b\r\nContent-Disposition: attachment; name=n\r\n\r\nx\r\n", "", "no name"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n", "", "no name"),
        (b"--b\r\nno header\r\n\r\nx\r\n", "", "can't be read"),
        (b"--c\r\n", "", "can't be read"),
        (b"", "", ""),
        (b'{"prompt":"a"}', "", "can't be read"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_its_name(parts: bytes, param: str, says: str) -> None:
    refused = refusal(parts + (END if parts else b""))
    assert refused.param == param
    assert says in refused.message


def test_a_part_without_a_disposition_does_not_take_the_one_before_its_own() -> None:
    assert "no name" in refusal(part("n", b"1") + b"--b\r\nContent-Type: a/b\r\n\r\n2\r\n" + END).message


PIECES = [
    *(b"--b\r\n", b'Content-Disposition: form-data; name="image"; filename="x"\r\n', b"\r\n", b"x", END, b"\xff", b'"'),
    *(
        b"Content-Disposition: form-data; name*=utf-8''%E4\r\n",
        b"content-disposition: form-data; name*0=a; name*1=b\r\n",
    ),
    *(b"Content-Disposition: form-data; name=n; filename*=iso-8859-1'en'%ff\xff\r\n", b";", b"\0", b"=", b"%E4"),
]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from(PIECES), max_size=14), st.sampled_from([TYPE, TYPE + b"\xff", b"a/b; boundary*=x''%E4"])
)
def test_nothing_but_a_refusal_comes_of_damage(pieces: list[bytes], content_type: bytes) -> None:
    try:
        form = forms.parse(b"--b\r\n" + b"".join(pieces) + b"\r\n" + END, content_type)
    except CallerErred:
        return
    assert len(form.files) + len(form.fields) > 0
