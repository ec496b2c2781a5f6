"""What the documents say about the code is true: commands, options, tables and links."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from console import blocks
from unit.documents import TOP, in_fences, items, outside_fences, rows, section, text_of
from unit.targets import tables

from profiler import errors
from profiler.cli.main import COMMANDS, cli
from profiler.cli.target_options import TargetCommand, setting_options
from profiler.errors import FAILED
from profiler.kernel import netlink
from profiler.kernel.arguments import recorded_names
from profiler.policy.model import RULE_BUDGET, Launch, Policy, Workload
from profiler.targets.apparmor.naming import profile_name
from profiler.trace.model import ARGUMENT_VALUES_MAX, ContainerMount
from profiler.tracers.base import GRACE_SECONDS
from profiler.tracers.ebpf import attaching, reader
from profiler.tracers.ebpf.limits import DEFAULT_LIMITS
from profiler.tracers.launch import FORWARDED
from profiler.tracers.ptrace import (
    capabilities,
    capabilities_files,
    capabilities_processes,
    capabilities_writes,
    threads,
)
from profiler.tracers.select import TRACERS

DOCUMENTS = sorted([TOP / "README.md", TOP / "CHANGELOG.md", *TOP.glob("docs/*.md"), *TOP.glob("sample_apps/**/*.md")])
OTHERS_OPTIONS = {
    "--security-opt",
    "--bundle",
    "--namespace",
    "--seccomp",
    "--seccomp-profile",
    "--cap-drop",
    "--patch-file",
    "--strict",
    "--cap-add",
    "--privileged",
    "--network",
    "--rm",
    "--name",
    "--cgroups",
    "--user",
    "--device",
    "--pids-limit",
    "--read-only",
    "--read-only-tmpfs",
    "--tmpfs",
    "--mount",  # docker run
    "--as-recorded",  # docker-run.sh
    "--variant",
    "--include",  # mmdebstrap
    "--exit-code",  # git diff
    "--no-install-recommends",  # apt
}
NUMBER_WORDS = {2: "two", 10: "ten"}


def plain(cell: str) -> str:
    return cell.strip("`").replace(" ", "")


def anchors(text: str) -> set[str]:
    """Headings as GitHub turns them into anchors."""
    heads = re.findall(r"^#+ (.+)$", outside_fences(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", outside_fences(document.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.is_file(), f"{target}: no such file"
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), f"{target}: no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_rows_of_tables_have_a_first_cell(document: Path) -> None:
    """Markdown has no rows that continue the one above."""
    assert all(row[0] for row in rows(document.read_text(encoding="utf-8")))


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in COMMANDS}
    assert all(found.values())
    return {name: command for name, command in found.items() if command}


def options_of(command: click.Command) -> set[str]:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    given = {word for option in options for word in (*option.opts, *option.secondary_opts)}
    return given | {"-h", "--help"} | (set(setting_options()) if isinstance(command, TargetCommand) else set())


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every ``profgen COMMAND ...`` in code, with the words before the workload's."""
    code = re.findall(r"`([^`\n]+)`", text) + in_fences(text)
    for line in code:
        for found in re.finditer(r"(?:^|[\s/])profgen ([a-z][^#&|]*)", line):
            words = found[1].split()
            # Behind --image come the engine's own options.
            end = next((index for index, word in enumerate(words) if word in ("--", "--image")), len(words))
            yield words[0], words[1:end]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_commands_and_their_options_exist(document: Path) -> None:
    known = commands()
    for name, words in calls(document.read_text(encoding="utf-8")):
        assert name in known, f"profgen {name}"
        for word in words:
            if re.match(r"-{1,2}[a-z]", word):
                assert word.partition("=")[0] in options_of(known[name]), f"profgen {name} {word}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_options_named_in_passing_exist(document: Path) -> None:
    ours = {word for command in [cli, *commands().values()] for word in options_of(command)}
    if "sample_apps" in document.parts:
        return  # the samples' own options
    for span in re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8")):
        for word in re.findall(r"(?<!\S)--[a-z][a-z-]+", span):
            assert word in ours | OTHERS_OPTIONS, f"`{span}`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_commands_are_run_or_say_why_not(document: Path) -> None:
    """system/test_docs_run.py runs the console blocks; a synopsis has a name in capitals where something is missing."""
    text = document.read_text(encoding="utf-8")
    for block in blocks(text):
        if block.language != "console" and "not run" not in block.notes:
            for line in block.lines:
                assert not line.startswith("profgen ") or re.search(r"\b[A-Z]{2,}\b", line), f"{block.line}: {line}"
    known = sum(len(notes) for block in blocks(text) for notes in block.notes.values())
    assert text.count("<!--") == known, "a comment that belongs to no block, or has another key"


def test_few_commands_are_not_run() -> None:
    reasons = [
        f"{document.name}:{block.line}: {reason}"
        for document in DOCUMENTS
        for block in blocks(document.read_text(encoding="utf-8"))
        for reason in block.notes.get("not run", ())
    ]
    assert len(reasons) <= 17, "\n".join(reasons)


def test_every_option_is_documented() -> None:
    text = "\n".join(text_of(str(path.relative_to(TOP))) for path in DOCUMENTS)
    for name, command in commands().items():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
                assert any(re.search(rf"(?<![\w-]){word}(?![\w-])", text) for word in parameter.opts), (
                    f"profgen {name} {parameter.opts}"
                )


def test_table_of_commands() -> None:
    table = rows(section("docs/commands.md", "Commands"))
    listed = {found for row in table for found in re.findall(r"`profgen (\w+)", row[0])}
    assert listed == set(COMMANDS)


def test_tables_of_targets() -> None:
    """``python -m unit.targets.tables`` prints them."""
    assert tables.summaries() in text_of("docs/targets.md")
    assert tables.targets() in text_of("docs/targets.md")
    assert tables.settings() in text_of("docs/targets.md")


def test_exit_statuses() -> None:
    table = {row[0]: row[1] for row in rows(section("docs/commands.md", "Exit statuses"))}
    classes = [
        found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, errors.ProfgenError)
    ]
    assert len(classes) > 4
    assert {str(found.exit_code) for found in classes} | {str(FAILED), "0", "1", "130", "141"} == {
        key for key in table if key.isdigit()
    }
    assert "lost" in table[str(FAILED)]
    for found in classes:
        assert found.__name__ in table[str(found.exit_code)], f"{found.__name__} ends with {found.exit_code}"


def test_losses() -> None:
    counted = {
        name for path in (TOP / "profiler").rglob("*.py") for name in re.findall(r'losses\["(\w+)"\]', path.read_text())
    }
    described = re.findall(r"^- `(\w+)`: ", section("docs/tracers.md", "Losses and limits"), re.MULTILINE)
    assert len(described) == len(set(described))
    assert set(described) == set(reader.STATS) | counted
    assert "missed" in counted


def test_limits() -> None:
    text = section("docs/tracers.md", "Losses and limits")
    assert {plain(row[0]): int(row[1]) for row in rows(text)} == dict(DEFAULT_LIMITS)
    assert set(re.findall(r"--limit (\w+)=N", text)) <= set(DEFAULT_LIMITS)


def test_inferred_rules() -> None:
    listed = items(section("docs/tracers.md", "Capabilities are inferred"))
    named = {name for item in listed for name in re.findall(r"`(\w+)`", item)}
    assert named == set(capabilities.rules())
    described = {name for item in listed for name in re.findall(r"CAP_[A-Z_]+", item)}
    source = ast.parse(
        "\n".join(
            Path(module.__file__).read_text().replace("from __future__ import annotations", "")
            for module in (capabilities_files, capabilities_processes, capabilities_writes, netlink, threads)
        )
    )
    # A capability that a rule can name stands alone in a string; those in prose do not.
    inferred = {
        node.value
        for node in ast.walk(source)
        if isinstance(node, ast.Constant) and re.fullmatch(r"CAP_[A-Z_]+", str(node.value))
    }
    assert described == inferred
    unknown = set(re.findall(r"CAP_[A-Z_]+[A-Z]\b", section("docs/limits.md", "Capabilities under ptrace")))
    assert not unknown & inferred, "both inferred and not"


def test_constants_of_the_tracers() -> None:
    text = " ".join(text_of("docs/tracers.md").split())
    assert list(TRACERS) == ["ebpf", "ptrace"], "the order in which auto tries them is described"
    hooks = [plain(re.findall(r"`(\w+)`", row[0])[0]) for row in rows(section("docs/tracers.md", "eBPF"))]
    assert hooks == list(attaching.CAPABILITY_HOOKS)
    for tracepoint in (*attaching.TRACEPOINTS.values(), *attaching.OPTIONAL_TRACEPOINTS.values()):
        assert f"`{tracepoint}`" in text
    signals = re.search(r"\*\*Signals\.\*\* (.*?) sent to profgen", text)
    assert signals
    assert set(re.findall(r"SIG\w+", signals[1])) == {number.name for number in FORWARDED}
    assert f"up to {ARGUMENT_VALUES_MAX} different tuples" in text
    assert f"SIGKILL {NUMBER_WORDS[int(GRACE_SECONDS)]} seconds later" in text
    assert f"{NUMBER_WORDS[int(attaching.LEARNING_SECONDS)]} seconds after the last new thing" in text
    assert {"socket", "clone", "ioctl", "prctl", "mmap"} <= recorded_names()
    assert f"More than {RULE_BUDGET} rules" in text_of("docs/limits.md")
    assert f"More than {ARGUMENT_VALUES_MAX} different values" in text_of("docs/limits.md")


def test_the_name_of_a_profile() -> None:
    """The digest is that of a policy without any right."""
    empty = Policy(Workload(("nginx",), 0), ("x86_64",), no_new_privs=True, runtime="none")
    assert f"`{profile_name(empty)}`" in section("docs/apparmor.md", "The name")


def test_members_of_launch() -> None:
    (item,) = (
        item for item in items(section("docs/policy.md", "Reading policy.yaml")) if item.startswith("`workload`")
    )
    named = set(re.findall(r"`(\w+)`", item.replace("`read_only: true`", "`read_only`")))
    assert {field.name for field in dataclasses.fields(Launch)} <= named
    assert {field.name for field in dataclasses.fields(ContainerMount)} <= named


def test_files_and_names_in_code_style_exist() -> None:
    """`profiler/...` paths that the documents point at."""
    for document in DOCUMENTS:
        for name in re.findall(
            r"`((?:profiler|templates|tests|sample_apps|docs)/[\w./-]+)`", document.read_text(encoding="utf-8")
        ):
            if name != "profiler/templates":  # where the wheel has them
                assert (TOP / name).exists(), f"{document.name}: {name}"


def test_lists_named_in_the_architecture_exist() -> None:
    text = section("docs/architecture.md", "To add")
    for module, name in (("tracers.select", "TRACERS"), ("policy.derive", "passes"), ("targets.catalogue", "TARGETS")):
        assert f"`{name}" in text
        assert hasattr(importlib.import_module(f"profiler.{module}"), name)
