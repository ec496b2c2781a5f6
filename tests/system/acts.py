"""A program for recordings (python3 -I -S): does what a policy has words for, each once, in the given directory."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER, IO_URING_SETUP = 0x20000, 0x10000000, 425


def checked(result: int) -> int:
    """Return the result of a function of libc. Raises OSError."""
    if result < 0:
        raise OSError(ctypes.get_errno(), "a call failed")
    return result


@contextlib.contextmanager
def child(act: object = None):  # type: ignore[no-untyped-def]
    """Run ``act`` in a child, which then waits for SIGTERM."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if act:
                act()  # type: ignore[operator]
            os.write(told, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(told)
    assert os.read(ready, 1) == b"x", "the child could not"
    os.close(ready)
    yield pid
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


def files() -> None:
    for name in ("read", "mode", "owner", "times", "xattr", "existing", "from", "shared", "exclusive", "append"):
        with open(name, "w") as file:
            file.write("x")
    with open("read") as file:
        file.read()
    os.write(os.open("append", os.O_WRONLY | os.O_APPEND), b"y")
    os.chmod("mode", 0o640)
    os.chown("owner", 1, 1)
    os.utime("times", (1, 1))
    os.setxattr("xattr", "user.x", b"1")
    os.link("existing", "link")
    os.rename("from", "to")
    os.symlink("read", "symlink")
    os.readlink("symlink")
    os.mkfifo("fifo")
    os.mknod("null", 0o20600, os.makedev(1, 3))
    os.mkdir("directory")
    os.listdir("directory")
    os.rmdir("directory")
    for name, operation in (("shared", fcntl.LOCK_SH), ("exclusive", fcntl.LOCK_EX)):
        with open(name, "r+") as file:
            fcntl.flock(file, operation)
    with open("/usr/bin/true", "rb") as file:
        mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    os.write(os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600), b"z")
    for name in os.listdir("."):
        if name != "root":
            os.remove(name)


def sockets() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", 8417))
    server.listen()
    client = socket.create_connection(("127.0.0.1", 8417))
    other, _ = server.accept()
    client.send(b"x")
    other.recv(1)
    client.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    client.getpeername()
    client.shutdown(socket.SHUT_RDWR)
    local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    local.bind("socket")
    local.sendto(b"x", "socket")
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    abstract.bind("\0profgen-acts")
    socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.remove("socket")


def processes() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGUSR1)
    with child() as pid:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/maps") as file:
            file.read()
    pid = os.fork()
    if pid == 0:
        os.execv("/usr/bin/true", ["true"])
    os.waitpid(pid, 0)
    with child(lambda: checked(libc.unshare(CLONE_NEWUSER))):
        pass
    with child(mounts):
        pass
    with child(lambda: os.chroot("root")):
        pass


def mounts() -> None:
    checked(libc.unshare(CLONE_NEWNS))
    checked(libc.mount(b"none", b"/", None, 0x44000, None))
    checked(libc.mount(b"tmpfs", b"root", b"tmpfs", 0, None))


os.chdir(sys.argv[1])
os.mkdir("root")
files()
sockets()
processes()
parameters = ctypes.create_string_buffer(120)
libc.syscall(IO_URING_SETUP, 1, parameters)
os.rmdir("root")
print("done")
