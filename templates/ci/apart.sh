#!/bin/sh
# Run a command in GitHub Actions with workflow commands stopped: what a workload prints is text, whatever it is.
set -eu
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::$token"
status=0
"$@" || status=$?
printf '\n::%s::\n' "$token"
exit "$status"
