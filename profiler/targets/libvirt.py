"""domain.xml: a container of libvirt's LXC driver, and a user's own domain rewritten.

Sources: docs/schemas/domaincommon.rng and src/lxc/lxc_container.c of libvirt 9.0; tried with 9.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profiler.errors import InputError
from profiler.kernel.capabilities import number_of
from profiler.policy.caveats import extent
from profiler.policy.model import Policy, capability_order
from profiler.policy.posture import Posture, posture
from profiler.policy.writable import within
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.quoting.xml import exact
from profiler.rewriting.xml import Document, Element, Node, Unreadable, loads
from profiler.targets import contexts
from profiler.targets.base import (
    Existing,
    File,
    Launches,
    Loss,
    OneOf,
    Output,
    Request,
    Setting,
    Step,
    Target,
    absolute,
    written,
)
from profiler.targets.containers import moves_lost
from profiler.targets.naming import name_of, valid_name
from profiler.wording import listed

FILE = "domain.xml"
LAUNCHER = "launcher.py"
_DIRECTORY = "/usr/local/lib/profgen"
_ROOTS = "/var/lib/libvirt/filesystems"
LAST_CAPABILITY = 36
"""CAP_BLOCK_SUSPEND: the schema has no later one."""
TO_CHANGE_USER = ("CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP")
"""What libvirt needs for inituser, after it has dropped the others (virSetUIDGIDWithCaps in src/util/virutil.c)."""
MEMORY_MIB, RAM_KIB = 1024, 65536
_IDMAP = re.compile(r"([1-9][0-9]{0,9}):([1-9][0-9]{0,9})")
_PATH = re.compile(r"/[A-Za-z0-9_./@+-]*")


def _idmap(text: str) -> str:
    if not _IDMAP.fullmatch(text):
        raise InputError(f"{printable(text)!r}: write it as START:COUNT, such as 100000:65536")
    return text


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise InputError(f"{printable(text)!r} is not an absolute path of letters, digits and _./@+-")
    return absolute(text)


NAME = Setting("name", "the domain's name; default: the image's, or the program's", "NAME", "", valid_name)
SELINUX = contexts.setting("selinux-label", "container")
IDMAP = Setting("idmap", "users of the host that those of the container become", "START:COUNT", "", _idmap)
DIRECTORY = Setting(
    "launcher",
    f"the launcher's directory, in the container too; default: {_DIRECTORY}/NAME",
    "PATH",
    "",
    _path,
)
READ_ONLY = Setting(
    "read-only",
    "mount the root read-only: yes, no, or auto (yes if the recording shows that it works)",
    "WHEN",
    "auto",
    OneOf("auto", "yes", "no"),
)


class LibvirtLxc(Target):
    """libvirt's LXC driver."""

    name = "libvirt-lxc"
    summary = "domain.xml: a container of libvirt-lxc; or your own domain rewritten"
    says = frozenset({"capabilities"})
    settings = (NAME, SELINUX, IDMAP, DIRECTORY, READ_ONLY)
    rewrites = "the XML of a libvirt-lxc domain"
    launches = Launches(engines=frozenset({"libvirt-lxc"}), names=frozenset({"launcher", "apparmor", "selinux"}))

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy, stance = request.policy, posture(request.policy)
        name = NAME.of(request) or name_of(policy.workload)
        directory = DIRECTORY.of(request) or f"{_DIRECTORY}/{name}"
        document = _new(request, stance, name, directory) if request.existing is None else _read(request.existing)
        try:
            document, losses = _edited(document, request, stance, directory)
        except Unreadable as error:
            what = FILE if request.existing is None else request.existing.name
            raise InputError(f"{what}: cannot be rewritten: {error}") from error
        launched = "launcher" in request.artifacts
        file = File(FILE, document.data, needs=(LAUNCHER,) if launched else ())
        title = document.root.one("name")
        known = title.text.strip() if title else name
        steps = [*_usage(stance, known, directory if launched else "", _root_of(document))]
        if request.existing is None and not (launched or _sayable(stance.command)):
            steps.append(
                Step(
                    "note",
                    "a domain cannot say the command (its path is not absolute, or an argument is empty): change init",
                )
            )
        return Output((file,), losses, tuple(steps))


def _sayable(command: Sequence[str]) -> bool:
    """Return whether a domain can have a command: the program's path is absolute (domaincommon.rng), libvirt takes no
    empty argument, and XML no control characters."""
    return bool(command) and len(command[0]) > 1 and command[0][0] == "/" and all(map(_is_sayable, command))


def _is_sayable(word: str) -> bool:
    return bool(word) and exact(word) and word == word.strip()


def _new(request: Request, stance: Posture, name: str, directory: str) -> Document:
    """Return a domain of our own."""
    work, launched = request.policy.workload, "launcher" in request.artifacts
    path = f"{directory}/{LAUNCHER}"  # without arguments it starts the recorded command
    values = {
        "argv": " ".join(map(shell, work.argv)),
        "extent": extent(work),
        "domain": name,
        "memory": MEMORY_MIB,
        "command": stance.command if _sayable(stance.command) else ((path,) if launched else ()),
        "user": stance.uid if stance.sure else 0,
        "group": stance.gid or 0,
        "root": f"{_ROOTS}/{name}",
        "sure": stance.sure,
    }
    try:
        return loads(request.template("domain.xml.j2", **values))
    except Unreadable as error:
        raise InputError(f"the template domain.xml.j2 makes no document: {error}") from error


def _read(existing: Existing) -> Document:
    """Return the user's domain. Raises InputError for what is not one of LXC."""
    try:
        document = loads(existing.data)
    except Unreadable as error:
        raise InputError(f"{existing.name}: cannot be rewritten: {error}") from error
    root = document.root
    if root.name != "domain" or root.attributes.get("type") != "lxc":
        raise InputError(f"{existing.name}: not a domain of libvirt-lxc: it does not begin with <domain type='lxc'>")
    return document


@dataclass
class _Editing:
    """A document under edit."""

    document: Document

    def parent(self, *path: str) -> Node:
        """Return the element at a path, which is made where it is missing."""
        node = self.document.root
        for depth, name in enumerate(path):
            found = node.one(name)
            if found is None:
                self.document = self.document.put(node, Element(name))
                return self.parent(*path) if depth < len(path) else node
            node = found
        return node

    def only(self, element: Element, *path: str) -> None:
        """Put an element in place of the one of its name."""
        parent = self.parent(*path)
        self.document = self.document.put(parent, element, parent.one(element.name))

    def add(self, element: Element, *path: str) -> None:
        """Put an element at the end of its parent, unless it is there."""
        parent = self.parent(*path)
        if not any(node.says(element) for node in parent.children):
            self.document = self.document.put(parent, element)


def _edited(document: Document, request: Request, stance: Posture, directory: str) -> tuple[Document, tuple[Loss, ...]]:
    """Return the document with the policy in it, and what is lost."""
    editing, policy = _Editing(document), request.policy
    names = [name for name in policy.needed() if (number_of(name) or 0) <= LAST_CAPABILITY]
    user = _user(document.root)
    held = sorted({*names, *(TO_CHANGE_USER if user else ())}, key=capability_order)
    kept = tuple(Element(name.removeprefix("CAP_").lower(), {"state": "on"}) for name in held)
    editing.only(Element("capabilities", {"policy": "deny"}, kept), "features")
    lost = [*_capabilities(policy, names, user)]
    lost += _root(editing, stance, READ_ONLY.of(request))
    if stance.shared:
        _memory(editing, stance.shared.path)
    lost += _devices(editing, stance)
    if "apparmor" in request.artifacts:
        _label_put(editing, "apparmor", request.artifacts["apparmor"].called)
    if label := contexts.wanted(request, SELINUX.of(request)):
        _label_put(editing, "selinux", label)
    if found := _IDMAP.fullmatch(IDMAP.of(request)):
        rows = tuple(Element(kind, {"start": "0", "target": found[1], "count": found[2]}) for kind in ("uid", "gid"))
        editing.only(Element("idmap", {}, rows))
    if "launcher" in request.artifacts:
        _launch(editing, directory)
        lost += _before_the_command(request)
    return editing.document, tuple(lost)


def _before_the_command(request: Request) -> Iterator[Loss]:
    """Yield what the launcher needs of a security module that confines it from its start."""
    modules = [name for key, name in (("apparmor", "AppArmor"), ("selinux", "SELinux")) if key in request.artifacts]
    if modules:
        why = f"{' and '.join(modules)} confine the launcher too: add what it uses, or generate without it"
        yield Loss("files", "/usr/bin/python3 and its modules", why, "refused")


def _user(root: Node) -> str:
    """Return the user that libvirt changes to, empty when it does not."""
    node = root.one("os", "inituser")
    return "" if node is None else node.text.strip()


def _capabilities(policy: Policy, names: list[str], user: str) -> Iterator[Loss]:
    for name in policy.needed():
        if name not in names:
            yield Loss("capabilities", name, "the domain's schema has no element for it", "refused")
        elif user.lstrip("+") not in ("", "0", "root"):
            why = "libvirt changes the user before the command, which has none left without file capabilities"
            yield Loss("capabilities", name, why, "refused")
    added = [name for name in TO_CHANGE_USER if user and name not in names]
    if added:
        yield Loss("capabilities", listed(added, len(added)), "a domain with inituser does not start without them")


def _filesystems(editing: _Editing) -> dict[str, Node]:
    """Return the elements that mount something, by where."""
    devices = editing.document.root.one("devices")
    rows = [(node, node.one("target")) for node in (devices.all("filesystem") if devices else ())]
    return {target.attributes.get("dir", ""): node for node, target in rows if target is not None}


def _root(editing: _Editing, stance: Posture, wish: str) -> Iterator[Loss]:
    """Make the root read-only, with memory for what may be empty; yield what breaks by it."""
    root = _filesystems(editing).get("/")
    if stance.elsewhere is None or wish == "no" or root is None:
        return
    places = [*stance.kept, *(row.destination for row in stance.mounts if not row.read_only)]
    mounted = [path for path in _filesystems(editing) if path != "/"]
    breaks = [path for path in dict.fromkeys(places) if not within(path, mounted)]
    breaks += stance.elsewhere if not stance.read_only else ()
    already = root.one("readonly") is not None
    if wish == "auto" and not already and (breaks or not stance.read_only):
        return
    if not already:
        editing.document = editing.document.put(root, Element("readonly"))
    for row in stance.temporary:
        if within(row.path, mounted):
            continue
        if exact(row.path):
            _memory(editing, row.path)
        else:
            breaks.append(row.path)
    why = "the root cannot be written: add a filesystem of type mount for it"
    yield from (Loss("files", printable(path), why, "refused") for path in breaks)
    yield from moves_lost(stance)


def _memory(editing: _Editing, place: str) -> None:
    """Mount memory there, unless something is mounted there already. A mount comes before those below it."""
    mounts = _filesystems(editing)
    if place in mounts:
        return
    source = Element("source", {"usage": str(RAM_KIB), "units": "KiB"})
    memory = Element("filesystem", {"type": "ram"}, (source, Element("target", {"dir": place})))
    below = (node for path, node in mounts.items() if within(path, [place]))
    first = min(below, key=lambda node: node.start, default=None)
    if first is None:
        editing.add(memory, "devices")
    else:
        editing.document = editing.document.before(first, memory)


def _devices(editing: _Editing, stance: Posture) -> Iterator[Loss]:
    """Give the devices of the host; yield those that have no form."""
    for pattern in stance.device_patterns:
        yield Loss("files", printable(pattern), "a device is given by its path: add a hostdev for it", "refused")
    for row in stance.devices:
        if not row.path.startswith("/dev/") or not exact(row.path) or row.access == "m":
            yield Loss("files", printable(row.path), "a hostdev is a node below /dev of the host", "refused")
            continue
        kind, word = ("misc", "char") if row.kind == "char" else ("storage", "block")
        source = Element("source", {}, (Element(word, text=row.path),))
        editing.add(Element("hostdev", {"mode": "capabilities", "type": kind}, (source,)), "devices")
        if set("rw") - set(row.access):
            yield Loss("files", printable(row.path), "libvirt gives a device to read and to write")


def _label_put(editing: _Editing, model: str, label: str) -> None:
    """Put a static label in place of the one of the same security model."""
    root = editing.document.root
    element = Element("seclabel", {"type": "static", "model": model, "relabel": "no"}, (Element("label", text=label),))
    old = next((node for node in root.all("seclabel") if node.attributes.get("model") == model), None)
    editing.document = editing.document.put(root, element, old)


def _launch(editing: _Editing, directory: str) -> None:
    """Start the container's program through the launcher, which comes with a mount of its own."""
    path = f"{directory}/{LAUNCHER}"
    os_ = editing.parent("os")
    init = os_.one("init")
    if init is None:
        raise Unreadable("it has no init in os, so there is nothing to start")
    if init.text.strip() != path:
        first = os_.all("initarg")
        command = ["--", init.text.strip(), *(node.text for node in first)]
        for _ in first:
            editing.document = editing.document.remove(editing.parent("os").all("initarg")[0])
        editing.only(Element("init", text=path), "os")
        for word in command:
            editing.document = editing.document.put(editing.parent("os"), Element("initarg", text=word))
    mount = Element(
        "filesystem",
        {"type": "mount"},
        (Element("source", {"dir": directory}), Element("target", {"dir": directory}), Element("readonly")),
    )
    editing.add(mount, "devices")


def _root_of(document: Document) -> str:
    """Return the directory of the host that is the container's root, empty when it is not one."""
    root = _filesystems(_Editing(document)).get("/")
    source = root.one("source") if root else None
    return source.attributes.get("dir", "") if source else ""


def _usage(stance: Posture, name: str, directory: str, root: str) -> Iterator[Step]:
    """Yield the steps. ``directory``: the launcher's, empty without one."""
    file, domain = written(FILE), shell(printable(name))
    if directory:
        yield Step("load", f"install -D -m 755 {written(LAUNCHER)} {directory}/{LAUNCHER}")
        if root and exact(root):
            yield Step(
                "load", f"install -d {shell(root + directory)}   (libvirt makes no directory in a read-only root)"
            )
    else:
        yield Step("note", "libvirt-lxc has no seccomp filter of its own: generate with -t libvirt-lxc,launcher")
    if stance.tasks:
        yield Step(
            "note", f"a domain has no limit of tasks (the policy's is {stance.tasks}): set pids.max of its cgroup"
        )
    yield Step("load", f"virt-xml-validate {file} domain && virsh -c lxc:/// define {file}")
    yield Step("use", f"virsh -c lxc:/// start {domain}")
    yield Step("undo", f"virsh -c lxc:/// destroy {domain}; virsh -c lxc:/// undefine {domain}")
