"""compose.yaml: made, put into the user's file, and written as an override."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from inputs import examples
from unit.policy.making import call, trace
from unit.targets.containers import ETC, FUSE, LIB, RUN, outside, recorded
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy, SocketRule
from profiler.targets.base import Existing
from profiler.targets.catalogue import find
from profiler.targets.rendering import render, render_one


def compose(policy: Policy) -> bytes:
    (file,) = render_one("compose", policy).files
    assert file.name == "compose.yaml"
    return file.data


def service(policy: Policy) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(compose(policy))["services"]["app"]
    return found


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ("registry.example:5000/a/web:1.2", "${IMAGE:-registry.example:5000/a/web:1.2}"),
        ("x}$(id)", "${IMAGE:?set IMAGE to the image to run}"),
        (None, "${IMAGE:?set IMAGE to the image to run}"),
    ],
)
def test_the_image_is_the_one_that_was_recorded(image: str | None, line: str) -> None:
    made = derive(trace(call("read")), Options())
    assert service(replace(made, workload=replace(made.workload, image=image)))["image"] == line


def test_it_brings_the_profile_that_it_names() -> None:
    assert [file.name for file in render(recorded(), [find("compose")]).files] == ["compose.yaml", "seccomp.json"]
    assert b"# Recorded in a container of web:1 (sha256:12).\n" in compose(recorded())


def test_the_service_is_as_recorded() -> None:
    made = recorded(RUN, FUSE, tasks=40)
    found = service(made)
    assert found["entrypoint"] == ["web"]
    assert found["command"] == ["-c", "a $$x\n'b"], "a $ begins a variable"
    assert (found["user"], found["working_dir"], found["ports"]) == ("33:33", "/srv/a b", ["80:80/tcp"])
    assert found["read_only"] is True
    assert found["tmpfs"] == ["/run:rw,nosuid,nodev,noexec", "/t:rw,nosuid,nodev,noexec"]
    assert found["volumes"] == [
        {"type": "bind", "source": "/a,b", "target": '/b "c', "read_only": True},
        {"type": "volume", "source": "db", "target": "/data"},
    ]
    assert (found["devices"], found["pids_limit"]) == (["/dev/fuse:/dev/fuse:rw"], 256)
    assert yaml.safe_load(compose(made))["volumes"] == {"db": {"name": "db"}}
    assert service(recorded(network="none"))["network_mode"] == "none"
    unsure = service(recorded(ETC))
    assert not {"read_only", "tmpfs"} & set(unsure)


def test_what_was_not_in_a_container_is_there_to_be_uncommented() -> None:
    made = outside(LIB)
    assert not {"entrypoint", "command", "user", "read_only", "volumes"} & set(service(made))
    text = compose(made).decode().replace("    # ", "    ")
    found = yaml.safe_load(text.replace("    The ", "    # The "))["services"]["app"]
    assert (found["entrypoint"], found["command"], found["user"]) == (["./app"], ["-d"], "5:6")
    assert (found["read_only"], found["volumes"]) == (True, [{"type": "volume", "target": "/var/lib"}])


def test_a_sysctl_is_proposed_instead_of_a_capability() -> None:
    bound = (SocketRule("inet", "stream", 6, ("bind", "listen"), (), ports=(("bind", (80,)),)),)
    made = replace(recorded(needs=("CAP_NET_BIND_SERVICE",)), sockets=bound)
    assert b"#   sysctls: {net.ipv4.ip_unprivileged_port_start: 80}\n" in compose(made)
    assert service(made)["cap_add"] == ["NET_BIND_SERVICE"]


@given(traces())
@settings(max_examples=examples(60), deadline=None)
def test_hostile_recordings_give_valid_files(recording: Any) -> None:
    try:
        made = derive(recording, Options())
    except InputError:
        return
    assert set(yaml.safe_load(compose(made))) <= {"services", "volumes"}
    given_file = "services: {web: {image: x}}\n"
    assert set(yaml.safe_load(rewritten(given_file, made)[1])["services"]) == {"web"}
    yaml.compose(rewritten(given_file, made, override=True)[1])


# The user's file.

SHOP = """\
x-common: &common
  security_opt:
    - label=disable   # SELinux is off

services:
    db: {image: postgres}
    web:   # the front
        <<: *common
        image: nginx:1
        tmpfs: /run
        cap_add: [ NET_BIND_SERVICE, SYS_ADMIN ]  # too much
        volumes:
        - data:/data
"""


def rewritten(text: str, policy: Policy, **settings: object) -> tuple[str, str]:
    """The name and the text of the file that comes out."""
    made = render_one("compose", policy, settings, Existing("shop/docker-compose.yml", text.encode()))
    return made.files[0].name, made.files[0].data.decode()


def web(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["services"]["web"]
    return found


POLICY = recorded(RUN, LIB, FUSE, read_only=True, needs=("CAP_NET_BIND_SERVICE",), tasks=3)


def test_into_the_file_that_people_have() -> None:
    name, text = rewritten(SHOP, POLICY, service="web")
    assert name == "docker-compose.yml"
    found = web(text)
    assert found["cap_drop"] == ["ALL"]
    assert found["cap_add"] == ["NET_BIND_SERVICE"]
    assert found["security_opt"] == ["label=disable", "seccomp=./web.seccomp.json", "no-new-privileges:true"]
    assert (found["user"], found["read_only"], found["pids_limit"]) == ("33:33", True, 256)
    assert found["tmpfs"] == ["/run", "/t:rw,nosuid,nodev,noexec"], "what is mounted already is not mounted again"
    assert found["volumes"] == ["data:/data", {"type": "volume", "target": "/var/lib"}]
    assert found["devices"] == ["/dev/fuse:/dev/fuse:rw"]
    assert yaml.safe_load(text)["services"]["db"] == {"image": "postgres"}
    assert "    web:   # the front\n        <<: *common\n        image: nginx:1\n" in text
    assert "    - label=disable   # SELinux is off\n" in text
    assert rewritten(text, POLICY, service="web")[1] == text, "twice is the same as once"


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/63"])
def test_a_file_without_a_name(name: str) -> None:
    existing = Existing(name, b"services: {web: {image: x}}")
    assert render_one("compose", POLICY, existing=existing).files[0].name == "compose.yaml"
    made = render_one("compose", POLICY, {"override": True}, existing)
    assert made.files[0].name == "compose.override.yaml"


@pytest.mark.parametrize(
    ("member", "found"),
    [
        ("cap_drop: [all, NET_RAW]", {"cap_drop": ["all", "NET_RAW"]}),
        ("cap_add: [CAP_NET_BIND_SERVICE]", {"cap_add": ["CAP_NET_BIND_SERVICE"]}),
        ("pids_limit: 10", {"pids_limit": 10}),
        ("pids_limit: 5000", {"pids_limit": 256}),
        ("pids_limit: -1", {"pids_limit": 256}),
        ('pids_limit: "10"', {"pids_limit": "10"}),
        ('pids_limit: "5000"', {"pids_limit": 256}),
        ("pids_limit: ${PIDS}", {"pids_limit": "${PIDS}"}),
        ('privileged: "no"', {"privileged": "no"}),
        ("deploy: {resources: {limits: {pids: 7}}}", {"deploy": {"resources": {"limits": {"pids": 7}}}}),
        ("user: www", {"user": "www"}),
        (
            "security_opt: [seccomp:unconfined, no-new-privileges]",
            {"security_opt": ["seccomp=./web.seccomp.json", "no-new-privileges"]},
        ),
        ("devices: [/dev/fuse]", {"devices": ["/dev/fuse"]}),
    ],
)
def test_what_the_file_says_already(member: str, found: dict[str, Any]) -> None:
    """What is as strict or stricter stays, and what is looser gives way."""
    made = web(rewritten(f"services:\n  web:\n    {member}\n", POLICY)[1])
    assert {key: made[key] for key in found} == found
    assert ("pids_limit" in made) is ("deploy" not in made)


def test_without_capabilities_none_is_added() -> None:
    assert "cap_add" not in web(rewritten("services:\n  web:\n    cap_add: [SYS_ADMIN]\n", recorded())[1])


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (SHOP, {}, "has 2 services: choose one with -O compose.service=NAME: db, web"),
        (SHOP, {"service": "wen"}, "has no service 'wen': it has db, web"),
        ("a: [", {}, "shop/docker-compose.yml: cannot be rewritten: line 2"),
        ("[]", {}, "not a Compose file: it has no services"),
        ("services: []", {}, "not a Compose file: it has no services"),
        ("services: {}", {}, "has 0 services"),
        ("kind: Pod\n---\na: {}", {}, "not a Compose file"),
        ("services: {db: {}}\n---\nservices: {web: {}}", {}, "it has 2 documents (---), which Compose joins"),
        ("services: {a/b: {}}", {}, "'a/b' is not the name of a service"),
        *(
            (f"services: {{web: {{privileged: {value}}}}}", {}, "the service web is privileged: remove that")
            for value in ("true", '"yes"', "'on'", "1", "y", "t", '"${PRIVILEGED:-false}"')
        ),
    ],
)
def test_a_file_that_cannot_be_rewritten(text: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        rewritten(text, POLICY, **settings)
    assert message in str(caught.value)


def test_an_extended_service_is_named_as_a_loss() -> None:
    text = b"services: {web: {extends: {service: base}}}"
    losses = render_one("compose", recorded(), existing=Existing("compose.yaml", text)).losses
    assert [loss.item for loss in losses] == ["what the service that it extends is given"]


def test_an_override_leaves_the_file_as_it_is() -> None:
    name, text = rewritten(SHOP, POLICY, service="web", override=True)
    assert name == "docker-compose.override.yml", "Compose reads it by itself"
    assert "    cap_add: !override [NET_BIND_SERVICE]\n" in text
    found = web(text.replace("!override ", ""))
    assert set(found) == {
        "user", "read_only", "tmpfs", "volumes", "devices", "pids_limit", "cap_drop", "cap_add", "security_opt",
    }  # fmt: skip
    assert found["tmpfs"] == ["/t:rw,nosuid,nodev,noexec"], "Compose joins the lists of both files"
    other = "services: {web: {security_opt: ['seccomp:unconfined', 'label=disable', no-new-privileges]}}"
    made = rewritten(other, POLICY, override=True)[1]
    assert '    security_opt: !override\n      - "label=disable"\n      - "seccomp=./web.seccomp.json"\n' in made
    plain = rewritten("services: {web: {image: x}}", POLICY, override=True)[1]
    assert "!override" not in plain
    assert web(plain)["cap_add"] == ["NET_BIND_SERVICE"]
    assert "cap_add: !override []" in rewritten("services: {web: {cap_add: [KILL]}}", recorded(), override=True)[1]


def test_an_override_without_the_file_needs_the_service() -> None:
    (file,) = render_one("compose", POLICY, {"service": "web", "override": True}).files
    assert file.name == "compose.override.yaml"
    assert "image" not in web(file.data.decode())
    with pytest.raises(InputError, match="an override needs the name of a service"):
        render_one("compose", POLICY, {"override": True})


def test_two_services_have_a_profile_each() -> None:
    """Edited one after the other, and each of them again."""
    other = replace(POLICY, capabilities=())

    def edited(text: str, policy: Policy, name: str) -> tuple[str, dict[str, bytes]]:
        targets = [find("compose"), find("apparmor")]
        made = render(policy, targets, {"compose": {"service": name}}, Existing("c.yaml", text.encode()))
        files = {file.name: file.data for file in made.files}
        assert f"\0{name}.apparmor.profile\0" in made.outputs["apparmor"].usage[0].text
        return files.pop("c.yaml").decode(), files

    text, for_web = edited(SHOP, POLICY, "web")
    text, for_db = edited(text, other, "db")
    assert for_web.keys() == {"web.seccomp.json", "web.apparmor.profile"}
    assert for_db.keys() == {"db.seccomp.json", "db.apparmor.profile"}
    services = yaml.safe_load(text)["services"]
    for name in ("web", "db"):
        assert f"seccomp=./{name}.seccomp.json" in services[name]["security_opt"]
    assert edited(text, POLICY, "web") == (text, for_web)
    assert edited(text, other, "db") == (text, for_db)


def test_a_service_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InputError, match="give that file with --into"):
        render_one("compose", POLICY, {"service": "web"})


# What the file forbids.

ROOT = recorded(ETC, LIB, needs=("CAP_CHOWN", "CAP_KILL"))


def losses(members: str, policy: Policy = ROOT, **settings: object) -> list[tuple[str, str]]:
    made = render_one("compose", policy, settings, Existing("c.yaml", f"services: {{web: {{{members}}}}}".encode()))
    return [(loss.item, loss.why) for loss in made.losses]


def loosened(members: str, policy: Policy = ROOT, **settings: object) -> dict[str, Any]:
    """The service after an edit that may allow what the file forbids."""
    return web(rewritten(f"services: {{web: {{{members}}}}}", policy, loosen=True, **settings)[1])


def test_dropped_capabilities_stay_dropped() -> None:
    text = "services: {web: {cap_drop: [ALL, chown], cap_add: [CAP_KILL]}}"
    assert web(rewritten(text, ROOT)[1])["cap_add"] == ["CAP_KILL"]
    why = "your file drops it; to allow it: -O compose.loosen"
    assert losses("cap_drop: [ALL, chown], cap_add: [CAP_KILL]") == [("CAP_CHOWN", why)]
    assert losses("cap_drop: [CAP_CHOWN]") == [("CAP_CHOWN", why)]
    assert losses("cap_add: [CHOWN, KILL], cap_drop: [ALL]") == []
    made = loosened("cap_drop: [ALL, chown, NET_RAW], cap_add: [CAP_KILL]")
    assert (made["cap_drop"], made["cap_add"]) == (["ALL", "NET_RAW"], ["CAP_KILL", "CHOWN"])
    override = rewritten(text, ROOT, override=True)[1]
    assert web(override)["cap_add"] == ["KILL"]


@pytest.mark.parametrize(("user", "lost"), [("0", 0), ("root:1", 0), ("'0:0'", 0), ("1000", 2), ("www", 2), ("$X", 0)])
def test_the_user_of_the_file_counts(user: str, lost: int) -> None:
    found = losses(f"user: {user}")
    assert [item for item, _ in found] == ["CAP_CHOWN", "CAP_KILL"][:lost]
    other = recorded(needs=("CAP_KILL",), uid=33)
    assert len(losses(f"user: {user}", other)) == (0 if user in ("0", "root:1", "'0:0'") else 1)


def test_a_root_that_the_file_makes_read_only() -> None:
    assert losses("read_only: true") == [
        ("writing /etc/x", "the root is read-only; mount volumes there, or to change it: -O compose.loosen")
    ]
    assert losses("read_only: true, tmpfs: /etc") == []
    found = losses("read_only: true", **{"read-only": "no"})
    assert "against -O compose.read-only=no; to change it: -O compose.loosen" in found[0][1]
    assert "read_only" not in loosened("read_only: true", **{"read-only": "no"})
    assert "read_only" not in loosened("read_only: true")
    assert loosened('read_only: "yes"', **{"read-only": "yes"})["read_only"] == "yes"
    made = rewritten("services: {web: {read_only: true}}", ROOT, loosen=True, override=True)[1]
    assert web(made)["read_only"] is False


@pytest.mark.parametrize(
    ("volumes", "blocked"),
    [
        ("'data:/etc:ro'", True),
        ("'data:/etc:z,ro'", True),
        ("'/a:/etc:rw'", False),
        ("{type: bind, source: /a, target: /etc, read_only: true}", True),
        ("{type: bind, source: /a, target: /etc}", False),
        ("'a:/:ro', b:/etc", False),
    ],
)
def test_a_mount_that_is_read_only_where_the_policy_writes(volumes: str, blocked: bool) -> None:
    found = losses(f"volumes: [{volumes}]", recorded(ETC))
    assert found == ([("writing /etc/x", "your file mounts it read-only")] if blocked else [])


def test_no_new_privs_of_the_file() -> None:
    gains = replace(ROOT, no_new_privs=False)
    found = losses("security_opt: [no-new-privileges]", gains)
    assert found == [
        (
            "the gain of privileges by a file",
            "your file forbids it (no-new-privileges); to change it: -O compose.loosen",
        )
    ]
    assert losses("security_opt: ['no-new-privileges:false']", gains) == []
    assert loosened("security_opt: ['no-new-privileges=true', 'label=disable']", gains)["security_opt"] == [
        "label=disable", "seccomp=./web.seccomp.json",
    ]  # fmt: skip
    made = rewritten("services: {web: {security_opt: [no-new-privileges]}}", gains, loosen=True, override=True)[1]
    assert web(made.replace("!override", ""))["security_opt"] == ["seccomp=./web.seccomp.json"]


def test_devices_of_the_file() -> None:
    policy = recorded(FUSE)
    assert losses("devices: ['/dev/x:/dev/fuse:r']", policy) == [
        ("/dev/fuse", "your file gives it with r alone: add rw")
    ]
    assert losses("devices: ['/dev/fuse:rw', {source: /dev/b}]", policy) == []


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ("pids_limit: 0", {"pids_limit": 256}),
        ("pids_limit: 1e2", {"pids_limit": "1e2"}),
        ("pids_limit: true", {"pids_limit": 256}),
        ("pids_limit: [1]", {"pids_limit": 256}),
        ("pids_limit: nan", {"pids_limit": 256}),
        ("deploy: {resources: {limits: {pids: '7'}}}", {"deploy": {"resources": {"limits": {"pids": "7"}}}}),
        ("deploy: {resources: {limits: {pids: 5000}}}", {"deploy": {"resources": {"limits": {"pids": 256}}}}),
        ("deploy: {resources: {limits: {pids: -1}}}", {"deploy": {"resources": {"limits": {"pids": 256}}}}),
        ("deploy: {resources: {limits: {pids: $X}}}", {"deploy": {"resources": {"limits": {"pids": "$X"}}}}),
        (
            "pids_limit: 0, deploy: {resources: {limits: {pids: 0}}}",
            {"pids_limit": 256, "deploy": {"resources": {"limits": {"pids": 256}}}},
        ),
        ("deploy: {replicas: 2}", {"deploy": {"replicas": 2}, "pids_limit": 256}),
    ],
)
def test_limits_of_tasks(members: str, found: dict[str, Any]) -> None:
    text = f"services: {{web: {{{members}}}}}"
    made = web(rewritten(text, POLICY)[1])
    assert {key: made[key] for key in ("pids_limit", "deploy") if key in made} == found
    override = web(rewritten(text, POLICY, override=True)[1])
    same = {key: value for key, value in found.items() if value == override.get(key)}
    assert {key: override[key] for key in ("pids_limit", "deploy") if key in override} == same
