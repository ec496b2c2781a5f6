"""OpenShift: SecurityContextConstraints that fit the published definition, and the pods of the target kubernetes."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from unit.targets.crds import SCC
from unit.targets.policies import policies
from unit.targets.test_kubernetes import capable, made_of

from profiler.errors import InputError
from profiler.policy.model import Policy
from profiler.targets.openshift import NAME
from profiler.targets.rendering import render_one


def constraints(made: Policy, **given: object) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(render_one("openshift", made, given).files[0].data)
    jsonschema.validate(document, SCC)
    return document


def test_what_the_workload_needs_is_allowed_and_nothing_else() -> None:
    found = constraints(capable("CHOWN", "NET_BIND_SERVICE", uid=33, user="33"))
    assert found["metadata"]["name"] == "profgen-nginx"
    assert found["allowedCapabilities"] == ["CHOWN", "NET_BIND_SERVICE"]
    assert found["requiredDropCapabilities"] == ["ALL"]
    assert found["allowPrivilegeEscalation"] is False
    assert found["readOnlyRootFilesystem"] is True
    assert found["seccompProfiles"] == ["localhost/profgen/nginx.json"]
    assert found["runAsUser"] == {"type": "MustRunAs", "uid": 33}
    assert not any(value is True for name, value in found.items() if name.startswith("allowHost"))


def test_root_and_unknown_users() -> None:
    assert constraints(capable())["runAsUser"] == {"type": "RunAsAny"}
    assert constraints(capable(uid=33, image=None))["runAsUser"] == {"type": "MustRunAsRange"}


def test_the_pod_and_its_constraints_agree() -> None:
    made = capable("CHOWN", uid=33, user="33")
    found = constraints(made, name="tight")
    output, _ = made_of(made, scc="tight")
    pod = yaml.safe_load(output.files[0].data)
    assert pod["metadata"]["annotations"] == {"openshift.io/required-scc": found["metadata"]["name"]}
    context = pod["spec"]["containers"][0]["securityContext"]
    assert set(context["capabilities"]["add"]) <= set(found["allowedCapabilities"])
    assert f"localhost/{context['seccompProfile']['localhostProfile']}" in found["seccompProfiles"]
    assert context["runAsUser"] == found["runAsUser"]["uid"]
    assert {kind for row in pod["spec"]["volumes"] for kind in row if kind != "name"} <= set(found["volumes"])


def test_names_are_checked() -> None:
    with pytest.raises(InputError, match="is not a name in Kubernetes"):
        NAME.parse("Big Name")


@settings(max_examples=10, deadline=None)
@given(policies())
def test_any_policy(made: Policy) -> None:
    found = constraints(made)
    assert found["allowedCapabilities"] == [name.removeprefix("CAP_") for name in made.needed()]
