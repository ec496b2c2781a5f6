"""``profgen push``: a profile to a registry, as an OCI artifact."""

from __future__ import annotations

import click

from profiler.cli.options import source_file
from profiler.cli.results import JSON, print_json
from profiler.cli.terminal import emit, say
from profiler.errors import InputError
from profiler.quoting.shell import profgen


@click.command("push")
@click.argument("file", type=source_file, metavar="POLICY|DIR|PROFILE")
@click.argument("reference", metavar="REGISTRY/NAME:TAG")
@click.option("--plain-http", is_flag=True, help="Use HTTP without TLS, for a local registry.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the name with the digest, warnings and errors.")
@JSON
def push(file: str, reference: str, plain_http: bool, quiet: bool, form: str | None) -> None:
    """Push the seccomp profile of a policy to a registry, as an OCI artifact that container runtimes pull (KEP-6061).

    FILE may be a policy, or a seccomp profile that is pushed as it is. The name with the digest is printed: what a pod
    refers to. The same profile always has the same digest. Credentials are those of docker login. It takes the extra
    registry.

    \b
      profgen push nginx.profile registry.example.com/profiles/nginx:1
      profgen push seccomp.json localhost:5000/web:latest --plain-http
    """
    from profiler.registry.client import Client
    from profiler.registry.manifest import artifact
    from profiler.registry.reference import parse

    place = parse(reference)
    if place.digest is not None:
        raise InputError(f"{reference}: the digest follows from the profile: name a tag")
    made = artifact(_profile(file, quiet))
    Client(place, plain_http).push(made)
    pinned = place.pinned(made.manifest.digest)
    if form == "json":
        print_json("push", {"reference": pinned, "digest": made.manifest.digest, "size": len(made.layer.data)})
        return
    emit(f"{pinned}\n")
    if not quiet:
        say(f"pushed {place}; pull it with: {profgen('pull', *(['--plain-http'] if plain_http else []), pinned)}")


def _profile(file: str, quiet: bool) -> bytes:
    """Return the bytes to push. Raises InputError for what no runtime accepts."""
    from profiler.registry.rules import broken
    from profiler.review.yardsticks import named
    from profiler.targets.catalogue import find
    from profiler.targets.rendering import render

    source = named(file)
    if source.policy is not None:
        rendered = render(source.policy, [find("oci-artifact")])
        for name, loss in rendered.losses:
            if loss.item and not quiet:
                say(f"{name}: allows more than the policy: {loss.item}: {loss.why}")
        return profile_in({made.name: made.data for made in rendered.files})
    if source.kind != "seccomp" or not source.content:
        raise InputError(f"{source.name} is neither a policy nor a seccomp profile: generate one first")
    if problems := broken(source.content):
        first = problems[0]
        more = f" (and {len(problems) - 1} more: profgen lint --for kep-6061)" if problems[1:] else ""
        raise InputError(
            f"{source.name}: runtimes refuse it: {first.where + ': ' if first.where else ''}{first.what}{more}"
        )
    return source.content


def profile_in(files: dict[str, bytes]) -> bytes:
    """Return the profile in the files of an image layout, by the names that the target writes."""
    import json

    from profiler.registry.manifest import layer_of
    from profiler.targets.oci_artifact import DIRECTORY

    def blob(digest: str) -> bytes:
        return files[f"{DIRECTORY}/blobs/sha256/{digest[7:]}"]

    index = json.loads(files[f"{DIRECTORY}/index.json"])
    return blob(layer_of(blob(index["manifests"][0]["digest"]))["digest"])
