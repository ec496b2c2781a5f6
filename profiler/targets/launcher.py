"""launcher.py: a script of the standard library that confines its own process as the policy says, and executes a
command."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from profiler import confinement
from profiler.kernel.abi import MACHINES
from profiler.policy.caveats import extent
from profiler.policy.landlock import Plan, plan
from profiler.policy.patterns import CLASSES
from profiler.policy.posture import posture
from profiler.targets.base import SECTIONS, File, Loss, Output, Request, Step, Target, written
from profiler.targets.bpf import enforcing
from profiler.targets.sets import mask_of
from profiler.wording import listed

_NO_RULES = "Landlock has no rules for them"


class Launcher(Target):
    """The script is an artifact: launchers may start it in front of their command."""

    name = "launcher"
    summary = "launcher.py: seccomp, capabilities and Landlock for a command, without a container or profgen"
    says = frozenset(SECTIONS) - {"transitions", "inspections", "mounts"}

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy = request.policy
        work, found = policy.workload, plan(policy)
        text = request.template(
            "launcher.py.j2",
            argv=" ".join(work.argv),
            extent=extent(work),
            image=work.image,
            digest=work.digest,
            joined=work.joined,
            code=inspect.getsource(confinement),
            machines=MACHINES[policy.abis[0]],
            capabilities=mask_of(policy),
            names=policy.needed(),
            no_new_privs=policy.no_new_privs,
            command=posture(policy).command,
            version=CLASSES["version"].regex,
            landlock=found.rules,
            unlimited=found.unlimited() if policy.has_files else [],
            filter=enforcing(policy),
        )
        file = File("launcher.py", text, executable=True)
        use = Step("use", f"{written(file.name)} COMMAND")
        return Output((file,), tuple(_losses(found)), (use,))


def _losses(found: Plan) -> Iterator[Loss]:
    for section, why in found.unused:
        yield Loss(section, section, why)
    rules = found.rules
    if rules.files:
        listing = [place for place, names in found.wider if names == ("read_dir",)]
        if listing:
            yield Loss("files", listed(listing, 8), "the directories below can be listed too")
        for place, names in found.wider:
            if names != ("read_dir",):
                yield Loss("files", place, f"what is given there holds for all that is below: {', '.join(names)}")
        if found.overwritten:
            yield Loss("files", listed(found.overwritten, 8), "a file that can be appended to can be overwritten")
        for pattern in found.unlinked:
            yield Loss("files", pattern, "a link from another directory, for a file that is not known", "refused")
        yield Loss("files", "metadata (mode, owner, times, attributes, looking up), locks", _NO_RULES)
        yield Loss("files", "which program uses a file, and owner: true", _NO_RULES)
        yield Loss("files", "mapping as code, and running through the loader, of a file that can be read", _NO_RULES)
        yield Loss("files", "reading a program that can be executed", "to execute it takes the right to read it")
        yield Loss("files", "files that are open at the start, or received from another process", _NO_RULES)
    if rules.network:
        yield Loss("sockets", "everything but the ports of TCP", _NO_RULES)
        yield Loss("signals", "which signal, and to which process of the workload", _NO_RULES)
        left = {right.name for right in rules.scopes}
        if "signal" not in left:
            yield Loss("signals", "processes outside", "the workload sends them some, so it may send any to all")
        if "abstract_unix_socket" not in left:
            yield Loss("sockets", "abstract unix sockets", "the workload connects to some outside, so it may to all")
