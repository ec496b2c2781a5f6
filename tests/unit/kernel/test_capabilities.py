"""Capabilities and what kernel call chains say about checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.kernel import capabilities as caps
from profiler.kernel.data import load

CHECK = ["cap_capable", "security_capable", "ns_capable"]
INODE = ["cap_capable", "security_capable", "capable_wrt_inode_uidgid"]


def test_the_list_is_this_kernels_or_longer() -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert len(caps.CAPABILITIES) == 41
    assert last >= 40
    assert caps.name_of(21) == "CAP_SYS_ADMIN"
    assert caps.number_of("CAP_CHECKPOINT_RESTORE") == 40
    assert caps.name_of(63) == "CAP_63"
    assert caps.number_of("CAP_NOPE") is None


def test_every_rule_names_its_source_and_known_capabilities() -> None:
    for row in load("capabilities.yaml")["advisory"]:
        assert row["source"].count(":") >= 1
        assert row["reason"]
        assert row.get("below") or row.get("directly")
        assert set(row["capabilities"]) <= set(caps.CAPABILITIES)


@pytest.mark.parametrize(
    ("capability", "chain"),
    [
        ("CAP_SYS_ADMIN", ["cap_capable", "cap_vm_enough_memory", "security_vm_enough_memory_mm", "mmap_region"]),
        ("CAP_SYS_ADMIN", ["cap_capable.isra.0", "security_vm_enough_memory_mm.constprop.1", "dup_mmap"]),
        ("CAP_IPC_LOCK", [*CHECK, "capable", "io_uring_create", "io_uring_setup"]),
        ("CAP_SYS_RESOURCE", ["cap_capable", "has_ns_capability_noaudit", "has_capability_noaudit", "__set_oom_adj"]),
        (
            "CAP_SYS_PTRACE",
            ["cap_capable", "ns_capable_noaudit", "__ptrace_may_access", "ptrace_may_access", "do_task_stat"],
        ),
        (
            "CAP_NET_ADMIN",
            ["cap_capable", "ns_capable_noaudit", "net_ctl_permissions", "proc_sys_permission", "inode_permission"],
        ),
        ("CAP_SETPCAP", ["cap_capable", "cap_capset", "security_capset", "__do_sys_capset"]),
        ("CAP_SYS_ADMIN", ["cap_capable", "ns_capable_noaudit", "simple_xattr_list", "shmem_listxattr"]),
        ("CAP_DAC_OVERRIDE", [*INODE, "generic_permission", "inode_permission", "ovl_permission", "inode_permission"]),
        ("CAP_CHOWN", [*INODE, "setattr_prepare", "ext4_setattr", "notify_change", "ovl_setattr", "notify_change"]),
        (
            "CAP_SYS_ADMIN",
            ["bpf_prog_1234_x", "bpf_trace_run5", "cap_capable", "security_vm_enough_memory_mm+0x1f/0x40"],
        ),
    ],
)
def test_advisory(capability: str, chain: list[str]) -> None:
    assert caps.is_advisory(capability, chain)
    assert caps.advisory_reason(capability, chain)


@pytest.mark.parametrize(
    ("capability", "chain"),
    [
        ("CAP_SYS_ADMIN", []),
        ("CAP_SYS_ADMIN", [*CHECK, "may_mount", "path_mount"]),
        ("CAP_SYS_RESOURCE", [*CHECK, "capable", "__set_oom_adj"]),
        ("CAP_SETPCAP", ["cap_capable", "cap_task_prctl", "security_task_prctl"]),
        ("CAP_NET_BIND_SERVICE", [*CHECK, "__inet_bind", "inet_bind"]),
        # The workload's own checks on overlayfs, which is where containers live.
        ("CAP_DAC_OVERRIDE", [*INODE, "generic_permission", "ovl_permission", "inode_permission"]),
        ("CAP_CHOWN", [*INODE, "setattr_prepare", "ovl_setattr", "notify_change"]),
        ("CAP_SYS_ADMIN", ["cap_capable", "ns_capable_noaudit", "seccomp_set_mode_filter", "do_seccomp"]),
        # The same function for another capability.
        ("CAP_CHOWN", ["cap_capable", "security_vm_enough_memory_mm", "mmap_region"]),
        ("CAP_SYSLOG", ["cap_capable", "kallsyms_show_value", "kallsyms_open"]),
    ],
)
def test_not_advisory(capability: str, chain: list[str]) -> None:
    assert not caps.is_advisory(capability, chain)


@pytest.mark.parametrize(
    ("syscall", "arguments", "advisory"),
    [
        ("chmod", (0, 0o644), True),
        ("chmod", (0, 0o2755), False),
        ("fchmodat", (0, 0, 0o644), True),
        ("fchmodat", (0, 0, 0o2755), False),
        ("chown", (0, 5, 5), False),
        (None, (), False),
        ("chmod", (), False),
    ],
)
def test_setgid_bit_of_chmod(syscall: str | None, arguments: tuple[int, ...], advisory: bool) -> None:
    chain = [*INODE, "in_group_or_capable", "setattr_prepare", "ext4_setattr"]
    assert caps.is_advisory("CAP_FSETID", chain, syscall, arguments) is advisory


@pytest.mark.parametrize(
    ("chain", "audited"),
    [
        (["cap_capable", "security_capable", "ns_capable_noaudit", "seccomp_set_mode_filter"], False),
        (["cap_capable", "has_capability_noaudit", "__set_oom_adj"], False),
        (["cap_capable", "security_vm_enough_memory_mm", "mmap_region"], False),
        (["cap_capable", "security_capable", "capable", "sys_reboot"], True),
        (["cap_capable", "capable_wrt_inode_uidgid", "generic_permission"], True),
        (["cap_capable", "cap_task_prctl"], None),
        ([], None),
    ],
)
def test_is_audited(chain: list[str], audited: bool | None) -> None:
    assert caps.is_audited(chain) is audited
