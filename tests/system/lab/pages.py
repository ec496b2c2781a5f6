"""A container engine for the pages of the documentation: a dockerd in a network of its own, with the images that a page
names."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from system.lab.images import ImageEngine, write
from system.lab.processes import run
from system.lab.runtimes import Docker, apart

PROGRAMS = ("nginx", "redis-server", "true", "unshare", "ls", "sleep")
TREES = ("/etc/nginx", "/usr/share/nginx", "/usr/lib/nginx", "/var/www")
EMPTY = ("var/lib/nginx", "var/log/nginx")
"""nginx as Debian installs it."""
COMMANDS = {"nginx": ["nginx", "-g", "daemon off;"], "redis": ["redis-server"]}
"""What an image runs by itself, by the first part of its name."""


class PageEngine(ImageEngine):
    """Containers with ``--network host`` are in its own network, where a page's shell is too."""

    name = "docker-pages"
    options = (*ImageEngine.options, "--bridge=")  # the default one, which published ports need

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="profgen-pages-")))
        self._images: set[str] = set()

    @property
    def archive(self) -> Path:
        """The root file system of the images."""
        return self.state / "base.tar"

    def before(self) -> list[str]:
        script = f"ip link set lo up && mkdir -p {self.state}/data && mount -t tmpfs none {self.state}/data"
        return ["unshare", "--net", *apart(script, version_1=True)]

    def _prepare(self) -> None:
        Docker._prepare(self)
        for name in EMPTY:
            (self.state / "root" / name).mkdir()
        write(self.state / "root", self.archive, PROGRAMS, TREES)

    @property
    def network(self) -> Path:
        """The network namespace of the daemon."""
        return Path(f"/proc/{self._daemon.pid}/ns/net")

    def provide(self, images: Iterable[str]) -> None:
        """Make images of these names where they are not there yet."""
        for image in set(images) - self._images:
            command = COMMANDS.get(image.partition(":")[0].partition("-")[0])
            change = [] if command is None else ["--change", f"CMD {json.dumps(command)}"]
            run(self._tool("import", *change, str(self.archive), image), seconds=60)
            self._images.add(image)

    def clear(self) -> None:
        """Remove the containers, and the networks of projects."""
        if found := run(self._tool("ps", "--all", "--quiet")).stdout.split():
            run(self._tool("rm", "--force", *found), seconds=60)
        run(self._tool("network", "prune", "--force"))

    def close(self) -> None:
        """Stop the daemon, and remove what it had."""
        super().close()
        shutil.rmtree(self.state.parent, ignore_errors=True)
