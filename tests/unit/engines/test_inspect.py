"""What engines tell of containers: what is there is read, what is not or is odd counts as not known."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.engines import inspect
from profiler.kernel.capabilities import CAPABILITIES
from profiler.trace.model import ContainerMount

ID = "69f588c66af27b98cb1ae5bc338dc3ef6fcee431cc5dbda8b5305d6da74e19f2"
IMAGE = "fac3807318132d3b5a16f7efac20e261e229cd67b79ec96ef99c07267ccc7ac3"

DOCKER: dict[str, Any] = {
    "Id": ID,
    "Path": "/bin/ls",
    "Args": ["-l", "/"],
    "State": {"Status": "running", "Running": True, "Pid": 812, "ExitCode": 0},
    "Image": f"sha256:{IMAGE}",
    "Name": "/web",
    "HostConfig": {
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "80"}]},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "CapAdd": ["chown"],
        "CapDrop": ["all"],
        "Privileged": False,
        "ReadonlyRootfs": True,
        "NetworkMode": "host",
        "SecurityOpt": ["no-new-privileges"],
        "Tmpfs": {"/t": "", "/r": "size=1m,ro"},
        "Runtime": "runc",
    },
    "Mounts": [
        {"Type": "bind", "Source": "/usr", "Destination": "/usr", "Mode": "ro", "RW": False, "Propagation": "rprivate"},
        {
            "Type": "volume",
            "Name": "vol",
            "Source": "/var/lib/docker/volumes/vol/_data",
            "Destination": "/vol",
            "RW": True,
        },
    ],
    "Config": {
        "User": "33:33",
        "WorkingDir": "/srv",
        "ExposedPorts": {"8080/tcp": {}},
        "Cmd": ["-l"],
        "Image": "lab",
        "Entrypoint": ["/bin/ls"],
        "Labels": {"a": "\nb"},
    },
    "NetworkSettings": {"Ports": {}},
}
PODMAN: dict[str, Any] = {
    "Id": ID,
    "State": {"Status": "exited", "Running": False, "Pid": 0, "ExitCode": 137},
    "Image": IMAGE,
    "ImageDigest": "sha256:" + "7f" * 32,
    "ImageName": "localhost/lab:latest",
    "OCIRuntime": "crun",
    "Name": "web",
    "BoundingCaps": ["CAP_CHOWN"],
    "Mounts": [{"Type": "bind", "Source": "/usr", "Destination": "/usr", "Options": ["rbind"], "RW": False}],
    "Config": {"User": "", "Cmd": ["/bin/ls"], "Image": "localhost/lab:latest", "Entrypoint": "/init", "Labels": None},
    "HostConfig": {
        "Runtime": "oci",
        "SecurityOpt": [],
        "Tmpfs": {"/tmp": "rw,rprivate"},
        "ReadonlyRootfs": False,
        "Privileged": False,
    },
}


def test_docker() -> None:
    found = inspect.container("docker", DOCKER, {"Id": f"sha256:{IMAGE}", "RepoDigests": ["lab@sha256:" + "ab" * 32]})
    assert (found.engine, found.runtime, found.id, found.name) == ("docker", "runc", ID, "web")
    assert (found.image, found.digest) == ("lab", "sha256:" + "ab" * 32)
    assert (found.entrypoint, found.command, found.user) == (("/bin/ls",), ("-l",), "33:33")
    assert found.mounts == (
        ContainerMount("bind", "/usr", "/usr", True),
        ContainerMount("tmpfs", "", "/r", True),
        ContainerMount("tmpfs", "", "/t", False),
        ContainerMount("volume", "vol", "/vol", False),
    )
    assert (found.directory, found.network) == ("/srv", "host")
    assert found.ports == ("80/tcp", "8080/tcp")
    assert found.capabilities == ("CAP_CHOWN",)
    assert (found.privileged, found.read_only, found.no_new_privs) == (False, True, True)
    assert inspect.process(DOCKER) == 812
    assert inspect.exit_status(DOCKER) is None
    assert inspect.labels(DOCKER) == {"a": "\nb"}


def test_digest_of_an_image_that_no_registry_has() -> None:
    assert inspect.container("docker", DOCKER, {"Id": f"sha256:{IMAGE}", "RepoDigests": []}).digest == f"sha256:{IMAGE}"
    assert inspect.container("docker", DOCKER).digest == f"sha256:{IMAGE}"


def test_podman() -> None:
    found = inspect.container("podman", PODMAN)
    assert (found.runtime, found.image, found.digest) == ("crun", "localhost/lab:latest", "sha256:" + "7f" * 32)
    assert (found.entrypoint, found.command, found.user) == (("/init",), ("/bin/ls",), "")
    assert found.mounts == (ContainerMount("bind", "/usr", "/usr", True), ContainerMount("tmpfs", "", "/tmp", False))
    assert (found.directory, found.network) == (None, None)
    assert found.capabilities == ("CAP_CHOWN",)
    assert inspect.process(PODMAN) == 0
    assert inspect.exit_status(PODMAN) == 137


@pytest.mark.parametrize(
    ("added", "dropped", "expected"),
    [
        (["CAP_SYS_TIME"], [], {"has": {"CAP_SYS_TIME", "CAP_CHOWN"}, "lacks": {"CAP_SYS_ADMIN"}}),
        (["ALL"], ["net_raw"], {"has": {"CAP_SYS_ADMIN"}, "lacks": {"CAP_NET_RAW"}}),
        ([], ["ALL"], {"has": set(), "lacks": set(CAPABILITIES)}),
        (None, None, {"has": {"CAP_NET_RAW", "CAP_MKNOD"}, "lacks": {"CAP_SYS_ADMIN"}}),
        (["NO_SUCH"], ["all"], {"has": set(), "lacks": {*CAPABILITIES, "CAP_NO_SUCH"}}),
    ],
)
def test_capabilities(added: Any, dropped: Any, expected: dict[str, set[str]]) -> None:
    data = copy.deepcopy(DOCKER)
    data["HostConfig"] |= {"CapAdd": added, "CapDrop": dropped}
    found = set(inspect.container("docker", data).capabilities or ())
    assert expected["has"] <= found
    assert not expected["lacks"] & found


def test_privileged() -> None:
    data = copy.deepcopy(DOCKER)
    data["HostConfig"]["Privileged"] = True
    assert inspect.container("docker", data).capabilities == tuple(sorted(CAPABILITIES))


def test_containerd() -> None:
    found = inspect.containerd(
        {
            "ID": "web", "Image": "docker.io/library/redis:7", "Runtime": {"Name": "io.containerd.runc.v2"},
            "Spec": {
                "process": {
                    "args": ["redis-server"], "user": {"uid": 999, "gid": 1000}, "noNewPrivileges": True,
                    "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"]},
                },
                "root": {"readonly": True},
                "mounts": [
                    {"destination": "/proc", "type": "proc", "source": "proc"},
                    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"},
                    {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "rw"]},
                ],
            },
        }
    )  # fmt: skip
    assert (found.engine, found.runtime, found.id, found.image) == ("ctr", "runc", "web", "docker.io/library/redis:7")
    assert (found.command, found.user, found.capabilities) == (("redis-server",), "999:1000", ("CAP_CHOWN", "CAP_KILL"))
    assert found.mounts == (ContainerMount("bind", "/srv", "/data", False),)
    assert found.read_only
    assert found.no_new_privs


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


@given(st.data(), JSON)
def test_anything_anywhere(data: st.DataObject, value: Any) -> None:
    """Whatever one member is, the rest is read and nothing fails."""
    for engine, document in (("docker", DOCKER), ("podman", PODMAN)):
        changed = copy.deepcopy(document)
        *path, last = data.draw(st.sampled_from(places(changed)))
        node = changed
        for key in path:
            node = node[key]
        node[last] = value
        found = inspect.container(engine, changed, changed)
        assert found.engine == engine
        assert all(
            isinstance(word, str)
            for word in (*found.entrypoint, *found.command, *found.ports, *(found.capabilities or ()))
        )
        assert inspect.process(changed) >= 0
        assert inspect.exit_status(changed) in (None, *range(256))
        inspect.labels(changed)
        inspect.containerd({"Spec": changed, **changed})


@given(st.text() | JSON.map(json.dumps))
def test_documents(text: str) -> None:
    assert all(isinstance(row, dict) for row in inspect.documents(text))


def test_documents_of_a_list() -> None:
    assert inspect.documents(json.dumps([DOCKER, 1])) == [DOCKER]
    assert inspect.documents("[" * 100_000) == []
