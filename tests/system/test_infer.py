"""Which capabilities a call needs: inferred by the ptrace tracer, seen by the eBPF tracer, and what the kernel's rules
say.

Every case is a script of its own that makes one call or a few. All of them run in one recording, and as each script is
a program of its own in the trace, its capability rows can be told apart.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from executables import copy_program, write_program
from system.harness import NOBODY, TIMEOUT, Profgen

from profiler.tracers.host import has_capability

PYTHON = "/usr/bin/python3"

PRELUDE = """
import ctypes, os, socket, stat, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
other = int(open("other").read())
def call(name, *args):
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def refused(function, *args):
    try: function(*args)
    except PermissionError: return
    sys.exit("it was allowed")
def capset(effective, permitted, inheritable=0):
    low, high = ([word >> by & 0xffffffff for word in (effective, permitted, inheritable)] for by in (0, 32))
    call("capset", struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *low, *high))
def capget():
    data = (ctypes.c_uint32 * 6)()
    call("capget", struct.pack("Ii", 0x20080522, 0), data)
    return [data[at] | data[at + 3] << 32 for at in range(3)]
FOWNER, SETUID, NET_ADMIN, NET_RAW = (1 << number for number in (3, 7, 12, 13))
NEWUSER = 0x10000000
def write(name, text):
    with open(name, "w") as file: file.write(text)
def lower(name, value):
    try: write(name, str(value))
    except PermissionError: pass
def child(act, flags=NEWUSER):
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        call("unshare", flags)
        os.write(ready[1], b"x"); os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1); act(pid); os.write(go[1], b"x"); os.wait()
def netlink(protocol, kind, body=b""):
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    made.sendto(struct.pack("IHHII", 16 + len(body), kind, 5, 1, 0) + body, (0, 0))
    return struct.unpack_from("i", made.recv(4096), 16)[0]
def queue(count, size):
    attributes = struct.pack("8q", 0, count, size, 0, 0, 0, 0, 0)
    call("syscall", 240, str(os.getpid()).encode(), os.O_CREAT | os.O_RDWR, 0o600, attributes)
    call("syscall", 241, str(os.getpid()).encode())
"""


@dataclass(frozen=True)
class Case:
    """``needs`` is what the kernel's rules ask of root for this call, ``refused`` what an attempt lacked.

    ``ptrace`` is what inference says instead where it cannot know, ``ebpf`` what the kernel's checks show, each with
    the reason.
    """

    name: str
    code: str
    needs: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    ptrace: frozenset[str] | None = None
    ebpf: frozenset[str] | None = None
    why: str = ""
    within: str = "."
    """Directory to run in, below the case's own."""
    file: bytes = b""
    """The security.capability of a program next to the script, with the name of the case."""


def _names(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(f"CAP_{name}" for name in names)


def case(name: str, code: str, *needs: str, refused: tuple[str, ...] = (), **more: Any) -> Case:
    differing = {tracer: _names(more.pop(tracer)) for tracer in ("ptrace", "ebpf") if tracer in more}
    return Case(name, code, _names(needs), _names(refused), **differing, **more)


def _sysctl(name: str) -> int:
    return int(Path("/proc/sys", name).read_text())


def _file(permitted: int, effective: bool) -> bytes:
    """security.capability, struct vfs_cap_data."""
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    return struct.pack("<5I", 0x02000000 | effective, low, 0, high, 0)


SPAWN = "os.posix_spawn('./{0}', ['{0}'], {{}}); assert not os.wait()[1]"
PERFMON, NET_RAW, NET_ADMIN = 1 << 38, 1 << 13, 1 << 12
RESTRICTED_LOG = bool(_sysctl("kernel/dmesg_restrict"))
SYS_RESOURCE = has_capability("CAP_SYS_RESOURCE")
PROTECTED_LINKS = bool(_sysctl("fs/protected_hardlinks"))


def _lowers(name: str, code: str, *more: str) -> Case:
    """A case that needs CAP_SYS_RESOURCE, which root may lack here."""
    if SYS_RESOURCE:
        return case(name, code, "SYS_RESOURCE", *more)
    return case(name, code, *more, refused=("SYS_RESOURCE",))


# Files of every case's directory, all of root's own: mine (0644), mine_dir (0755). All of nobody's: theirs (0600),
# theirs_open (0666), theirs_dir (0700) with theirs_dir/inside (0644) and theirs_dir/sub (root's, 0755) with file,
# sticky (1777) with sticky/theirs. foreign_group (root's file, nobody's group). `other` holds the pid of a process of
# nobody's.
ROOT = (
    case("nothing", "pass"),
    case("list", "os.listdir('/')"),
    # sockets
    case("bind_low", "socket.socket().bind(('127.0.0.99', 987))", "NET_BIND_SERVICE"),
    case("bind_low_6", "socket.socket(socket.AF_INET6).bind(('::1', 986))", "NET_BIND_SERVICE"),
    case("bind_low_udp", "socket.socket(type=socket.SOCK_DGRAM).bind(('127.0.0.99', 985))", "NET_BIND_SERVICE"),
    case("bind_any", "socket.socket().bind(('127.0.0.99', 0))"),
    case("bind_unix", "socket.socket(socket.AF_UNIX).bind('socket')"),
    case(
        "bind_refused_address",
        "refused_ = socket.socket()\ntry: refused_.bind(('203.0.113.9', 984))\nexcept OSError: pass",
    ),
    case("raw", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "NET_RAW"),
    case("raw_6", "socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 58)", "NET_RAW"),
    case("packet", "socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)", "NET_RAW"),
    case("netlink", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    case("buffer_force", "socket.socket().setsockopt(1, 32, 8192); socket.socket().setsockopt(1, 33, 8192)"),
    case("debug", "socket.socket().setsockopt(1, 1, 1)", "NET_ADMIN"),
    case(
        "congestion_allowed",
        "socket.socket().setsockopt(6, 13, "
        "open('/proc/sys/net/ipv4/tcp_allowed_congestion_control', 'rb').read().split()[-1])",
    ),
    case("congestion_any", "[socket.socket().setsockopt(6, 13, name) for name in (b'reno', b'reno\\0')]"),
    case("audit_user", "assert netlink(9, 1107, b'text') == 0", "AUDIT_WRITE"),
    case("audit_oldest_user", "assert netlink(9, 1005, b'text') == 0", "AUDIT_WRITE"),
    case("audit_status", "netlink(9, 1000)", "AUDIT_CONTROL"),
    case("route_list", "netlink(0, 18, bytes(16))"),
    case(
        "route_set",
        "netlink(0, 16, struct.pack('BxHiII', 0, 0, socket.if_nametoindex('lo'), 0, 0))",
        "NET_ADMIN",
    ),
    case("netfilter", "netlink(12, 0xa01, bytes(4))", "NET_ADMIN"),
    case("mark", "socket.socket().setsockopt(1, 36, 5)", "NET_RAW"),
    case("priority_low", "socket.socket().setsockopt(1, 12, 6)"),
    case("priority_high", "socket.socket().setsockopt(1, 12, 7)", "NET_RAW"),
    case("transparent", "socket.socket().setsockopt(0, 19, 1)", "NET_RAW"),
    case("reuse", "socket.socket().setsockopt(1, 2, 1)"),
    # owners and modes
    case("chown", "os.chown('mine', 65534, 65534)", "CHOWN"),
    case("chown_group", "os.chown('mine', -1, 65534)", "CHOWN"),
    case("chown_keep", "os.chown('mine', -1, -1); os.chown('mine', 0, 0)"),
    case("fchown", "os.fchown(os.open('mine', os.O_RDONLY), 65534, -1)", "CHOWN"),
    case("fchownat_link", "os.symlink('theirs', 'link'); call('fchownat', -100, b'link', 0, 0, 0x100)"),
    case("fchownat_followed", "os.symlink('theirs', 'link'); call('fchownat', -100, b'link', 0, 0, 0)", "CHOWN"),
    case("lchown", "os.symlink('mine', 'link'); os.lchown('link', 65534, 65534)", "CHOWN"),
    case("chmod_mine", "os.chmod('mine', 0o600)"),
    case("chmod_theirs", "os.chmod('theirs', 0o640)", "FOWNER"),
    case("fchmod_theirs", "os.fchmod(os.open('theirs_open', os.O_RDONLY), 0o640)", "FOWNER"),
    case(
        "chmod_setgid",
        "os.chmod('foreign_group', 0o2755)\nassert os.stat('foreign_group').st_mode & stat.S_ISGID",
        "FSETID",
    ),
    case("chmod_foreign_group", "os.chmod('foreign_group', 0o750)"),
    case("utime_link", "os.symlink('theirs', 'link'); os.utime('link', (1, 1), follow_symlinks=False)"),
    case("utime_descriptor", "os.utime(os.open('theirs_open', os.O_RDONLY), (1, 1))", "FOWNER"),
    case("signal_without_pidfd", "libc.syscall(424, os.open('mine', os.O_RDONLY), 0, None, 0)"),
    case("utime_mine", "os.utime('mine', (1, 1)); os.utime('mine')"),
    case("utime_theirs", "os.utime('theirs', (1, 1))", "FOWNER"),
    case("utime_now_theirs", "os.utime('theirs')", "FOWNER"),
    case(
        "utime_now_theirs_open",
        "os.utime('theirs_open')",
        ebpf=("FOWNER",),
        why="the kernel asks for CAP_FOWNER before it looks at the mode bits, which would do",
    ),
    case("utime_omit_theirs", "call('utimensat', -100, b'theirs', struct.pack('4q', 0, 0x3ffffffe, 0, 0x3ffffffe), 0)"),
    case(
        "utime_one_theirs",
        "call('utimensat', -100, b'theirs', struct.pack('4q', 0, 0x3fffffff, 0, 0x3ffffffe), 0)",
        "FOWNER",
    ),
    case("noatime_theirs", "os.open('theirs_open', os.O_RDONLY | os.O_NOATIME)", "FOWNER"),
    case("noatime_mine", "os.open('mine', os.O_RDONLY | os.O_NOATIME)"),
    case("attribute_trusted", "os.setxattr('mine', 'trusted.x', b'1')", "SYS_ADMIN"),
    case(
        "attribute_capability",
        "os.setxattr('mine', 'security.capability', struct.pack('<5I', 0x02000000, 1, 0, 0, 0))",
        "SETFCAP",
    ),
    case("attribute_user", "os.setxattr('mine', 'user.x', b'1')"),
    # reading and writing what mode bits do not allow
    case("read_theirs", "open('theirs').read()", "DAC_READ_SEARCH"),
    case("write_theirs", "open('theirs', 'a')", "DAC_OVERRIDE"),
    case("write_theirs_open", "open('theirs_open', 'a')"),
    case("truncate_theirs", "os.truncate('theirs', 0)", "DAC_OVERRIDE"),
    case("path_theirs", "os.open('theirs', os.O_PATH)"),
    case("stat_theirs", "os.stat('theirs')"),
    case("access_theirs", "assert os.access('theirs', os.R_OK)", "DAC_READ_SEARCH"),
    case("access_theirs_write", "assert os.access('theirs', os.R_OK | os.W_OK)", "DAC_OVERRIDE"),
    case("access_exists", "assert os.access('theirs', os.F_OK)"),
    case("through_file", "try: os.stat('mine/below')\nexcept NotADirectoryError: pass"),
    case("through_file_theirs", "try: os.unlink('theirs/below')\nexcept NotADirectoryError: pass"),
    case("search_theirs", "os.stat('theirs_dir/inside')", "DAC_READ_SEARCH"),
    case("search_theirs_absent", "assert not os.path.exists('theirs_dir/absent')", "DAC_READ_SEARCH"),
    case(
        "search_theirs_open_absent", "try: open('theirs_dir/absent')\nexcept FileNotFoundError: pass", "DAC_READ_SEARCH"
    ),
    case("list_theirs", "os.listdir('theirs_dir')", "DAC_READ_SEARCH"),
    case("enter_theirs", "os.chdir('theirs_dir')", "DAC_READ_SEARCH"),
    case("through_theirs_by_link", "os.stat('link_there')", "DAC_READ_SEARCH"),
    case("link_within_theirs", "os.stat('theirs_dir/link_out')", "DAC_READ_SEARCH"),
    case("link_read_within_theirs", "os.readlink('theirs_dir/link_out')", "DAC_READ_SEARCH"),
    case("below_theirs", "open('file').read()", within="theirs_dir/sub"),
    case("below_theirs_up", "os.stat('../inside')", "DAC_READ_SEARCH", within="theirs_dir/sub"),
    case("own_process", "open('/proc/self/environ').read(); os.stat('/proc/self/fd/0'); os.readlink('/proc/self/exe')"),
    case("make_in_theirs", "open('theirs_dir/new', 'w')", "DAC_OVERRIDE", "DAC_READ_SEARCH"),
    case("mkdir_in_theirs", "os.mkdir('theirs_dir/new')", "DAC_OVERRIDE", "DAC_READ_SEARCH"),
    case("unlink_in_theirs", "os.unlink('theirs_dir/inside')", "DAC_OVERRIDE", "DAC_READ_SEARCH"),
    case("rename_into_theirs", "os.rename('mine', 'theirs_dir/mine')", "DAC_OVERRIDE", "DAC_READ_SEARCH"),
    case("unlink_mine", "os.unlink('mine')"),
    case("unlink_sticky", "os.unlink('sticky/theirs')", "FOWNER"),
    case("unlink_sticky_mine", "open('sticky/mine', 'w').close(); os.unlink('sticky/mine')"),
    case("link_theirs", "os.link('theirs', 'hard')", *(("DAC_OVERRIDE",) if PROTECTED_LINKS else ())),
    case("link_theirs_open", "os.link('theirs_open', 'hard')"),
    case("link_mine", "os.chmod('mine', 0o444); os.link('mine', 'hard')"),
    case("link_mine_closed", "os.chmod('mine', 0); os.link('mine', 'hard')"),
    case("link_mine_special", "os.mkfifo('fifo'); os.link('fifo', 'hard')"),
    case("link_mine_setuid", "os.chmod('mine', 0o4755); os.link('mine', 'hard')"),
    case(
        "link_mine_descriptor",
        "os.chmod('mine', 0o444); call('linkat', os.open('mine', os.O_RDONLY), b'', -100, b'hard', 0x1000)",
    ),
    case("link_theirs_setuid", "os.chmod('theirs', 0o4755); os.link('theirs', 'hard')", "FOWNER"),
    case("exec_in_theirs", "os.posix_spawn('theirs_dir/true', ['true'], {}); os.wait()", "DAC_READ_SEARCH"),
    # ids
    case("setuid", "os.setuid(65534)", "SETUID"),
    case("setuid_own", "os.setuid(0); os.seteuid(0); os.setresuid(-1, -1, -1); os.setreuid(0, -1)"),
    case("seteuid", "os.seteuid(65534)", "SETUID"),
    case("seteuid_back", "os.setresuid(65534, 65534, 0); os.seteuid(0)", "SETUID"),
    case("setreuid", "os.setreuid(65534, 65534)", "SETUID"),
    case("setfsuid", "libc.setfsuid(65534)", "SETUID"),
    case("setfsuid_own", "libc.setfsuid(0)"),
    case("setgid", "os.setgid(65534)", "SETGID"),
    case("setgid_own", "os.setgid(0); os.setegid(0); os.setresgid(-1, -1, -1)"),
    case("setregid", "os.setregid(65534, 65534)", "SETGID"),
    case("setfsgid", "libc.setfsgid(65534)", "SETGID"),
    case("setgroups", "os.setgroups([])", "SETGID"),
    case(
        "drop",
        "os.setgroups([65534]); os.setgid(65534); os.setuid(65534)\nrefused(os.setuid, 0)",
        "SETGID",
        "SETUID",
        refused=("SETUID",),
    ),
    case("bounding_drop", "call('prctl', 24, 5, 0, 0, 0)", "SETPCAP"),
    case("securebits", "call('prctl', 28, 0, 0, 0, 0)", "SETPCAP"),
    case("prctl_harmless", "call('prctl', 15, b'name', 0, 0, 0); call('prctl', 38, 1, 0, 0, 0)"),
    # sets
    case("capset_names", "capset(NET_RAW | SETUID, NET_RAW | SETUID | NET_ADMIN)", "NET_RAW", "SETUID", "NET_ADMIN"),
    case("capset_drops_one", "e, p, i = capget(); capset(e & ~FOWNER, p & ~FOWNER, i)"),
    case("capset_drops_all", "capset(0, 0)"),
    case("capset_later", "capset(0, NET_RAW); capset(NET_RAW, NET_RAW); capset(0, 0)", "NET_RAW"),
    case(
        "capset_looked",
        "capget(); capset(0, NET_RAW | NET_ADMIN); capset(NET_RAW, NET_RAW | NET_ADMIN)\n"
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "NET_RAW",
    ),
    case("capset_asked_version", "libc.capget(bytes(8), None); capset(0, NET_ADMIN)", "NET_ADMIN"),
    case("capset_in_child", "capget()\nif not os.fork(): capset(0, NET_ADMIN)\nelse: os.wait()"),
    case(
        "capset_version_1",
        "call('capset', struct.pack('Ii', 0x19980330, 0), struct.pack('3I', NET_RAW, NET_RAW, 0))",
        "NET_RAW",
    ),
    case("capset_inheritable", "e, p, i = capget(); capset(e, p, NET_RAW)", "NET_RAW"),
    case(
        "capset_not_permitted",
        "capset(NET_RAW, NET_RAW); refused(capset, NET_RAW, NET_RAW | NET_ADMIN)",
        "NET_RAW",
    ),
    case("capset_more_effective", "capset(NET_RAW, NET_RAW); refused(capset, SETUID, NET_RAW)", "NET_RAW"),
    case(
        "ambient",
        "capset(NET_RAW | NET_ADMIN, NET_RAW | NET_ADMIN, NET_RAW); call('prctl', 47, 2, 13, 0, 0)",
        "NET_RAW",
        "NET_ADMIN",
    ),
    case("ambient_all", "e, p, i = capget(); capset(e, p, p); call('prctl', 47, 2, 13, 0, 0)"),
    case(
        "ambient_not_inheritable",
        "capset(NET_RAW, NET_RAW); refused(call, 'prctl', 47, 2, 13, 0, 0)",
        "NET_RAW",
    ),
    case(
        "capset_not_in_bounding_set",
        "call('prctl', 24, 13, 0, 0, 0); capset(SETUID, SETUID); refused(capset, SETUID, SETUID | NET_RAW)",
        "SETPCAP",
        "SETUID",
        refused=("NET_RAW",),
    ),
    case("ambient_lower", "call('prctl', 47, 3, 13, 0, 0); call('prctl', 47, 4, 0, 0, 0)"),
    case("keep", "call('prctl', 8, 1, 0, 0, 0); os.setuid(65534); capset(NET_RAW, NET_RAW)", "NET_RAW", "SETUID"),
    # files with capabilities
    case("file_one", SPAWN.format("file_one"), "NET_RAW", file=_file(NET_RAW, True)),
    case("file_several", SPAWN.format("file_several"), "NET_ADMIN", "PERFMON", file=_file(NET_ADMIN | PERFMON, True)),
    case("file_permitted_only", SPAWN.format("file_permitted_only"), file=_file(NET_RAW, False)),
    case("file_none", SPAWN.format("file_none"), file=_file(0, True)),
    case(
        "file_in_user_namespace",
        "call('unshare', NEWUSER); " + SPAWN.format("file_in_user_namespace"),
        file=_file(NET_RAW, True),
    ),
    # other processes
    case("kill_theirs", "os.kill(other, 0)", "KILL"),
    case("kill_theirs_continue", "os.kill(other, 18)", "KILL"),
    case("kill_group", "os.killpg(other, 0)", "KILL"),
    case("kill_thread", "call('syscall', 200, other, 0)", "KILL"),
    case("kill_group_thread", "call('syscall', 234, other, other, 0)", "KILL"),
    case("kill_own", "os.kill(os.getpid(), 0); os.kill(0, 0)"),
    case("kill_absent", "try: os.kill(2**22, 0)\nexcept ProcessLookupError: pass"),
    case(
        "read_memory",
        "start = int(open(f'/proc/{other}/maps').read(12).split('-')[0], 16)\nroom = ctypes.create_string_buffer(8)\n"
        "call('process_vm_readv', other, struct.pack('2Q', ctypes.addressof(room), 8), 1, struct.pack('2Q', "
        "start, 8), 1, 0)",
        "SYS_PTRACE",
    ),
    case("read_own_memory", "libc.process_vm_readv(os.getpid(), None, 0, None, 0, 0)"),
    case(
        "read_environment",
        "open(f'/proc/{other}/environ').read()",
        "DAC_READ_SEARCH",
        "SYS_PTRACE",
        ptrace=("DAC_READ_SEARCH",),
        why="a check of procfs in addition to the mode bits",
    ),
    case("nice_up", "os.setpriority(os.PRIO_PROCESS, 0, -1)", "SYS_NICE"),
    case("nice_down", "os.setpriority(os.PRIO_PROCESS, 0, 5)"),
    case("nice_other", "os.setpriority(os.PRIO_PROCESS, other, 19)", "SYS_NICE"),
    case("realtime", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", "SYS_NICE"),
    case("batch", "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))"),
    case("affinity_other", "os.sched_setaffinity(other, os.sched_getaffinity(0))", "SYS_NICE"),
    case("limit_lower", "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 1))"),
    case(
        "lock_memory",
        "import resource; resource.setrlimit(8, (4096, 4096)); libc.mmap.restype = ctypes.c_void_p\n"
        "call('mlock', ctypes.c_void_p(libc.mmap(None, 1 << 16, 3, 0x22, -1, 0)), 1 << 16)",
        "IPC_LOCK",
    ),
    # the machine
    case("device", "os.mknod('device', stat.S_IFCHR | 0o600, os.makedev(1, 3))", "MKNOD"),
    case("device_block", "os.mknod('device', stat.S_IFBLK | 0o600, os.makedev(7, 250))", "MKNOD"),
    case("whiteout", "os.mknod('device', stat.S_IFCHR | 0o600, 0)"),
    case("fifo", "os.mkfifo('fifo'); os.mknod('regular', stat.S_IFREG | 0o600)"),
    case("chroot", "os.chroot('mine_dir')", "SYS_CHROOT"),
    case(
        "mount",
        "call('unshare', 0x20000); call('mount', b'none', b'mine_dir', b'tmpfs', 0, 0); call('umount2', "
        "b'mine_dir', 0)",
        "SYS_ADMIN",
    ),
    case("unshare_names", "call('unshare', 0x4000000); socket.sethostname('x')", "SYS_ADMIN"),
    case("unshare_time", "call('unshare', 0x80)", "SYS_ADMIN"),
    case(
        "clone3_time",
        "pid = libc.syscall(435, struct.pack('11Q', 0x80, 0, 0, 0, 17, *[0] * 6), 88)\nif not pid: os._exit(0)\n"
        "assert pid > 0; os.wait()",
        "SYS_ADMIN",
    ),
    case("unshare_files", "call('unshare', 0x200); call('unshare', 0x400)"),
    case("unshare_user", "call('unshare', 0x10000000)"),
    case("in_user_namespace", "call('unshare', 0x10000000 | 0x20000); call('mount', b'none', b'/', b'', 0x44000, 0)"),
    case("map_root", "call('unshare', NEWUSER); write('/proc/self/uid_map', '0 0 1')", "SETFCAP"),
    case("map_root_elsewhere", "call('unshare', NEWUSER); write('/proc/self/uid_map', '1000 0 1')", "SETFCAP"),
    case(
        "map_root_thread",
        "call('unshare', NEWUSER); write(f'/proc/self/task/{os.getpid()}/uid_map', '0 0 1')",
        "SETFCAP",
    ),
    case(
        "map_group",
        "call('unshare', NEWUSER); write('/proc/self/setgroups', 'deny'); write('/proc/self/gid_map', '0 0 1')",
    ),
    case(
        "map_root_clone",
        "pid = libc.syscall(56, NEWUSER | 17, 0, 0, 0, 0)\n"
        "if not pid: write('/proc/self/uid_map', '0 0 1'); os._exit(0)\nos.wait()",
        "SETFCAP",
    ),
    case(
        "map_root_new_processes",
        "call('unshare', NEWUSER | 0x20000000)\nwrite('/proc/self/uid_map', '0 0 1')",
        "SETFCAP",
    ),
    case("map_root_of_child", "child(lambda pid: write(f'/proc/{pid}/uid_map', '0 0 1'))", "SETFCAP"),
    case("map_range_of_child", "child(lambda pid: write(f'/proc/{pid}/uid_map', '0 0 10'))", "SETFCAP", "SETUID"),
    case("map_others_of_child", "child(lambda pid: write(f'/proc/{pid}/uid_map', '0 1000 10'))", "SETUID"),
    case("map_groups_of_child", "child(lambda pid: write(f'/proc/{pid}/gid_map', '0 0 1'))", "SETGID"),
    # other writes below /proc/PID
    _lowers("badness_lower", "lower('/proc/self/oom_score_adj', -5)"),
    _lowers("badness_lower_thread", "lower(f'/proc/self/task/{os.getpid()}/oom_score_adj', '-0x5')"),
    _lowers("badness_old", "write('/proc/self/oom_adj', '9'); lower('/proc/self/oom_adj', -9)"),
    _lowers(
        "badness_of_other",
        "write(f'/proc/{other}/oom_score_adj', '900'); lower(f'/proc/{other}/oom_score_adj', -5)",
        "DAC_OVERRIDE",
    ),
    case(  # a write with the capability makes its value the least
        "badness_back",
        "write('/proc/self/oom_score_adj', '900'); write('/proc/self/oom_score_adj', '800')",
        *(("SYS_RESOURCE",) if SYS_RESOURCE else ()),
    ),
    case("badness_higher", "write('/proc/self/oom_score_adj', '900'); write('/proc/self/oom_score_adj', '900')"),
    case(
        "badness_wrong",
        "try: write('/proc/self/oom_score_adj', '-1001')\nexcept OSError: pass\nelse: sys.exit('it was allowed')",
    ),
    case("login", "write('/proc/self/loginuid', '5'); write('/proc/self/loginuid', '6')", "AUDIT_CONTROL"),
    case("slack", "write('/proc/self/timerslack_ns', '60000')"),
    case("slack_of_other", "write(f'/proc/{other}/timerslack_ns', '60000')", "SYS_NICE"),
    case("map_other", "os.setresuid(65534, 65534, 0); call('unshare', NEWUSER)", "SETUID"),
    case("join", "call('setns', os.open('/proc/self/ns/uts', os.O_RDONLY), 0)", "SYS_ADMIN"),
    case("queue", "queue(10, 8192)"),
    case("alarm_clock", "call('timerfd_create', 8, 0)", "WAKE_ALARM"),
    case("clock", "call('timerfd_create', 7, 0); call('adjtimex', bytes(208))"),
    case("log_state", "call('klogctl', 9, None, 0)", "SYSLOG"),
    case("log_size", "call('klogctl', 10, None, 0)", *(("SYSLOG",) if RESTRICTED_LOG else ())),
    case(
        "immutable",
        "import fcntl; file = os.open('mine', os.O_RDONLY); flags = fcntl.ioctl(file, 0x80086601, bytes(8))\n"
        "fcntl.ioctl(file, 0x40086602, bytes([flags[0] | 0x10]) + flags[1:]); fcntl.ioctl(file, 0x40086602, flags)",
        "LINUX_IMMUTABLE",
        ptrace=(),
        why="a check below ioctl(2)",
    ),
    case(
        "lease",
        "import fcntl; fcntl.fcntl(os.open('theirs_open', os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)",
        "LEASE",
    ),
)

# Run by the user nobody, on files of root's: what is refused, and that nothing is granted.
NOBODYS = (
    case("n_nothing", "pass"),
    case("n_capset", "capset(0, 0); refused(capset, NET_RAW, NET_RAW)"),
    case("n_map", "call('unshare', NEWUSER); write('/proc/self/uid_map', '0 65534 1')"),
    case("n_badness", "refused(write, '/proc/self/oom_score_adj', '-1')", refused=("SYS_RESOURCE",)),
    case("n_badness_between", "write('/proc/self/oom_score_adj', '900'); write('/proc/self/oom_score_adj', '800')"),
    case("n_link", "os.chmod('theirs', 0o600); os.link('theirs', 'theirs_dir/hard')"),
    case("n_bind", "refused(socket.socket().bind, ('127.0.0.99', 983))", refused=("NET_BIND_SERVICE",)),
    case("n_raw", "refused(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)", refused=("NET_RAW",)),
    case("n_chown", "refused(os.chown, 'theirs_open', 0, 0)", refused=("CHOWN",)),
    case("n_chmod", "refused(os.chmod, 'mine', 0o600)", refused=("FOWNER",)),
    case("n_setuid", "refused(os.setuid, 0)", refused=("SETUID",)),
    case("n_setuid_own", "os.setuid(65534); os.setgid(65534)"),
    case("n_setgroups", "refused(os.setgroups, [])", refused=("SETGID",)),
    case("n_kill", "refused(os.kill, 1, 0)", refused=("KILL",)),
    case("n_device", "refused(os.mknod, '/tmp/never', stat.S_IFCHR | 0o600, os.makedev(1, 3))", refused=("MKNOD",)),
    case("n_chroot", "refused(os.chroot, 'mine_dir')", refused=("SYS_CHROOT",)),
    case("n_unshare", "refused(call, 'unshare', 0x20000)", refused=("SYS_ADMIN",)),
    case("n_nice", "refused(os.setpriority, os.PRIO_PROCESS, 0, -1)", refused=("SYS_NICE",)),
    case(
        "n_limit",
        "import resource\nresource.setrlimit(4, (0, 1))\ntry: resource.setrlimit(4, (0, 2))\nexcept "
        "ValueError: pass\nelse: sys.exit(1)",
        refused=("SYS_RESOURCE",),
    ),
    case("n_own_files", "os.chmod('theirs', 0o640); open('theirs', 'a'); os.listdir('theirs_dir')"),
    case(
        "n_read",
        "os.chmod('theirs_dir/inside', 0); refused(open, 'theirs_dir/inside')",
        refused=("DAC_OVERRIDE", "DAC_READ_SEARCH"),
        ptrace=(),
        why="refusals by mode bits of a process without any capability are everyday life and not listed",
    ),
)

ALL = {item.name: item for item in (*ROOT, *NOBODYS)}


@dataclass
class Seen:
    """What one recording said, by case."""

    needs: dict[str, set[str]] = field(default_factory=dict)
    refused: dict[str, set[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def prepare(directory: Path, item: Case, other: int) -> None:
    theirs = ("theirs", "theirs_open", "theirs_dir/inside", "sticky/theirs", "theirs_dir/true")
    for name in ("mine_dir", "theirs_dir", "theirs_dir/sub", "sticky"):
        (directory / name).mkdir(parents=True)
    for name in ("mine", "foreign_group", "theirs_dir/sub/file", *theirs):
        (directory / name).touch(0o644)
    copy_program("/bin/true", directory / "theirs_dir" / "true")
    (directory / "other").write_text(str(other))
    (directory / "link_there").symlink_to("theirs_dir/inside")
    (directory / "theirs_dir" / "link_out").symlink_to("/etc/passwd")
    for name in (*theirs, "theirs_dir", "sticky"):
        os.chown(directory / name, NOBODY, NOBODY)
    os.chown(directory / "foreign_group", 0, NOBODY)
    for name, mode in (
        ("theirs", 0o600),
        ("theirs_open", 0o666),
        ("theirs_dir", 0o700),
        ("sticky", 0o1777),
        ("theirs_dir/true", 0o755),
    ):
        (directory / name).chmod(mode)
    enter = f"import os\nos.chdir({str(directory)!r})\n" if item.within == "." else ""
    if item.file:
        copy_program("/bin/true", directory / item.name)
        os.setxattr(directory / item.name, "security.capability", item.file)
    prelude = PRELUDE.replace('open("other")', f"open({str(directory / 'other')!r})")
    write_program(directory / f"{item.name}.py", f"#!{PYTHON} -IS\n{enter}{prelude}{item.code}\n")


def observe(tracer: str, profgen: Profgen, base: Path, cases: tuple[Case, ...], options: tuple[str, ...]) -> Seen:
    base.chmod(0o755)
    bystander = subprocess.Popen(["sleep", "600"], user=NOBODY, group=NOBODY, extra_groups=[], start_new_session=True)
    try:
        lines = ["#!/bin/sh"]
        for item in cases:
            directory = base / item.name
            directory.mkdir()
            prepare(directory, item, bystander.pid)
            lines.append(
                f"(cd {directory / item.within} && timeout 120 {directory / item.name}.py 2>&1 | sed "
                f"'s/^/{item.name}: /')"
            )
        driver = base / "driver"
        driver.write_text("\n".join(lines) + "\n")
        driver.chmod(0o755)
        recording = profgen.record(
            tracer, ["sh", str(driver)], cwd=base, options=("--quiet", *options), timeout=4 * TIMEOUT
        )
    finally:
        bystander.kill()
        bystander.wait(TIMEOUT)
    assert recording.status == 0, recording.stderr
    seen = Seen(
        failed={line.partition(":")[0]: line for line in recording.stdout.decode(errors="replace").splitlines()}
    )
    programs = [re.sub(r"\.py$", "", os.path.basename(row["path"])) for row in recording.trace["programs"]]
    assert {item.name for item in cases} <= set(programs)
    for row in recording.trace["capabilities"]:
        if row["namespace"] != "initial" or not row["decisive"]:
            continue
        # Nothing checks sets: the eBPF tracer infers those needs too.
        assert row["inferred"] is (tracer == "ptrace") or {"execve", "capset", "prctl", "write"} >= set(row["syscalls"])
        table = seen.needs if row["verdict"] == "granted" else seen.refused
        for program in row["programs"]:
            table.setdefault(programs[program], set()).add(row["capability"])
    return seen


@pytest.fixture(scope="module")
def seen(profgen: Profgen) -> Iterator[Any]:
    """A function that gives what a tracer saw of all cases of root's or of nobody's, recorded once."""
    known: dict[tuple[str, bool], Seen] = {}
    # pytest's own directories are closed to others: a mode of one of them would be a need of every case.
    base = Path(tempfile.mkdtemp(prefix="profgen-infer-"))
    base.chmod(0o755)

    def get(tracer: str, item: Case) -> Seen:
        roots = item in ROOT
        if (tracer, roots) not in known:
            directory = base / f"{tracer}-{'root' if roots else 'nobody'}"
            directory.mkdir()
            options = () if roots else ("--user", str(NOBODY))
            known[tracer, roots] = observe(tracer, profgen, directory, ROOT if roots else NOBODYS, options)
        return known[tracer, roots]

    yield get
    shutil.rmtree(base)


pytestmark = pytest.mark.usefixtures("as_root")


def check(item: Case, tracer: str, seen: Any) -> None:
    result: Seen = seen(tracer, item)
    instead: frozenset[str] | None = getattr(item, tracer)
    assert item.name not in result.failed
    needs, refused = result.needs.get(item.name, set()), result.refused.get(item.name, set())
    if instead is not None:
        assert item.why
        assert needs == instead, item.why
        return
    assert needs == item.needs
    assert refused == item.refused


@pytest.mark.parametrize("name", ALL)
def test_ptrace(name: str, seen: Any) -> None:
    check(ALL[name], "ptrace", seen)


@pytest.mark.parametrize("name", ALL)
def test_ebpf(name: str, ebpf: str, seen: Any) -> None:
    check(ALL[name], ebpf, seen)


@pytest.mark.parametrize("name", ALL)
def test_both_the_same(name: str, ebpf: str, seen: Any) -> None:
    item = ALL[name]
    both = [
        (seen(tracer, item).needs.get(name, set()), seen(tracer, item).refused.get(name, set()))
        for tracer in ("ptrace", ebpf)
    ]
    if item.ptrace is None and item.ebpf is None:
        assert both[0] == both[1]
    else:
        # The table above says why. If they become the same, correct the table.
        assert both[0] != both[1]


def test_ls_needs_nothing(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    rows = profgen.record(tracer, ["ls", "/"], cwd=tmp_path).trace["capabilities"]
    assert [row for row in rows if row["verdict"] == "granted" and row["decisive"]] == []
