"""Responses made to mislead a scanner: every name it looks for stands in texts, in arguments and at wrong depths, too.

Made from a seed by a plain generator of random numbers: a hundred times faster than drawing every choice.
"""

from __future__ import annotations

import json
import random
from typing import Any

NAMES = (
    *("usageMetadata", "modelVersion", "responseId", "promptFeedback", "blockReason", "error"),
    *("candidates", "finishReason", "content", "parts", "inlineData", "fileData", "mimeType"),
    *("groundingMetadata", "webSearchQueries", "groundingChunks", "maps", "web"),
)
LIES = (
    '"usageMetadata":{"totalTokenCount":666}',
    '","usageMetadata":{"totalTokenCount":666},"x":"',
    '"mimeType": "image/png"',
    '{"inlineData":{"mimeType":"image/png"}}',
    '"webSearchQueries":["x"]',
    '"groundingChunks":[{"maps":{}}]',
    '"finishReason":"LIE"',
    '"error":{"code":666}',
)
ODDITIES = (
    *("\\", "\\\\", "\\\\\\", '"', '\\"', "{", "}", "[", "]", "}}]}", ":", ","),
    *("\u2028", "é", "🂡", "\n", "\r\n\r\n", "data: {}", "\x00", "x" * 60),
)
WRONG_USAGES = (None, None, None, 7, "{}", "usageMetadata", [{"totalTokenCount": 666}], {"usageMetadata": {"a": 1}})


class Raw(str):
    """JSON text that goes in as it is."""

    __slots__ = ()


DEEP = Raw('[{"usageMetadata":' * 200 + "{}" + "}]" * 200)


class Members(list[tuple[str, Any]]):
    """An object whose members have an order, and may share a name."""


class Hostile:
    """Makes responses. `size` bounds the length of every list; `tools`: with function calls and grounding."""

    def __init__(self, seed: int, size: int, tools: bool) -> None:
        self._made_of = f"Hostile({seed}, {size}, {tools})"
        self._random = random.Random(seed)
        self._size = size
        self._tools = tools

    def __repr__(self) -> str:
        return self._made_of

    def _some(self, most: int | None = None) -> range:
        return range(self._random.randint(0, self._size if most is None else min(most, self._size)))

    def _shuffled(self, members: list[tuple[str, Any]]) -> Members:
        if self._random.random() < 0.5:
            self._random.shuffle(members)
        return Members(members)

    def text(self) -> str:
        choose = self._random.choice
        return self._long("".join(choose(choose((ODDITIES, NAMES, LIES))) for _ in self._some(8)))

    def _long(self, text: str) -> str:
        """Now and then so long that the whole is larger than the scanner's own window."""
        if self._random.random() > 0.002 or not text:
            return text
        return text * (self._random.choice((15_000, 66_000, 140_000)) // len(text))

    def name(self) -> str:
        """A name of a tenant's choice, with an escape here and there."""
        plain = self._random.choice(NAMES)
        return self._random.choice(
            (plain, plain, plain, f'x"{plain}', f"\\{plain}", f"{plain}\\", f'"{plain}"', self.text())
        )

    def arguments(self, depth: int = 0) -> Any:
        """What a function call may hold."""
        kind = self._random.randrange(9)
        if kind < 4 and depth < 5:
            return Members((self.name(), self.arguments(depth + 1)) for _ in self._some(4))
        if kind == 4 and depth < 5:
            return [self.arguments(depth + 1) for _ in self._some(4)]
        if kind == 5 and depth < 5:
            value = self.arguments(depth + 1)
            for _ in range(self._random.choice((2, 9, 60))):
                value = [value] if self._random.random() < 0.5 else Members([(self.name(), value)])
            return value
        return (
            self.text()
            if kind < 7
            else self._random.choice(
                (None, True, 0, -1.5e9, "image/png", "STOP", [], {}, [[]], [{}], DEEP if depth < 3 else "")
            )
        )

    def usage(self) -> Any:
        if self._random.random() < 0.3:
            return self._random.choice(WRONG_USAGES)
        counts = ("promptTokenCount", "totalTokenCount")
        members: list[tuple[str, Any]] = [(name, self._random.randrange(99)) for name in counts]
        if self._random.random() < 0.5:
            members.append(("promptTokensDetails", [{"modality": "TEXT", "tokenCount": 1} for _ in self._some(3)]))
            members.append(("x", [[self.arguments(3)]] if self._tools else self.text()))
        return self._shuffled(members) if self._random.random() < 0.9 else {}

    def part(self) -> Any:
        kind = self._random.choice(("text", "inlineData", "fileData", "functionCall" if self._tools else "text"))
        if kind == "functionCall":
            return Members([(kind, Members([("name", "f"), ("args", self.arguments())]))])
        if kind == "text":
            return Members([(kind, self.text()), ("thoughtSignature", self._random.choice(("", "QUJD" * 30)))])
        mime = self._random.choice(
            ("image/png", "image/png", Raw('"image\\/jpeg"'), "audio/wav", "x-image/png", 'a "image/')
        )
        data = self._long(self._random.choice(("", "QUJD" * 40, "/9j/" * 300)))
        return Members([(kind, self._shuffled([("mimeType", mime), ("data", data)]))])

    def source(self) -> Any:
        kind = self._random.choice(("maps", "maps", "web", "image", "retrievedContext"))
        named = {"uri": self.text(), "maps": {}, "title": self.arguments(3)}
        return Members([("x", self.text()), (kind, named if self._random.random() < 0.9 else None)])

    def candidates(self) -> Any:
        reasons = self._random.randint(0, 2)
        many = []
        for index in self._some(2):
            parts = [self.part() for _ in self._some(3)] if self._random.random() < 0.9 else None
            members: list[tuple[str, Any]] = [
                ("content", Members([("parts", parts), ("role", "model")])),
                ("index", index),
            ]
            if index < reasons:
                members.append(("finishReason", self._random.choice(("STOP", "SAFETY", "MAX_TOKENS"))))
            if self._tools:
                queries = [self.text() for _ in self._some(3)] if self._random.random() < 0.8 else None
                few = queries and queries[:1]
                grounding: list[tuple[str, Any]] = [("x", self.arguments(1)), ("webSearchQueries", queries)]
                grounding.append(("imageSearchQueries", few))
                if self._random.random() < 0.7:
                    grounding.append(("groundingChunks", [self.source() for _ in self._some(3)]))
                members.append(("groundingMetadata", self._shuffled(grounding)))
            many.append(self._shuffled(members))
        return many

    def response(self) -> bytes:
        """One response object. Usage, model version and extra members stand anywhere, several times or not at all."""
        choose = self._random.choice
        members: list[tuple[str, Any]] = []
        if self._random.random() < 0.8:
            members.append(("candidates", self.candidates()))
        elif self._random.random() < 0.8:
            members.append(
                ("promptFeedback", {"blockReason": choose(("SAFETY", "OTHER")), "safetyRatings": [{"x": {}}]})
            )
        members += [("usageMetadata", self.usage()) for _ in self._some(3)]
        members += [("modelVersion", choose(("gemini-a", "gemini-é"))) for _ in self._some(2)]
        members += [("responseId", choose(("a", "b\\", 'c"', "/" * 40))) for _ in self._some(1)]
        members += [(f'x"{choose(NAMES)}', self.usage()) for _ in self._some(1)]
        members += [("error", choose((None, {"code": 500, "message": self.text()}))) for _ in self._some(1)]
        if self._tools:
            members += [("extra", {"x": {"y": [self.arguments()]}}) for _ in self._some(1)]
        return self.written(self._shuffled(members))

    def written(self, value: Any) -> bytes:
        """JSON with white space between any two tokens, and escapes where they may stand."""
        spaces = self._random.choice((("",), ("", " "), ("", " ", "\n  ", "\t", "\r\n")))
        ascii_only = self._random.random() < 0.5

        def gap() -> str:
            return self._random.choice(spaces)

        def text(one: Any) -> str:
            if isinstance(one, Raw):
                return str(one)
            if isinstance(one, dict):
                one = Members(one.items())
            if isinstance(one, Members):
                return "{" + gap() + ",".join(f"{gap()}{text(k)}{gap()}:{gap()}{text(v)}{gap()}" for k, v in one) + "}"
            if isinstance(one, list):
                return "[" + gap() + ",".join(gap() + text(v) + gap() for v in one) + "]"
            return json.dumps(one, ensure_ascii=ascii_only)

        return (gap() + text(value) + gap()).encode()

    def events(self) -> bytes:
        """Server-sent events, with every line end there is, comments, other fields, and data in several lines."""
        ends = self._random.choice(((b"\n",), (b"\r\n",), (b"\r",), (b"\n", b"\r\n", b"\r")))
        others = (b"", b"", b":", b": data: {}", b"event: x", b"data", b"datax: {}", b"dat", b"data:")
        stream = b""
        for _ in self._some():
            stream += self._random.choice(others) + self._random.choice(ends)
            for line in self.response().replace(b"\r\n", b"\n").split(b"\n"):
                stream += b"data:" + self._random.choice((b"", b" ")) + line + self._random.choice(ends)
            blank = self._random.choice((*ends, b"\n\n"))
            stream += b"\r" if stream.endswith(b"\r") and blank == b"\n" else blank  # together they were one line end
        return stream if self._random.random() < 0.9 else stream.rstrip(b"\r\n")

    def array(self) -> bytes:
        """A JSON array of responses, as Google streams it without alt=sse."""
        between = self._random.choice((b",", b",\n", b"\n,\n", b"\r\n,  "))
        elements = [self.response().strip() for _ in self._some()]
        return b"[" + between.join(elements) + self._random.choice((b"]", b"\n]\n", b" ] "))
