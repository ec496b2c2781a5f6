"""The schemas of the Security Profiles Operator's objects, reduced to what profgen writes.

Written anew from the CRDs of kubernetes-sigs/security-profiles-operator, commit a2e4c4bd (deploy/base-crds/crds,
Apache-2.0): the same members, types, words and limits in every served version. The API server drops members that a CRD
does not have, so here they are errors.
"""

from __future__ import annotations

from typing import Any

GROUP = "security-profiles-operator.x-k8s.io"
ACTIONS = [
    f"SCMP_ACT_{word}"
    for word in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
]
_WORDS = """NATIVE X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390
S390X PARISC PARISC64 RISCV64"""
ARCHITECTURES = [f"SCMP_ARCH_{word}" for word in _WORDS.split()]
COMPARISONS = [f"SCMP_CMP_{word}" for word in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")]
INT32, INT64 = (1 << 31) - 1, (1 << 63) - 1
TEXTS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
STATE = {"enum": ["Enabled", "Disabled"]}


def members(required: str = "", **properties: Any) -> dict[str, Any]:
    """An object without other members."""
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": required.split()}


def number(most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": most}


ARGUMENT = members(
    "index op", index=number(INT32), op={"enum": COMPARISONS}, value=number(INT64), valueTwo=number(INT64)
)
RULE = members(
    "action names",
    action={"enum": ACTIONS},
    names={**TEXTS, "minItems": 1},
    errnoRet=number(INT32),
    args={"type": "array", "items": ARGUMENT, "maxItems": 6},
)
SECCOMP = members(
    "defaultAction",
    defaultAction={"enum": ACTIONS},
    architectures={"type": "array", "items": {"enum": ARCHITECTURES}, "uniqueItems": True},
    syscalls={"type": "array", "items": RULE},
    baseProfileName={"type": "string"},
    state=STATE,
)
APPARMOR = members(
    mode={"enum": ["Enforce", "Complain"]},
    state=STATE,
    abstract=members(
        executable=members(allowedExecutables=TEXTS, allowedLibraries=TEXTS),
        filesystem=members(readOnlyPaths=TEXTS, writeOnlyPaths=TEXTS, readWritePaths=TEXTS),
        network=members(
            allowRaw={"type": "boolean"},
            allowedProtocols=members(allowTcp={"type": "boolean"}, allowUdp={"type": "boolean"}),
        ),
        capability=members(allowedCapabilities=TEXTS),
    ),
)
BINDING = members(
    "image profileRef",
    image={"type": "string", "minLength": 1},
    profileRef=members(
        "kind name",
        kind={"enum": ["SeccompProfile", "SelinuxProfile", "AppArmorProfile"]},
        name={"type": "string", "minLength": 1},
    ),
)
SPECS = {"SeccompProfile": SECCOMP, "AppArmorProfile": APPARMOR, "ProfileBinding": BINDING}
SERVED = {
    "SeccompProfile": ["v1", "v1beta1"],
    "AppArmorProfile": ["v1", "v1alpha1"],
    "ProfileBinding": ["v1", "v1alpha1"],
}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"}
METADATA = members(
    "name",
    name={**NAME, "maxLength": 253},
    annotations={"type": "object", "additionalProperties": {"type": "string"}},
)


def schema(kind: str) -> dict[str, Any]:
    """The schema of an object of this kind, as Draft 7 of JSON Schema."""
    versions = {"enum": [f"{GROUP}/{version}" for version in SERVED[kind]]}
    return members(
        "apiVersion kind metadata spec", apiVersion=versions, kind={"const": kind}, metadata=METADATA, spec=SPECS[kind]
    )
