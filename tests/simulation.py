"""Simulate the kernel: compile a seccomp profile as runc does, with libseccomp, and run the BPF program for a call.

This is an independent judge of profgen's writer and readers. It knows nothing of policies, and shares no table with
them but the numbers of syscalls.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyseccomp

from profiler.kernel.syscalls import names_of, number_of

Instructions = Sequence[tuple[int, int, int, int]]
"""A BPF program: (code, jump if true, jump if false, operand) (linux/filter.h struct sock_filter)."""

ALLOWED = 0x7FFF0000
LOGGED = 0x7FFC0000
NOTIFIED = 0x7FC00000
ERRNO = 0x00050000
X86_64, I386 = 0xC000003E, 0x40000003
AUDIT_ARCHES = {"x86_64": X86_64, "i386": I386}

_ACTIONS = {
    "KILL": 0,
    "KILL_THREAD": 0,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x00030000,
    "ERRNO": ERRNO,
    "TRACE": 0x7FF00000,
    "LOG": LOGGED,
    "NOTIFY": NOTIFIED,
    "ALLOW": ALLOWED,
}
_ARCHES = {"SCMP_ARCH_X86_64": X86_64, "SCMP_ARCH_X86": I386, "SCMP_ARCH_X32": 0x4000003E}
_OPERATORS = {name: getattr(pyseccomp, name) for name in ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ")}
_MANY_RULES = 32
_UNKNOWN = -1
_SECONDS = 10
"""libseccomp 2.5.4 does not always come to an end when it joins rules that compare 64 bits."""

EPERM = 1


class NotStarted(Exception):
    """libseccomp refuses the profile, so runc does not start a container with it."""


class NotFinished(Exception):
    """libseccomp does not come to an end."""


def action_of(word: str, errno: int | None) -> int:
    """Return libseccomp's number for an action, as runc makes it (int16 of errnoRet)."""
    code = _ACTIONS[word.removeprefix("SCMP_ACT_")]
    if code in (ERRNO, _ACTIONS["TRACE"]):
        code |= (EPERM if errno is None else errno) & 0xFFFF
    return code


def compiled(profile: Mapping[str, Any]) -> Instructions:
    """Return the program that runc loads for an OCI profile (libcontainer/seccomp/seccomp_linux.go).

    It is made in another process. Raises NotStarted and NotFinished.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_SECONDS)
            try:
                result: object = program(_built(profile))
            except (OSError, ValueError) as error:
                result = str(error) or type(error).__name__
            with open(writing, "wb") as file:
                pickle.dump(result, file)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        raise NotFinished
    found = pickle.loads(data)
    if isinstance(found, str):
        raise NotStarted(found)
    return found  # type: ignore[no-any-return]


def _built(profile: Mapping[str, Any]) -> pyseccomp.SyscallFilter:
    default = action_of(profile["defaultAction"], profile.get("defaultErrnoRet"))
    built = pyseccomp.SyscallFilter(default)
    for arch in profile.get("architectures", ()):
        if not built.exist_arch(_ARCHES[arch]):
            built.add_arch(_ARCHES[arch])
    calls = [(name, rule) for rule in profile.get("syscalls", ()) for name in rule["names"]]
    if len(calls) > _MANY_RULES:
        built.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)
    for name, rule in calls:
        action = action_of(rule["action"], rule.get("errnoRet"))
        if action == default:
            continue
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        if number == _UNKNOWN:
            continue
        tests = [
            pyseccomp.Arg(
                test["index"], _OPERATORS[test["op"].removeprefix("SCMP_CMP_")], test["value"], test.get("valueTwo", 0)
            )
            for test in rule.get("args") or ()
        ]
        apart = len({test["index"] for test in rule.get("args") or ()}) < len(tests)
        for part in [[test] for test in tests] if apart else [tests]:
            built.add_rule(action, number, *part)
    return built


def program(built: pyseccomp.SyscallFilter) -> Instructions:
    """Return the program of a libseccomp filter."""
    with tempfile.TemporaryFile() as file:
        built.export_bpf(file)
        file.seek(0)
        return list(struct.iter_unpack("<HBBI", file.read()))


def run(instructions: Instructions, number: int, arguments: Sequence[int], arch: int = X86_64) -> int:
    """Return what the filter answers to a call (linux/filter.h, linux/seccomp.h struct seccomp_data)."""
    return answer(instructions, number, arguments, arch)[0]


_ARGUMENTS_AT = 16
"""The offset of the arguments in struct seccomp_data."""


def answer(instructions: Instructions, number: int, arguments: Sequence[int], arch: int = X86_64) -> tuple[int, bool]:
    """Return what the filter answers to a call, and whether it looked at an argument."""
    words = struct.unpack("<16I", struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *arguments))
    at, accumulator, index, memory, looked = 0, 0, 0, [0] * 16, False
    while True:
        code, true, false, operand = instructions[at]
        at += 1
        if code == 0x15:  # jeq, the most frequent
            at += true if accumulator == operand else false
        elif code == 0x20:  # ld
            looked = looked or operand >= _ARGUMENTS_AT
            accumulator = words[operand >> 2]
        elif code == 0x25:  # jgt
            at += true if accumulator > operand else false
        elif code == 0x35:  # jge
            at += true if accumulator >= operand else false
        elif code == 0x06:  # ret
            return operand, looked
        elif code == 0x05:  # ja
            at += operand
        elif code == 0x54:  # and
            accumulator &= operand
        elif code == 0x45:  # jset
            at += true if accumulator & operand else false
        elif code == 0x60:  # ld M[]
            accumulator = memory[operand]
        elif code == 0x02:  # st M[]
            memory[operand] = accumulator
        elif code in (0x1D, 0x2D, 0x3D):  # compare with X
            taken = {0x1D: accumulator == index, 0x2D: accumulator > index, 0x3D: accumulator >= index}[code]
            at += true if taken else false
        elif code == 0x07:  # tax
            index = accumulator
        elif code == 0x87:  # txa
            accumulator = index
        else:
            raise AssertionError(f"instruction {code:#x}")


ARGUMENT_SETS = 8
_LETS_THROUGH = (ALLOWED, LOGGED, NOTIFIED)
_EDGES = (0, 1, 2, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 1 << 63, (1 << 64) - 1)


def calls(profile: Mapping[str, Any], seed: int = 0) -> Iterator[tuple[str, str, tuple[int, ...], bool]]:
    """Yield (ABI, name, arguments, whether the kernel lets it through) for every x86-64 and i386 call.

    Calls whose arguments the filter looks at are made with ARGUMENT_SETS sets of arguments: values of the profile's
    rules for the name, their neighbours, and edges. Raises as ``compiled``.
    """
    instructions = compiled(profile)
    dice = random.Random(seed)
    interesting: dict[str, list[int]] = {}
    for rule in profile.get("syscalls", ()):
        for name in rule["names"]:
            for test in rule.get("args") or ():
                interesting.setdefault(name, []).extend((test["value"], test.get("valueTwo", 0)))
    everywhere = sorted({value for values in interesting.values() for value in values})
    for abi, arch in AUDIT_ARCHES.items():
        register = (1 << 64) - 1 if abi == "x86_64" else 0xFFFFFFFF
        for name in sorted(names_of(abi)):
            number = number_of(abi, name)
            if number is None or pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) == _UNKNOWN:
                continue  # newer than this libseccomp: no profile has rules for it
            none = (0,) * 6
            returned, looked = answer(instructions, number, none, arch)
            yield abi, name, none, returned & 0xFFFF0000 in _LETS_THROUGH
            if not looked:
                continue
            values = [*interesting.get(name, everywhere), *_EDGES]
            if name in ("socketcall", "ipc"):
                values += range(25)
            for _ in range(ARGUMENT_SETS - 1):
                arguments = tuple((dice.choice(values) + dice.choice((0, 0, 0, 1, -1))) & register for _ in range(6))
                returned = run(instructions, number, arguments, arch)
                yield abi, name, arguments, returned & 0xFFFF0000 in _LETS_THROUGH
