"""ima-policy, ima-sign.sh and ima.sha256: the kernel executes and maps only content that is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from profiler.errors import InputError
from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.quoting.ima import CONDITIONS, Inexpressible, checked_line, condition
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Loss, Output, Request, Setting, Step, Target, written, yes_or_no
from profiler.targets.ima.content import Content, read, unnamed

RULES, SCRIPT, MANIFEST = "ima-policy", "ima-sign.sh", "ima.sha256"

FUNCTIONS = ("BPRM_CHECK", "CREDS_CHECK", "MMAP_CHECK")
"""What the kernel asks for: a program that is executed, with the credentials of before and of after; a file that is
mapped executable."""


def _conditions(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    for word in words:
        try:
            condition(word)
        except Inexpressible as error:
            raise InputError(f"{printable(word)!r}: {error}") from error
    return words


ROOT: Setting[str | None] = Setting(
    "root", "the root directory of the image, or of the machine, whose files are hashed; default: /", "DIR", None, str
)
WHERE: Setting[tuple[str, ...]] = Setting(
    "where",
    "whose files are appraised: conditions (subj_role=PROFILE,uid=33); default: the user, if not root",
    "LIST",
    (),
    _conditions,
)
SIGNED = Setting("signed", "accept signatures alone, and no hashes", "yes|no", False, yes_or_no)


class Ima(Target):
    """Hashes or signatures for the files that a workload executes, and rules that want them."""

    name = "ima"
    summary = f"{RULES}, {SCRIPT}, {MANIFEST}: IMA, which executes and maps only files with known content"
    says = frozenset({"files"})
    settings = (ROOT, WHERE, SIGNED)

    def render(self, request: Request) -> Output:
        """See Target.render. The result depends on the files below the root too. Raises InputError for a policy
        without evidence of files, and for a container whose files are not known."""
        policy, root = request.policy, ROOT.of(request)
        if not policy.has_files:
            raise InputError(
                "the policy says nothing about files: hashes need a recording that watched them; record again"
            )
        if root is None and policy.workload.image:
            raise InputError(
                f"the files are those of the image {printable(policy.workload.image)}: "
                "unpack it and name its root with -O ima.root=DIR"
            )
        content = read(policy, root or "/")
        where = WHERE.of(request) or _of_user(policy)
        steps = tuple(_usage(where))
        values = {
            "command": " ".join(map(shell, policy.workload.argv)),
            "extent": extent(policy.workload),
            "functions": FUNCTIONS,
            "where": where,
            "signed": SIGNED.of(request),
            "paths": [f".{file.path}" for file in content.files],
            "without": content.without,
            "manifest": MANIFEST,
        }
        lines = "".join(checked_line(file.digest, f".{file.path}") + "\n" for file in content.files)
        files = (
            File(RULES, request.template("ima-policy.j2", **values)),
            File(SCRIPT, request.template("ima-sign.sh.j2", **values), executable=True, needs=(MANIFEST,)),
            File(MANIFEST, lines.encode("utf-8", "surrogateescape")),
        )
        return Output(files, tuple(_losses(policy, content, where)), steps)


def _of_user(policy: Policy) -> tuple[str, ...]:
    """Return the condition that holds for the workload's processes alone, if its user has one."""
    return (f"uid={policy.workload.uid}",) if policy.workload.uid else ()


def _losses(policy: Policy, content: Content, where: Sequence[str]) -> Iterator[Loss]:
    if not where:
        yield Loss("files", "all files", "the workload runs as root: name a condition with -O ima.where=...")
        return
    yield Loss("files", "which file, and every use but execute and map", "IMA compares content, and knows no paths")
    for pattern, why in content.without:
        yield Loss("files", pattern, f"it has no hash: {why}", "refused")
    for pattern in unnamed(policy):
        yield Loss("files", pattern, "a file without a name has no hash", "refused")


def _usage(where: Sequence[str]) -> Iterator[Step]:
    yield Step("load", f"label the files:  {written(SCRIPT)}          (as root, on the machine; with a key: KEY.pem)")
    if where:
        yield Step("load", f"load the rules:   cat {written(RULES)} > /sys/kernel/security/ima/policy")
        yield Step("load", f"at each boot:     install -D -m 644 {written(RULES)} /etc/ima/ima-policy   (systemd)")
        yield Step("undo", "the rules hold until the next boot; remove /etc/ima/ima-policy before it")
    yield Step("undo", f"remove hashes:    {written(SCRIPT)} --undo")
    if where:
        yield Step("note", "rules replace those of the boot, and most kernels take them once: join what has to hold")
    else:
        conditions = ", ".join(CONDITIONS)
        yield Step(
            "note", f"{RULES} only measures: a rule without a condition would hold for the machine ({conditions})"
        )
