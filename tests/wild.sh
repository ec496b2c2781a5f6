#!/bin/sh
# Usage: wild.sh DIRECTORY
# Get Compose files that other people wrote: those of Debian's source package docker-compose. Nothing is installed. Where
# they cannot be had, say so: one test does without.
set -eu

directory=$1
[ -d "$directory" ] && exit 0
mkdir -p "$(dirname "$directory")"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
trap 'exit 1' INT TERM
missing() {
    echo "no Compose files of others ($1): one test does without" >&2
    exit 0
}
command -v apt-get >/dev/null || missing "not a Debian system"
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' |
    sort -u | head -n 1)
[ -n "$site" ] || missing "apt knows no mirror of Debian"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site bookworm main" >"$place/sources.list"
mkdir -p "$place/lists/partial" "$place/cache/archives/partial" "$place/files"
set -- -qq -o "Dir::Etc::sourcelist=$place/sources.list" -o Dir::Etc::sourceparts=- -o Acquire::Languages=none \
    -o "Dir::State::lists=$place/lists" -o "Dir::Cache=$place/cache" -o APT::Sandbox::User= \
    -o APT::Update::Post-Invoke-Success= -o Acquire::Retries=0 -o Acquire::http::Timeout=20
(apt-get "$@" update && cd "$place" && apt-get "$@" --download-only source docker-compose) >/dev/null 2>&1 ||
    missing "the mirror does not answer"
tar xzf "$place"/docker-compose_*.orig.tar.gz -C "$place/files"
mv "$place/files" "$directory"
