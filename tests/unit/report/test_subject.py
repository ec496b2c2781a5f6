"""What a report can be about, and what it says of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.report.recordings import recording
from unit.trace.written import write_trace

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.document import dumps
from profiler.policy.model import Options
from profiler.report.subject import Subject, read, read_base

APP = recording()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that ``generate`` wrote, and two recordings."""
    found = tmp_path / "app.profile"
    found.mkdir()
    (found / "policy.yaml").write_text(dumps(derive(APP, Options())))
    write_trace(APP, found / "trace.json")
    write_trace(APP, tmp_path / "one.trace.json")
    write_trace(recording("/srv/x", start="2026-01-01T00:00:01+00:00"), tmp_path / "two.trace.json")
    return tmp_path


def test_a_policy_has_the_trace_next_to_it(directory: Path) -> None:
    found = read([str(directory / "app.profile" / "policy.yaml")])
    assert found.name == "app.profile"
    assert [trace.meta for trace in found.traces] == [APP.meta]
    assert not found.is_trace
    assert found.rights.kind == "policy"


def test_a_policy_with_named_recordings(directory: Path) -> None:
    paths = [str(directory / name) for name in ("one.trace.json", "two.trace.json")]
    found = read([str(directory / "app.profile" / "policy.yaml")], paths)
    assert len(found.traces) == 2
    assert found.trace is not None
    assert found.trace.meta.runs == 2


def test_several_traces_are_one_workload(directory: Path) -> None:
    found = read([str(directory / name) for name in ("one.trace.json", "two.trace.json")])
    assert found.name == "one.trace.json and 1 more"
    assert any(rule.pattern == "/srv/x" for rule in found.policy.files)
    assert found.rights.kind == "trace"


def test_a_policy_alone(directory: Path) -> None:
    alone = directory / "alone.yaml"
    alone.write_text((directory / "app.profile" / "policy.yaml").read_text())
    found = read([str(alone)])
    assert found.traces == ()
    assert found.trace is None


def test_what_cannot_be_reported(directory: Path) -> None:
    profile = directory / "seccomp.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}')
    with pytest.raises(InputError, match="is neither a trace nor a policy"):
        read([str(profile)])
    policy, trace = str(directory / "app.profile" / "policy.yaml"), str(directory / "one.trace.json")
    for several in ([policy, trace], [trace, policy]):
        with pytest.raises(InputError, match="is a policy: give it alone"):
            read(several)


def test_a_base_may_be_any_profile(directory: Path) -> None:
    assert isinstance(read_base(str(directory / "one.trace.json")), Subject)
    assert not isinstance(read_base("docker-default"), Subject)
