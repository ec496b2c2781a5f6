"""Pods for real, without a cluster: containerd's CRI plugin, called over its socket as a kubelet does.

The containerd is one of our own, in a mount namespace of its own with its own /run/containerd, so nothing of it stays
when it ends. Pods share the host's network (no CNI plugin is needed). What a kubelet does with a manifest before it
calls the runtime is in pure functions here (pkg/kubelet/kuberuntime).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from system.lab.processes import ENVIRONMENT, LabError, kill_marked, run, stop
from system.lab.runtimes import DIE_WITH_US, Job, apart, skeleton
from waiting import HANG_SECONDS, eventually

Manifest = Mapping[str, Any]

IMAGE = "profgen.test/lab:1"
"""A root directory without programs: pods mount the host's /usr and /etc."""
PAUSE = "profgen.test/pause:1"
"""What holds the namespaces of a pod."""

CONFIG = """version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{root}/cni"
    conf_dir = "{root}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""

MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""k8s.io/kubernetes, pkg/securitycontext/util.go."""


def pod_of(manifest: Manifest) -> tuple[Manifest, Manifest]:
    """Return (metadata, spec) of the pods that a manifest makes: the Pod itself, or the template of another kind."""
    if manifest["kind"] == "Pod":
        return manifest["metadata"], manifest["spec"]
    spec = manifest["spec"]["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else manifest["spec"]
    return {**manifest["metadata"], **spec["template"].get("metadata", {})}, spec["template"]["spec"]


def security_context(spec: Manifest, container: Manifest, profiles: Path) -> dict[str, Any]:
    """Return the LinuxContainerSecurityContext that a kubelet makes of a pod's and a container's securityContext.

    ``profiles``: the directory of seccomp profiles on the node. Raises LabError where a kubelet refuses the container.
    """
    pod, own = spec.get("securityContext") or {}, container.get("securityContext") or {}
    both = {**pod, **own}
    if spec.get("hostUsers") is False:
        raise LabError("containerd 1.6 has no user namespaces for pods")
    if both.get("runAsNonRoot") and both.get("runAsUser") == 0:
        raise LabError("container's runAsUser breaks non-root policy")
    groups = [*([pod["fsGroup"]] if "fsGroup" in pod else []), *pod.get("supplementalGroups", ())]
    capabilities = own.get("capabilities") or {}
    unmasked = own.get("procMount") == "Unmasked"
    context = {
        "capabilities": {
            "add_capabilities": capabilities.get("add", []),
            "drop_capabilities": capabilities.get("drop", []),
        },
        "privileged": own.get("privileged", False),
        "readonly_rootfs": own.get("readOnlyRootFilesystem", False),
        "no_new_privs": own.get("allowPrivilegeEscalation") is False,
        "supplemental_groups": groups,
        "namespace_options": namespaces(spec),
        "seccomp": profile(both.get("seccompProfile"), profiles),
        "masked_paths": [] if unmasked else MASKED,
        "readonly_paths": [] if unmasked else READ_ONLY,
    }
    for key, name in (("runAsUser", "run_as_user"), ("runAsGroup", "run_as_group")):
        if key in both:
            context[name] = {"value": both[key]}
    if "appArmorProfile" in both:
        context["apparmor"] = profile(both["appArmorProfile"], None)
    return context


def profile(given: Manifest | None, directory: Path | None) -> dict[str, str]:
    """Return a SecurityProfile: no profile is Unconfined. ``directory``: of files, None for names."""
    kind = given["type"] if given else "Unconfined"
    if given is None or kind != "Localhost":
        return {"profile_type": kind}
    reference = given["localhostProfile"]
    return {"profile_type": kind, "localhost_ref": reference if directory is None else str(directory / reference)}


def namespaces(spec: Manifest) -> dict[str, str]:
    """Return the NamespaceOption of a pod, which always has the node's network here."""
    shared = "POD" if spec.get("shareProcessNamespace") else "CONTAINER"
    return {
        "network": "NODE",
        "pid": "NODE" if spec.get("hostPID") else shared,
        "ipc": "NODE" if spec.get("hostIPC") else "POD",
    }


def of_job(job: Job, name: str = "web", namespace: str = "default") -> dict[str, Any]:
    """Return the manifest of a pod with one container that runs a program of this host."""
    paths = [(path, True) for path in (Path("/usr"), Path("/etc"), *job.readable)]
    paths += [(path, False) for path in job.writable]
    volumes = [{"name": f"v{number}", "hostPath": {"path": str(path)}} for number, (path, _) in enumerate(paths)]
    mounts = [
        {"name": f"v{number}", "mountPath": str(path), "readOnly": read_only}
        for number, (path, read_only) in enumerate(paths)
    ]
    container = {
        "name": name,
        "image": IMAGE,
        "command": list(job.argv),
        "env": [{"name": key, "value": value} for key, value in ENVIRONMENT.items()],
        "volumeMounts": mounts,
    }
    context = {"runAsUser": job.uid, "runAsGroup": job.gid, "supplementalGroups": list(job.groups)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hostNetwork": True, "securityContext": context, "containers": [container], "volumes": volumes},
    }


class Cri:
    """containerd with its CRI plugin. ``profiles``: where the node keeps seccomp profiles."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._socket = state / "sock"
        self._mark = f"profgen-lab-cri-{os.getpid()}"
        self.kubelet = state / "kubelet"
        self.profiles = self.kubelet / "seccomp"
        self.profiles.mkdir(parents=True)
        self._pods: list[Pod] = []
        root = state / "root"
        configuration = state / "config.toml"
        configuration.write_text(CONFIG.format(root=root, socket=self._socket, pause=PAUSE))
        Path("/run/containerd").mkdir(exist_ok=True)
        # Overlay file systems cannot lie on one another, and the host's root may be one.
        mounts = f"mkdir {root} && mount -t tmpfs none {root} && mount -t tmpfs none /run/containerd"
        with open(state / "log", "wb") as log:
            self._daemon = subprocess.Popen(
                [*DIE_WITH_US, *apart(mounts, version_1=True), "containerd", "--config", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        self._client: subprocess.Popen[str] | None = None
        try:
            self._prepare()
        except LabError:
            self.close()
            raise

    def _prepare(self) -> None:
        def answers() -> bool:
            return self._daemon.poll() is not None or run(self.ctr("version"), check=False).returncode == 0

        if not eventually(answers) or self._daemon.poll() is not None:
            raise LabError(f"containerd did not start: {self.log()}")
        self._client = subprocess.Popen(
            [*DIE_WITH_US, sys.executable, str(Path(__file__).with_name("cri_client.py")), str(self._socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        root = self.state / "image"
        skeleton(root)
        self.load(IMAGE, root)
        source = self.state / "pause.c"
        source.write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
        held = self.state / "pause"
        held.mkdir()
        run(["gcc", "-static", "-O1", "-o", str(held / "pause"), str(source)])
        self.load(PAUSE, held, Entrypoint=["/pause"])

    def log(self) -> str:
        return (self.state / "log").read_text(errors="replace")[-3000:]

    def ctr(self, *words: str) -> list[str]:
        return ["ctr", "--address", str(self._socket), "--namespace", "k8s.io", *words]

    def ctr_inside(self, *words: str) -> list[str]:
        """A command line of ctr that sees the daemon's mounts: to run a container, ctr looks into images itself."""
        return ["nsenter", "--target", str(self._daemon.pid), "--mount", *self.ctr(*words)]

    def load(self, name: str, root: Path, **config: Any) -> None:
        """Make an image of a directory tree. ``config``: members such as ``Entrypoint``."""
        directory = self.state / name.replace("/", "-")
        directory.mkdir()
        with tarfile.open(directory / "layer.tar", "w") as tar:
            tar.add(root, arcname=".")
        digest = run(["sha256sum", str(directory / "layer.tar")]).stdout.split()[0]
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        document = {
            "architecture": machine,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        (directory / "config.json").write_text(json.dumps(document))
        listed = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
        (directory / "manifest.json").write_text(json.dumps(listed))
        self.import_archive(directory)

    def import_archive(self, directory: Path) -> None:
        """Import the image in a directory that is laid out as ``docker save`` does."""
        archive = directory.with_suffix(".tar")
        with tarfile.open(archive, "w") as tar:
            for path in sorted(directory.iterdir()):
                tar.add(path, arcname=path.name)
        run(self.ctr("images", "import", str(archive)))
        archive.unlink()
        shutil.rmtree(directory)

    def call(self, method: str, **request: Any) -> dict[str, Any]:
        """Make a call of the CRI. Raises LabError when it fails."""
        assert self._client is not None
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        try:
            self._client.stdin.write(json.dumps([method, request]) + "\n")
            self._client.stdin.flush()
            answer: dict[str, Any] = json.loads(self._client.stdout.readline() or '{"error": "the client has ended"}')
        except OSError as error:
            raise LabError(f"{method}: {error}") from None
        if "error" in answer:
            raise LabError(f"{answer['error']}\n{self.log()}")
        return answer

    @contextlib.contextmanager
    def pod(self, manifest: Manifest | str, name: str | None = None) -> Iterator[Pod]:
        """A pod for the length of a block. ``manifest``: YAML text with one document, or what it says. ``name``: of the
        pod, as a controller would choose it."""
        started = Pod(self, yaml.safe_load(manifest) if isinstance(manifest, str) else manifest, name)
        self._pods.append(started)
        try:
            started.start()
            yield started
        finally:
            started.close()
            self._pods.remove(started)

    def cgroup(self, uid: str) -> str:
        """Return the cgroup of a pod, as a kubelet names it."""
        return f"/{self._mark}/kubepods/besteffort/pod{uid}"

    def close(self) -> None:
        """Stop everything, whatever state it is in."""
        for pod in list(self._pods):
            pod.close()
        if self._client is not None:
            self._client.kill()
            self._client.communicate()
        stop(self._daemon)
        kill_marked(str(self.state))
        kill_marked(self._mark)
        for top in Path("/sys/fs/cgroup").glob(f"*/{self._mark}"):
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)


class Pod:
    """A pod of a manifest: its sandbox and containers."""

    def __init__(self, cri: Cri, manifest: Manifest, name: str | None = None) -> None:
        self.cri = cri
        self.metadata, self.spec = pod_of(manifest)
        self.name: str = name or self.metadata["name"]
        self.namespace: str = self.metadata.get("namespace", "default")
        self.uid = str(uuid.uuid4())
        self.directory = cri.kubelet / "pods" / self.uid
        self._logs = self.directory / "logs"
        self._sandbox: str | None = None
        self.containers: dict[str, Contained] = {}

    def start(self) -> None:
        """Do what a kubelet does for a new pod; init containers run to their end, one after the other."""
        self._logs.mkdir(parents=True)
        (self.directory / "etc-hosts").write_text("127.0.0.1 localhost\n")
        config = {
            "metadata": {"name": self.name, "namespace": self.namespace, "uid": self.uid},
            "log_directory": str(self._logs),
            "labels": {**self.metadata.get("labels", {}), "io.kubernetes.pod.name": self.name},
            "annotations": self.metadata.get("annotations", {}),
            "linux": {
                "cgroup_parent": self.cri.cgroup(self.uid),
                "security_context": {
                    "namespace_options": namespaces(self.spec),
                    "seccomp": {"profile_type": "RuntimeDefault"},
                },
            },
        }
        self._sandbox = self.cri.call("RunPodSandbox", config=config)["pod_sandbox_id"]
        for container in self.spec.get("initContainers", ()):
            first = self._start(container, config)
            if status := first.wait(HANG_SECONDS):
                raise LabError(f"the init container {container['name']} ended with status {status}: {first.report()}")
        for container in self.spec["containers"]:
            self.containers[container["name"]] = self._start(container, config)

    def _start(self, container: Manifest, sandbox: Manifest) -> Contained:
        name = container["name"]
        config = {
            "metadata": {"name": name},
            "image": {"image": container["image"]},
            "command": container.get("command", []),
            "args": container.get("args", []),
            "working_dir": container.get("workingDir", ""),
            "envs": [{"key": row["name"], "value": row.get("value", "")} for row in container.get("env", ())],
            "mounts": list(self._mounts(container)),
            "labels": {"io.kubernetes.container.name": name},
            "log_path": f"{name}.log",
            "linux": {
                "resources": {"oom_score_adj": 1000},
                "security_context": security_context(self.spec, container, self.cri.profiles),
            },
        }
        made = self.cri.call("CreateContainer", pod_sandbox_id=self._sandbox, config=config, sandbox_config=sandbox)
        found = Contained(self, made["container_id"], self._logs / f"{name}.log")
        self.cri.call("StartContainer", container_id=found.identity)
        return found

    def _mounts(self, container: Manifest) -> Iterator[dict[str, Any]]:
        volumes = {row["name"]: row for row in self.spec.get("volumes", ())}
        asked: Sequence[Manifest] = container.get("volumeMounts", ())
        for row in asked:
            volume = volumes[row["name"]]
            if "hostPath" in volume:
                source = Path(volume["hostPath"]["path"])
            elif "emptyDir" in volume:
                source = self.directory / "volumes/kubernetes.io~empty-dir" / row["name"]
                source.mkdir(parents=True, exist_ok=True)
                source.chmod(0o777)
            else:
                raise LabError(f"the lab has no volumes like {volume}")
            yield {
                "container_path": row["mountPath"],
                "host_path": str(source / row.get("subPath", "")),
                "readonly": row.get("readOnly", False),
            }
        yield {"container_path": "/etc/hosts", "host_path": str(self.directory / "etc-hosts")}

    def close(self) -> None:
        """Stop and remove the pod."""
        if self._sandbox is not None:
            for container in self.containers.values():
                with contextlib.suppress(LabError):
                    container.signal("KILL")
            for method in ("StopPodSandbox", "RemovePodSandbox"):
                with contextlib.suppress(LabError):
                    self.cri.call(method, pod_sandbox_id=self._sandbox)
            self._sandbox = None
        shutil.rmtree(self.directory, ignore_errors=True)


class Contained:
    """A container of a pod."""

    def __init__(self, pod: Pod, identity: str, log: Path) -> None:
        self.pod = pod
        self.identity = identity
        self._log = log

    @property
    def status(self) -> dict[str, Any]:
        """What the runtime reports: ContainerStatus of the CRI."""
        found: dict[str, Any] = self.pod.cri.call("ContainerStatus", container_id=self.identity)["status"]
        return found

    @property
    def running(self) -> bool:
        return self.status["state"] != "CONTAINER_EXITED"

    @property
    def configuration(self) -> dict[str, Any]:
        """The OCI configuration that the runtime made."""
        told = self.pod.cri.call("ContainerStatus", container_id=self.identity, verbose=True)["info"]["info"]
        found: dict[str, Any] = json.loads(told)["runtimeSpec"]
        return found

    def _output(self, stream: str) -> str:
        """Return what it printed: the log has a line for each piece, ``TIME STREAM F|P TEXT``."""
        if not self._log.exists():
            return ""
        rows = [line.split(" ", 3) for line in self._log.read_text(errors="replace").splitlines()]
        return "".join(row[3] + ("\n" if row[2] == "F" else "") for row in rows if row[1] == stream)

    @property
    def stdout(self) -> str:
        return self._output("stdout")

    @property
    def stderr(self) -> str:
        return self._output("stderr")

    def signal(self, name: str) -> None:
        """Send a signal (``TERM``) to its first process."""
        run(self.pod.cri.ctr("tasks", "kill", "--signal", f"SIG{name}", self.identity))

    def wait(self, seconds: float) -> int:
        """Return its exit status, 128+N for death by signal N. LabError when it does not end."""
        if not eventually(lambda: not self.running, seconds):
            raise LabError(f"still running after {seconds} s{self.report()}")
        return int(self.status.get("exit_code", 0))

    def report(self) -> str:
        """Return what there is to say about a failure."""
        return f"\nstatus: {self.status}\nstdout: {self.stdout[-2000:]}\nstderr: {self.stderr[-4000:]}"


def why_not() -> str | None:
    """What keeps it from running here; None when nothing."""
    if os.geteuid() != 0:
        return "containerd needs root"
    missing = [
        name
        for name in ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "gcc", "unshare", "nsenter")
        if shutil.which(name, path=ENVIRONMENT["PATH"]) is None
    ]
    return f"not installed: {', '.join(missing)}" if missing else None
