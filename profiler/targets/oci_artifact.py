"""seccomp.oci/: the seccomp profile as an OCI artifact, in an image layout that registry tools copy from."""

from __future__ import annotations

import json
import re

from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.registry.manifest import Artifact, artifact, layout
from profiler.registry.rules import broken
from profiler.registry.shaping import shaped
from profiler.targets.base import File, Launches, Loss, Output, Request, Setting, Step, Target, written
from profiler.wording import listed

DIRECTORY = "seccomp.oci"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def _tag(text: str) -> str:
    if not _TAG.fullmatch(text):
        raise InputError("a tag has letters, digits, '_', '.' and '-', at most 128 of them")
    return text


TAG = Setting("tag", "the tag in the layout's index", "TAG", "latest", _tag)


class OciArtifact(Target):
    """What a container runtime pulls from a registry (KEP-6061)."""

    name = "oci-artifact"
    summary = "seccomp.oci/: the seccomp profile as an OCI artifact (KEP-6061), for registries"
    says = frozenset[str]()
    settings = (TAG,)
    # It wraps the seccomp profile as launchers name one.
    launches = Launches(engines=frozenset(), names=frozenset({"seccomp"}), requires=frozenset({"seccomp"}))

    def render(self, request: Request) -> Output:
        """See Target.render."""
        made, widened = packed(request)
        files = tuple(File(f"{DIRECTORY}/{name}", data) for name, data in layout(made, TAG.of(request)).items())
        why = "a runtime merges the profile with its own, and cannot merge the conditions on arguments that it has here"
        losses = (Loss("arguments", listed(widened, 8), why),) if widened else ()
        copy = f"skopeo copy oci:$(dirname {written(files[0].name)}):{TAG.of(request)} docker://REGISTRY/NAME:TAG"
        return Output(files, losses, (Step("load", copy),))


def packed(request: Request) -> tuple[Artifact, tuple[str, ...]]:
    """Return the artifact, and the calls that it allows with more arguments than the policy. Raises InputError for a
    profile that no runtime accepts."""
    profile, widened = shaped(json.loads(request.artifacts["seccomp"].data))
    data = request.template("seccomp.json.j2", profile=profile)
    if problems := broken(data):
        first = problems[0]
        raise InputError(f"no runtime accepts the profile as an artifact: {first.where}: {printable(first.what)}")
    return artifact(data), widened
