"""Capability checks of a session: which of them were needed, and the kernel's call chains that tell it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from profiler.files import kernel_text
from profiler.kernel.capabilities import is_advisory, is_audited
from profiler.kernel.capabilities import name_of as capability_name
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.shared import constant

SYMBOLS_HIDDEN = "the kernel hides the names of its functions"
SYMBOLS_FIX = "sysctl kernel.kptr_restrict=1, and CAP_SYSLOG"

_ACCESS_CALLS = frozenset({"access", "faccessat", "faccessat2"})
_AUDITED = {constant("AUDITED_NO"): False, constant("AUDITED_YES"): True}


def symbols_readable() -> bool:
    """Whether /proc/kallsyms shows addresses to profgen (kernel.kptr_restrict, proc_sys_kernel(5))."""
    with kernel_text("/proc/kallsyms") as file:
        # Per-processor symbols may really be at 0, functions are not.
        return any(int(line[:16], 16) != 0 for line in file if line[17:18] in "tT")


class Checks:
    """Reads keys of the map ``checks`` (``struct check_key``)."""

    def __init__(self, programs: Programs, confined: bool) -> None:
        """``confined``: the run is under a policy. A refusal then counts if the policy is its cause: for want of what
        root had without it."""
        self._programs = programs
        self._confined = confined
        self._chains: dict[int, tuple[str, ...]] = {}
        self.named = symbols_readable()
        """Whether call chains have names."""

    def evidence(self, key: Any, label: str, own: Collection[str]) -> tuple[str, str, str, bool | None, bool, bool]:
        """Return what Recording.check takes of a key. ``label``: of the call. ``own``: as in advisory_reason."""
        return (
            _name(key.cap),
            "child" if key.child else "initial",
            "refused" if key.refused else "granted",
            _AUDITED[key.audited] if key.audited in _AUDITED else is_audited(self.chain(key.stack)),
            self._decisive(key, label, own),
            False,
        )

    def chain(self, stack: int) -> tuple[str, ...]:
        """Return a kernel call chain by its key. Empty when names are hidden, or when it found no room (a loss)."""
        if stack not in self._chains:
            try:
                addresses = self._programs.table("stacks")[stack].address if self.named else ()
            except KeyError:
                addresses = ()
            self._chains[stack] = self._programs.chain(address for address in addresses if address)
        return self._chains[stack]

    def _decisive(self, key: Any, label: str, own: Collection[str] = ()) -> bool:
        """Whether the check's result matters to the call."""
        # access(2) swaps credentials to check the real ids. Any other swap checks somebody else's (overlayfs).
        foreign = bool(key.overridden) and label.rpartition(":")[2] not in _ACCESS_CALLS
        by_itself = self._confined and key.refused and not key.taken
        return not (key.idle or foreign or by_itself or is_advisory(_name(key.cap), self.chain(key.stack), own=own))


def _name(number: int) -> str:
    return capability_name(number) or f"CAP_{number}"
