"""``profgen merge``: what is read, written, said, and the exit statuses."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from unit.policy.making import call, touching, trace, uses
from unit.trace.written import write_trace

from profiler.cli.main import run
from profiler.policy.derive import derive
from profiler.policy.document import dumps, read_policy
from profiler.policy.head import is_edited, sealed
from profiler.policy.merge import merge as merge_policies
from profiler.policy.model import Options, Policy
from profiler.trace.model import Trace
from profiler.trace.store import read_trace


def written(path: Path, recording: Trace) -> str:
    write_trace(recording, path)
    return str(path)


def policy(*names: str, **members: object) -> Policy:
    return replace(derive(trace(*map(call, names)), Options(runtime="none", equivalents=False)), **members)


def saved(path: Path, made: Policy, comment: str = "") -> str:
    path.write_text(comment + dumps(made))
    return str(path)


def test_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (written(tmp_path / f"{name}.json", trace(call("read"), call(name))) for name in ("bind", "listen"))
    assert run(["merge", one, two, "-o", str(tmp_path / "all.json")]) == 0
    merged = read_trace(tmp_path / "all.json")
    assert {row.name: row.runs for row in merged.syscalls} == {"read": 2, "bind": 1, "listen": 1}
    assert capsys.readouterr().err == f"profgen: merged 2 files, wrote {tmp_path / 'all.json'}\n"
    assert run(["merge", one, two, "--intersect"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["syscalls"]] == ["read"]


def test_an_incomplete_trace_and_one_without_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "one.json", trace(call("read"), complete=False, losses={"programs": 1}))
    two = written(tmp_path / "two.json", touching(*uses("/etc/x", "read"), syscalls=[call("read")]))
    assert run(["merge", one, two, "-o", str(tmp_path / "all.json")]) == 0
    said = capsys.readouterr().err
    assert f"note: {one} is incomplete, and so is the merged trace\n" in said
    assert f"note: {one} comes from a recording that did not watch files: the result has no rules for files\n" in said
    assert not read_trace(tmp_path / "all.json").meta.complete


def test_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (
        saved(tmp_path / "one.yaml", policy("read", "bind"), "# mine\n"),
        saved(tmp_path / "two.yaml", policy("read")),
    )
    assert run(["merge", one, two, "-o", str(tmp_path / "all.yaml")]) == 0
    assert {row.name for row in read_policy(tmp_path / "all.yaml").syscalls} == {"read", "bind"}
    assert f"note: {one} has comments, which only a merge with --base keeps" in capsys.readouterr().err
    assert run(["merge", "--intersect", one, two]) == 0
    assert "bind" not in capsys.readouterr().out


def three(tmp_path: Path, base: Policy, ours: Policy, theirs: Policy, comment: str = "# mine\n") -> list[str]:
    names = [
        saved(tmp_path / "base", base),
        saved(tmp_path / "ours", ours, comment),
        saved(tmp_path / "theirs", theirs),
    ]
    return ["merge", "--base", *names]


def test_three_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = three(tmp_path, policy("read", "ptrace"), policy("read"), policy("read", "ptrace", "bind"))
    assert run([*arguments, "-o", str(tmp_path / "ours")]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "profgen: added syscall bind, low risk",
        f"profgen: merged 3 files, wrote {tmp_path / 'ours'}",
    ]
    assert {row.name for row in read_policy(tmp_path / "ours").syscalls} == {"read", "bind"}
    assert "\n# mine\nschema: " in (tmp_path / "ours").read_text()
    assert run(three(tmp_path, policy("read"), policy("read"), policy("read"))) == 0
    assert f"what {tmp_path / 'ours'} allows stays as it was" in capsys.readouterr().err


def test_conflicts_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = three(
        tmp_path, policy("read", runtime="any"), policy("read", runtime="runc"), policy("read", "bind", runtime="crun")
    )
    assert run([*arguments, "-o", str(tmp_path / "out.yaml")]) == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        "profgen: conflict: runtime: any became runc in yours and crun in the new one; yours is kept",
        f"profgen: merged 3 files, wrote {tmp_path / 'out.yaml'}",
        "profgen: 1 conflict: look at each place, then commit",
    ]
    merged = read_policy(tmp_path / "out.yaml")
    assert merged.runtime == "runc"
    assert {row.name for row in merged.syscalls} == {"read", "bind"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base", "{policy}", "{policy}"], "--base takes the reviewed policy and at least one new trace or policy"),
        (["--base", "{policy}", "{policy}", "{policy}", "--intersect"], "no --intersect"),
        (
            ["--base", "{policy}", "{trace}", "{policy}"],
            "is a trace: with --base the first FILE is the reviewed policy",
        ),
        (["{junk}", "{policy}"], "cannot be read as YAML"),
        (["{policy}", "/nowhere"], "cannot read /nowhere"),
        (["--base", "{policy}", "{policy}", "{wide}"], "is not in UTF-8"),
    ],
)
def test_trouble(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    (tmp_path / "wide").write_text(dumps(policy("read")), "utf-16")
    (tmp_path / "junk").write_bytes(b"[:")
    files = {
        "trace": written(tmp_path / "t.json", trace(call("read"))),
        "policy": saved(tmp_path / "p.yaml", policy("read")),
        "junk": str(tmp_path / "junk"),
        "wide": str(tmp_path / "wide"),
    }
    assert run(["merge", *(word.format(**files) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def generated(directory: Path, *names: str, edit: str = "") -> str:
    """A directory that generate wrote, its policy edited."""
    recording = trace(*map(call, names))
    directory.mkdir()
    write_trace(recording, directory / "trace.json")
    text = sealed(dumps(derive(recording, Options())))
    (directory / "policy.yaml").write_text(text.replace("  observed:\n", f"  observed:\n{edit}", 1))
    return str(directory)


def names_in(directory: Path) -> set[str]:
    return {row.name for row in read_policy(directory / "policy.yaml").syscalls if row.section == "observed"}


def test_a_trace_with_a_policy(tmp_path: Path) -> None:
    """The trace counts as the policy that generate makes of it."""
    recording = written(tmp_path / "t.json", trace(call("read")))
    made = saved(tmp_path / "p.yaml", policy("bind"))
    assert run(["merge", recording, made, "-o", str(tmp_path / "out.yaml")]) == 0
    expected = merge_policies([derive(trace(call("read")), Options()), policy("bind")])
    assert dumps(read_policy(tmp_path / "out.yaml")) == dumps(expected)


def test_directories_that_nobody_edited(tmp_path: Path) -> None:
    """Their traces are merged, and the passes see all the evidence together; the evidence stays next to the policy."""
    recordings = [[f"/var/lib/app/{name}{number}" for name in "abcdef"] for number in (1, 2)]
    for number, paths in enumerate(recordings):
        recording = touching(*(row for path in paths for row in uses(path, "read write create")))
        (tmp_path / str(number)).mkdir()
        write_trace(recording, tmp_path / str(number) / "trace.json")
        (tmp_path / str(number) / "policy.yaml").write_text(sealed(dumps(derive(recording, Options()))))
    out = tmp_path / "out"
    assert run(["merge", str(tmp_path / "0"), str(tmp_path / "1"), "-o", str(out)]) == 0
    assert [rule.pattern for rule in read_policy(out / "policy.yaml").files] == ["/var/lib/app/{name}"]
    assert len(read_trace(out / "trace.json").files) == 36
    assert not is_edited((out / "policy.yaml").read_bytes()), "generate makes the same of the trace next to it"


def test_directories_that_were_edited(tmp_path: Path) -> None:
    one = generated(tmp_path / "one", "read", edit="    getpgid:\n")
    two = generated(tmp_path / "two", "bind")
    assert run(["merge", one, two, "-o", f"{tmp_path}/out/"]) == 0
    assert names_in(tmp_path / "out") == {"read", "bind", "getpgid"}
    assert is_edited((tmp_path / "out" / "policy.yaml").read_bytes())
    assert {row.name for row in read_trace(tmp_path / "out" / "trace.json").syscalls} == {"read", "bind"}


def test_a_new_recording_of_an_edited_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """generate refuses to overwrite it, and says what brings the recording in."""
    out = generated(tmp_path / "an app", "read", edit="    getpgid:  # asked\n")
    new = written(tmp_path / "new.json", trace(call("read"), call("bind")))
    assert run(["generate", new, "-o", out]) == 125
    error = capsys.readouterr().err
    command = shlex.split(error.splitlines()[-1])
    assert run(command[1:]) == 0
    assert names_in(Path(out)) == {"read", "bind", "getpgid"}
    text = (Path(out) / "policy.yaml").read_text()
    assert "    getpgid: {}  # asked\n" in text
    assert {row.name for row in read_trace(Path(out) / "trace.json").syscalls} == {"read", "bind"}
    assert run(command[1:]) == 0, "once more, nothing changes: the base is the recording that was brought in"
    assert (Path(out) / "policy.yaml").read_text() == text


def test_a_merge_that_leaves_no_edit_bears_a_digest(tmp_path: Path) -> None:
    """The edit is in the new recording as well."""
    out = generated(tmp_path / "app", "read", edit="    bind:\n")
    new = written(tmp_path / "new.json", trace(call("read"), call("bind")))
    assert run(["merge", "--base", f"{out}/trace.json", out, new, "-o", out]) == 0
    assert not is_edited((Path(out) / "policy.yaml").read_bytes())
    assert run(["generate", new, "-o", out]) == 0


@pytest.mark.parametrize(
    ("output", "made"),
    [("m", "m/trace.json"), ("m.json", "m.json"), ("m.json/", "m.json/trace.json"), ("a/b.x", "a/b.x")],
)
def test_a_name_without_a_suffix_is_a_directory(tmp_path: Path, output: str, made: str) -> None:
    one = written(tmp_path / "one.json", trace(call("read")))
    assert run(["merge", one, one, "-o", f"{tmp_path}/{output}"]) == 0
    assert (tmp_path / made).is_file()


def test_as_a_merge_driver_of_git(tmp_path: Path) -> None:
    """Two branches, each with a change of its own: git calls profgen, and both are in the result."""

    def git(*words: str, status: int = 0) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    git("init", "-q")
    git("config", "merge.profgen.driver", f"{sys.executable} -m profiler merge --base %O %A %B -o %A")
    (tmp_path / ".gitattributes").write_text("policy.yaml merge=profgen\n")
    path = tmp_path / "policy.yaml"

    def committed(made: Policy, comment: str = "") -> None:
        saved(path, made, comment)
        git("add", "-A")
        git("commit", "-q", "-m", "x")

    committed(policy("read", "ptrace"))
    git("checkout", "-q", "-b", "review")
    committed(policy("read"), "# no ptrace here\n")
    git("checkout", "-q", "main")
    committed(policy("read", "ptrace", "bind"))
    git("merge", "-q", "review", "-m", "both")
    assert {row.name for row in read_policy(path).syscalls} == {"read", "bind"}
    assert "# no ptrace here" in path.read_text()
    git("checkout", "-q", "-b", "other", "review")
    committed(policy("read", runtime="runc"))
    git("checkout", "-q", "main")
    committed(policy("read", "bind", runtime="crun"))
    assert "CONFLICT" in git("merge", "other", status=1)
    assert read_policy(path).runtime == "crun"
