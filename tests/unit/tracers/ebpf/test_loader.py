"""The text of the recorder."""

from __future__ import annotations

import re

from profiler.tracers.ebpf import loader, specs
from profiler.tracers.ebpf.attaching import OPTIONAL_TRACEPOINTS, TRACEPOINTS
from profiler.tracers.ebpf.compiled import HERE

USES = (HERE / "uses.bpf.c").read_text()


def test_every_tail_is_a_program_of_the_source() -> None:
    assert {function for function, _ in specs.TAILS} == set(re.findall(r"^int (on_\w+)\(", USES, re.MULTILINE))


def test_every_file_is_in_the_source_once() -> None:
    text = loader.source()
    assert '#include "' not in text
    files = [*HERE.glob("*.h"), *HERE.glob("*.bpf.c")]
    assert len(files) == 7
    for path in files:
        last = path.read_text().rstrip().rpartition("\n\n")[2]
        assert text.count(last) == 1, path.name


def test_tracepoints_are_programs_of_the_source() -> None:
    functions = set(re.findall(r"^int (on_\w+)\(", loader.source(), re.MULTILINE))
    assert {*TRACEPOINTS, *OPTIONAL_TRACEPOINTS} <= functions
