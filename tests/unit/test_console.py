"""Code blocks of documents are read, and compared with what was printed, as ``console`` says."""

from __future__ import annotations

import pytest
from console import Command, blocks, difference, typed, written
from hypothesis import given
from hypothesis import strategies as st

PAGE = """# A page

<!-- before:
# touch a
$ echo one \\
  two
-->
<!-- ready: test -e a -->

```console
# first &
# second \\
    word
printed
# cat <<END
> text
> END
text
```

- an item:

  ```console
  $ third
  # not a prompt here
  ```

<!-- not run: needs another machine -->
```sh
anything
```
"""


def test_blocks() -> None:
    root, user, script = blocks(PAGE)
    assert (root.line, root.language, root.root) == (10, "console", True)
    assert root.notes["ready"] == ("test -e a",)
    assert list(typed(root.notes["before"][0])) == [(True, "touch a"), (False, "echo one \\\n  two")]
    assert root.commands == (
        Command(11, "first &", ()),
        Command(12, "second \\\n    word", ("printed",)),
        Command(15, "cat <<END\ntext\nEND", ("text",)),
    )
    assert not user.root
    assert user.commands == (Command(24, "third", ("# not a prompt here",)),)
    assert script.notes == {"not run": ("needs another machine",)}


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("profgen: 24 syscalls in 87 calls (ptrace, 0.1s)", "profgen: 24 syscalls in 2 063 896 calls (ptrace, 12.3s)"),
        ("nginx, pid 19688", "nginx, pid 4"),
        ("2026/11/26 07:48:41 [emerg]", "2027/01/02 00:00:00 [emerg]"),
        ("app, 2026-11-22T15:06:01Z", "app, 2027-01-01T00:00:00Z"),
        ("profgen-nginx-d0773efa", "profgen-nginx-00000000"),
        ("kernel 6.18.44 on x86_64", "kernel 6.1.0-13-amd64 on x86_64"),
        ("a ... b", "a b b"),
        ("a...", "a"),
    ],
)
def test_what_stands_for_something_else(shown: str, printed: str) -> None:
    assert difference([shown], [printed]) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("24 syscalls", "25 syscalls"),
        ("CapEff: 00000000000004c3", "CapEff: 00000000000004c7"),
        ("http://127.0.0.1:9464/metrics", "http://127.0.0.2:9464/metrics"),
        ("a ... b", "a b"),
        ("score 84", "score 85"),
    ],
)
def test_what_does_not(shown: str, printed: str) -> None:
    assert difference([shown], [printed])


def test_lines_left_out() -> None:
    assert difference(["a", "...", "d"], ["a", "b", "c", "d"]) is None
    assert difference(["a", "...", "d"], ["a", "d"]) is None
    assert difference([], ["a"])
    diff = difference(["a", "...", "pid 1"], ["a", "pid 2", "e"])
    assert diff
    assert diff.splitlines()[3:] == [" ...", " pid 1", "+e"]


def test_a_month_is_part_of_a_time() -> None:
    shown, printed = "1:M 26 Nov 2026 07:48:56.135 * Ready", "1:M 01 Dec 2026 00:34:56.404 * Ready"
    assert difference([shown], [printed], figures=True) is None
    assert difference([shown], [printed]) is None
    assert difference(["26 November"], ["1 December"], figures=True)


def test_figures() -> None:
    shown = ["syscalls   9  (+0.1)", "ten 10%"]
    assert difference(shown, ["syscalls  10  (+12)", "ten 9%"], figures=True) is None
    assert difference(shown, ["syscalls  10  (+12)", "ten 9%"])
    assert difference(shown, ["calls  10  (+12)", "ten 9%"], figures=True)


@pytest.mark.parametrize("shown", ["0.1s", "35ms", "2m 5s", "12s"])
@pytest.mark.parametrize("printed", ["0.1s", "35ms", "2m 5s", "12s"])
def test_times_are_figures_of_any_unit(shown: str, printed: str) -> None:
    assert difference([f"24 calls (in {shown}, ended)"], [f"7 calls (in {printed}, ended)"], figures=True) is None
    assert difference([f"(in {shown}, ended)"], [f"(in {printed}, ended)"]) is None


@given(st.lists(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))))
def test_every_text_stands_for_itself(lines: list[str]) -> None:
    lines = [line.rstrip() for line in lines]
    assert difference(lines, lines) is None


def test_a_page_gets_other_output() -> None:
    changes = {command: [f"{command.line}!"] for block in list(blocks(PAGE))[:1] for command in block.commands[1:2]}
    changes |= {command: ["a", "b"] for command in list(blocks(PAGE))[1].commands}
    page = written(PAGE, changes)
    assert page == PAGE.replace("    word\nprinted", "    word\n12!").replace("  # not a prompt here", "  a\n  b")
