"""What a policy changes in a config.json: never less than the file restricts, and the workload still runs."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from unit.policy.making import call, trace
from unit.targets.policies import file

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy
from profiler.targets.base import Existing, Loss, Output
from profiler.targets.oci.changes import MASKED, READ_ONLY
from profiler.targets.rendering import render_one
from profiler.trace.model import Container, ContainerMount

SPEC: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["app"], "noNewPrivileges": True},
    "root": {"path": "rootfs", "readonly": True},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
    ],
    "linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]}, "maskedPaths": ["/proc/acpi", "/own/"]},
}
"""As ``runc spec`` writes it, shorter."""


def policy(*files: FileRule, tasks: int | None = None, **meta: Any) -> Policy:
    made = derive(trace(call("read"), **meta), Options())
    launch = replace(made.workload.launch, tasks=tasks)
    return replace(made, files=files, has_files=True, workload=replace(made.workload, launch=launch))


def output(made: Policy, document: dict[str, Any] | None = None, **options: object) -> Output:
    existing = Existing("config.json", json.dumps(SPEC if document is None else document, indent="\t").encode())
    first = render_one("oci", made, options, existing)
    again = render_one("oci", made, options, Existing("config.json", first.files[0].data))
    assert again.files == first.files, "twice is the same as once"
    return first


def config(made: Policy, document: dict[str, Any] | None = None, **options: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output(made, document, **options).files[0].data)
    return found


def changed(**members: Any) -> dict[str, Any]:
    """SPEC with members replaced, by their paths with underscores."""
    document = copy.deepcopy(SPEC)
    for path, value in members.items():
        *way, last = path.split("_")
        place = document
        for key in way:
            place = place.setdefault(key, {})
        place[last] = value
    return document


def losses(made: Policy, document: dict[str, Any] | None = None, **options: object) -> list[tuple[str, str]]:
    return [(loss.item, loss.effect) for loss in output(made, document, **options).losses]


def mounted(document: dict[str, Any]) -> list[str]:
    return [row["destination"] for row in document["mounts"]]


WRITES = file("/tmp/x", "create", "write")
KEEPS = file("/var/lib/app/db", "read", "write")


def test_a_read_only_root_gets_what_the_workload_writes() -> None:
    made = config(policy(WRITES, file("/run/app/lib.so", "create", "execute")))
    assert made["root"] == {"path": "rootfs", "readonly": True}
    assert mounted(made) == ["/proc", "/dev", "/run/app", "/tmp"]
    by_place = {row["destination"]: row for row in made["mounts"]}
    assert by_place["/tmp"]["options"] == ["nosuid", "nodev", "noexec", "mode=1777"]
    assert by_place["/run/app"]["options"] == ["nosuid", "nodev", "mode=1777"]


def test_a_mount_below_comes_after() -> None:
    below = {"destination": "/tmp/cache", "type": "bind", "source": "/x"}
    made = config(policy(WRITES), changed(mounts=[SPEC["mounts"][0], below, SPEC["mounts"][1]]))
    assert mounted(made) == ["/proc", "/tmp", "/tmp/cache", "/dev"]


def test_mounts_of_the_file_stay() -> None:
    own = {"destination": "/tmp/", "type": "bind", "source": "/x", "options": ["rw"]}
    made = config(policy(WRITES), changed(mounts=[own]))
    assert made["mounts"] == [own]


def test_a_root_that_the_workload_writes_to_is_said() -> None:
    made = policy(KEEPS, WRITES)
    assert config(made)["root"]["readonly"] is False
    assert mounted(config(made)) == ["/proc", "/dev"]
    assert losses(made) == [("a root file system that can be written", "wider")]
    wanted = config(made, **{"read-only": "yes"})
    assert wanted["root"]["readonly"] is True
    assert mounted(wanted) == ["/proc", "/dev", "/tmp"]
    assert losses(made, **{"read-only": "yes"}) == [("/var/lib/app", "refused")]
    with_mount = changed(mounts=[*SPEC["mounts"], {"destination": "/var/lib/app", "type": "bind", "source": "/data"}])
    assert config(made, with_mount)["root"]["readonly"] is True
    assert losses(made, with_mount) == []


def test_a_root_that_can_be_written_stays_so_unless_the_recording_shows_that_another_does() -> None:
    writable = changed(root={"path": "rootfs"})
    assert config(policy(WRITES), writable)["root"] == {"path": "rootfs"}
    assert config(policy(WRITES), writable, **{"read-only": "yes"})["root"] == {"path": "rootfs", "readonly": True}
    recorded = policy(WRITES, container=Container("docker", "runc", "1", "web", "app:1"))
    assert config(recorded, writable)["root"]["readonly"] is True
    assert config(recorded, writable, **{"read-only": "no"})["root"] == {"path": "rootfs"}
    assert config(recorded, **{"read-only": "no"})["root"]["readonly"] is False


def test_volumes_that_the_file_lacks() -> None:
    mount = ContainerMount("volume", "data", "/data", read_only=False)
    made = policy(container=Container("docker", "runc", "1", "web", "app:1", mounts=(mount,)))
    assert config(made)["root"]["readonly"] is False
    assert losses(made, **{"read-only": "yes"}) == [("/data", "refused")]


def test_without_files_nothing_but_calls_and_capabilities_change() -> None:
    made = derive(trace(call("read")), Options())
    found = config(made)
    assert (found["root"], found["mounts"]) == (SPEC["root"], SPEC["mounts"])
    assert found["linux"]["resources"] == SPEC["linux"]["resources"]


DEVICES = (
    file("/dev/fuse", "read", "write", kinds=("char",)),
    file("/dev/null", "write", kinds=("char",)),
    file("/dev/rtc0", "read", kinds=("char",)),
)


def test_devices() -> None:
    made = policy(*DEVICES)
    found = config(made)["linux"]
    assert found["resources"]["devices"] == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
    ]
    assert [row["path"] for row in found["devices"]] == ["/dev/fuse"]
    assert losses(made) == [("/dev/rtc0", "refused")]


def test_a_device_of_the_file_says_its_numbers() -> None:
    own = {"path": "/dev/rtc0", "type": "c", "major": 254, "minor": 0}
    made = config(policy(*DEVICES), changed(linux_devices=[own]))["linux"]
    assert [row["path"] for row in made["devices"]] == ["/dev/rtc0", "/dev/fuse"]
    assert made["resources"]["devices"][-1] == {"allow": True, "type": "c", "major": 254, "minor": 0, "access": "r"}
    assert losses(policy(*DEVICES), changed(linux_devices=[own])) == []


@pytest.mark.parametrize(("own", "limit"), [(None, 256), (0, 256), (-1, 256), (100, 100), (256, 256), (1000, 256)])
def test_the_lower_limit_of_tasks_holds(own: Any, limit: int) -> None:
    document = SPEC if own is None else changed(linux_resources_pids_limit=own)
    assert config(policy(tasks=256), document)["linux"]["resources"]["pids"]["limit"] == limit


def test_a_file_for_an_ordinary_user_gets_no_limits() -> None:
    """runc could not set them, and would not start the container."""
    document = changed(linux={"namespaces": [{"type": "user"}, {"type": "mount"}]})
    assert "resources" not in config(policy(*DEVICES, tasks=256), document)["linux"]
    document["linux"]["resources"] = {}
    assert config(policy(tasks=256), document)["linux"]["resources"]["pids"] == {"limit": 256}


def test_no_path_is_shown_again() -> None:
    found = config(policy())["linux"]
    assert found["maskedPaths"] == ["/proc/acpi", "/own/", *(path for path in MASKED if path != "/proc/acpi")]
    assert found["readonlyPaths"] == list(READ_ONLY)


def test_what_the_added_paths_refuse_is_said() -> None:
    rows = (
        file("/proc/timer_list", "read"),
        file("/proc/sys/kernel/x", "read"),
        file("/proc/sys/net/y", "write"),
        file("/proc/acpi/z", "read"),  # the file's own
    )
    assert losses(policy(*rows)) == [("/proc/timer_list", "refused"), ("/proc/sys/net/y", "refused")]
    assert losses(policy(*rows, container=Container("docker", "runc", "1", "web", "app:1"))) == []


def test_labels() -> None:
    label = "system_u:system_r:container_t:s0:c1,c2"
    assert config(policy(), **{"selinux-label": label})["process"]["selinuxLabel"] == label
    assert "selinuxLabel" not in config(policy())["process"]
    own = changed(process_selinuxLabel="a:b:c")
    assert config(policy(), own)["process"]["selinuxLabel"] == "a:b:c"


def test_a_label_is_checked() -> None:
    from profiler.targets.oci.target import SELINUX

    assert SELINUX.parse("a:b:c") == "a:b:c"
    for text in ("", "a:b", "a:b:c:", "a b:c:d", "a:b:c\n"):
        with pytest.raises(InputError):
            SELINUX.parse(text)


def test_the_fragment_says_the_same() -> None:
    made = policy(WRITES, *DEVICES, tasks=64, container=Container("docker", "runc", "1", "web", "app:1"))
    (fragment,) = render_one("oci", made, {"selinux-label": "a:b:c"}).files
    found = json.loads(fragment.data)
    into = config(made, {}, **{"selinux-label": "a:b:c"})
    assert found == into
    assert {"root", "mounts", "process", "linux"} == found.keys()
    assert isinstance(output(made).losses[0], Loss)
