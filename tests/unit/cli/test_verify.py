"""What verify says of a run, and with which status it ends. The runs themselves are in tests/system."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.policy.making import call, check, touching, uses
from unit.review.sarif import check_sarif

from profiler.cli import main
from profiler.cli.options import OutputOptions
from profiler.cli.results import FORMATS, formatted
from profiler.cli.verify_report import VerifyReport
from profiler.denials.describe import described
from profiler.denials.model import KINDS, Denial
from profiler.enforce import base
from profiler.enforce.base import Options, Outcome
from profiler.errors import ProfgenError
from profiler.policy import derive
from profiler.policy.document import dumps
from profiler.policy.model import Options as PolicyOptions
from profiler.policy.model import Policy
from profiler.trace.store import read_trace
from profiler.tracers.base import Workload

SYSCALL = Denial(
    "syscall", "seccomp", True, "errno", comm="app", exe="/usr/sbin/app", abi="x86_64", number=41, name="socket",
    arguments=(16, 3, 15, 0, 0, 0), errno="EPERM", count=3, pid=7, first=1000.0, last=1001.0,
)  # fmt: skip
FILE = Denial(
    "file",
    "policy",
    False,
    operation="read",
    comm="app",
    exe="/usr/sbin/app",
    path="/srv/x",
    access=("read",),
    owner=False,
)


def policy() -> Policy:
    trace = touching(*uses("/usr/sbin/app", "execute map read"), syscalls=[call("read"), call("socket", [(2, 1, 0)])])
    return derive.derive(replace(trace, capabilities=(check("CAP_CHOWN"),)), PolicyOptions(runtime="none"))


class _Fixed:
    """An enforcer whose outcome is given."""

    name = "direct"

    def __init__(self, outcome: Outcome, reason: str | None = None) -> None:
        self.outcome, self.reason = outcome, reason
        self.asked: list[tuple[Policy, Workload, Options]] = []

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        return self.reason

    def run(self, policy: Policy, workload: Workload, options: Options) -> Outcome:
        self.asked.append((policy, workload, options))
        return self.outcome


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "policy.yaml").write_text(dumps(policy()))
    return tmp_path


def verify(monkeypatch: pytest.MonkeyPatch, place: Path, outcome: Outcome, *options: str) -> int:
    monkeypatch.setattr(base, "load", lambda _name: _Fixed(outcome))
    return main.run(["verify", str(place / "made"), *options, "--", "true"])


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(0), 0),
        (Outcome(7), 7),
        (Outcome(0, (SYSCALL,)), 1),
        (Outcome(7, (FILE,)), 1),
        (Outcome(0, (), (), {"kernel log records": 2}), 125),
    ],
)
def test_status(
    outcome: Outcome, status: int, monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(monkeypatch, place, outcome) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert ("there may be more: lost 2 kernel log records" in said.err) is bool(outcome.losses)


@pytest.mark.parametrize("options", [(), ("-q",)])
def test_a_loss_is_explained(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = Outcome(0, losses={"events": 1}, warnings=("a call could not be read",))
    assert verify(monkeypatch, place, outcome, *options) == 125
    assert "profgen: warning: a call could not be read\n" in capsys.readouterr().err


@pytest.mark.parametrize(("duration", "status"), [("0.000001", 0), ("100", 143)])
def test_a_service_that_duration_ends_did_not_fail(
    duration: str, status: int, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    """One without a handler ends by the SIGTERM that it gets; one that gets it from somebody else was disturbed."""
    assert verify(monkeypatch, place, Outcome(143), "--duration", duration) == status


def test_text(monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify(monkeypatch, place, Outcome(7, (SYSCALL, FILE), ("how",)))
    text = capsys.readouterr().err
    assert "profgen: 3 uses refused, 1 more not allowed by the policy and let pass:\n" in text
    asked = "socket(domain=AF_NETLINK, type=SOCK_RAW, protocol=NETLINK_KOBJECT_UEVENT)"
    assert f"profgen:   syscall {asked} = EPERM, 3 times: app (/usr/sbin/app), pid 7\n" in text
    assert "profgen:   file /srv/x: read: app (/usr/sbin/app) (let pass)\n" in text
    assert "- {domain: AF_NETLINK, protocol: NETLINK_KOBJECT_UEVENT}" in text
    assert "profgen:         /srv/x: {access: [read], because: {logged: [app]}}\n" in text
    assert "profgen: the command ended with status 7\nprofgen: direct: how\n" in text


def test_what_is_told_alike_is_told_once(
    monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Registers of a call without arguments hold anything."""
    calls = [replace(SYSCALL, name="getuid", number=102, arguments=(value, 0, 0, 0, 0, 0), count=2) for value in (7, 8)]
    verify(monkeypatch, place, Outcome(0, tuple(calls)))
    text = capsys.readouterr().err
    assert (
        text.count("profgen:   syscall getuid = EPERM, 4 times: app (/usr/sbin/app), pid 7\n")
        == text.count("  syscall getuid")
        == 1
    )


def test_a_report_in_a_file_has_no_prefixes(
    monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lines can be pasted into the policy, and its commands into a shell."""
    monkeypatch.chdir(place)
    report = place / "r.txt"
    assert verify(monkeypatch, place, Outcome(0, (SYSCALL, FILE)), "--report", str(report), "-o", "-d.json") == 1
    assert capsys.readouterr().err == ""
    lines = report.read_text().splitlines()
    assert not [line for line in lines if "profgen: " in line]
    assert "      files:" in lines
    assert lines[-1].startswith("next: profgen generate RECORDING ./-d.json -o ")


def test_json_and_trace(monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, trace = place / "r.json", place / "d.json"
    options = ("--format", "json", "--report", str(report), "-o", str(trace))
    assert verify(monkeypatch, place, Outcome(0, (SYSCALL, FILE)), *options) == 1
    assert capsys.readouterr().err == ""
    rows = json.loads(report.read_text())["denials"]
    assert [(row["kind"], row["refused"], row["allowed_by"]["item"]) for row in rows] == [
        ("syscall", True, "socket"),
        ("file", False, "/srv/x"),
    ]
    written = read_trace(trace)
    assert [(row.name, row.arguments and dict(row.arguments.values)) for row in written.syscalls] == [
        ("socket", {(16, 3, 15): frozenset({0})})
    ]
    assert [(row.path, row.access) for row in written.files] == [("/srv/x", "read")]
    assert (written.meta.tracer, written.meta.exit_status, "denials:refused" in written.meta.features) == (
        "verify",
        0,
        True,
    )


def test_unavailable(monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(base, "load", lambda _name: _Fixed(Outcome(0), "no such thing here"))
    assert main.run(["verify", str(place / "made"), "--", "true"]) == ProfgenError.exit_code
    assert capsys.readouterr().err == "profgen: cannot verify under direct: no such thing here\n"


@pytest.mark.parametrize(
    "words",
    [
        ["made"],
        ["made", "--bundle", "x", "--", "true"],
        ["made", "--under", "runc", "--user", "nobody"],
        ["made", "--duration", "nan", "--", "true"],
        ["no/such/policy", "--", "true"],
    ],
)
def test_wrong_words(
    words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main.run(["verify", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


TEXTS = st.text(st.characters(exclude_categories=()), max_size=12) | st.none()


@settings(deadline=None, max_examples=examples(60))
@given(
    st.builds(
        Denial,
        st.sampled_from(KINDS),
        st.just("policy"),
        st.booleans(),
        operation=TEXTS,
        info=TEXTS,
        comm=TEXTS,
        exe=TEXTS,
        path=TEXTS,
        address=TEXTS,
        source=TEXTS,
        target=TEXTS,
        signal=TEXTS,
        peer=TEXTS,
        family=TEXTS,
        type=TEXTS,
        name=TEXTS,
        capability=TEXTS,
        abi=st.sampled_from(["x86_64", "i386"]),
        number=st.integers(0, 500),
        access=st.lists(st.sampled_from(["read", "write"])).map(tuple),
    )
)
def test_hostile_names(denial: Denial) -> None:
    """Whatever a program is called and touches: one line each on the terminal, JSON for programs, a trace."""
    assert isinstance(described(denial), str)
    report = VerifyReport(policy(), Outcome(0, (denial,)), "direct", "enforce", Path("policy.yaml"))
    for line in report.text(OutputOptions(None, False)):
        assert line.isprintable(), line
    for form in FORMATS:
        written = formatted(report.report, form)
        assert all(char.isprintable() or char == "\n" for char in written), form
    assert json.loads(formatted(report.report, "json"))["denials"][0]["kind"] == denial.kind
    check_sarif(formatted(report.report, "sarif"))
    assert report.report.failures


@settings(deadline=None, max_examples=examples(40))
@given(
    st.sampled_from([0, 7, 143]),
    st.sampled_from([(), (SYSCALL,), (SYSCALL, FILE)]),
    st.sampled_from([{}, {"events": 1}]),
    st.booleans(),
)
def test_what_fails_has_an_error(status: int, denials: tuple[Denial, ...], losses: dict[str, int], asked: bool) -> None:
    outcome = Outcome(status, denials, losses=losses, warnings=("x",))
    found = VerifyReport(policy(), outcome, "direct", "enforce", Path("p.yaml"), asked=asked).report
    assert bool(found.failures) is bool(denials or losses or (status and not asked))
    assert [row.level for row in found.findings if row.rule == "run-warning"] == ["warning"]


def test_a_denial_is_found_at_its_entry(place: Path) -> None:
    path = place / "made" / "policy.yaml"
    found = VerifyReport(policy(), Outcome(0, (SYSCALL, FILE)), "direct", "enforce", path, path.read_bytes()).report
    lines = path.read_text().splitlines()
    rows = {row.rule: row for row in found.findings}
    assert lines[rows["denied-syscall"].line - 1].strip().startswith("socket:")
    assert lines[rows["denied-file"].line - 1] == "files:"
    assert "/srv/x: {access: [read]" in rows["denied-file"].fix
    other = VerifyReport(policy(), Outcome(0, (replace(FILE, pid=9, count=4),)), "direct", "log", path).report
    assert other.fingerprints[0] in found.fingerprints, "the process and the count are of one run"


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_goes_to_a_report(form: str, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    report = place / "report"
    assert verify(monkeypatch, place, Outcome(0, (SYSCALL,)), "-f", form, "--report", str(report)) == 1
    assert "socket" in report.read_text()
    assert (place / "summary.md").exists() is (form == "github")


def test_a_report_in_several_formats(
    monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    words = [word for form in FORMATS for word in ("--report", f"{form}:{form}.out")]
    assert verify(monkeypatch, place, Outcome(0, (SYSCALL,)), *words) == 1
    assert capsys.readouterr().err.replace("profgen: ", "") == (place / "text.out").read_text()
    assert all("socket" in (place / f"{form}.out").read_text() for form in FORMATS)


@pytest.mark.parametrize("name", ["./json:x", "json:", "yaml:x"])
def test_a_report_without_a_format(name: str, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.chdir(place)
    assert verify(monkeypatch, place, Outcome(0, (SYSCALL,)), "-f", "markdown", "--report", name) == 1
    assert (place / name).read_text().startswith("### profgen verify")


def test_a_trace_and_a_report_cannot_both_be_printed(
    monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("--json", "-o", "-"), ("--json", "--report", "sarif:-"), ("--report", "-", "-o", "-")):
        assert verify(monkeypatch, place, Outcome(0), *words) == 2
        assert "give one of them a file" in capsys.readouterr().err
