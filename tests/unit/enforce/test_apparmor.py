"""What AppArmor needs, what it loads and removes, and which of its denials are new."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from unit.enforce.runs import everything_but, shell, with_files

from profiler import run
from profiler.denials.model import Denial
from profiler.enforce import apparmor
from profiler.enforce.apparmor import AppArmor
from profiler.enforce.base import Options
from profiler.errors import InputError, ProfgenError

POLICY = with_files(everything_but(capabilities=("CAP_CHOWN",)))


@pytest.mark.parametrize(
    ("policy", "options", "reason"),
    [
        (replace(POLICY, abis=("arm",)), Options(), "and this machine is"),
        (everything_but(), Options(), "no rules for files: use --under direct"),
        (POLICY, Options(files=False), "^--no-files leaves out what it enforces"),
    ],
)
def test_what_it_cannot_enforce(policy: Any, options: Options, reason: str) -> None:
    assert re.search(reason, AppArmor().unavailable(policy, options) or "")
    with pytest.raises(InputError, match=reason):
        AppArmor().run(policy, shell("exit 0"), options)


def test_the_parser_is_found_outside_of_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "apparmor_parser").write_text("")
    (tmp_path / "apparmor_parser").chmod(0o755)
    assert apparmor._parser() == f"{tmp_path}/apparmor_parser"


@pytest.mark.parametrize("complain", [True, False])
def test_the_profile_is_loaded_under_its_own_name(monkeypatch: pytest.MonkeyPatch, complain: bool) -> None:
    asked: list[bytes] = []

    def ask(words: Any, *, data: bytes, seconds: float) -> run.Ended:
        asked.append(data)
        return run.Ended(0, b"", b"")

    monkeypatch.setattr(run, "ask", ask)
    apparmor._load(POLICY, "profgen-verify-1-ab", complain)
    (head,) = (line for line in asked[0].decode().splitlines() if line.startswith("profile "))
    assert head.split()[1] == "profgen-verify-1-ab"
    assert ("complain" in head) is complain


def test_the_parsers_reason_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ask", lambda *_, **__: run.Ended(1, b"", b"AppArmor parser error\nat line 3:\n  syntax"))
    message = "apparmor_parser cannot load the profile: AppArmor parser error at line 3: syntax"
    with pytest.raises(ProfgenError, match=message):
        apparmor._load(POLICY, "x", False)


def test_a_profile_is_removed_after_its_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it they would run on unconfined."""
    looks = [[7], [7], []]
    monkeypatch.setattr(apparmor, "SECURITYFS", tmp_path)
    monkeypatch.setattr(apparmor, "_confined", lambda name: looks.pop(0))
    apparmor.remove("profgen-verify-1-ab")
    assert looks == []
    assert (tmp_path / ".remove").read_text() == "profgen-verify-1-ab"


def test_a_profile_that_is_not_there_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apparmor, "SECURITYFS", tmp_path / "none")
    apparmor.remove("profgen-verify-1-ab")


@pytest.mark.parametrize(
    ("name", "known", "mode", "expected"),
    [
        ("CAP_SYS_ADMIN", (), "enforce", True),
        ("CAP_SYS_ADMIN", ("CAP_SYS_ADMIN",), "enforce", False),
        ("CAP_CHOWN", (), "enforce", False),
        ("CAP_SYS_ADMIN", (), "log", False),
    ],
)
def test_a_capability_is_told_once(name: str, known: tuple[str, ...], mode: str, expected: bool) -> None:
    """In complain mode AppArmor logs checks that decide nothing; what the policy grants is not its doing."""
    denial = partial(Denial, "capability", by="apparmor", refused=True)
    earlier = tuple(denial(capability=each) for each in known)
    assert apparmor._new(POLICY, denial(capability=name), earlier, mode) is expected


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK | os.W_OK), reason="needs the kernel's log (root)")
def test_the_log_from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(apparmor, "AUDITD_LOG", Path("/nowhere"))
    log = apparmor.KernelLog()
    try:
        assert log.read("profgen-verify-1-ab") == ((), 0)
    finally:
        log.close()
