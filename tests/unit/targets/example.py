"""A target in one file: what it takes to add one."""

from __future__ import annotations

from profiler.errors import InputError
from profiler.targets.base import File, Launches, Loss, Output, Request, Setting, Step, Target, written


def _tone(text: str) -> str:
    if not text.isalpha():
        raise InputError("a tone is one word")
    return text


TONE = Setting("tone", "how the list greets its reader", "WORD", "hello", _tone)


class Greeting(Target):
    """Lists what a workload needs, politely."""

    name = "greeting"
    summary = "greeting.txt: people who like lists"
    says = frozenset({"capabilities"})
    settings = (TONE,)
    launches = Launches(frozenset({"letters"}), frozenset({"seccomp"}), frozenset({"seccomp"}))

    def render(self, request: Request) -> Output:
        values = {"tone": TONE.of(request), "seccomp": request.artifacts["seccomp"].called}
        file = File("greeting.txt", request.template("greeting.txt.j2", **values), needs=(values["seccomp"],))
        losses = (Loss("capabilities", "manners", "a list has none"),)
        return Output((file,), losses, (Step("use", f"cat {written(file.name)}"),))
