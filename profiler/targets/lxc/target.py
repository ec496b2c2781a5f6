"""lxc.conf: lines for the configuration of an LXC container, and a container's own file rewritten."""

from __future__ import annotations

import re
from collections.abc import Iterator

from profiler.errors import InputError
from profiler.policy.caveats import extent
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.rewriting.assignments import Unreadable, assignments, dumps, insert, loads, put
from profiler.targets import contexts
from profiler.targets.base import (
    Existing,
    File,
    Launches,
    OneOf,
    Output,
    Request,
    Setting,
    Step,
    Target,
    absolute,
    written,
)
from profiler.targets.lxc.config import APPARMOR, CGROUP, Config, Wishes, below, config
from profiler.targets.lxc.seccomp import FILE as SECCOMP_FILE
from profiler.targets.naming import name_of, valid_name

FILE = "lxc.conf"
_DIRECTORY = "/etc/lxc"
_INCLUDE = "lxc.include"
_PATH = re.compile(r"/[A-Za-z0-9_./@+:-]*")


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise InputError(f"{printable(text)!r} is not an absolute path of letters, digits and _./@+:-")
    return absolute(text)


NAME = Setting("name", "the name of the container; default: the image's, or the program's", "NAME", "", valid_name)
SECCOMP = Setting("seccomp", f"where the seccomp policy will be; default: {_DIRECTORY}/NAME.seccomp", "PATH", "", _path)
SELINUX = contexts.setting("selinux-context", "container")
READ_ONLY = Setting(
    "read-only",
    "mount the root read-only: yes, no, or auto (yes if the recording shows that it works)",
    "WHEN",
    "auto",
    OneOf("auto", "yes", "no"),
)

CGROUP_VERSION = Setting("cgroup", "the version of the host's cgroups: 1 or 2", "VERSION", "2", OneOf(*CGROUP))


class Lxc(Target):
    """LXC."""

    name = "lxc"
    summary = "lxc.conf: LXC, lines to include into a container's configuration; or your own file rewritten"
    says = frozenset({"capabilities", "no_new_privs"})
    settings = (NAME, SECCOMP, SELINUX, READ_ONLY, CGROUP_VERSION)
    rewrites = "the configuration of an LXC container"
    launches = Launches(
        engines=frozenset({"lxc"}),
        names=frozenset({"lxc-seccomp", "apparmor", "selinux"}),
        requires=frozenset({"lxc-seccomp"}),
        name_start="lxc-",
    )

    def render(self, request: Request) -> Output:
        """See Target.render. A file that is rewritten keeps its user, what it starts and its network."""
        policy = request.policy
        name = NAME.of(request) or name_of(policy.workload)
        text = None if request.existing is None else _read(request.existing)
        apparmor = request.artifacts.get("apparmor")
        wishes = Wishes(
            SECCOMP.of(request) or f"{_DIRECTORY}/{name}.seccomp",
            apparmor.called if apparmor else None,
            contexts.wanted(request, SELINUX.of(request)),
            READ_ONLY.of(request),
            CGROUP_VERSION.of(request),
            assignments(text) if text is not None else (),
        )
        made = config(policy, wishes)
        if text is None:
            values = {
                "argv": " ".join(map(shell, policy.workload.argv)),
                "extent": extent(policy.workload),
                "image": policy.workload.image,
                "installed": f"{_DIRECTORY}/{name}.conf",
                "sure": policy.workload.image is not None,
                "made": made,
            }
            data = request.template("lxc.conf.j2", **values)
        else:
            data = dumps(_rewritten(text, made))
        file = File(FILE, data, needs=(SECCOMP_FILE,))
        return Output((file,), made.losses, tuple(_usage(name, wishes, text is not None)))


def _read(existing: Existing) -> str:
    """Return the text of the file. Raises InputError for what is not the configuration of one container."""
    try:
        text = loads(existing.data)
    except Unreadable as error:
        raise InputError(f"{existing.name}: cannot be rewritten: {error}") from error
    if text.strip() and not any(key.startswith("lxc.") for key, _ in assignments(text)):
        raise InputError(
            f"{existing.name}: not the configuration of an LXC container: it has no line such as lxc.uts.name = NAME"
        )
    return text


def _rewritten(text: str, made: Config) -> str:
    """Return the file's text with the profile in it. An included file may say otherwise, so the lines stand behind the
    last one."""
    for group in made.groups:
        text = put(text, group.lines, group.keys, barriers=(_INCLUDE,))
    for row in made.mounts:
        text = insert(text, row, below(assignments(text), row))
    return text


def _usage(name: str, wishes: Wishes, rewritten: bool) -> Iterator[Step]:
    container = f"/var/lib/lxc/{name}/config"
    profile, included = wishes.seccomp, f"{_DIRECTORY}/{name}.conf"
    if rewritten:
        yield Step("load", f"install -D -m 644 {written(SECCOMP_FILE)} {profile} && cp {written(FILE)} {container}")
        undo = "restore the container's file from version control"
    else:
        yield Step(
            "load",
            f"install -D -m 644 {written(SECCOMP_FILE)} {profile} && install -m 644 {written(FILE)} {included}",
        )
        yield Step("load", f"echo 'lxc.include = {included}' >> {container}   (as its last line)")
        undo = f"sed -i '\\|= {included}$|d' {container} && rm {included} {profile}"
    yield Step("use", f"lxc-stop -n {name}; lxc-start -n {name}")
    yield Step("undo", undo)
    if wishes.apparmor and not wishes.apparmor.startswith("lxc-"):
        yield Step(
            "note", f"the profile's name does not begin with lxc-: LXC's own AppArmor profile may refuse {APPARMOR}"
        )
