"""How a workload is started: what is kept of a recording."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from unit.policy.making import call, file, touching, trace
from unit.trace.strategies import CONTAINERS

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.document import dumps, loads
from profiler.policy.launch import launch_of, merged, task_limit
from profiler.policy.model import Launch, Options
from profiler.trace.model import Container, ContainerMount, Pod, Trace

HEX = "0123456789abcdef" * 4


def recorded(**meta: object) -> Trace:
    return trace(call("read"), **meta)


@given(CONTAINERS)
def test_it_is_kept_in_the_policy(container: Container) -> None:
    policy = derive(recorded(container=container, argv=("a\nb", "é")), Options())
    assert loads(dumps(policy).encode(), "policy.yaml").workload.launch == policy.workload.launch


def test_a_container() -> None:
    volumes = (ContainerMount("volume", HEX, "/a", False), ContainerMount("volume", "db", "/b", True))
    container = Container("podman", "crun", "1", "web", "nginx", user="33", directory="/srv", network="host")
    launch = launch_of(recorded(container=replace(container, mounts=volumes, ports=("80/tcp",))).meta)
    assert launch == Launch(
        engine="podman",
        user="33",
        directory="/srv",
        network="host",
        ports=("80/tcp",),
        mounts=(ContainerMount("volume", "", "/a", False), volumes[1]),
    )
    assert launch_of(recorded(container=replace(container, network="bridge")).meta).network is None


@pytest.mark.parametrize(
    ("user", "uid", "gid"),
    [("33:34", 33, None), ("33", 33, 5), ("www:www", 33, 5), (None, 33, 5), ("", 0, None), (None, 0, None)],
)
def test_the_group_is_kept_where_the_user_does_not_say_it(user: str | None, uid: int, gid: int | None) -> None:
    container = Container("docker", "runc", None, None, user=user)
    assert launch_of(recorded(container=container, uid=uid, gid=5).meta).gid == gid


@pytest.mark.parametrize(
    ("peak", "limit"),
    [(0, None), (1, 256), (64, 256), (65, 1024), (256, 1024), (1024, 4096), (4096, 16384), (4097, None)],
)
def test_the_limit_of_tasks_is_four_times_the_peak_or_more(peak: int, limit: int | None) -> None:
    assert task_limit(peak) == limit
    assert launch_of(recorded(tasks=peak).meta).tasks == limit
    assert launch_of(recorded(tasks=peak, container=Container("docker", "runc", None, None)).meta).tasks == limit


def test_a_limit_of_no_task_is_refused() -> None:
    text = dumps(derive(recorded(tasks=1), Options())).replace("tasks: 256", "tasks: 0")
    with pytest.raises(InputError, match=r"workload\.launch\.tasks: must be at least 1"):
        loads(text.encode(), "policy.yaml")


def test_a_pod() -> None:
    """What starts it is Kubernetes, whichever runtime the node has; the policy is that of all replicas."""
    pod = Pod("shop", "web-0", "1234", "web")
    container = Container("containerd", None, "1", "nginx", pod=pod)
    expected = Launch(engine="kubernetes", pod="shop/web", container="nginx")
    assert launch_of(recorded(container=container).meta) == expected
    merged_pod = replace(container, pod=replace(pod, name=None, uid=None))
    assert launch_of(recorded(container=merged_pod).meta) == expected
    different = replace(container, name=None, pod=Pod("shop", None, None, None))
    assert launch_of(recorded(container=different).meta) == Launch(engine="kubernetes")


def test_only_words_that_the_policy_cannot_show_are_kept_twice() -> None:
    container = Container("docker", "runc", None, None)
    assert launch_of(recorded(container=container, argv=("sh", "-c", "true")).meta).command == ()
    assert launch_of(recorded(container=container, argv=("sh", "-c", "a\nb")).meta).command == ("sh", "-c", "a\nb")
    assert launch_of(recorded(container=container, argv=("sh", "a\nb", "\udcff")).meta).command == ()


def test_a_command_and_a_unit() -> None:
    assert launch_of(recorded(uid=0, cwd="/tmp/x").meta) == Launch()
    assert launch_of(recorded(uid=5, gid=6, cwd="/tmp/x").meta) == Launch(user="5:6")
    unit = launch_of(recorded(uid=0, cwd="/srv", watched="unit redis.service").meta)
    assert unit == Launch(engine="systemd", unit="redis.service", directory="/srv")


def test_merging_keeps_what_is_the_same() -> None:
    here, there = ContainerMount("bind", "/x", "/data", False), ContainerMount("bind", "/y", "/data", False)
    one = Launch("docker", "33", "/srv", ports=("1/tcp",), mounts=(here,), read_only=True, gid=5, tasks=64)
    assert merged([one, one]) == one
    assert merged([one, replace(one, tasks=256)]).tasks == 256
    other = Launch("docker", "34", "/srv", ports=("2/tcp",), mounts=(there,))
    unnamed = ContainerMount("volume", "", "/data", False)
    assert merged([one, other]) == Launch("docker", None, "/srv", ports=("1/tcp", "2/tcp"), mounts=(unnamed,))


def test_a_mount_that_a_variable_names_moves_with_it() -> None:
    mount = ContainerMount("volume", "db", "/data/", False)
    container = Container("docker", "runc", None, None, mounts=(mount,))
    policy = derive(touching(file("/data/a.db"), container=container), Options())
    text = dumps(policy)
    assert 'destination: "{@volume_db}"' in text
    assert loads(text.encode(), "policy.yaml") == policy
    moved = loads(text.replace("paths: [/data]", "paths: [/srv]").encode(), "policy.yaml")
    assert [row.destination for row in moved.workload.launch.mounts] == ["/srv"]
    with pytest.raises(InputError, match="neither an absolute path nor a variable"):
        loads(text.replace('destination: "{@volume_db}"', 'destination: "{@volume_x}"').encode(), "policy.yaml")
