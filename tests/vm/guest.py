"""A virtual machine with Debian's kernel and AppArmor, and jobs in it.

The machine the tests run on has no AppArmor. virtme-ng boots Debian's kernel under qemu on this machine's own file
system, emulated (nested virtualisation is not to be relied on). It is booted once for all tests; a job is a shell
script. What runs inside is tests/vm/agent.c; tests/vm/setup.sh says what the machine sees of the host's files.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from system.harness import CHECKOUT
from system.lab.processes import ENVIRONMENT
from waiting import HANG_SECONDS

HERE = Path(__file__).parent
JOB_SECONDS = 900.0
"""A start or a job that takes longer hangs. The machine is emulated, ten to thirty times as slow as the host."""
MACHINE = Path("/usr/bin/qemu-system-x86_64")
TAG = "profgen-lab"
"""Of the second file system device, in tests/vm/setup.sh too."""

NO_MODULES = (
    "aesni_intel",
    "ahci",
    "button",
    "ccp",
    "crc32_pclmul",
    "crc32c_intel",
    "crct10dif_pclmul",
    "evdev",
    "ghash_clmulni_intel",
    "i2c_i801",
    "i6300esb",
    "iTCO_wdt",
    "kvm_amd",
    "kvm_intel",
    "lpc_ich",
    "pcspkr",
    "psmouse",
    "qemu_fw_cfg",
    "serio_raw",
    "sg",
    "sha1_ssse3",
    "sha256_ssse3",
    "sha512_ssse3",
    "sr_mod",
)
"""Drivers that udev would load at the start for devices nobody uses: that took as long as all the rest of it."""

KERNEL = " ".join(
    (
        f"modprobe.blacklist={','.join(NO_MODULES)}",
        "lsm=landlock,lockdown,yama,integrity,apparmor,tomoyo,bpf",
        # TOMOYO does nothing before this program is executed, and then loads its policy with that one.
        "TOMOYO_trigger=/run/tomoyo-start",
        "TOMOYO_loader=/run/tomoyo-load",
        "log_buf_len=8M",
        "audit_backlog_limit=65536",
        "printk.devkmsg=on",
        "panic=-1",
    )
)


VISIBLE = (CHECKOUT, Path(sys.prefix), Path(sys.base_prefix))
"""Directories that jobs need, wherever they are on the host."""


def python(*words: str | os.PathLike[str]) -> str:
    """Return shell text that runs the tests' Python in the machine, with profgen and the tests as its modules."""
    environment = {
        "PATH": ENVIRONMENT["PATH"],
        "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT}/tests",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return shlex.join(
        ["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, *map(os.fspath, words)]
    )


class GuestError(Exception):
    """The machine did not start, ended, or a job did not end; the text has what the console said."""


@dataclass(frozen=True)
class Denial:
    """One refusal of AppArmor, as the kernel logged it: the line, and its fields with names decoded (bytes, as
    surrogates)."""

    line: str
    fields: dict[str, str]

    @property
    def profile(self) -> str:
        return self.fields.get("profile", "")

    @property
    def operation(self) -> str:
        return self.fields.get("operation", "")

    @property
    def name(self) -> str:
        return self.fields.get("name", "")

    def __str__(self) -> str:
        return self.line


_FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')
_ENCODED = ("profile", "name", "peer", "target", "comm", "srcname", "namespace", "addr", "peer_addr")
"""Fields that the kernel writes in hexadecimal, without quotes, when they hold quotes, spaces or bytes that are not
text (audit_log_untrustedstring)."""


def denials(lines: list[str], *verdicts: str) -> list[Denial]:
    """The lines among these in which AppArmor refused something (``DENIED``), or has another of these verdicts."""
    found = []
    for line in lines:
        if 'apparmor="' not in line:
            continue
        fields: dict[str, str] = {}
        for key, quoted, plain in _FIELD.findall(line):
            value = quoted or plain
            if plain and key in _ENCODED and re.fullmatch(r"(?:[0-9A-F]{2})+", plain):
                value = os.fsdecode(bytes.fromhex(plain))
            fields[key] = value
        if fields.get("apparmor") in (verdicts or ("DENIED",)):
            found.append(Denial(line, fields))
    return found


@dataclass(frozen=True)
class Result:
    """What a job left: its status (128+N for a signal; None when it took too long), its output, and the kernel's lines
    while it ran."""

    status: int | None
    stdout: str
    stderr: str
    kernel: list[str]

    @property
    def denials(self) -> list[Denial]:
        return denials(self.kernel)


def _kernel() -> Path | None:
    """The newest Debian kernel whose modules are here."""
    found = [
        path
        for path in Path("/boot").glob("vmlinuz-*-amd64")
        if Path("/lib/modules", path.name.removeprefix("vmlinuz-")).is_dir()
    ]
    return max(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)], default=None)


def _vng() -> str | None:
    beside = Path(sys.executable).parent / "vng"
    return str(beside) if beside.exists() else shutil.which("vng")


def why_not() -> str | None:
    """What this machine lacks to run a virtual one; None when nothing."""
    if os.geteuid() != 0:
        return "the virtual machine needs root: its files are this machine's, owners and all"
    if os.uname().machine != "x86_64":
        return "the virtual machine is made for x86-64"
    missing = [
        name
        for name, there in (
            ("qemu-system-x86", MACHINE.exists()),
            ("linux-image-amd64", _kernel()),
            ("virtme-ng", _vng()),
        )
        if not there
    ]
    missing += [
        name
        for name in ("busybox", "apparmor_parser", "cc")
        if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None
    ]
    return f"not installed: {', '.join(missing)}" if missing else None


class Guest:
    """The machine. ``directory`` is the lab's, seen at the same path on both sides:

    ``shared`` holds the same files on both, ``work`` is each side's own (in the machine: in memory, empty at first).
    """

    def __init__(self, kernel: str = KERNEL, memory: str = "3G") -> None:
        """``kernel``: the words of its command line."""
        self._kernel, self._memory = kernel, memory
        # The machine has a /tmp of its own, which hides the host's.
        place = next(Path(each) for each in ("/srv", "/opt", "/var/lib") if os.access(each, os.W_OK))
        for old in place.glob("profgen-vm-*"):
            # of tests that were killed
            if not Path("/proc", old.name.split("-")[2]).exists():
                shutil.rmtree(old, ignore_errors=True)
        self.directory = Path(tempfile.mkdtemp(prefix=f"profgen-vm-{os.getpid()}-", dir=place))
        self.directory.chmod(0o755)
        self.shared, self.work = self.directory / "shared", self.directory / "work"
        self._jobs = self.shared / "jobs"
        for path in (self.shared, self.work, self._jobs):
            path.mkdir()
        self.agent = "/run/agent"
        """The program of tests/vm/agent.c, in the machine."""
        self.console = self.directory / "console"
        self._numbers = itertools.count(1)
        self._limits: dict[str, float] = {}
        """The jobs that have not ended, each with the seconds that it may take."""
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Boot it, unless it was; returns at once."""
        if self._process is not None:
            return
        kernel, vng = _kernel(), _vng()
        assert kernel is not None
        assert vng is not None
        subprocess.run(["cc", "-O1", "-static", "-o", self.shared / "agent", HERE / "agent.c"], check=True, timeout=60)
        shutil.copy(HERE / "setup.sh", self.shared)
        (self.shared / "visible").write_text("".join(f"{path}\n" for path in VISIBLE))
        (self.shared / "hostname").write_text(os.uname().nodename)
        shutil.copy(kernel, self.shared / kernel.name)
        release = kernel.name.removeprefix("vmlinuz-")
        if not Path("/lib/modules", release, "modules.dep.bin").exists():
            subprocess.run(["/sbin/depmod", release], check=True, timeout=60)
        devices = (
            f"-fsdev local,id={TAG},path=/,security_model=none,multidevs=remap -device "
            f"virtio-9p-pci,fsdev={TAG},mount_tag={TAG}"
        )
        command = [
            vng,
            "--run",
            str(self.shared / kernel.name),
            "--disable-kvm",
            "--force-9p",
            "--user",
            "root",
            "--rw",
            "--verbose",
        ]
        command += ["--memory", self._memory, "--cpus", "2", "--append", self._kernel, f"--qemu-opts={devices}"]
        command += ["--", "sh", str(self.shared / "setup.sh"), str(self.directory)]
        master, slave = pty.openpty()
        # The terminal is its controlling one: when the tests die, however, it hangs up and qemu ends.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd="/",
            env={
                "PATH": f"{Path(vng).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root",
                "LANG": "C.UTF-8",
                "TERM": "dumb",
                # virtme-ng's own temporary files, which the machine does not need
                "TMPDIR": "/tmp",
            },
        )
        os.close(slave)
        threading.Thread(target=self._drain, args=(master,), daemon=True).start()

    def _drain(self, master: int) -> None:
        with open(self.console, "wb", buffering=0) as console, contextlib.suppress(OSError):
            while data := os.read(master, 65536):
                console.write(data)
        os.close(master)

    def _said(self) -> str:
        with contextlib.suppress(OSError):
            return self.console.read_text(errors="replace")[-3000:]
        return ""

    def _wait(self, path: Path, seconds: float, what: str) -> None:
        assert self._process is not None
        end = time.monotonic() + seconds
        while not path.exists():
            if self._process.poll() is not None:
                raise GuestError(f"the virtual machine ended before {what}; its console:\n{self._said()}")
            if time.monotonic() > end:
                raise GuestError(f"not within {seconds} s: {what}; the console of the virtual machine:\n{self._said()}")
            time.sleep(0.05)

    def run(self, script: str, seconds: float = JOB_SECONDS) -> Result:
        """Run a shell script in the machine. One that takes too long is killed.

        Raise GuestError when the machine failed.
        """
        return self.result(self.begin(script, seconds))

    def begin(self, script: str, seconds: float = JOB_SECONDS) -> str:
        """Hand over a job, and return its name for `result`. Jobs run one after the other."""
        name = f"{next(self._numbers):05}"
        self._limits[name] = seconds
        draft = self._jobs / f"{name}.draft"
        draft.write_text(script, errors="surrogateescape")
        draft.rename(self._jobs / f"{name}.{seconds:.0f}.job")
        return name

    def result(self, name: str) -> Result:
        """Wait for the end of a job."""
        if not self._ready.is_set():
            self._wait(self._jobs / "ready", JOB_SECONDS, "it had started")
            self._ready.set()
        self._wait(self._jobs / f"{name}.status", sum(self._limits.values()) + HANG_SECONDS, f"job {name} had ended")
        del self._limits[name]
        text = {
            kind: (self._jobs / f"{name}.{kind}").read_text(errors="surrogateescape")
            for kind in ("status", "out", "err", "kernel")
        }
        for path in self._jobs.glob(f"{name}.*"):
            path.unlink()
        lost = [
            line
            for line in text["kernel"].splitlines()
            if "callbacks suppressed" in line or "audit_lost" in line or line.startswith("agent: ")
        ]
        if lost:
            raise GuestError(f"lines of the kernel's log are missing: {lost}")
        return Result(
            int(text["status"]) if text["status"].isdigit() else None,
            text["out"],
            text["err"],
            text["kernel"].splitlines(),
        )

    def close(self) -> None:
        """End the machine, whatever state it is in, and remove the lab's directory."""
        if self._process is not None:
            # setsid: its process id is the group's and the session's
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(3)
                    if number == signal.SIGKILL:
                        break
            self._process.wait(HANG_SECONDS)
        shutil.rmtree(self.directory, ignore_errors=True)
