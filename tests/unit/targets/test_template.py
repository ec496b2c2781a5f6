"""Templates: every file's layout, a user's own in front, and none of them in the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from unit.policy.making import call, check, trace

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.targets.catalogue import find
from profiler.targets.rendering import render
from profiler.targets.seccomp import profile
from profiler.targets.template import TEMPLATE_MAX, Templates, template_directory

POLICY = derive(trace(call("read"), call("socket", [(2, 1, 0)]), capabilities=[check("CAP_KILL")]), Options())


def seccomp(directory: Path) -> bytes:
    return render(POLICY, [find("seccomp")], templates=Templates(directory)).files[0].data


def test_json_is_laid_out_as_json_is() -> None:
    for made in render(POLICY, [find(name) for name in ("seccomp", "capabilities", "oci")]).files:
        assert made.data.decode() == json.dumps(json.loads(made.data), indent=2) + "\n", made.name
    assert json.loads(render(POLICY, [find("seccomp")]).files[0].data) == profile(POLICY, "errno")


def test_templates_lay_their_files_out() -> None:
    """No file is one prepared object."""
    for path in template_directory().glob("*.json.j2"):
        assert len(path.read_text().splitlines()) > 10, path.name


def test_a_users_template_is_in_front(tmp_path: Path) -> None:
    (tmp_path / "seccomp.json.j2").write_text('{% from "macros.j2" import array %}\n{{ array(["x"], 0) }}\n')
    templates = Templates(tmp_path)
    assert templates.own() == ["seccomp.json.j2"]
    made = {file.name: file.data for file in render(POLICY, [find("docker")], templates=templates).files}
    assert made["seccomp.json"] == b'[\n  "x"\n]\n'
    plain = {file.name: file.data for file in render(POLICY, [find("docker")]).files}
    assert made["docker-run.sh"] == plain["docker-run.sh"], "all others stay"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{{ profile", "line 1: "),
        (b"\n{% nothing %}", "line 2: "),
        (b"{{ unknown }}", "'unknown' is undefined"),
        (b"{{ profile.syscalls[0].nothing }}", "has no attribute 'nothing'"),
        (b"{{ 1 / 0 }}", "division by zero"),
        (b"\xff", "utf-8"),
        (b"{{ profile.__class__.__mro__ }}", "unsafe"),
        (b"{{ profile.update(a=1) }}", "unsafe"),
        (b"{% for _ in range(1000000000) %}{% endfor %}", "Range too big"),
        (b"{{ 'x' * 1000000000000 }}", "limited"),
        (b"{{ 1000000000000 * ['x'] }}", "limited"),
        (b"{{ 10 ** 10 ** 10 }}", "limited"),
        (b"{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
        (b"{% include '../../../../etc/hostname' %}", "hostname"),
        (b"{% include 'none' %}", "none"),
        (b"{{ '\xf0\x9f\x92\xa9' | nothing }}", "No filter named 'nothing'"),
        (b"#" * (TEMPLATE_MAX + 1), "larger than 1 MiB"),
        (b'{"names": [{{ 1 }}, ]}', "seccomp.json would not be valid: "),
        (b"[" * 100000, "seccomp.json would not be valid: "),
        (
            b"{% set x = namespace(a='x' * 10000) %}{% for _ in range(40) %}{% set x.a = x.a ~ x.a %}{% endfor %}",
            "cannot be used: MemoryError",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_one_line(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "seccomp.json.j2").write_bytes(text)
    with pytest.raises(InputError) as raised:
        seccomp(tmp_path)
    assert message in str(raised.value)
    assert "seccomp.json" in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500


def test_special_files_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "seccomp.json.j2")
    with pytest.raises(InputError, match="not a regular file"):
        seccomp(tmp_path)
