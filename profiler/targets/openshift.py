"""OpenShift: SecurityContextConstraints that let a pod have what the workload needs, and nothing else.

Facts: the CRD of openshift/api (security/v1), and the constraints restricted-v2 of a cluster. A capability may be both
allowed and dropped by ``ALL``.
"""

from __future__ import annotations

from profiler.policy.caveats import extent
from profiler.policy.posture import posture
from profiler.quoting.shell import shell
from profiler.targets import pods
from profiler.targets.base import File, Launches, Output, Request, Setting, Step, Target, written
from profiler.targets.containers import READ_ONLY

NAME = Setting[str | None]("name", "the name of the constraints; default: profgen-NAME", "NAME", None, pods.label)


class Openshift(Target):
    """OpenShift and OKD."""

    name = "openshift"
    summary = "scc.yaml: SecurityContextConstraints of OpenShift, which the pods of the target kubernetes select"
    says = frozenset({"capabilities", "no_new_privs"})
    settings = (NAME, pods.SECCOMP, READ_ONLY)
    launches = Launches(engines=frozenset(), names=frozenset({"seccomp", "selinux"}), requires=frozenset({"seccomp"}))

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy, place = request.policy, posture(request.policy)
        made, losses = pods.confined(request)
        name = NAME.of(request) or f"profgen-{pods.name_of(policy)}"
        values = {
            "workload": name,
            "made": made,
            "place": place,
            "extent": extent(policy.workload),
            "argv": " ".join(map(shell, policy.workload.argv)),
        }
        file = File("scc.yaml", request.template("scc.yaml.j2", **values))
        return Output(
            (file,),
            losses,
            (
                Step("load", f"oc apply -f {written(file.name)}"),
                Step("load", f"oc adm policy add-scc-to-user {name} -z SERVICEACCOUNT -n NAMESPACE"),
                Step(
                    "use",
                    f"give the pods the annotation openshift.io/required-scc: {name}, or -O kubernetes.scc={name}",
                ),
                Step("undo", f"to undo: oc delete scc {name}"),
            ),
        )
