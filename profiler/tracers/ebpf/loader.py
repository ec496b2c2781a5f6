"""Loading the programs of recorder.bpf.c: its maps, its programs, its rings, and where the programs are attached.

bcc compiles, without kernel headers (compiled.py): it asks for a kernel source tree, and the folder ``include`` here
has all of it that is needed. Maps are made and programs loaded by bpf(2) itself: bcc 0.26 cannot load a program for a
BTF tracepoint, and what was compiled before needs no compiler. Where structures of the kernel have their members is
kept as well, by the kernel's build.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from profiler import kept
from profiler.errors import TracerError
from profiler.tracers.ebpf import bpf
from profiler.tracers.ebpf.bpf import Map
from profiler.tracers.ebpf.btf import KIND_FUNC, KIND_TYPEDEF, KernelTypes
from profiler.tracers.ebpf.compiled import HERE, compiled
from profiler.tracers.ebpf.definitions import flags
from profiler.tracers.ebpf.libbpf import RING_CALLBACK, is_error, libbpf
from profiler.tracers.ebpf.shared import constant
from profiler.tracers.ebpf.symbols import UNKNOWN, Symbols
from profiler.wording import cause

_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)
_LOG_BYTES = 1 << 20
_LOADERS = 4
_RECURSION_MISSES = 208
"""Offset of the member in struct bpf_prog_info (Linux 5.12)."""
_PROG_INFO_BYTES = 256
_CHECKS = ("cap_capable", "security_capable")
_OWN_FUNCTIONS = ("bpf_", "__bpf_", "trace_")
"""Beginnings of the names of functions between a capability check and the recorder."""


def source() -> str:
    """Return the text of recorder.bpf.c with the files that it includes in their places.

    bcc rewrites map accesses in the main file only, and bytecode is kept under a hash of this text.
    """

    def read(name: str) -> str:
        return _INCLUDE.sub(lambda line: read(line[1]), (HERE / name).read_text(encoding="utf-8"))

    return read("recorder.bpf.c")


class Programs:
    """The compiled recorder with its maps. Programs are loaded and attached one by one; closing undoes everything."""

    def __init__(
        self, limits: Mapping[str, int], *, uses: bool = False, watch: bool = False, denials: bool = False
    ) -> None:
        """Compile, and make the maps.

        ``uses``, ``watch``: with uses.bpf.c, watch.bpf.c. ``denials``: calls that filters refuse are noted. Raises
        TracerError.
        """
        # Notes have the build's id (ld(1), --build-id). Where functions are changes with every boot.
        self._answers = kept.Answers("/sys/kernel/notes", int), kept.Answers("/proc/sys/kernel/random/boot_id", str)
        self.types, self._symbols = KernelTypes(self._answers[0].known), Symbols(self._answers[1].known)
        self._closed = False
        self._maps: dict[str, Map] = {}
        self._fds: dict[str, list[int]] = {}
        self._loaded: dict[str, int] = {}
        self._rings: dict[str, Any] = {}
        self._callbacks: list[Any] = []
        self.faults = 0
        """The number of events that a callback of a ring could not read."""
        self.first_fault: tuple[str, Exception] | None = None
        """The first of them, and why."""
        try:
            given = flags(self.types, limits, uses=uses, watch=watch, denials=denials)
            self.compiled = compiled(source(), given)
            self._make_maps()
        except BaseException:
            self.close()
            raise

    def _make_maps(self) -> None:
        try:
            for shape in self.compiled.maps:
                self._maps[shape.name] = Map(shape)
            if self.has("seed"):
                self._maps["seed"][0] = int.from_bytes(os.urandom(8), sys.byteorder)
        except OSError as error:
            raise TracerError(f"the kernel refuses a map of the eBPF recorder ({cause(error)})") from error

    # -- maps ----------------------------------------------------------------------------------------------------------

    def table(self, name: str) -> Map:
        """Return a map."""
        return self._maps[name]

    def has(self, name: str) -> bool:
        """Whether there is such a map, which depends on what is recorded."""
        return name in self._maps

    def counter(self, name: str) -> int:
        """Return a counter that all sessions share (``enum counter``)."""
        return int(self._maps["counters"][constant(name)])

    def set_counter(self, name: str, value: int) -> None:
        """Set a counter that all sessions share."""
        self._maps["counters"][constant(name)] = value

    def session(self, number: int) -> Any:
        """Return a copy of a session's row (``struct session``)."""
        return self._maps["sessions"][number]

    def map_fd(self, name: str) -> int:
        """Return the descriptor of a map."""
        return self._maps[name].fd

    def kernel_bytes(self) -> int:
        """Return the memory that the kernel holds for the maps."""
        return sum(each.kernel_bytes for each in self._maps.values())

    def members(self, session: int) -> frozenset[int]:
        """Return the numbers that the threads of a session ever had in their pid namespaces."""
        return frozenset(key.nr for key in self._maps["members"] if key.session == session)

    # -- rings ---------------------------------------------------------------------------------------------------------

    def open_ring(self, name: str, callback: Callable[[int, int], object]) -> None:
        """Have `consume` call ``callback`` (address, size) for each event of a ring. Raises TracerError."""

        def told(_context: Any, data: int, size: int) -> int:
            try:
                callback(data, size)
            except Exception as error:  # ctypes would print it, and go on
                self.faults += 1
                self.first_fault = self.first_fault or (f"an event of the ring {name}", error)
            return 0

        function = RING_CALLBACK(told)
        self._callbacks.append(function)  # the library keeps no reference
        ring = libbpf().ring_buffer__new(self.map_fd(name), function, None, None)
        if is_error(ring):
            raise TracerError(f"the kernel refuses the ring {name} of the eBPF recorder")
        self._rings[name] = ring

    def consume(self, *names: str) -> None:
        """Empty these rings, in this order; a ring that is not open is skipped."""
        for name in names:
            if name in self._rings:
                libbpf().ring_buffer__consume(self._rings[name])

    # -- programs ------------------------------------------------------------------------------------------------------

    def code(self, function: str) -> bytes:
        """Return a program's instructions as they are loaded."""
        return self.compiled.code(function, [self.map_fd(shape.name) for shape in self.compiled.maps])

    @contextlib.contextmanager
    def loading(self, functions: Mapping[str, str]) -> Iterator[None]:
        """Load functions for their BTF tracepoints while the caller does something else: the kernel's check of them
        takes longest of all.

        They are loaded, and no thread is left (a fork follows), when this ends. Raises TracerError.
        """
        targets = {function: self._tracepoint(tracepoint) for function, tracepoint in functions.items()}
        loads: dict[str, Future[int]] = {}
        try:
            with ThreadPoolExecutor(min(_LOADERS, os.cpu_count() or 1)) as workers:
                for function, tracepoint in functions.items():
                    given = function, bpf.PROG_TYPE_TRACING, bpf.ATTACH_TRACE_RAW_TP, targets[function], tracepoint
                    loads[function] = workers.submit(self._load, *given)
                yield
        finally:
            self._loaded |= {name: load.result() for name, load in loads.items() if load.exception() is None}
        for load in loads.values():
            load.result()

    def has_tracepoint(self, name: str) -> bool:
        """Return whether this kernel has a BTF tracepoint of this name."""
        return self.types.find(f"btf_trace_{name}", KIND_TYPEDEF) is not None

    def attach_tracepoint(self, function: str, tracepoint: str) -> None:
        """Attach ``function`` to a BTF tracepoint, and load it first unless it is loaded. Raises TracerError."""
        self._open(function, bpf.PROG_TYPE_TRACING, bpf.ATTACH_TRACE_RAW_TP, self._tracepoint(tracepoint), tracepoint)

    def attach_lsm(self, function: str, hook: str) -> None:
        """Load ``function`` and attach it to an LSM hook. Raises TracerError."""
        target = self.types.find(f"bpf_lsm_{hook}", KIND_FUNC)
        if target is None:
            raise TracerError(f"this kernel has no LSM hook {hook} for BPF")
        self._open(function, bpf.PROG_TYPE_LSM, bpf.ATTACH_LSM_MAC, target, hook)

    def attach_iterator(self, function: str, what: str) -> None:
        """Load ``function`` for an iterator (``task``), which :meth:`iterate` runs. Raises TracerError."""
        target = self.types.find(f"bpf_iter_{what}", KIND_FUNC)
        if target is None:
            raise TracerError(f"this kernel has no BPF iterator over {what}s")
        program = self._load(function, bpf.PROG_TYPE_TRACING, bpf.ATTACH_TRACE_ITER, target, what)
        # prog_fd, target_fd, attach_type, flags
        attribute = struct.pack("=IIII", program, 0, bpf.ATTACH_TRACE_ITER, 0)
        self._link(function, program, bpf.LINK_CREATE, attribute, f"an iterator over {what}s")

    def iterate(self, function: str) -> None:
        """Run an attached iterator once over everything."""
        reader = bpf.bpf(bpf.ITER_CREATE, struct.pack("=II", self._fds[function][1], 0))
        try:
            while os.read(reader, 4096):
                pass
        finally:
            os.close(reader)

    def attach_kprobe(self, function: str, symbol: str, *, back: bool = False) -> None:
        """Load ``function`` and attach it to the beginning of a kernel function, or to its end (``back``). Raises
        TracerError."""
        program = self._load(function, bpf.PROG_TYPE_KPROBE, 0, 0, symbol)
        try:
            self._fds[function] = [program, bpf.open_kprobe(program, symbol, back=back)]
        except OSError as error:
            os.close(program)
            raise TracerError(
                f"kprobes do not work here: the kernel refuses one on {symbol} ({cause(error)})"
            ) from error

    def attached(self, function: str) -> bool:
        """Whether a program is attached now."""
        return function in self._fds

    def detach(self, function: str) -> None:
        """Detach a program that is attached to a tracepoint, a hook or an iterator; loading it again is quick."""
        for fd in self._fds.pop(function, []):
            os.close(fd)

    def detach_all(self) -> None:
        """Detach everything; the maps stay."""
        for function in list(self._fds):
            self.detach(function)

    def missed(self, *functions: str) -> int:
        """Return how many runs of attached programs the kernel skipped because they were running on that processor."""
        total = 0
        for function in filter(self.attached, functions):
            with contextlib.suppress(OSError):
                info = bpf.info(self._fds[function][0], _PROG_INFO_BYTES)
                total += struct.unpack_from("=Q", info, _RECURSION_MISSES)[0]
        return total

    def add_tail(self, function: str, index: int) -> None:
        """Make a loaded ``function`` the tail call of this index. Raises TracerError."""
        program = self._loaded.pop(function)
        try:
            self.table("tails")[index] = program
        except OSError as error:
            raise TracerError(f"the kernel refuses the eBPF program {function} ({cause(error)})") from error
        finally:
            os.close(program)

    def _tracepoint(self, name: str) -> int:
        target = self.types.find(f"btf_trace_{name}", KIND_TYPEDEF)
        if target is None:
            raise TracerError(f"this kernel has no tracepoint {name}")
        return target

    def _load(self, function: str, program_type: int, attach_type: int, target: int, name: str) -> int:
        code = self.code(function)
        try:
            return bpf.load(code, program_type, attach_type, target, function)
        except OSError as error:
            log = ctypes.create_string_buffer(_LOG_BYTES)
            with contextlib.suppress(OSError):
                os.close(bpf.load(code, program_type, attach_type, target, function, log))
            lines = log.value.decode("utf-8", "replace").strip().splitlines()
            detail = f": {lines[-2] if len(lines) > 1 else lines[0]}" if lines else ""
            raise TracerError(
                f"the kernel refuses the eBPF program {function} for {name} ({cause(error)}){detail}"
            ) from error

    def _open(self, function: str, program_type: int, attach_type: int, target: int, name: str) -> None:
        program = self._loaded.pop(function, None)
        if program is None:
            program = self._load(function, program_type, attach_type, target, name)
        self._link(function, program, bpf.RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program), f"to attach to {name}")

    def _link(self, function: str, program: int, command: int, attribute: bytes, what: str) -> None:
        try:
            link = bpf.bpf(command, attribute)
        except OSError as error:
            os.close(program)
            raise TracerError(f"the kernel refuses {what} ({cause(error)})") from error
        self._fds[function] = [program, link]

    # -- call chains, and the end --------------------------------------------------------------------------------------

    def chain(self, addresses: Iterable[int]) -> tuple[str, ...]:
        """Return the function names of a kernel stack, from the capability check outwards.

        Empty where the kernel hides addresses (kptr_restrict).
        """
        names: list[str] = []
        for address in reversed(tuple(addresses)):
            name = self._symbols.name(address)
            if names and names[-1].startswith(_CHECKS) and not name.startswith(_CHECKS):
                break  # what follows is the recorder
            names.append(name)
        names.reverse()
        if names and names[0].startswith(_CHECKS):
            return tuple(names)
        return tuple(name for name in names if name != UNKNOWN and not name.startswith(_OWN_FUNCTIONS))

    def close(self) -> None:
        """Detach everything and free the maps. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.detach_all()
        for program in self._loaded.values():
            os.close(program)
        for ring in self._rings.values():
            libbpf().ring_buffer__free(ring)
        for each in self._maps.values():
            os.close(each.fd)
        for answers in self._answers:
            answers.keep()
        self.types.close()
