"""Text in manual pages, as groff and mandoc show it."""

from __future__ import annotations

import subprocess
import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st

from profiler.quoting.roff import roff
from profiler.quoting.text import printable

HOSTILE = [
    r"\fBbold\fR \n(.x \*[x] \(rs \e \& \" \!",
    ".TH a 1",
    "'br",
    "a .b .c",
    "--option=-1 a-b",
    "`~^'\"",
    "caf\u00e9 \u2026 \u4e2d \U0001f600",
    "tab\there\nline\x1b[31m\udcff",
    "",
    "..",
    "\\",
    "%@#$&*(){}[]<>|;",
]


def shown(command: list[str], page: str) -> list[str]:
    done = subprocess.run(command, input=page.encode("ascii"), capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    lines = unicodedata.normalize("NFC", done.stdout.decode()).split("\n")
    return [line.strip() for line in lines if line.strip().startswith("|")]


def page(texts: list[str]) -> str:
    """A page with each text on a line of its own, as running text and as an argument of a macro."""
    lines = [line for text in texts for line in (f"|{roff(text)}|", f'.BR "|{roff(text)}" "|"')]
    return "\n".join(['.TH T 1 "2026-01-01"', ".SH NAME", "t \\- t", ".SH TEXT", ".ll 9999n", ".nf", *lines, ""])


@settings(max_examples=8)
@given(st.lists(st.text(max_size=40), min_size=60, max_size=60))
@example(HOSTILE)
def test_groff_shows_the_text(texts: list[str]) -> None:
    # Characters of these classes are joined with, or hide, their neighbours.
    plain = ["".join(char for char in text if unicodedata.category(char)[0] not in "MC") for text in texts]
    wanted = [f"|{unicodedata.normalize('NFC', printable(text))}|" for text in plain for _ in range(2)]
    found = shown(["groff", "-man", "-Tutf8", "-rLL=9999n", "-P-cbou", "-ww"], page(plain))
    assert found == wanted


def test_mandoc_shows_the_text() -> None:
    found = shown(["mandoc", "-T", "utf8", "-O", "width=1000", "-mman"], page(HOSTILE))
    assert len(found) == 2 * len(HOSTILE)
    assert found[::2] == [f"|{printable(text)}|" for text in HOSTILE]
