"""Settings of systemd-nspawn."""

from __future__ import annotations

import pytest
from unit.targets.containers import LIB, RUN, outside, recorded

from profiler.errors import InputError
from profiler.policy.model import Policy
from profiler.targets.catalogue import find
from profiler.targets.rendering import render_one
from profiler.trace.model import ContainerMount


def lines(policy: Policy, **settings: object) -> list[str]:
    (file,) = render_one("nspawn", policy, settings).files
    return file.data.decode().splitlines()


def test_as_recorded() -> None:
    mounts = (ContainerMount("bind", "/srv/x", "/y", True), ContainerMount("bind", "/a:b", "/c", False))
    policy = recorded(RUN, needs=("CAP_KILL", "CAP_BPF"), mounts=mounts, directory="/srv")
    found = lines(policy)
    assert {"User=33", "WorkingDirectory=/srv", "Capability=CAP_BPF", "ReadOnly=yes", "BindReadOnly=/srv/x:/y"} <= {
        *found
    }
    assert "TemporaryFileSystem=/run:mode=1777" in found
    assert not [line for line in found if line.startswith("Parameters=")], "a line cannot have the newline of argv"
    (dropped,) = [line for line in found if line.startswith("DropCapability=")]
    assert "CAP_KILL" not in dropped
    assert "CAP_SYS_ADMIN" in dropped
    lost = render_one("nspawn", policy).losses
    assert [loss.item for loss in lost if loss.section == "files"] == ["/c"]
    assert "Private=yes" in lines(recorded(network="none"))


def test_what_was_not_in_a_container_is_there_to_be_uncommented() -> None:
    found = lines(outside(LIB), **{"read-only": "yes"})
    assert '# Parameters="./app" "-d"' in found
    assert "# User=5" in found
    assert "ReadOnly=yes" in found
    assert "# Bind=DIRECTORY:/var/lib" in found
    lost = render_one("nspawn", outside(LIB), {"read-only": "yes"}).losses
    assert [(loss.item, loss.effect) for loss in lost if loss.section == "files"] == [("/var/lib", "refused")]
    assert not [loss for loss in render_one("nspawn", outside(LIB)).losses if loss.section == "files"]
    assert render_one("nspawn", outside(LIB)).files[0].name == "app.nspawn"


@pytest.mark.parametrize("name", ["", "-a", "a.b", "a/b", "a b", "a" * 65])
def test_what_is_not_the_name_of_a_machine(name: str) -> None:
    (setting,) = [each for each in find("nspawn").settings if each.name == "name"]
    with pytest.raises(InputError, match="not the name of a machine"):
        setting.parse(name)
