#!/bin/sh
# docker run with the observed rights of: /usr/sbin/app -d
# Made by profgen from policy.yaml; change that, not this.
#
#   ./docker-run.sh [OPTION...] IMAGE [COMMAND...]
#   ./docker-run.sh --as-recorded [OPTION...]          starts what was recorded, as it was recorded
#
# Needs seccomp.json next to it. It reads these variables:
#   PROFGEN_ENGINE     the engine, or another with the same options (default: docker)
#   IMAGE              the image to start as recorded (default: none)
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ "${1:-}" = --as-recorded ]; then
    shift
    set -- "$@" --entrypoint /usr/sbin/app "${IMAGE:?set IMAGE to the image to start}" -d
fi
exec "${PROFGEN_ENGINE:-docker}" run \
    --security-opt "seccomp=$here/seccomp.json" \
    --security-opt no-new-privileges \
    --cap-drop ALL \
    --cap-add NET_BIND_SERVICE \
    "$@"
