"""What confines a process, made of a policy or kept from the run before."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from unit.enforce.runs import everything_but
from unit.targets.policies import BECAUSE, file

from profiler import kept
from profiler.enforce import here
from profiler.enforce.confining import confinement
from profiler.errors import ProfgenError
from profiler.policy.model import MountRule, SocketRule


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept, "folder", lambda: tmp_path / "kept")
    return tmp_path / "kept"


POLICY = replace(
    everything_but(capabilities=("CAP_CHOWN", "CAP_KILL")),
    has_files=True,
    files=(file("/etc/\\x0a\\xff{version}", "read"), file("/run/{name}", "create", "write")),
    sockets=(SocketRule("inet", "stream", 6, ("connect",), ports=(("connect", (443,)),)),),
)

MOUNTING = replace(POLICY, mounts=(MountRule("mount", None, "/m", "tmpfs", (), BECAUSE),))


def test_what_is_kept_is_what_was_made() -> None:
    made = confinement(MOUNTING)
    assert here.known("x") is None
    here.keep("x", made)
    found = here.known("x")
    assert found is not None
    assert (found.mask, found.no_new_privs, found.version) == (made.mask, made.no_new_privs, made.version)
    assert (found.program, found.notes, found.unlimited) == (made.program, made.notes, made.unlimited)
    assert [list(each) for each in found.rules] == [list(each) for each in made.rules]
    assert made.mask == 1 << 0 | 1 << 5


def test_what_is_not_a_confinement_is_not_used(folder: Path) -> None:
    for content in ({}, [], {"rights": [1, 2, 3]}, {"rights": [[], [], []], "paths": [["/"]], "ports": []}):
        kept.keep("x", content)
        assert here.known("x") is None, content
    here.keep("x", confinement(POLICY))
    (folder / "x").chmod(0o666)
    assert here.known("x") is None, "others can write to it"


def test_each_policy_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And another one when profgen changes."""
    assert here.name_for(b"a") == here.name_for(b"a") != here.name_for(b"b")
    before = here.name_for(b"a")
    monkeypatch.setattr(here, "__version__", "9")
    assert here.name_for(b"a") != before


def test_what_has_no_rule_is_said(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    files = (file("/no/such", "read"), file(f"{tmp_path}/link", "read"))
    made = here.prepared(confinement(replace(POLICY, files=files)))
    expected = f"without a rule, because a symbolic link or nothing is there: /no/such, {tmp_path}/link"
    assert expected in made.notes
    if made.rules.descriptor is not None:
        os.close(made.rules.descriptor)
    without = here.prepared(confinement(replace(POLICY, has_files=False, files=(), sockets=())))
    said = "Landlock does not limit files: the policy has no rules for files, sockets and signals"
    assert said in without.notes
    assert said not in without.lacks, "the policy is enforced as it is"


def test_what_landlock_would_break_is_lacking() -> None:
    made = here.prepared(confinement(MOUNTING))
    assert "Landlock does not limit files: the policy allows mounts" in made.lacks[0]
    if made.rules.descriptor is not None:
        os.close(made.rules.descriptor)


def test_another_machine() -> None:
    with pytest.raises(ProfgenError, match="the policy is for aarch64"):
        confinement(replace(POLICY, abis=("aarch64",)))
