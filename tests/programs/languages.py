"""Programs of language runtimes: Java, Node, a static Go server; and the tools git and gcc, driven by shell scripts."""

from __future__ import annotations

import contextlib
import tempfile
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from system.lab.processes import LabError, run
from system.lab.runtimes import Job
from system.lab.workloads import Workload, free_port

SOURCES = Path(__file__).parent / "sources"


def fetch(port: int, path: str = "/") -> str:
    """Return what a server of 127.0.0.1 answers; LabError when that is an error."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        raise LabError(f"{path}: {error}: {error.read()[:1000]!r}") from None
    except OSError as error:
        raise LabError(f"{path}: {error}") from None


class Java(Workload):
    name = "java"
    batch = True
    needs = ("/usr/bin/java", "/usr/bin/javac")

    def prepare(self) -> None:
        self._classes = self.directory.parent / "classes"
        run(["javac", "-d", self._classes, SOURCES / "Load.java"])

    @property
    def argv(self) -> tuple[str, ...]:
        # Which files say what a container may use differs between the versions of cgroups, so between machines.
        settings = ("-Xmx256m", "-XX:-UseContainerSupport", "-XX:TieredStopAtLevel=1")
        return ("/usr/bin/java", *settings, "-cp", str(self._classes), "Load", str(self.directory))

    @property
    def job(self) -> Job:
        return replace(super().job, readable=(self._classes,))

    def reset(self) -> None:
        super().reset()
        with contextlib.suppress(OSError):
            Path("/tmp/hsperfdata_root").rmdir()  # each start makes it if it is missing

    def check(self, stdout: str) -> None:
        if stdout != "answers 24 child 0 user 0\n":
            raise LabError(f"Java said {stdout}")


class _Server(Workload):
    """Serves HTTP; each request does some work, and the answer says with what result."""

    answer: str

    def prepare(self) -> None:
        self.port = free_port(8100, 8300)

    def ready(self) -> bool:
        return self.answers_on(self.port)

    def load(self) -> None:
        for _ in range(30):
            if (said := fetch(self.port).strip()) != self.answer:
                raise LabError(f"{self.name} answered {said}")


class Node(_Server):
    name = "node"
    needs = ("/usr/bin/node",)
    answer = "content 0 7"

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/bin/node", str(SOURCES / "server.js"), str(self.port), str(self.directory))

    @property
    def job(self) -> Job:
        return replace(super().job, readable=(SOURCES,))


class Go(_Server):
    name = "go"
    needs = ("/usr/bin/go",)
    answer = "content 0"

    def prepare(self) -> None:
        super().prepare()
        self._program = self.directory.parent / "bin"
        build = ["go", "build", "-o", self._program / "server", SOURCES / "server.go"]
        with tempfile.TemporaryDirectory() as cache:
            caches = {name: f"{cache}/{name}" for name in ("GOCACHE", "GOPATH")}
            run(build, env={**caches, "CGO_ENABLED": "0", "GO111MODULE": "off"})

    @property
    def argv(self) -> tuple[str, ...]:
        return (str(self._program / "server"), f"127.0.0.1:{self.port}", str(self.directory))

    @property
    def job(self) -> Job:
        return replace(super().job, readable=(self._program,))


class _Script(Workload):
    """A shell script that works in its directory, given as its first argument, and says ``all done`` at the end."""

    batch = True
    script: str

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/bin/sh", "-ec", self.script, self.name, str(self.directory))

    def check(self, stdout: str) -> None:
        if not stdout.endswith("all done\n"):
            raise LabError(f"the script ended early: {stdout}")


class Git(_Script):
    name = "git"
    needs = ("/usr/bin/git",)
    script = """
export GIT_CONFIG_NOSYSTEM=1 HOME="$1"
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q -b main "$1/one"
cd "$1/one"
for i in 1 2 3 4 5 6 7 8 9; do echo "$i $$ $(date +%N)" >"file$i"; git add . && git commit -q -m "number $i"; done
git checkout -q -b side HEAD~3
echo side >side && git add side && git commit -q -m side
git checkout -q main
git merge -q -m merged side
git rebase -q --root
git stash list && git tag -a -m tag v1 && git log --stat -p >../log && git gc -q --prune=now && git fsck --no-progress
git clone -q "file://$1/one" "$1/two"
cd "$1/two"
echo more >more && git add more && git commit -q -m more && git push -q origin HEAD:pushed && git fetch -q
git archive -o ../one.tar HEAD && git grep -q more && git status -s
echo all done
"""


class Gcc(_Script):
    name = "gcc"
    needs = ("/usr/bin/gcc",)
    script = r"""
cd "$1"
printf '#include <stdio.h>\n#include <math.h>\nint main(void) { printf("%%f\\n", sin(1)); return 0; }\n' >a.c
gcc -O2 -g -Wall -o a a.c -lm && ./a
gcc -O2 -flto -fPIC -shared -o liba.so a.c -lm
gcc -c -pipe -o a.o a.c && ar rcs a.a a.o && gcc -static -o b a.a -lm && ./b && strip b
echo all done
"""
