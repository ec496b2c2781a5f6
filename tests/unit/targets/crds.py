"""The definition of SecurityContextConstraints, as openshift/api publishes it."""

from __future__ import annotations

from typing import Any

TEXTS = {"type": ["array", "null"], "items": {"type": "string"}}
STRATEGY = {"type": ["object", "null"], "additionalProperties": False, "properties": {"type": {"type": "string"}}}
RANGES = {
    "type": "array",
    "items": {"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}}},
}
OPTIONAL = {"type": ["boolean", "null"]}
SCC: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork", "allowHostPID", "allowHostPorts",
        "allowPrivilegedContainer", "readOnlyRootFilesystem",
    ],
    "properties": {
        "apiVersion": {"const": "security.openshift.io/v1"},
        "kind": {"const": "SecurityContextConstraints"},
        "metadata": {"type": "object", "required": ["name"]},
        **{
            name: {"type": "boolean"}
            for name in (
                "allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork", "allowHostPID", "allowHostPorts",
                "allowPrivilegedContainer", "readOnlyRootFilesystem",
            )
        },
        "allowPrivilegeEscalation": OPTIONAL,
        "defaultAllowPrivilegeEscalation": OPTIONAL,
        **dict.fromkeys(
            ("allowedCapabilities", "allowedUnsafeSysctls", "defaultAddCapabilities", "forbiddenSysctls", "groups",
             "requiredDropCapabilities", "seccompProfiles", "users", "volumes"),
            TEXTS,
        ),
        "fsGroup": {**STRATEGY, "properties": {**STRATEGY["properties"], "ranges": RANGES}},
        "supplementalGroups": {**STRATEGY, "properties": {**STRATEGY["properties"], "ranges": RANGES}},
        "runAsUser": {
            **STRATEGY,
            "properties": {
                **STRATEGY["properties"],
                **{name: {"type": "integer"} for name in ("uid", "uidRangeMax", "uidRangeMin")},
            },
        },
        "seLinuxContext": {**STRATEGY, "properties": {**STRATEGY["properties"], "seLinuxOptions": {"type": "object"}}},
        "priority": {"type": ["integer", "null"]},
    },
}  # fmt: skip
"""What openshift/api says (security/v1, the CRD of SecurityContextConstraints), without unknown members."""
