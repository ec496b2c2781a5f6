"""Pods of Kubernetes under containerd, as on a node: their names are read back from their bundles, and what was
generated from their traces runs them.

No cluster is needed: system/lab/cri.py calls containerd as a kubelet does.
"""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from system.harness import CHECKOUT, Profgen, Recorder, recording, run_here, why_no_ebpf
from system.lab import runs
from system.lab.cri import IMAGE, Cri, of_job
from system.lab.fixtures import Recordings, cri, recordings  # noqa: F401
from system.lab.runtimes import Job
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, WebServiceV1, Workload
from system.test_argument_filters import LIKE_THE_SERVICE, NOT_IMPLEMENTED, REFUSED, probe  # noqa: F401
from waiting import HANG_SECONDS, until

from profiler.kernel.capabilities import number_of

pytestmark = [
    pytest.mark.usefixtures("as_root"),
    pytest.mark.skipif(why_no_ebpf() is not None, reason=f"pods need the eBPF tracer: {why_no_ebpf()}"),
]

WORKLOADS = (*(kind for kind in SAMPLE_WORKLOADS if not kind.batch), Nginx, Redis)
"""What is recorded in pods. A batch may end before a busy profgen can look what it is, which is a loss; it is recorded
on the host."""
LISTS = Job(("/usr/bin/sh", "-c", "ls /usr; exec sleep 600"))


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


@contextlib.contextmanager
def every_container(profgen: Profgen, directory: Path, *words: str) -> contextlib.AbstractContextManager[Recorder]:
    """Record all containers to ``traces`` in the directory."""
    with recording(profgen, directory, "--all-containers", "-o", "traces", *words) as recorder:
        recorder.began()
        yield recorder


def test_replicas_of_a_deployment(cri: Cri, profgen: Profgen, tmp_path: Path) -> None:
    """Of all containers those in the selected pods, in one trace for each workload; what a stranger's name makes of a
    path stays in the directory."""
    web = of_job(LISTS, "web", "shop")
    web["spec"]["containers"].append({**web["spec"]["containers"][0], "name": "log"})
    evil = of_job(LISTS, "web", "../../../tmp")
    words = ("--merge-restarts", "--pod-selector", "namespace=shop,container=web", "--pod-selector", "pod=*evil*")
    traces = tmp_path / "traces"

    def runs_of(name: str) -> int:
        path = traces / f"{name}.trace.json"
        return int(document(path)["meta"]["runs"]) if path.exists() else 0

    with every_container(profgen, tmp_path, *words, "--snapshot", "1s") as recorder, contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(cri.pod(web, f"web-7c9f8d6b5-{end}")) for end in ("x2x7k", "4z5kj")]
        for pod in (cri.pod(evil, "/evil\n-0"), cri.pod(of_job(LISTS, "web", "bank"), "web-7c9f8d6b5-x2x7k")):
            stack.enter_context(pod)
        until(lambda: runs_of("shop_web_web") == 2, "both replicas are in one trace")
        until(lambda: len(list(traces.glob("*evil*.trace.json"))) == 1, "the other has a trace")
        given = replicas[0].containers["web"].configuration["annotations"]
        status, said = recorder.end()
    assert status == 0, said
    assert "recording shop/web-7c9f8d6b5-x2x7k/web\n" in said
    assert r"recording ../../../tmp//evil\n-0/web" in said
    assert {path.name for path in traces.iterdir() if "evil" not in path.name} == {"shop_web_web.trace.json"}
    trace = document(traces / "shop_web_web.trace.json")
    container = trace["meta"]["container"]
    assert (container["engine"], container["name"], container["image"]) == ("containerd", "web", IMAGE)
    assert container["pod"] == {"namespace": "shop", "name": None, "uid": None, "workload": "web"}
    assert (container["user"], container["no_new_privs"]) == ("0:0", False)
    assert {"/usr/bin/ls", "/usr/bin/sleep"} <= {row["path"] for row in trace["files"]}
    assert given["io.kubernetes.cri.sandbox-name"] == replicas[0].name, "as containerd was told"
    assert given["io.kubernetes.cri.image-name"] == IMAGE
    made = profgen("generate", traces / "shop_web_web.trace.json", "-o", "profile", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    launch = yaml.safe_load((tmp_path / "profile/policy.yaml").read_text())["workload"]["launch"]
    assert (launch["engine"], launch["pod"], launch["container"]) == ("kubernetes", "shop/web", "web")


@pytest.fixture(scope="module")
def traces(cri: Cri, profgen: Profgen, recordings: Recordings, public_dir: Path) -> dict[type[Workload], Path]:
    """Each workload in a pod of its own, under its load, all recorded by one profgen."""
    directory = public_dir / "pods"
    directory.mkdir()
    workloads = {kind: recordings.workload(kind) for kind in WORKLOADS}
    with every_container(profgen, directory, "--pod-selector", "namespace=lab") as recorder:
        with contextlib.ExitStack() as stack:
            pods = {}
            for kind, workload in workloads.items():
                workload.reset()
                pods[kind] = stack.enter_context(cri.pod(of_job(workload.job, workload.name, "lab")))
            for kind, workload in workloads.items():
                until(workload.ready, f"{workload.name} answers")
                for _ in range(workload.rounds - 1):
                    workload.load()
                runs.served(workload, pods[kind].containers[workload.name], "containerd")
        status, said = recorder.end()
    assert status == 0, said
    found = {}
    for kind in WORKLOADS:
        (found[kind],) = (directory / "traces").glob(f"lab_{kind.name}_{kind.name}-*.trace.json")
    return found


def confined(cri: Cri, trace: Path, manifest: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return a pod's manifest as ``generate`` edits it, with the seccomp profile on the node."""
    directory.mkdir()
    given, name = directory / "given.yaml", f"{manifest['metadata']['name']}.json"
    given.write_text(yaml.safe_dump(manifest))
    # containerd 1.6 has no user namespaces for pods.
    options = ("-O", f"kubernetes.seccomp={name}", "-O", "kubernetes.user-namespace=no", "--runtime", "runc")
    profile = directory / "profile"
    run_here("generate", str(trace), "-t", "kubernetes", "--into", str(given), *options, "-o", str(profile))
    container = manifest["spec"]["containers"][0]["name"]
    shutil.copy(profile / f"{container}.seccomp.json", cri.profiles / name)
    changed: dict[str, Any] = yaml.safe_load((profile / "kubernetes.yaml").read_text())
    return changed


def test_workloads_run_under_what_was_generated(
    cri: Cri, traces: dict[type[Workload], Path], recordings: Recordings, tmp_path: Path
) -> None:
    batches = {kind: recordings.trace(kind, "ebpf") for kind in SAMPLE_WORKLOADS if kind.batch}
    for kind, trace in (traces | batches).items():
        workload = recordings.workload(kind)
        manifest = confined(cri, trace, of_job(workload.job, workload.name), tmp_path / workload.name)
        workload.reset()
        with cri.pod(manifest) as pod:
            runs.served(workload, pod.containers[workload.name], "containerd")


def test_what_a_workload_never_did_is_refused(
    cri: Cri, traces: dict[type[Workload], Path], probe: Path, tmp_path: Path
) -> None:
    job = Job(("/usr/bin/sh", "-c", "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; touch /x"))
    plain = of_job(Job((str(probe),), readable=(probe.parent,)), "probe")
    manifest = confined(cri, traces[WebServiceV1], plain, tmp_path / "profile")
    with cri.pod(manifest) as pod:
        assert pod.containers["probe"].wait(HANG_SECONDS) == 0, pod.containers["probe"].report()
        lines = pod.containers["probe"].stdout.splitlines()
    refused = {name for name, number in (line.split() for line in lines) if number != "0"}
    assert refused == REFUSED | NOT_IMPLEMENTED
    assert {line.split()[0] for line in lines} - refused == LIKE_THE_SERVICE
    # Apart from the filter, which such a shell could not run under.
    shell = of_job(job, "shell")
    context = {**manifest["spec"]["containers"][0]["securityContext"], "seccompProfile": {"type": "RuntimeDefault"}}
    shell["spec"]["containers"][0]["securityContext"] = context
    with cri.pod(shell) as pod:
        assert pod.containers["shell"].wait(HANG_SECONDS) == 1
        said = dict(line.split(":\t") for line in pod.containers["shell"].stdout.splitlines())
        assert "Read-only file system" in pod.containers["shell"].stderr
    assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")
    given = sum(1 << (number_of(f"CAP_{name}") or 0) for name in context["capabilities"]["add"])
    assert int(said["CapBnd"], 16) == int(said["CapEff"], 16) == given != 0


def test_the_daemonset(cri: Cri, tmp_path: Path) -> None:
    """What docs/deploy/daemonset.yaml gives to its container is enough to record a node: its rights, mounts and
    arguments. Only the programs are those of this machine, in place of the image's."""
    (daemonset,) = (
        row
        for row in yaml.safe_load_all((CHECKOUT / "docs/deploy/daemonset.yaml").read_text())
        if row["kind"] == "DaemonSet"
    )
    spec = daemonset["spec"]["template"]["spec"]
    own = spec["containers"][0]
    programs = of_job(Job(("true",), readable=(CHECKOUT, Path(sys.prefix), Path(sys.base_prefix))))["spec"]
    spec["volumes"] = [row for row in spec["volumes"] if row["name"] != "traces"] + programs["volumes"]
    spec["volumes"].append({"name": "traces", "hostPath": {"path": str(tmp_path)}})
    own |= {"image": IMAGE, "command": [sys.executable, "-m", "profiler"], "workingDir": str(CHECKOUT)}
    own["volumeMounts"] += programs["containers"][0]["volumeMounts"]
    own["env"] = programs["containers"][0]["env"]
    own["args"] = [word for word in own["args"] if "metrics" not in word and "snapshot" not in word]
    own["args"] += ["--pod-selector=namespace=node", "--snapshot=1s"]
    with cri.pod(daemonset, "profgen-x2x7k") as profgen:
        recorder = profgen.containers["profgen"]
        until(lambda: "SIGUSR1" in recorder.stderr or not recorder.running, "it records")
        assert recorder.running, recorder.report()
        with cri.pod(of_job(LISTS, "web", "node"), "web-7c9f8d6b5-x2x7k"):
            path = tmp_path / "node_web_web.trace.json"
            until(path.exists, "the trace is on the node")
        recorder.signal("TERM")
        assert recorder.wait(HANG_SECONDS) == 0, recorder.report()
    trace = document(path)
    assert trace["meta"]["container"]["pod"]["name"] == "web-7c9f8d6b5-x2x7k"
    assert trace["meta"]["complete"], trace["meta"]["losses"]
    assert "/usr/bin/sleep" in {row["path"] for row in trace["files"]}
