"""Quoting against the real readers: a shell, YAML, JSON."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples

from profiler.quoting import apparmor as quoting_apparmor
from profiler.quoting import json as quoting_json
from profiler.quoting import shell as quoting_shell
from profiler.quoting import text as quoting_text
from profiler.quoting import yaml as quoting_yaml

ARGUMENT = st.binary(max_size=40).map(
    lambda raw: raw.replace(b"\0", b"\n").decode("utf-8", "surrogateescape")
) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
"""Anything an argument or a file name can hold."""
NASTY = [
    "",
    " ",
    "'",
    '"',
    "\\",
    "$HOME",
    "`id`",
    "$(id)",
    "a\nb",
    "a\rb",
    "\u2028",
    "\x85",
    "\x1b[31m",
    "#",
    "# x",
    "- a",
    "a: b",
    "a:",
    ": a",
    "{x}",
    "[x]",
    "*a",
    "&a",
    "!x",
    "%x",
    "@x",
    "|",
    ">",
    "?",
    "yes",
    "no",
    "null",
    "~",
    "on",
    "y",
    "N",
    "1",
    "0x10",
    "1e3",
    "0o7",
    "1_000",
    "012",
    "1:30",
    "2001-01-01",
    ".inf",
    ".",
    "..",
    "-",
    "--",
    "-n",
    "=",
    "<<",
    "\ufeff",
    "\udc80",
    "\udcff\n",
    "\U0001f600",
    "\x7f",
    "é",
    "{{ x }}",
    "\u202eabc",
    "\ufffe",
    "\uffff",
    "x" * 200,
]


@given(st.lists(ARGUMENT, max_size=4))
@settings(max_examples=examples(100), deadline=None)
def test_shell_gives_back_the_words(words: list[str]) -> None:
    script = "printf '%s\\0' " + " ".join(map(quoting_shell.shell, words)) if words else "true"
    done = subprocess.run(
        ["sh", "-c", script.encode("utf-8", "surrogateescape")], capture_output=True, timeout=120, check=True
    )
    assert done.stdout == b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)


@pytest.mark.parametrize("text", NASTY)
def test_nasty_words(text: str) -> None:
    done = subprocess.run(
        ["sh", "-c", ("printf %s " + quoting_shell.shell(text)).encode("utf-8", "surrogateescape")],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == text.encode("utf-8", "surrogateescape")
    assert_yaml(text)
    assert_json(text)
    assert_comment(text)


def without_surrogates(text: str) -> str:
    return "".join(f"\\x{ord(char) - 0xDC00:02x}" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in text)


def assert_yaml(text: str) -> None:
    written = quoting_yaml.yaml(text)
    assert written.isascii()
    assert written.isprintable()
    for line in (f"key: {written}\n", f"{written}: key\n", f"- {written}\n", f"a: [{written}, {{k: {written}}}]\n"):
        for loader in (yaml.SafeLoader, yaml.CSafeLoader):
            found = yaml.load(line, Loader=loader)
            want = without_surrogates(text)
            assert found in ({"key": want}, {want: "key"}, [want], {"a": [want, {"k": want}]})


def assert_json(text: str) -> None:
    written = quoting_json.as_json({"k": [text], text: 1})
    assert written.isascii()
    assert json.loads(written) == {"k": [without_surrogates(text)], without_surrogates(text): 1}


def assert_comment(text: str) -> None:
    line = quoting_text.comment(text)
    assert line.isprintable()
    assert yaml.load(f"a: 1 # {line}\nb: 2\n", Loader=yaml.CSafeLoader) == {"a": 1, "b": 2}
    script = f"# {line}\nprintf ok\n".encode()
    assert subprocess.run(["sh"], input=script, capture_output=True, timeout=120, check=True).stdout == b"ok"


@given(ARGUMENT)
def test_yaml(text: str) -> None:
    assert_yaml(text)


@given(ARGUMENT)
def test_json(text: str) -> None:
    assert_json(text)


@given(ARGUMENT)
@settings(max_examples=examples(50), deadline=None)
def test_comment(text: str) -> None:
    assert_comment(text)


@given(ARGUMENT)
def test_printable_is_one_line_and_stable(text: str) -> None:
    once = quoting_text.printable(text)
    assert once.isprintable()
    assert quoting_text.printable(once) == once


def test_yaml_of_other_things() -> None:
    assert quoting_yaml.yaml(5) == "5"
    assert quoting_yaml.yaml(True) == "true"
    assert quoting_yaml.yaml(None) == "null"
    assert quoting_yaml.yaml(["a", "b c"]) == '[a, "b c"]'


def apparmor_reading(text: str) -> bytes:
    """Return the literal text of a quoted AppArmor string, read by its grammar; fail on anything that would be a
    pattern."""
    assert text[0] == text[-1] == '"'
    body, at, found = text[1:-1].encode("utf-8"), 0, b""
    assert b'"' not in body
    while at < len(body):
        if body[at : at + 1] == b"\\":
            digits = body[at + 1 : at + 4]
            octal = len(digits) == 3 and all(byte in b"01234567" for byte in digits)
            assert octal or body[at + 1 : at + 2] in b"*?[]{}^"
            found += bytes([int(digits, 8)]) if octal else digits[:1]
            at += 4 if octal else 2
            continue
        assert body[at] not in b'*?[]{}^"'
        assert body[at] >= 0x20
        found += body[at : at + 1]
        at += 1
    return found


@given(ARGUMENT)
def test_apparmor(text: str) -> None:
    if "//" in text:
        with pytest.raises(quoting_apparmor.Inexpressible):
            quoting_apparmor.apparmor(text)
        return
    assert apparmor_reading(quoting_apparmor.apparmor(text)) == text.encode("utf-8", "surrogateescape")
    assert quoting_apparmor.apparmor(text).isprintable()


def test_apparmor_pieces() -> None:
    assert quoting_apparmor.apparmor(["/a/[", quoting_apparmor.Glob("[0-9]*"), "]"]) == '"/a/\\[[0-9]*\\]"'
    assert quoting_apparmor.apparmor("/usr/bin/g++ é,#@$") == '"/usr/bin/g++ é,#@$"'
    with pytest.raises(quoting_apparmor.Inexpressible):
        quoting_apparmor.apparmor(["/a/", "/b"])
    with pytest.raises(quoting_apparmor.Inexpressible):
        quoting_apparmor.apparmor("/a\0")


@pytest.mark.parametrize("plain", ["nginx", "/usr/bin/python3.11", "/tmp/{random}", "@abstract", "a-b_c+1"])
def test_plain_words_stay(plain: str) -> None:
    assert quoting_text.word(plain) == plain


@given(ARGUMENT)
def test_other_words_are_quoted(text: str) -> None:
    """No text ends the quotation early, and none breaks the line."""
    made = quoting_text.word(text)
    assert made.isprintable()
    if made != text:
        assert (made[0], made[-1]) == ('"', '"')
        assert not re.search(r'(?<!\\)(?:\\\\)*"', made[1:-1])
