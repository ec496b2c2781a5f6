"""AppArmor rules as data, made from a policy. templates/apparmor.profile.j2 writes them in the same order.

The facts about profiles are here: CLASS_GLOBS and the constants next to it. kernel/apparmor.yaml has the letters of
file rules. Sources: the kernel's security/apparmor/ (lsm.c: which hook asks for what; file.c, mount.c,
net.c, task.c, ipc.c: how it is looked up; Linux 6.1), the parser's grammar (parser_yacc.y, parser_regex.c, mount.cc,
af_unix.cc of AppArmor 3.0), apparmor.d(5), and denials of a booted kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from profiler.errors import InputError
from profiler.kernel.apparmor import LETTERS, letters
from profiler.kernel.mounts import restricting_flags
from profiler.policy import patterns
from profiler.policy.model import FileRule, MountRule, Policy, SocketRule, Variable
from profiler.quoting.apparmor import Glob, Inexpressible, apparmor, apparmor_values
from profiler.quoting.text import printable
from profiler.targets.base import Loss
from profiler.wording import listed

RESERVED = frozenset({"unconfined", "profile", "hat", "flags"})
"""Words that the parser reads as something else than a profile's name (parser_lex.l; security/apparmor/label.c)."""

Parts = tuple[str | Glob, ...]
"""A path or pattern for profiler.quoting.apparmor."""


def _nested(first: str, *more: str) -> str:
    """Return a pattern for ``first``, optionally followed by each next piece in turn. AppArmor's patterns have no
    repetition, but an alternative may be empty."""
    return first + "".join(f"{{,{piece}" for piece in more) + "}" * len(more)


def _times(piece: str, least: int, most: int) -> str:
    """Return ``piece`` ``least`` to ``most`` times, without nesting: the parser allows 50 levels (MAX_ALT_DEPTH of
    parser_regex.c). Optional parts of 1, 2, 4, ... pieces give every number."""
    parts, left = [piece * least], most - least
    for size in (1 << power for power in range(left.bit_length())):
        parts.append(f"{{,{piece * min(size, left)}}}" if left else "")
        left -= min(size, left)
    return "".join(parts)


_HEX, _DIGIT, _ALNUM = (f"[{patterns.ALPHABETS[name][0]}]" for name in ("hex", "digits", "random"))
_HOUR, _SIXTY = "{[01][0-9],2[0-3]}", "[0-5][0-9]"
_MONTH, _DAY = "{0[1-9],1[0-2]}", "{0[1-9],[12][0-9],3[01]}"
_X4, _X8, _NUMBER = "@{profgen_x4}", "@{profgen_x8}", "@{profgen_number}"

VARIABLES: Mapping[str, str] = {
    "profgen_x4": _HEX * 4,
    "profgen_x8": _X4 * 2,
    "profgen_uuid": f"{_X8}-{_X4}-{_X4}-{_X4}-{_X8}{_X4}",
    # 16, 24, 32, 38, 40, 56, 64, 96 or 128 digits
    "profgen_hex": _nested(_X8 * 2, _X8, _X8, _X4 + _HEX * 2, _HEX * 2, _X8 * 2, _X8, _X8 * 4, _X8 * 4),
    "profgen_digits": _times(_DIGIT, 1, 20),
    "profgen_random": _nested(_ALNUM * 6, _ALNUM * 2, _ALNUM * 2),
    "profgen_date": "{19,20}[0-9][0-9]{{-M-D,MD}{,{,[-T_ ]}H{,[-:]}S{,{,[-:]}S}},_M_D_H_S_S}".replace("M", _MONTH)
    .replace("D", _DAY)
    .replace("H", _HOUR)
    .replace("S", _SIXTY),
    "profgen_number": _times(_DIGIT, 1, 8),
    "profgen_version": _nested(_NUMBER, *["." + _NUMBER] * 3),
}
"""Variables that a profile defines when a pattern in it needs them. Each uses only earlier ones."""

_SIZED = re.compile(r"@\{profgen_([a-z0-9]+)_([0-9]+)_([0-9]+)\}")
"""A variable for a class with a length. Its value follows from its name."""

CLASS_GLOBS: Mapping[str, str] = {
    "pid": "@{pid}",  # tunables/kernelvars: one to seven digits, without a leading zero
    "tid": "@{tid}",
    "uuid": "@{profgen_uuid}",
    "hex": "@{profgen_hex}",
    "digits": "@{profgen_digits}",
    "random": "@{profgen_random}",
    "date": "@{profgen_date}",
    "version": "@{profgen_version}",
    "home": "@{HOME}",  # tunables/home: /root/ and /home/*/, as the administrator extends it
}
"""AppArmor's pattern for each class of profiler/policy/patterns.py, except ``name`` and ``tree``, for which the pattern
depends on the position."""

PROC = "/proc/"


def parts_of(pattern: str) -> Parts:
    """Return a path pattern in AppArmor's terms.

    Raises Inexpressible when AppArmor has no form for it, InputError when the text is not a pattern.
    """
    tokens = patterns.parse(pattern)
    if not pattern.startswith("/") and tokens[:1] != (patterns.Class("home"),) and not patterns.VARIABLE.match(pattern):
        raise Inexpressible("it is not a path below the root")
    found: list[str | Glob] = []
    for index, token in enumerate(tokens):
        if isinstance(token, patterns.Literal):
            text = token.text
            if index == 0 and text.startswith(PROC):
                found.append(Glob("@{PROC}/"))
                text = text.removeprefix(PROC)
            if text:
                found.append(text)
            continue
        if isinstance(token, patterns.Place):
            found.append(Glob(f"@{{{token.name}}}"))
            continue
        before = tokens[index - 1] if index else None
        after = tokens[index + 1] if index + 1 < len(tokens) else None
        starts = isinstance(before, patterns.Literal) and before.text.endswith("/")
        ends = after is None or (isinstance(after, patterns.Literal) and after.text.startswith("/"))
        if token.name == "home" and not ends:
            raise Inexpressible("{home} must be followed by a slash")
        found.append(Glob(_glob(token.name, starts, ends)))
    return tuple(found)


UNMEDIATED_NAMES = ("memfd:", "SYSV", "dev/zero")
"""How the names of files on the kernel's internal mounts start: path_mediated_fs (include/path.h) skips them, except
for an exec."""


def detached(pattern: str, executed: bool) -> str | None:
    """Return the pattern of a file that no path leads to, as AppArmor sees it with attach_disconnected (disconnect in
    path.c): below the root. Return None where AppArmor does not look.

    A program in memory (memfd) is executed as ``/``, whatever its name is.
    """
    bare = pattern.lstrip("/")
    if bare.startswith(UNMEDIATED_NAMES):
        return "/" if executed else None
    return "/" + bare


_NAMESPACES = re.compile(r"/proc/\{pid\}/(?:task/\{tid\}/)?ns(?:/|$)")


def is_namespace(pattern: str) -> bool:
    """Return whether a path leads to a namespace. The link is a file of procfs. What it leads to is on the
    internal mount nsfs: with attach_disconnected, AppArmor sees it as ``/`` (d_namespace_path in path.c)."""
    return _NAMESPACES.match(pattern) is not None


def shared_memory(policy: Policy) -> bool:
    """Return whether System V shared memory is attached.

    shmat(2) maps a file that no path leads to. With attach_disconnected AppArmor sees it as ``/``; without, it refuses
    the mapping (ipc/shm.c calls security_mmap_file; seen on Linux 6.1).
    """
    return any(
        entry.section == "observed" and entry.name == "shmat" and not entry.never_succeeded for entry in policy.syscalls
    )


def _glob(name: str, starts: bool, ends: bool) -> str:
    """Return the pattern of a class. ``starts``, ``ends``: it is the first, the last thing between two slashes. There
    the parser makes * and ** match at least one character; elsewhere they may match none."""
    if name == "name":
        return "*" if starts and ends else "?*"
    if name == "tree":
        return "**" if starts and ends else "?**" if starts else "{?,/}**"
    sized = patterns.sized(name)
    return CLASS_GLOBS[name] if sized is None else f"@{{profgen_{'_'.join(map(str, sized))}}}"


def can_say(variable: Variable) -> bool:
    """Return whether AppArmor has a form for all of the variable's paths."""
    try:
        apparmor_values(variable.paths)
    except Inexpressible:
        return False
    return True


def variables_in(text: str, places: Sequence[Variable] = ()) -> tuple[tuple[str, str], ...]:
    """Return the variables that quoted text uses, as (name, quoted values): the policy's own, then the VARIABLES that
    it uses, directly or through another."""
    own = tuple((row.name, apparmor_values(row.paths)) for row in places if f"@{{{row.name}}}" in text)
    found: set[str] = set()
    for name, value in reversed(tuple(VARIABLES.items())):
        if f"@{{{name}}}" in text:
            found.add(name)
            text += value
    for alphabet, least, most in sorted(set(_SIZED.findall(text))):
        piece = f"[{patterns.ALPHABETS[alphabet][0]}]"
        own += ((f"profgen_{alphabet}_{least}_{most}", f'"{_times(piece, int(least), int(most))}"'),)
    return (*own, *((name, f'"{value}"') for name, value in VARIABLES.items() if name in found))


@dataclass(frozen=True)
class FileLine:
    """A file rule. ``target``: the profile that a program runs under, for cx and px."""

    path: str
    modes: str
    owner: bool = False
    target: str | None = None
    """``path`` and ``target`` are quoted."""


@dataclass(frozen=True)
class LinkLine:
    """A link rule: ``name`` may become another name of ``existing``. Both are quoted."""

    name: str
    existing: str
    owner: bool = False


@dataclass(frozen=True)
class UnixLine:
    """A rule for unix sockets. Addresses are quoted, ``none`` or ``auto``."""

    access: tuple[str, ...]
    type: str
    address: str | None = None
    peer: str | None = None


# --- files


def forms(parts: Parts, kinds: Iterable[str]) -> list[Parts]:
    """Return the names of a path: AppArmor ends that of a directory with a slash (aa_path_name in path.c). A path of an
    unknown kind gets both."""
    kinds = set(kinds)
    if parts == ("/",):
        return [parts]
    as_directory = "directory" in kinds or "unknown" in kinds or not kinds
    as_other = bool(kinds - {"directory"}) or not kinds
    return [parts] * as_other + [(*parts, Glob("/"))] * as_directory


class FileLines:
    """Collects file rules: one line for each path and owner, one kind of exec for each path."""

    def __init__(self) -> None:
        self._modes: dict[tuple[str, bool], set[str]] = {}
        self._exec: dict[str, tuple[str, str | None, bool]] = {}

    def add(self, parts: Parts, modes: str, *, owner: bool = False) -> None:
        """Add modes other than x."""
        if modes:
            self._modes.setdefault((apparmor(parts), owner), set()).update(modes)

    def execute(self, parts: Parts, mode: str = "ix", target: str | None = None, *, owner: bool = False) -> None:
        """Add an execution. ``mode``: ix, cx or px; the first one for a path stays, as two would be an error.
        ``owner``: the rule is limited to the owner only if every call says so."""
        path = apparmor(parts)
        mode, target, before = self._exec.get(path, (mode, target, True))
        self._exec[path] = (mode, target, owner and before)
        self._modes.setdefault((path, owner and before), set())

    def lines(self) -> tuple[FileLine, ...]:
        """Return the rules, by path."""
        found = []
        for (path, owner), modes in self._modes.items():
            mode, target, owned = self._exec.get(path, ("", None, owner))
            if owner != owned:
                mode, target = "", None
            everyone = self._modes.get((path, False), set()) if owner else set()
            text = "".join(letter for letter in LETTERS if letter in modes - everyone) + mode
            if text:
                found.append(FileLine(path, text, owner, target))
        return tuple(sorted(found, key=lambda line: (line.path, line.owner)))


def modes_of(rule: FileRule) -> str:
    """Return the letters that the rule's accesses need; ``x`` for an execution, no ``l``: links are rules of their
    own."""
    return letters(rule.access).replace("l", "")


# --- sockets

FAMILIES = frozenset(
    [
        "inet",
        "ax25",
        "ipx",
        "appletalk",
        "netrom",
        "bridge",
        "atmpvc",
        "x25",
        "inet6",
        "rose",
        "netbeui",
        "security",
        "key",
        "netlink",
        "packet",
        "ash",
        "econet",
        "atmsvc",
        "rds",
        "sna",
        "irda",
        "pppox",
        "wanpipe",
        "llc",
        "ib",
        "mpls",
        "can",
        "tipc",
        "bluetooth",
        "iucv",
        "rxrpc",
        "isdn",
        "phonet",
        "ieee802154",
        "caif",
        "alg",
        "nfc",
        "vsock",
        "kcm",
        "qipcrtr",
        "smc",
        "xdp",
    ]
)
"""Families that the parser knows (base_af_names.h, as abi/3.0 lists them). unix has rules of its own."""

TYPES = frozenset(["stream", "dgram", "seqpacket", "rdm", "raw", "packet"])

_UNIX_ALWAYS = ("create", "getattr", "getopt", "setattr", "setopt", "shutdown")
"""What a process may do to its own socket without a peer. The parser refuses these permissions together with peer=."""


def network(sockets: Sequence[SocketRule]) -> tuple[list[str], list[Loss]]:
    """Return ``FAMILY TYPE`` of every network rule, sorted, and the sockets that the parser has no name for."""
    found, losses = set(), []
    for rule in sockets:
        if rule.family == "unix":
            continue
        if rule.family in FAMILIES and rule.type in TYPES:
            found.add(f"{rule.family} {rule.type}")
        else:
            losses.append(
                Loss("sockets", f"sockets {rule.family} {rule.type}", "AppArmor has no name for them", "refused")
            )
    return sorted(found), losses


def coarser(policy: Policy) -> tuple[Loss, ...]:
    """Return what the policy limits and the rules do not."""
    ports = sorted({port for rule in policy.sockets for _, row in rule.ports for port in row})
    remounts = any(rule.operation == "remount" for rule in policy.mounts)
    return (
        *((Loss("sockets", f"ports {listed(list(map(str, ports)), 8)}", "AppArmor has no ports"),) if ports else ()),
        *((Loss("mounts", "remount", "older parsers allow any mount there"),) if remounts else ()),
    )


def _address(text: str) -> str | None:
    """Return an address of the abstract namespace, quoted; None for a path, which has file rules.

    ``@`` alone is an address that the kernel chooses (autobind, unix(7)). AppArmor has no form for a NUL in a name.
    """
    if text in ("", "@"):
        return "auto"
    if not text.startswith("@"):
        return None
    tokens = patterns.parse(text)
    parts: list[str | Glob] = ["@"]
    for index, token in enumerate(tokens):
        if not isinstance(token, patterns.Literal):
            parts.append(Glob(_glob(token.name, False, False)))
            continue
        literal = token.text[1:] if index == 0 else token.text
        # The parser turns two slashes in a row into one, but not a slash and a set that holds a slash.
        pieces = literal.split("//")
        for number, piece in enumerate(pieces):
            parts += ["/", Glob("[/]")] * bool(number)
            parts.append(piece)
    return apparmor([part for part in parts if part])


def unix(sockets: Sequence[SocketRule]) -> tuple[list[UnixLine], list[Loss]]:
    """Return the rules by socket type, and what has no form. Names in the file system are file rules. Data without an
    address goes over socket pairs and unnamed sockets."""
    lines: dict[UnixLine, None] = {}
    losses = []
    for rule in sorted((rule for rule in sockets if rule.family == "unix"), key=lambda rule: rule.type):
        if rule.type not in TYPES:
            losses.append(Loss("sockets", f"sockets unix {rule.type}", "AppArmor has no name for them", "refused"))
            continue
        lines[UnixLine(_UNIX_ALWAYS, rule.type)] = None
        addresses = dict(rule.addresses)
        lines[UnixLine(("receive", "send"), rule.type, "none", "none")] = None
        for operation, access in (
            ("bind", ("accept", "bind", "listen", "receive", "send")),
            ("connect", ("connect", "receive", "send")),
            ("send", ("receive", "send")),
        ):
            for text in addresses.get(operation, ()):
                try:
                    address = _address(text)
                except Inexpressible as error:
                    losses.append(Loss("sockets", f"unix socket {text}", str(error), "refused"))
                    continue
                if address is None:
                    continue
                if operation == "bind":
                    lines[UnixLine(access, rule.type, address)] = None
                elif address != "auto":
                    lines[UnixLine(access, rule.type, None, address)] = None
    return sorted(
        lines,
        key=lambda line: (line.type, line.access != _UNIX_ALWAYS, line.address or "", line.peer or "", line.access),
    ), losses


# --- signals and inspections

SIGNALS = frozenset(
    [
        "hup",
        "int",
        "quit",
        "ill",
        "trap",
        "abrt",
        "bus",
        "fpe",
        "kill",
        "usr1",
        "segv",
        "usr2",
        "pipe",
        "alrm",
        "term",
        "stkflt",
        "chld",
        "cont",
        "stop",
        "stp",
        "ttin",
        "ttou",
        "urg",
        "xcpu",
        "xfsz",
        "vtalrm",
        "prof",
        "winch",
        "io",
        "pwr",
        "sys",
        "emt",
        "exists",
    ]
)
_SIGNAL_WORDS = {
    "0": "exists",
    "tstp": "stp",
    "poll": "io",
    "cld": "chld",
    "iot": "abrt",
    "unused": "sys",
    "rtmin": "rtmin+0",
}


def signal_word(name: str) -> str | None:
    """Return AppArmor's word (signal.cc) for a signal's name without SIG, None when there is none."""
    word = name.lower().removeprefix("sig")
    word = _SIGNAL_WORDS.get(word, word)
    if found := re.fullmatch(r"rtmin\+([0-9]{1,2})", word):
        return word if int(found[1]) <= 32 else None  # 32 to 64 (include/uapi/asm-generic/signal.h)
    return word if word in SIGNALS else None


def signals(
    policy: Policy, own: str, runtimes: Sequence[str]
) -> tuple[list[tuple[str, tuple[str, ...], str]], list[Loss]]:
    """Return the rules as (access, signals, peer), and what has no form.

    The kernel checks both the sender and the receiver (aa_may_signal in ipc.c), so signals within the workload are
    allowed both ways. ``own``: the quoted pattern of the profile's own names. ``runtimes``: profiles that container
    runtimes may have, which stop containers by signals. A process without a profile may always send signals, as without
    AppArmor.
    """
    inside, outside, losses = set(), set(), []
    for rule in policy.signals:
        word = signal_word(rule.signal)
        if word is None:
            losses.append(Loss("signals", f"signal {rule.signal}", "AppArmor has no name for it", "refused"))
        elif rule.whom == "outside":
            outside.add(word)
        else:
            inside.add(word)
    found: list[tuple[str, tuple[str, ...], str]] = [("receive", (), peer) for peer in ("unconfined", *runtimes)]
    if inside:
        found.append(("(send, receive)", tuple(sorted(inside)), own))
    if outside:
        found.append(("send", tuple(sorted(outside)), "unconfined"))
    return found, losses


_PROC_FILE = re.compile(r"/proc/(?:\{[a-z]+\}|[0-9]+)/(?:task/(?:\{[a-z]+\}|[0-9]+)/)?([^/]+)")
_PROC_TRACE = frozenset({"mem", "syscall", "stack", "personality", "map_files"})
_PROC_FREE = frozenset(
    {
        "status",
        "cmdline",
        "comm",
        "oom_score_adj",
        "oom_score",
        "timers",
        "limits",
        "mountinfo",
        "mounts",
        "cgroup",
        "statm",
    }
)


READ_AS_TRACERS = frozenset({"process_vm_readv", "pidfd_getfd"})
"""Calls that a policy has under ``read`` and that need ``trace`` (PTRACE_MODE_ATTACH: mm/process_vm_access.c,
kernel/pid.c)."""


def _inspected(rule: FileRule) -> str | None:
    """Return the ptrace access that reading this file of another process needs, in addition to the file rule; None when
    it needs none (fs/proc/base.c)."""
    found = _PROC_FILE.match(rule.pattern)
    if not found or found[1] in _PROC_FREE:
        return None
    return "trace" if found[1] in _PROC_TRACE else "read"


def inspections(policy: Policy, own: str) -> list[tuple[str, str]]:
    """Return (access, peer) of the ptrace rules. The kernel checks both ends (aa_may_ptrace in ipc.c).

    Reading files below /proc/PID of others does the same check (__ptrace_may_access in kernel/ptrace.c). These files
    and kcmp(2) need ``read``. When a call was used that needs as much as a tracer (READ_AS_TRACERS), the policy does
    not tell which of the reads it was, so all of them get ``trace``.
    """
    wanted: set[tuple[str, str]] = set()
    deep = any(
        row.section == "observed" and row.name in READ_AS_TRACERS and not row.never_succeeded for row in policy.syscalls
    )
    for rule in policy.inspections:
        verb = "read" if rule.operation == "read" else "tracedby" if rule.operation == "traceme" else "trace"
        wanted.add((verb, "outside" if rule.whom == "outside" else "own"))
        if rule.operation == "read" and deep:
            wanted.add(("trace", "outside" if rule.whom == "outside" else "own"))
    for file in policy.files:
        asked = _inspected(file)
        if asked:
            wanted |= {(asked, "outside" if whose == "outside" else "own") for whose in file.whose if whose != "self"}
    access: dict[str, set[str]] = {}
    both = {"read": ("read", "readby"), "trace": ("trace", "tracedby"), "tracedby": ("trace", "tracedby")}
    for verb, whom in wanted:
        access.setdefault(whom, set()).update(both[verb] if whom == "own" else (verb,))
    order = ("read", "readby", "trace", "tracedby")
    return [
        (f"({', '.join(verb for verb in order if verb in access[whom])})", own if whom == "own" else "unconfined")
        for whom in ("own", "outside")
        if whom in access
    ]


# --- mounts

MOUNT_FLAGS: Mapping[str, str] = {
    "rdonly": "ro", "nosuid": "nosuid", "nodev": "nodev", "noexec": "noexec", "synchronous": "sync", "mandlock": "mand",
    "dirsync": "dirsync", "noatime": "noatime", "nodiratime": "nodiratime", "silent": "silent", "posixacl": "acl",
    "relatime": "relatime", "i_version": "iversion", "strictatime": "strictatime", "nouser": "nouser",
}  # fmt: skip
"""The parser's word (mnt_opts_table in mount.cc) for each flag of mount(2), in lower case without MS_."""

_PROPAGATION = ("unbindable", "private", "slave", "shared")
_SAID_OTHERWISE = frozenset({"bind", "remount", "rec", "move", *_PROPAGATION})
_UNMEDIATED = frozenset({"open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"})


def _place(pattern: str) -> str:
    """Return a mount point: with a slash for a directory, without for a file that is mounted on."""
    parts = parts_of(pattern)
    return apparmor(parts if parts == ("/",) else (*parts, Glob("{,/}")))


def _source(text: str) -> str:
    """Return what is mounted, as the call gave it: a path pattern, or any text such as ``tmpfs``."""
    if text.startswith(("/", "{home}")) or patterns.VARIABLE.match(text):
        return apparmor((*parts_of(text), Glob("{,/}")) if text != "/" else ("/",))
    return apparmor(
        tuple(
            token.text if isinstance(token, patterns.Literal) else Glob(_glob(token.name, False, False))
            for token in patterns.parse(text)
        )
    )


def _words(flags: Iterable[str]) -> list[str]:
    """Return the parser's words, sorted, for the flags that are options of a mount and not operations."""
    flags = [flag for flag in flags if flag not in _SAID_OTHERWISE]
    if unknown := [flag for flag in flags if flag not in MOUNT_FLAGS]:
        raise Inexpressible(f"AppArmor has no word for the mount flag {printable(unknown[0])}")
    return sorted(MOUNT_FLAGS[flag] for flag in flags)


def _remounts(rule: MountRule) -> Iterator[list[str]]:
    """Yield the sets of the parser's words that a remount may have: with any flags more that only restrict it
    (covering.grants). ``options in`` would also allow sets without ``remount``."""
    kinds = ["remount", *(["bind"] if "bind" in rule.flags else [])]
    more = sorted(restricting_flags() - set(rule.flags))
    for number in range(len(more) + 1):
        for added in combinations(more, number):
            yield [*_words((*rule.flags, *added)), *kinds]


def mount_rules(rule: MountRule) -> tuple[str, ...]:
    """Return lines without the comma, none for what AppArmor does not mediate. Raises Inexpressible.

    ``rw`` is not written for bind, move and the like: it would add a rule for a plain mount of the same source
    (mnt_rule::gen_policy_re). For a plain mount it means that no flag is set; a rule without options would allow any
    flags, and bind and move too.
    """
    operation, target = rule.operation, rule.target
    if operation in _UNMEDIATED:
        return ()
    if target is None:
        raise Inexpressible("its mount point is not known")
    if operation == "umount":
        return (f"umount {_place(target)}",)
    if operation == "pivot_root":
        if rule.source is None:
            raise Inexpressible("its new root is not known")
        return (f"pivot_root oldroot={_place(target)} {_place(rule.source)}",)
    if operation == "remount":
        return tuple(f"mount options=({', '.join(words)}) -> {_place(target)}" for words in _remounts(rule))
    if operation == "propagation":
        kind = next((word for word in _PROPAGATION if word in rule.flags), None)
        if kind is None:
            raise Inexpressible("its kind of propagation is not known")
        return (f"mount options=({'r' if 'rec' in rule.flags else ''}{kind}) -> {_place(target)}",)
    source = "" if rule.source is None else _source("/" if is_namespace(rule.source) else rule.source) + " "
    if operation in ("bind", "rbind", "move", "move_mount"):
        return (f"mount options=({operation.removesuffix('_mount')}) {source}-> {_place(target)}",)
    if operation != "mount":
        return ()
    kind = ""
    if rule.filesystem is not None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", rule.filesystem):  # text in which nothing is a wildcard
            raise Inexpressible("AppArmor has no form for the name of its file system")
        kind = f"fstype=({rule.filesystem}) "
    return (f"mount {kind}options=({', '.join(_words(rule.flags) or ['rw'])}) {source}-> {_place(target)}",)


WIDENED_REMOUNT = (
    "remount: apparmor_parser before 2.13.8, 3.0.10 and 3.1.4 lets anything be mounted there too (CVE-2016-1585)."
)
"""Such a parser adds rules for a bind or a plain mount of any source with the same flags, whatever the form of the
rule."""


def mounts(policy: Policy) -> tuple[list[str], list[Loss], list[str]]:
    """Return the rules, what is left out, and notes on what is not mediated."""
    found, losses, notes = set[str](), list[Loss](), set[str]()
    for rule in policy.mounts:
        try:
            texts = mount_rules(rule)
        except (Inexpressible, InputError) as error:
            losses.append(Loss("mounts", f"{rule.operation} {rule.target or ''}".strip(), str(error), "refused"))
            continue
        found.update(texts)
        if not texts:
            notes.add(f"{rule.operation}: not mediated.")
        if rule.operation == "remount":
            notes.add(WIDENED_REMOUNT)
    return sorted(found), losses, sorted(notes)


# --- what abi 3.0 does not know


_REGISTER_PERSONALITY = (9, 9 | 1 << 31)
"""Opcodes of io_uring_register(2), the second with IORING_REGISTER_USE_REGISTERED_RING
(include/uapi/linux/io_uring.h)."""


def _takes_credentials(policy: Policy) -> bool:
    """Return whether requests in a ring may run with other credentials (override_creds), which must be registered
    first. Whether a kernel thread polls for requests (sqpoll) is in memory, where a filter cannot look."""
    calls = [row for row in policy.syscalls if row.name == "io_uring_register"]
    return any(row.permits((0, opcode, 0, 0, 0, 0)) for row in calls for opcode in _REGISTER_PERSONALITY)


def later(policy: Policy, abi: str) -> tuple[list[str], list[str]]:
    """Return the rules for what newer abis mediate, and notes on what the chosen one does not."""
    wanted = []
    if policy.user_namespaces:
        wanted.append(("userns create", "User namespaces are made"))
    if policy.io_uring:
        wanted.append(("io_uring" if _takes_credentials(policy) else "io_uring sqpoll", "io_uring is used"))
    if abi == "3.0":
        return [], [f"{what}: not mediated under abi 3.0." for _, what in wanted]
    return [rule for rule, _ in wanted], []
