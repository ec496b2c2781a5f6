#!/bin/sh
# Fetch the generator of Quadlet units of a newer Podman: quadlet.sh FILE
# Debian 12 has Podman 4.3, and the generator came with 4.4. The package of Debian 13 is taken from the mirror that this
# machine uses, and only unpacked: nothing is installed, and root is not needed.
set -eu

file=$1
[ ! -e "$file" ] && [ ! -e /usr/libexec/podman/quadlet ] || exit 0

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
trap 'exit 1' INT TERM
missing() {
    echo "no generator of Quadlet units ($1): one test does without" >&2
    exit 0
}
command -v apt-get >/dev/null || missing "not a Debian system"
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' |
    sort -u | head -n 1)
[ -n "$site" ] || missing "apt knows no mirror of Debian"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $site trixie main" >"$place/sources.list"
mkdir -p "$place/lists/partial" "$place/cache/archives/partial"
set -- -qq -o "Dir::Etc::sourcelist=$place/sources.list" -o Dir::Etc::sourceparts=- -o Acquire::Languages=none \
    -o "Dir::State::lists=$place/lists" -o "Dir::Cache=$place/cache" -o APT::Sandbox::User= \
    -o APT::Update::Post-Invoke-Success= -o Acquire::Retries=0 -o Acquire::http::Timeout=20
cd "$place"
{ apt-get "$@" update && apt-get "$@" download podman && dpkg -x podman_*.deb root; } >/dev/null 2>&1 ||
    missing "the mirror does not answer, or has no newer Podman"
cd - >/dev/null
install -D "$place/root/usr/libexec/podman/quadlet" "$file"
