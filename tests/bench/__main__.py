"""``make bench``: the figures of docs/performance.md, as ratios measured side by side in one run.

Everything but servers under load runs on one processor, in turns (A B C A B C ...), and medians are printed. No figure
decides a test. ``python -m tests.bench confined`` measures only what confines a process without a container.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.refine import large_log
from tests.bench.servers import throughput

HERE = Path(__file__).parent
PROFGEN = [sys.executable, "-m", "profiler"]
ROUNDS = 7
SKIP_SECONDS, MEASURE_SECONDS = 2.8, 0.7
"""The eBPF tracer detaches one of its two programs 2 s after the last new item; steady state begins there."""


def run(command: Sequence[str], **options: object) -> str:
    """Standard output of a command; ends the benchmark when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return str(done.stdout)


def seconds(command: Sequence[str]) -> float:
    """Wall time of a command."""
    start = time.perf_counter()
    run(command)
    return time.perf_counter() - start


def processor_seconds(command: Sequence[str]) -> float:
    """Processor time of a command and its children, which other work on the machine changes little."""

    def used() -> float:
        taken = resource.getrusage(resource.RUSAGE_CHILDREN)
        return taken.ru_utime + taken.ru_stime

    before = used()
    run(command)
    return used() - before


def in_turns(measures: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Each measure once a round."""
    results: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            results[name].append(measure())
    return results


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the ratios round by round: slow rounds weigh on both."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """One Markdown table."""
    print(f"\n### {title}\n\n| | |\n|---|---:|")
    for name, value in rows:
        print(f"| {name} | {value} |")
    sys.stdout.flush()


class EmptyTracepoint:
    """A raw tracepoint program that does nothing, at every syscall entry of the machine."""

    def __enter__(self) -> None:
        from profiler.tracers.ebpf.bcc import import_bcc
        from profiler.tracers.ebpf.compiled import HERE

        bcc = import_bcc()
        os.environ["BCC_KERNEL_SOURCE"] = str(HERE)
        flags = [f"-I{HERE / 'include'}", "-Wno-everything"]
        self._bpf = bcc.BPF(text="int empty(void *ctx) { return 0; }", cflags=flags)
        self._bpf.attach_raw_tracepoint(tp="sys_enter", fn_name="empty")

    def __exit__(self, *_: object) -> None:
        self._bpf.cleanup()


def record(tracer: str, work: Path, *options: str) -> list[str]:
    """The command that records what follows it."""
    return [*PROFGEN, "record", "-q", "--tracer", tracer, *options, "-o", str(work / "out.json"), "--"]


def beside(command: Sequence[str], recording: Sequence[str]) -> float:
    """What a command prints that runs, unwatched, while something else is recorded."""
    other = subprocess.Popen([*recording, "sleep", "6"])
    try:
        time.sleep(1.5)
        return float(run(command))
    finally:
        other.terminate()
        other.wait(timeout=30)


def ebpf_per_syscall(loop: str, work: Path) -> None:
    """What the eBPF tracer adds to a call, in a watched process and in all others."""
    for call in ("getppid", "fcntl"):
        measure = [loop, call, str(SKIP_SECONDS), str(MEASURE_SECONDS)]
        short = [loop, call, "0.2", str(MEASURE_SECONDS)]

        def with_empty(short: list[str] = short) -> float:
            with EmptyTracepoint():
                return float(run(short))

        measures: dict[str, Callable[[], float]] = {
            "none": lambda short=short: float(run(short)),  # type: ignore[misc]
            "empty": with_empty,
        }
        for name, options in (("with --no-files", ["--no-files"]), ("with files", [])):
            command = record("ebpf", work, *options)
            measures[f"to a watched process, {name}"] = lambda command=command, measure=measure: float(
                run([*command, *measure])
            )  # type: ignore[misc]
            measures[f"to every other process, {name}"] = lambda command=command, measure=measure: beside(
                measure, command
            )  # type: ignore[misc]
        results = in_turns(measures, rounds=5)
        added = {
            name: [max(value - base, 0.01) for value, base in zip(values, results["none"], strict=True)]
            for name, values in results.items()
            if name != "none"
        }
        table(
            f"eBPF, added to one {call} call (steady state)",
            [
                ("no program", f"{statistics.median(results['none']):.0f} ns a call"),
                ("an empty raw tracepoint program adds", f"{statistics.median(added['empty']):.0f} ns = 1"),
                *(
                    (f"profgen adds {name}", f"{median_ratio(values, added['empty']):.2f}")
                    for name, values in added.items()
                    if name != "empty"
                ),
            ],
        )


def ebpf_files(loop: str, work: Path) -> None:
    """Opening and closing one file again and again, with and without evidence of files."""
    file = work / "a" / "b" / "file"
    file.parent.mkdir(parents=True)
    file.touch()
    measure = [loop, str(file), str(SKIP_SECONDS), str(MEASURE_SECONDS)]
    short = [loop, str(file), "0.2", str(MEASURE_SECONDS)]
    results = in_turns(
        {
            "not recorded": lambda: float(run(short)),
            "recorded with --no-files": lambda: float(run([*record("ebpf", work, "--no-files"), *measure])),
            "recorded with files": lambda: float(run([*record("ebpf", work), *measure])),
        },
        rounds=7,
    )
    million = [loop, str(file), "-n", "1000000"]
    bare, full = [*record("ebpf", work, "--no-files"), *million], [*record("ebpf", work), *million]
    whole = in_turns({"with --no-files": lambda: seconds(bare), "with files": lambda: seconds(full)}, rounds=7)
    table(
        f"eBPF: a file opened and closed ({len(file.parts) - 1} names deep)",
        [
            *((name, f"{statistics.median(values):.0f} ns") for name, values in results.items()),
            (
                "with files / with --no-files",
                f"{median_ratio(results['recorded with files'], results['recorded with --no-files']):.2f}",
            ),
            *(
                (f"a million times, start to end, {name}", f"{statistics.median(values):.2f} s")
                for name, values in whole.items()
            ),
            ("with files / with --no-files", f"{median_ratio(whole['with files'], whole['with --no-files']):.2f}"),
        ],
    )


def ptrace_against_strace(loop: str, work: Path) -> None:
    """Whole runs under the ptrace tracer and under strace -f, start included.

    Root's calls are also looked at for the capabilities they need; an ordinary user's need none.
    """
    users = {"as root": ([], []), "as an ordinary user": (["-u", "nobody"], ["--user", "nobody"])}
    for title, command in (
        ("100 000 getppid calls", [loop, "getppid", "-n", "100000"]),
        ("ls -lR /usr/share/doc", ["ls", "-lR", "/usr/share/doc"]),
        ("1 000 processes", ["sh", "-c", "i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done"]),
    ):
        for user, (for_strace, for_profgen) in (
            users.items() if os.geteuid() == 0 else [("as an ordinary user", ([], []))]
        ):
            strace = ["strace", "-f", "-o", "/dev/null", *for_strace, *command]
            bare = [*record("ptrace", work, "--no-files", *for_profgen), *command]
            ptrace = [*record("ptrace", work, *for_profgen), *command]
            results = in_turns(
                {
                    "plain": lambda command=command: seconds(command),  # type: ignore[misc]
                    "strace": lambda command=strace: seconds(command),  # type: ignore[misc]
                    "ptrace --no-files": lambda command=bare: seconds(command),  # type: ignore[misc]
                    "ptrace": lambda command=ptrace: seconds(command),  # type: ignore[misc]
                },
                rounds=5,
            )
            table(
                f"ptrace: {title}, {user}",
                [(name, f"{statistics.median(values):.2f} s") for name, values in results.items()]
                + [
                    (f"{name} / strace", f"{median_ratio(results[name], results['strace']):.2f}")
                    for name in ("ptrace --no-files", "ptrace")
                ],
            )


def starting(work: Path) -> None:
    """Commands that do next to nothing."""
    commands = {
        "profgen --help": [*PROFGEN, "--help"],
        "record --tracer ptrace -- true": [*record("ptrace", work), "true"],
    }
    if os.geteuid() == 0:
        commands["record --tracer ebpf --no-files -- true"] = [*record("ebpf", work, "--no-files"), "true"]
        commands["record --tracer ebpf -- true"] = [*record("ebpf", work), "true"]
    results = in_turns(
        {name: lambda command=command: seconds(command) for name, command in commands.items()}, rounds=11
    )  # type: ignore[misc]
    table("Start to end, seconds", [(name, f"{statistics.median(values):.3f} s") for name, values in results.items()])


def confined(loop: str, work: Path) -> None:
    """What `profgen run` and the launcher cost at the start and for each call, next to tools for the same."""
    trace, profile = work / "loop.trace.json", work / "loop.profile"
    script = f"{loop} getppid 0 0.1; {loop} read 0 0.1; {loop} /etc/hostname 0 0.1; true"
    run([*PROFGEN, "record", "-q", "-o", str(trace), "--", "sh", "-c", script])
    run([*PROFGEN, "generate", "-q", str(trace), "-t", "launcher", "-o", f"{profile}/"])
    ways: dict[str, list[str]] = {
        "plain": [],
        "profgen run": [*PROFGEN, "run", "-q", str(profile), "--"],
        "launcher.py": [str(profile / "launcher.py"), "--"],
    }
    if shutil.which("bwrap") and os.geteuid() == 0:
        ways["bwrap"] = ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--unshare-pid", "--unshare-ipc", "--"]
    if Path("/run/systemd/system").is_dir() and os.geteuid() == 0:
        ways["systemd-run"] = ["systemd-run", "--quiet", "--wait", "--collect", "--pipe", "--"]

    def each(command: Sequence[str], measure: Callable[[list[str]], float], rounds: int) -> dict[str, list[float]]:
        return in_turns({name: lambda start=start: measure([*start, *command]) for name, start in ways.items()}, rounds)  # type: ignore[misc]

    def beside_plain(title: str, unit: str, results: dict[str, list[float]]) -> None:
        rows = [
            (name, f"{statistics.median(values):.0f} {unit} = {median_ratio(values, results['plain']):.2f}")
            for name, values in results.items()
        ]
        table(title, rows)

    started = each(["sh", "-c", "true"], lambda words: 1000 * processor_seconds(words), 11)
    beside_plain("Confined: sh -c true, processor time", "ms", started)
    for call, what in (("getppid", "getppid"), ("read", "read of /dev/zero"), ("/etc/hostname", "open and close")):
        taken = each(["sh", "-c", f"{loop} {call} 0.1 {MEASURE_SECONDS}; true"], lambda words: float(run(words)), 7)
        beside_plain(f"Confined: one {what}", "ns", taken)


def thousand_traces(work: Path) -> None:
    """Merging and generating from 1 000 traces that differ."""
    run([*record("ptrace", work, "--no-files"), "sh", "-c", "ls -l / | sort | head -3"])
    base = json.loads((work / "out.json").read_text())
    paths = []
    for number in range(1000):
        base["programs"][0]["path"] = f"/usr/bin/program-{number % 50}"
        base["syscalls"][number % len(base["syscalls"])]["calls"] += 1
        path = work / f"t{number}.json"
        path.write_text(json.dumps(base))
        paths.append(str(path))
    taken = [seconds([*PROFGEN, "generate", *paths, "-t", "seccomp"]) for _ in range(3)]
    table("generate from 1 000 traces", [("merge, derive and render", f"{statistics.median(taken):.2f} s")])


def main() -> None:
    """Run all."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(processors)})
    os.environ["PYTHONPATH"] = str(HERE.parent.parent)
    # As installed: with compiled modules.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="profgen-bench-") as folder:
        work = Path(folder)
        work.chmod(0o755)
        loop = str(work / "loop")
        run(["cc", "-O2", "-o", loop, str(HERE / "loop.c")])
        print(f"Kernel {os.uname().release}, Python {sys.version.split()[0]}, one processor, medians.")
        if sys.argv[1:] == ["confined"]:
            confined(loop, work)
            return
        starting(work)
        confined(loop, work)
        ptrace_against_strace(loop, work)
        if os.geteuid() == 0:
            ebpf_per_syscall(loop, work)
            ebpf_files(loop, work)
            os.sched_setaffinity(0, processors)
            throughput(record, work, table)
            os.sched_setaffinity(0, {max(processors)})
        else:
            print("\n(the eBPF figures need root)")
        thousand_traces(work)
        large_log(work, table)


if __name__ == "__main__":
    main()
