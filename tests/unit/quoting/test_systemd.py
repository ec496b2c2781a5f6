"""Words of command lines in units."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from unit.targets.quadlets import command, split

from profiler.quoting.csv import csv
from profiler.quoting.systemd import nspawn_words, quadlet, systemd, words

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.binary().map(
    lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


@given(st.lists(TEXTS))
def test_words_are_read_as_they_were(texts: list[str]) -> None:
    line = words(texts)
    assert line.isascii()
    assert line.isprintable() or not line
    assert split(line) == texts


@given(TEXTS)
def test_a_value_is_the_rest_of_a_line_or_a_word(text: str) -> None:
    line = quadlet(text, "Tmpfs", "--tmpfs")
    assert command(f"[Container]\n{line}\n") == [f"--tmpfs={text}"]


def test_examples() -> None:
    assert systemd("/usr/bin/x-y=1") == "/usr/bin/x-y=1"
    assert systemd("100% $HOME") == '"100%% $$HOME"'
    assert systemd('a"\\\n\udcff') == '"a\\"\\\\\\x0a\\xff"'
    assert systemd("a\0b") == "ab"
    assert systemd("") == '""'
    assert quadlet("/run", "Tmpfs", "--tmpfs") == "Tmpfs=/run"
    assert quadlet("/a b", "Tmpfs", "--tmpfs") == 'PodmanArgs="--tmpfs=/a b"'


def test_csv() -> None:
    assert csv(["type=bind", "source=/a,b", 'target=/b "c', "x\ny"]) == 'type=bind,"source=/a,b","target=/b ""c","x\ny"'


def unquoted(line: str) -> list[str]:
    """The words of a list as systemd reads it with quotes and without escapes (EXTRACT_UNQUOTE, RETAIN_ESCAPE)."""
    found: list[str] = []
    quote, held = "", False
    for char in line:
        if quote:
            if char == quote:
                quote = ""
            else:
                found[-1] += char
        elif char == " ":
            held = False
        else:
            if not held:
                found.append("")
                held = True
            if char in "'\"":
                quote = char
            else:
                found[-1] += char
    assert not quote
    return found


@given(st.lists(TEXTS))
def test_words_of_nspawn(texts: list[str]) -> None:
    assert unquoted(nspawn_words(texts)) == texts
