"""Masks and other formats: as documented, bounded in pixels, and never in the event loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
import threading
from base64 import b64decode, b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngInfo

from proxy.errors import CallerErred
from proxy.gateway.images import pictures
from proxy.gateway.images.formats import Facts, inspect
from proxy.gateway.images.pictures import THREADS, check, convert, from_base64, in_thread, mask, to_base64
from proxy.gateway.images.structure import Unsound
from tests.gateway.images.pictured import animated, encoded, png, saved

OF = Facts("image/png", 40, 30)


def seen_through(mode: str = "RGBA", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Opaque at the left, transparent at the right."""
    picture = Image.new("RGBA", size, (200, 100, 50, 255))
    picture.paste((0, 0, 0, 0), (size[0] // 2, 0, *size))
    if mode == "P":
        return picture.quantize(4)
    return picture.convert(mode)


def opened(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


@pytest.mark.parametrize(
    "content",
    [
        saved(seen_through(), "PNG"),
        saved(seen_through("LA"), "PNG"),
        saved(seen_through("P"), "PNG"),
        saved(seen_through(), "WEBP", lossless=True),
        saved(Image.merge("RGB", [seen_through("LA").getchannel("A")] * 3), "PNG", transparency=(0, 0, 0)),
    ],
)
def test_a_mask_is_white_where_it_was_transparent(content: bytes) -> None:
    made = opened(mask(content, OF))
    assert made.format == "PNG"
    assert (made.mode, made.size) == ("L", (40, 30))
    assert {made.getpixel((x, y)) for x in range(20) for y in (0, 29)} == {0}
    assert {made.getpixel((x, y)) for x in range(20, 40) for y in (0, 29)} == {255}


def test_half_transparent_pixels_go_to_the_nearer_side() -> None:
    soft = Image.new("RGBA", (40, 30))
    soft.putalpha(Image.linear_gradient("L").resize((40, 30)))
    alpha, made = soft.getchannel("A"), opened(mask(saved(soft, "PNG"), OF))
    for y in range(30):
        assert made.getpixel((0, y)) == (255 if alpha.getpixel((0, y)) < 128 else 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (saved(seen_through(size=(41, 30)), "PNG"), "41 x 30 pixels large, the picture 40 x 30"),
        (encoded("PNG", (40, 30)), "no alpha channel"),
        (encoded("JPEG", (40, 30)), "no alpha channel"),
        (encoded("PNG", (40, 30), "RGBA"), "transparent nowhere"),
        (saved(seen_through(), "PNG")[:-20], "truncated"),
        (b"no picture", "no picture"),
        (animated("PNG"), "animated"),
        (png(40, 30, data=b"few"), "damaged"),
    ],
)
def test_a_mask_that_is_none_is_refused_by_name(content: bytes, words: str) -> None:
    with pytest.raises(CallerErred, match=words) as raised:
        mask(content, OF)
    assert raised.value.param == "mask"
    assert raised.value.message.startswith("mask ")


def test_no_more_pixels_are_made_than_the_bound() -> None:
    large = png(5_000, 5_000)
    with pytest.raises(CallerErred, match="at most 24 million"):
        mask(large, inspect(large))
    with pytest.raises(Unsound, match="at most 24 million"):
        convert(b64encode(large), "jpeg")


@pytest.mark.parametrize("to", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("PNG", "I;16"), ("PNG", "1"),
    ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGB")])  # fmt: skip
def test_a_picture_is_the_same_in_another_format(kind: str, mode: str, to: str) -> None:
    gradient = Image.linear_gradient("L").resize((40, 30))
    content = saved(gradient.convert("I").convert("I;16") if mode == "I;16" else gradient.convert(mode), kind)
    before, after = opened(content), opened(b64decode(convert(b64encode(content), to), validate=True))
    assert (after.format, after.size) == (to.upper(), (40, 30))
    pairs = zip(before.convert("RGB").convert("L").tobytes(), after.convert("L").tobytes(), strict=True)
    assert max(abs(one - other) for one, other in pairs) <= (0 if to == "png" else 12)


def test_transparency_is_kept_and_white_in_a_jpeg() -> None:
    base64 = b64encode(saved(seen_through(), "PNG"))
    for to in ("png", "webp"):
        kept = opened(b64decode(convert(base64, to)))
        assert kept.mode == "RGBA"
        assert kept.getchannel("A").getextrema() == (0, 255)
    flat = opened(b64decode(convert(base64, "jpeg")))
    assert flat.mode == "RGB"
    assert min(flat.getpixel((35, 15))) > 250  # type: ignore[type-var, arg-type]


def test_compression_is_the_quality_of_what_has_one() -> None:
    base64 = b64encode(encoded("PNG", (200, 200)))
    for to in ("jpeg", "webp"):
        sizes = [len(convert(base64, to, compression)) for compression in (0, 50, None, 100)]
        assert sizes == sorted(set(sizes))
    assert convert(base64, "png", 10) == convert(base64, "png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("to", ["png", "jpeg", "webp"])
def test_profile_and_metadata_go_over_within_bounds(kind: str, to: str) -> None:
    """IPTC's word that a picture was made by a model stands in XMP."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">trainedAlgorithmicMedia</x:xmpmeta>'
    exif = Image.Exif()
    exif[0x0131] = "a model"
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    more = {"pnginfo": info} if kind == "PNG" else {"xmp": xmp}
    written = b64encode(encoded(kind, exif=exif, icc_profile=b"profile" * 9, **more))
    after = opened(b64decode(convert(written, to)))
    assert after.info["icc_profile"] == b"profile" * 9
    assert after.getexif()[0x0131] == "a model"
    assert after.info["xmp"].rstrip(b"\0") == xmp


def test_a_profile_stays_with_its_colours() -> None:
    base64 = b64encode(encoded("JPEG", mode="CMYK", icc_profile=b"of four inks"))
    assert opened(b64decode(base64)).info["icc_profile"] == b"of four inks"
    for to in ("jpeg", "png", "webp"):
        assert "icc_profile" not in opened(b64decode(convert(base64, to))).info


def test_no_pixel_is_made_where_a_file_says_two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded("JPEG", (40, 30), "L")
    frame = content.index(b"\xff\xc0")
    large = content[frame : frame + 5] + b"\x20\0\x20\0" + content[frame + 9 : frame + 13]
    twice = content[: frame + 13] + large + content[frame + 13 :]
    assert Image.open(io.BytesIO(twice)).size == (8192, 8192)
    loaded: list[object] = []
    monkeypatch.setattr(JpegImageFile, "load", lambda picture: loaded.append(picture))
    with pytest.raises(Unsound, match="damaged"):
        convert(b64encode(twice), "png")
    assert loaded == []


def test_metadata_beyond_the_bound_is_left_out() -> None:
    base64 = b64encode(encoded("WEBP", exif=b"II*\0" + bytes(70_000), xmp=b"x" * 70_000))
    assert "xmp" not in opened(b64decode(convert(base64, "jpeg"))).info


@pytest.mark.parametrize(
    "base64",
    [b"", b"!", b"https://pictures.example/a.png", b64encode(b"no picture"), b64encode(encoded("GIF")),
     b64encode(encoded("PNG"))[:-40], b64encode(png(40, 30, data=b"few")), b64encode(animated("WEBP"))],
)  # fmt: skip
def test_what_cannot_be_converted_is_told(base64: bytes) -> None:
    with pytest.raises(Unsound):
        convert(base64, "jpeg")


def test_what_a_format_cannot_hold_is_told() -> None:
    """A WebP has 16,383 pixels a side."""
    with pytest.raises(Unsound, match="webp"):
        convert(b64encode(encoded("PNG", (16_384, 2))), "webp")


SOURCES = [saved(seen_through(), "PNG"), encoded("WEBP", (40, 30), "RGBA"), encoded("JPEG", (40, 30), progressive=True)]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SOURCES),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4),
    st.integers(0, 400),
)
def test_nothing_but_a_refusal_comes_of_damage(content: bytes, flips: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(content)
    for at, value in flips:
        damaged[at % len(damaged)] = value
    damaged = damaged[: len(damaged) - (cut if cut < 40 else 0)]
    with contextlib.suppress(CallerErred):
        opened(mask(bytes(damaged), OF))
    try:
        converted = b64decode(convert(b64encode(damaged), "jpeg"))
    except Unsound:
        return
    width, height = inspect(converted)[1:]
    assert width * height <= pictures.MOST_DECODED


def test_base64_is_strict_whatever_steps_it_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_STEP", 64)
    for length in range(200):
        content = bytes(range(length))
        base64 = to_base64(content)
        assert base64 == b64encode(content)
        assert from_base64(memoryview(base64)) == content
    padded, broken = base64[:60] + b"AA==" + base64[64:], base64[:76] + b"\n" + base64[76:]
    for bad in (base64[:-1], padded, broken, b"-_-_" + base64, b"https://pictures.example/a.png"):
        with pytest.raises(Unsound, match="is not base64"):
            from_base64(bad)


async def test_work_is_done_in_few_threads_of_its_own() -> None:
    together, threads = threading.Barrier(THREADS), set()

    def work(number: int) -> int:
        threads.add(threading.current_thread())
        together.wait(30)
        return number

    async with asyncio.timeout(60):
        assert await asyncio.gather(*(in_thread(work, number) for number in range(3 * THREADS))) == [
            *range(3 * THREADS)
        ]
        with pytest.raises(CallerErred, match="no picture"):
            await in_thread(check, b"", "image")
    assert len(threads) == THREADS
    assert threading.main_thread() not in threads


async def test_who_leaves_takes_the_content_along_only_when_the_thread_is_done() -> None:
    """The content may be a view of memory that somebody else has next."""
    started, release, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(started.set)
        assert release.wait(30)
        ended.set()
        raise ValueError("nobody waits for it")

    task = loop.create_task(in_thread(work))
    async with asyncio.timeout(30):
        await started.wait()
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ended.is_set()


async def test_who_leaves_before_a_thread_is_free_goes_at_once() -> None:
    release, done = threading.Event(), []
    busy = [asyncio.get_running_loop().create_task(in_thread(release.wait, 30)) for _ in range(THREADS)]
    await asyncio.sleep(0)
    waiting = asyncio.get_running_loop().create_task(in_thread(done.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    async with asyncio.timeout(30):
        assert await asyncio.gather(*busy) == [True] * THREADS
    assert done == []


def test_pillow_and_httpx_are_loaded_when_they_are_needed_and_not_before() -> None:
    program = (
        "import sys, proxy.gateway.images.pictures, proxy.gateway.images.fetch\n"
        "assert not {'PIL', 'httpx2'} & set(sys.modules), 'loaded at once'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
