"""Limits of work that a template decides, and the check of what it made."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
from children import in_child
from unit.policy.making import call, file, touching
from unit.targets.test_template import seccomp

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.targets import bounded as module
from profiler.targets.bounded import bounded, check
from profiler.targets.catalogue import TARGETS
from profiler.targets.rendering import render
from profiler.targets.template import Templates, template_directory


def test_the_result_and_the_error_come_back() -> None:
    assert bounded(lambda: b"\xff" * 200_000, "x") == b"\xff" * 200_000

    def failing() -> bytes:
        raise InputError("no \udcff")

    with pytest.raises(InputError, match=r"no \\xff"):
        bounded(failing, "x")


def test_a_users_own_limits_stay() -> None:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        assert bounded(lambda: str(resource.getrlimit(resource.RLIMIT_CPU)).encode(), "x") == b"(5, 5)"

    in_child(work)


def test_a_loop_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPU_SECONDS", 1)
    loops = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    (tmp_path / "seccomp.json.j2").write_text(loops)
    with pytest.raises(InputError, match=r"json\.j2 cannot be used: it did not end within 1s: look for a loop"):
        seccomp(tmp_path)


def test_a_large_result_and_a_crash_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESULT_MAX", 1 << 20)
    with pytest.raises(InputError, match="x: its result is larger than 1 MiB"):
        bounded(lambda: b"a" * (8 << 20), "x")
    with pytest.raises(InputError, match=r"x: rendering it failed \(wait status 0x9\)"):
        bounded(lambda: os.kill(os.getpid(), signal.SIGKILL) or b"", "x")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("a.json", "[1]", "[1,]"),
        ("a.yaml", "a: [1]", "a: [1"),
        ("a.yml", "a: 1", "a: {" * 5000),
        ("a.sh", "if true; then :; fi", "if true; then"),
        pytest.param(
            "a.profile",
            "profile x { }",
            "profile x {",
            marks=pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="needs Debian's package apparmor"),
        ),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named(name: str, good: str, bad: str) -> None:
    check(name, good.encode())
    with pytest.raises(InputError, match=f"{name} would not be valid: .") as raised:
        check(name, bad.encode())
    assert str(raised.value).isprintable()


def test_nothing_is_said_of_other_files() -> None:
    check("a.txt", b"{")


def test_the_built_in_templates_pass_as_a_users(tmp_path: Path) -> None:
    shutil.copytree(template_directory(), tmp_path / "mine")
    policy = derive(touching(file("/etc/a b"), syscalls=[call("read")]), Options())
    own, built_in = (render(policy, TARGETS, templates=each) for each in (Templates(tmp_path / "mine"), Templates()))
    assert own.files == built_in.files
