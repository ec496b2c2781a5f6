"""``profgen explain`` and ``profgen coverage``: what they print, and the exit statuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from unit.policy.making import call, touching, trace, uses
from unit.trace.written import write_trace

from profiler.cli.main import run
from profiler.policy.derive import derive
from profiler.policy.document import dumps
from profiler.policy.model import Options
from profiler.trace.model import Trace

RECORDING = touching(*uses("/etc/app.conf", "read"), syscalls=[call("read"), call("ptrace", [(16,)])])


def written(path: Path, recording: Trace = RECORDING) -> str:
    write_trace(recording, path)
    return str(path)


def test_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(tmp_path / "t.json")
    assert run(["explain", name, "read", "/etc/app.conf"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines()[:2] == ["read: allowed (syscalls.observed.read)", "  because   observed (app)"]
    assert second.startswith("/etc/app.conf: allowed (files./etc/app.conf)\n  rule      /etc/app.conf: read\n")
    assert run(["explain", name, "reed", "read"]) == 1
    assert capsys.readouterr().out.startswith("reed: not allowed: t.json has nothing of that name (did you mean read")


def test_a_policy_with_its_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.yaml").write_text(dumps(derive(RECORDING, Options())))
    assert run(["explain", str(tmp_path / "policy.yaml"), "ptrace"]) == 0
    assert "  calls " not in capsys.readouterr().out
    assert run(["explain", str(tmp_path / "policy.yaml"), "ptrace", "--trace", written(tmp_path / "t.json")]) == 0
    assert "  calls      10, first 0s, last 1s after the start\n" in capsys.readouterr().out


def test_profiles_from_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "docker-default", "ptrace", "reboot", "CAP_SYS_ADMIN"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("ptrace: allowed (syscalls[1])\n  rule     syscalls[1]: ALLOW\n")
    assert "\nreboot: not allowed\n  because  no rule names it, and the default action is ERRNO\n" in out
    (tmp_path / "config.json").write_text('{"ociVersion": "1.0", "linux": {}}')
    assert run(["explain", str(tmp_path / "config.json"), "reboot", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["found"][0]["verdict"] == "allowed"
    assert run(["explain", "docker-default", "/etc/passwd"]) == 2
    assert "says nothing of /etc/passwd" in capsys.readouterr().err
    assert run(["explain", "docker-default", "ptrace", "--trace", "x"]) == 2
    assert run(["explain", "unconfined", "--all"]) == 0
    assert "CAP_SYS_ADMIN" in capsys.readouterr().out


def test_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(tmp_path / "t.json")
    shown = []
    for colour in ("never", "always"):
        for words in (["ptrace"], ["--all"]):
            assert run(["explain", name, *words, "--color", colour]) == 0
        shown.append(capsys.readouterr().out)
    assert "\x1b[31mhigh\x1b[0m" in shown[1]
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown[1]) == shown[0]
    assert max(map(len, shown[0].splitlines())) <= 80


def test_what_was_added_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "trace.json")
    text = dumps(derive(RECORDING, Options())).replace("  observed:\n", "  observed:\n    reboot:\n")
    text = text.replace("\nfiles:\n", "\nfiles:\n  /etc/shadow: {access: [read]}\n")
    (tmp_path / "policy.yaml").write_text(text.replace("capabilities: {}", "capabilities: {CAP_CHOWN: }"))
    assert run(["explain", str(tmp_path), "reboot", "CAP_CHOWN", "/etc/shadow"]) == 0
    out, error = capsys.readouterr()
    assert out.count("none in the trace: it was added by hand, by refine, or by a merge") == 3
    assert error.startswith(
        f"profgen: note: the head of {tmp_path}/policy.yaml is out of date; renew it: profgen merge "
    )
    assert run(["explain", str(tmp_path), "read", "ptrace", "/etc/app.conf"]) == 0
    assert "none in the trace" not in capsys.readouterr().out


def test_all_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(tmp_path / "t.json")
    assert run(["explain", name, "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["high", "syscall", "ptrace", "observed", "(app)"]
    assert run(["explain", name, "--all", "--format", "json"]) == 0
    rows = [line for line in lines if not line.startswith(" " * 24)]
    assert len(json.loads(capsys.readouterr().out)["all"]) == len(rows)
    assert run(["explain", name, "read", "reed", "--format", "json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "profgen.explain/1"
    assert [item["allowed"] for item in data["items"]] == [True, False]
    assert data["items"][0]["found"][0]["facts"][0] == {"label": "because", "text": "observed (app)"}
    assert data["items"][1]["near"] == ["read", "pread64", "readv"] or "read" in data["items"][1]["near"]


def test_names_from_strangers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(tmp_path / "t.json", touching(*uses("/etc/\x1b[2J\nx", "read")))
    assert run(["explain", name, "/etc/\x1b[2J\nx"]) == 0
    assert run(["explain", name, "--all"]) == 0
    assert run(["explain", name, "/etc/y"]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give an ITEM to explain, or --all"),
        (["read", "--all"], "leave the items out"),
        (["read", "--trace", "t.json"], "is a trace: --trace is for a policy"),
        (["mips:open"], ""),
        (["syscall:mips:open"], "unknown ABI 'mips'"),
    ],
)
def test_trouble(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert run(["explain", written(tmp_path / "t.json"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_coverage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "one.json", trace(call("read"), call("write")))
    two = written(tmp_path / "two.json", trace(call("read"), call("bind")))
    assert run(["coverage", one, two]) == 0
    out = capsys.readouterr().out
    assert out.startswith("3 different items in 2 runs, 2s in all\nsaturation ")
    assert "      1  #################################                   2.0\n" in out
    assert f"      2  {'#' * 50}  3.0  (+1.0)\n" in out
    assert "  one.json: 1 that only it has\n" in out
    assert "  ok  stop by SIGTERM: exited by itself with status 0\n" in out
    assert "  --  disk full\n" in out
    assert run(["coverage", one]) == 0
    assert "next use is new" in capsys.readouterr().out
    assert run(["coverage", one, two, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "profgen.coverage/1"
    assert [row["seen"] for row in data["over_runs"]] == [2.0, 3.0]
    assert [row["alone"] for row in data["traces"]] == [1, 1]
    assert data["kinds"][0]["once"] == 2
    assert {row["verdict"] for row in data["checklist"]} == {"seen", "not seen"}


def test_a_policy_next_to_its_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given the directory or the policy, the evidence is read there."""
    (tmp_path / "policy.yaml").write_text(dumps(derive(RECORDING, Options())))
    written(tmp_path / "trace.json")
    for name in (tmp_path, tmp_path / "policy.yaml"):
        assert run(["explain", str(name), "ptrace"]) == 0
        assert "  calls      10, first 0s" in capsys.readouterr().out
        assert run(["coverage", str(name)]) == 0
        assert "different items in 1 run" in capsys.readouterr().out
    (tmp_path / "trace.json").write_text("{")
    assert run(["explain", str(tmp_path), "ptrace"]) == 2
    assert "(it is read as the evidence behind" in capsys.readouterr().err


def test_a_policy_has_no_coverage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.yaml").write_text(dumps(derive(RECORDING, Options())))
    assert run(["coverage", str(tmp_path / "policy.yaml")]) == 2
    assert "is not a trace" in capsys.readouterr().err
