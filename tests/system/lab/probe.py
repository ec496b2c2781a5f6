"""Ten acts that no recording here has, tried from within a container: what confines it must refuse each."""

from __future__ import annotations

from profiler.policy.launch import LIMITS

ACTS = ("write", "mount", "ptrace", "raw", "mknod", "chown", "setuid", "unshare", "keyctl", "forks")
"""``write``: a file in the root directory; ``raw``: a raw socket; ``forks``: more processes than the limit allows."""

FORKS = LIMITS[0] + 16
"""More than the smallest limit of tasks."""

_PROGRAM = f"""
import ctypes, os, signal, socket, stat, sys, time
libc = ctypes.CDLL(None, use_errno=True)

def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), 'refused')

def write():
    open('/new', 'w').close()

def mount():
    checked(libc.mount(b'none', b'/dev/shm', b'tmpfs', 0, None))

def ptrace():
    checked(libc.ptrace(0, 0, 0, 0))

def raw():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()

def mknod():
    os.mknod('/tmp/node', stat.S_IFCHR | 0o600, os.makedev(1, 3))

def chown():
    os.chown('/tmp/kept', 1, 1)

def setuid():
    os.setresuid(1, 1, 1)

def unshare():
    checked(libc.unshare(0x10000000))

def keyctl():
    checked(libc.syscall({{'x86_64': 250, 'aarch64': 219}}[os.uname().machine], 0, -3, 1))

def forks(count={FORKS}):
    read, write = os.pipe()
    children = []
    try:
        for _ in range(count):
            child = os.fork()
            if not child:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            children.append(child)
    finally:
        os.close(write)
        for child in children:
            os.waitpid(child, 0)

def alone(act):
    '''Do it in a child, so that no act changes the next one.'''
    child = os.fork()
    if not child:
        try:
            act()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0

open('/tmp/kept', 'w').close()
forks(2)
alone(lambda: None)
for name in sys.argv[1:]:
    if alone(globals()[name]):
        print(name)
"""

QUIET = ("/usr/bin/python3", "-ISc", _PROGRAM)
"""Does none of them, and what comes before and after each: its recording allows that."""
TRYING = (*QUIET, *ACTS)
"""Prints the names of those that were not refused."""
