"""Images for real, made of this host's files without any network, and a dockerd that starts them under runc and under
crun.

An image holds what its program needs and nothing of the host is mounted into it but, for the sample applications, a
volume `/data`. Containers share the host's network, so that loads reach them at 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from system.lab.processes import ENVIRONMENT, run
from system.lab.runtimes import Confinement, Docker, Job, apart
from system.lab.workloads import PYTHON, Daemon, Nginx, Pipeline, Redis, WebServiceV1, WebServiceV2, Worker, Workload

SHELL = ("sh", "awk", "cat", "chown", "cut", "env", "grep", "head", "id", "mv", "sed", "sort", "uniq", "wc")
TOOLS = ("/usr/bin/strace", "/usr/sbin/nginx", "/usr/bin/redis-server", PYTHON)
ETC = ("group", "ld.so.cache", "localtime", "nsswitch.conf", "passwd", "nginx/mime.types")
PYTHON_RELEASE = Path(PYTHON).resolve().name
NOT_OF_PYTHON = {"__pycache__", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo"}


class ImageEngine(Docker):
    """A dockerd with overlay2, for runc and for crun."""

    name = "docker-images"
    options = (
        "--storage-driver=overlay2",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        "--add-runtime=crun=/usr/bin/crun",
    )

    def before(self) -> list[str]:
        # A file system of its own: overlayfs cannot lie on overlayfs, which the host's root may be.
        return apart(f"mkdir -p {self.state}/data && mount -t tmpfs none {self.state}/data", version_1=True)

    def _prepare(self) -> None:
        super()._prepare()
        archive = self.state / "base.tar"
        base(self.state / "root", archive)
        run(self._tool("import", str(archive), "base"), seconds=60)

    def build(self, context: Path, tag: str) -> None:
        """``docker build``."""
        words = self._tool("build", "--quiet", "--network=none", "--tag", tag, str(context))
        run(words, seconds=60, env={"DOCKER_BUILDKIT": "0"})


def base(root: Path, archive: Path) -> None:
    """Write a root file system: a shell with its tools, Python, nginx, Redis, strace and what they load."""
    write(root, archive, TOOLS, (f"/usr/lib/{PYTHON_RELEASE}", f"/etc/{PYTHON_RELEASE}"))


def write(root: Path, archive: Path, programs: Iterable[str], trees: Iterable[str]) -> None:
    """Write a root file system: a shell with its tools, these programs and directory trees, and what they load.
    ``root``: its empty directories."""
    paths = {Path(shutil.which(name) or f"/usr/bin/{name}") for name in (*SHELL, *programs)}
    paths |= {Path("/etc", name) for name in ETC if Path("/etc", name).exists()}
    paths |= {path for top in trees for path in tree(Path(top))}
    paths |= set(libraries(path for path in paths if is_elf(path)))
    names = {name for path in paths for name in links(path)}
    names |= {parent for path in names for parent in path.parents if parent != Path("/")}
    with tarfile.open(archive, "w") as tar:
        tar.add(root, arcname=".")
        for path in sorted(names):
            if not (root / path.relative_to("/")).exists():
                tar.add(path, arcname=str(path.relative_to("/")), recursive=False)


def tree(top: Path) -> Iterable[Path]:
    """Files of a directory tree, and links in it, without what no program here wants."""
    for directory, below, names in os.walk(top):
        below[:] = [name for name in below if name not in NOT_OF_PYTHON and not name.startswith("config-")]
        linked = (name for name in below if os.path.islink(os.path.join(directory, name)))
        yield from (Path(directory, name) for name in (*names, *linked))


def is_elf(path: Path) -> bool:
    if not path.is_file() or not (path.suffix == ".so" or path.stat().st_mode & stat.S_IXUSR):
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def libraries(programs: Iterable[Path]) -> Iterable[Path]:
    """What the loader loads for them (ldd(1)), and the loader."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, timeout=60, env=ENVIRONMENT).stdout
    for line in said.splitlines():
        if line.startswith("\t"):
            yield from (Path(word) for word in line.split() if word.startswith("/"))


def links(path: Path) -> Iterable[Path]:
    """Yield the path and what it leads to, with links among its directories resolved."""
    path = path.parent.resolve() / path.name
    yield path
    while path.is_symlink():
        path = path.parent / os.readlink(path)
        path = path.parent.resolve() / path.name
        yield path


class ImageNginx(Nginx):
    """As Debian ships it: its configuration, logs, state and pid file at their usual places in the image."""

    argv = ("nginx", "-g", "daemon off;")

    def reset(self) -> None:
        pass

    def configuration(self) -> str:
        return f"""user www-data;
worker_processes 2;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {{ worker_connections 256; }}
http {{
    include /etc/nginx/mime.types;
    access_log /var/log/nginx/access.log;
    sendfile on;
    tcp_nopush on;
    lingering_close off;
    server {{
        listen 127.0.0.1:{self.port};
        root /usr/share/nginx/html;
    }}
}}
"""


class ImageRedis(Redis):
    """With its data in the image; the image says which user it runs as."""

    requests = 200

    @property
    def argv(self) -> tuple[str, ...]:
        return tuple("/var/lib/redis" if word == str(self.directory) else word for word in super().argv)


IMAGED: tuple[type[Workload], ...] = (WebServiceV1, WebServiceV2, Daemon, Pipeline, Worker, ImageNginx, ImageRedis)


@dataclass(frozen=True)
class Image:
    """An image and how it is started. ``arguments`` follow its entry point; ``writes``: directories of the image that
    it writes to."""

    workload: Workload
    tag: str
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    options: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        """Path of the file that its entry point executes: of no link to it."""
        first = self.entrypoint[0]
        return first if first.startswith("/app/") else os.path.realpath(shutil.which(first) or first)


def image(engine: ImageEngine, workload: Workload, context: Path) -> Image:
    """Build the image of a workload."""
    context.mkdir()
    tag = f"{workload.name}:1"
    lines = ["FROM base"]
    writes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    if isinstance(workload, ImageNginx):
        page, configuration = context / "usr/share/nginx/html/index.html", context / "etc/nginx/nginx.conf"
        for path, text in ((page, "<p>hello</p>\n" * 1000), (configuration, workload.configuration())):
            path.parent.mkdir(parents=True)
            path.write_text(text)
        for name in (writes := ("/var/log/nginx", "/var/lib/nginx")):
            (context / name[1:]).mkdir(parents=True)
        writes = (*writes, "/run")
        entrypoint, arguments = workload.argv, ()
        lines += [f"EXPOSE {workload.port}/tcp"]
    elif isinstance(workload, ImageRedis):
        data = context / "var/lib/redis"
        data.mkdir(parents=True)
        data.chmod(0o777)
        entrypoint, arguments = workload.argv[:1], workload.argv[1:]
        writes = ("/var/lib/redis",)
        lines += ["USER redis", "WORKDIR /var/lib/redis"]
    else:
        program = Path(workload.argv[0])
        (context / "app").mkdir()
        shutil.copy(program, context / "app")
        words = (
            f"/app/{program.name}",
            *(word.replace(str(workload.directory), "/data") for word in workload.argv[1:]),
        )
        entrypoint, arguments = words[:1], words[1:]
        options = (f"--volume={workload.directory}:/data",)
        lines += ["VOLUME /data"]
    lines[1:1] = ["COPY . /"]
    lines += [f"ENTRYPOINT {json.dumps(entrypoint)}"]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    (context / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")
    engine.build(context, tag)
    return Image(workload, tag, tuple(entrypoint), tuple(arguments), ("--network=host", *options), writes)


class ImageRun:
    """``docker run`` of an image under one of the engine's runtimes. ``script``: the docker-run.sh to do it with;
    ``as_recorded``: it adds the options, the image and its arguments itself."""

    def __init__(
        self, engine: ImageEngine, image: Image, runtime: str, script: Path | None = None, as_recorded: bool = False
    ) -> None:
        self.name = f"docker with {runtime}"
        self.engine = engine
        self.image = image
        self.runtime = runtime
        self.script = script
        self.as_recorded = as_recorded
        self.ran: list[str] = []
        """Ids of the containers that were removed."""

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime. The job's words are in the image."""
        words = [f"--name={identity}", f"--cidfile={directory}/cid", f"--runtime={self.runtime}"]
        if self.as_recorded:
            settings = [f"{name}={value}" for name, value in self.engine.client_environment.items()]
            settings += [f"PROFGEN_READ_ONLY={'yes' if confinement.read_only else 'no'}"]
            return ["env", *settings, str(self.script), "--as-recorded", *words]
        words += self.image.options
        if confinement.read_only:
            words += [f"--tmpfs={path}" for path in self.image.writes]
        what = (self.image.tag, *self.image.arguments)
        if self.script is None:
            return self.engine._tool("run", *words, *self.engine.confining(confinement), *what)
        if confinement.read_only:
            words += ["--read-only", "--tmpfs=/tmp"]
        settings = [f"{name}={value}" for name, value in self.engine.client_environment.items()]
        return ["env", *settings, str(self.script), *words, *what]

    def signal(self, identity: str, name: str) -> None:
        """See Runtime."""
        self.engine.signal(identity, name)

    def remove(self, identity: str, directory: Path) -> None:
        """See Runtime."""
        with contextlib.suppress(OSError):
            self.ran.append((directory / "cid").read_text())
        self.engine.remove(identity, directory)


def why_not() -> str | None:
    """What keeps the engine from running here; None when nothing."""
    missing = [
        name for name in ("crun", "strace", "unshare", "ldd") if shutil.which(name, path=ENVIRONMENT["PATH"]) is None
    ]
    missing += [path for path in TOOLS if not os.access(path, os.X_OK)]
    return f"not installed: {', '.join(missing)}" if missing else None
