#!/usr/bin/python3
"""Run a command under a seccomp profile and no_new_privs without a container, which an ordinary user may do.

    confine.py seccomp.json COMMAND...

Loads the profile with libseccomp (seccomp_init(3), seccomp_rule_add_array(3)). It reads the parts of the format that
`profgen generate` writes. Calls with a name that this libseccomp does not know stay refused.
"""

import ctypes
import json
import os
import sys

ALLOW, ERRNO, LOG, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x7FFC0000, 0x80000000
COMPARE = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
SCMP_FLTATR_CTL_NNP = 3
PR_SET_NO_NEW_PRIVS = 38


class Argument(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = [
        ("position", ctypes.c_uint),
        ("compare", ctypes.c_int),
        ("one", ctypes.c_uint64),
        ("two", ctypes.c_uint64),
    ]


def action(name, errno):
    return {"ALLOW": ALLOW, "ERRNO": ERRNO | errno, "LOG": LOG, "KILL_PROCESS": KILL_PROCESS}[
        name.removeprefix("SCMP_ACT_")
    ]


def load(profile):
    """Confine this process, or exit with a message if the filter cannot be loaded."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(
        library.seccomp_init(ctypes.c_uint32(action(profile["defaultAction"], profile.get("defaultErrnoRet", 1))))
    )
    library.seccomp_attr_set(context, SCMP_FLTATR_CTL_NNP, ctypes.c_uint32(0))  # set below, where a failure is noticed
    for rule in profile["syscalls"]:
        arguments = [
            Argument(arg["index"], COMPARE[arg["op"].removeprefix("SCMP_CMP_")], arg["value"], arg.get("valueTwo", 0))
            for arg in rule.get("args") or []
        ]
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number < 0:
                continue
            what = ctypes.c_uint32(action(rule["action"], rule.get("errnoRet", 1)))
            array = (Argument * len(arguments))(*arguments)
            if (status := library.seccomp_rule_add_array(context, what, number, len(arguments), array)) != 0:
                sys.exit(f"confine: no rule for {name}: {os.strerror(-status)}")
    if ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or (status := library.seccomp_load(context)) != 0:
        sys.exit("confine: cannot load the filter")


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: confine.py seccomp.json COMMAND...")
    with open(sys.argv[1], encoding="utf-8") as file:
        profile = json.load(file)
    load(profile)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
