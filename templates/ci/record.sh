#!/bin/sh
# Record the test command, and derive the policy that it needs: record/ in the report.
#
# PROFGEN_COMMAND  the program with its arguments, quoted as for sh; for more than one program: sh -c '...'
# PROFGEN_REPORT   the directory of the report
# PROFGEN_TRACER   auto, ptrace or ebpf; default: auto
set -eu
mkdir -p -- "$PROFGEN_REPORT"
eval "set -- $PROFGEN_COMMAND"
"${PROFGEN:-profgen}" record --tracer "${PROFGEN_TRACER:-auto}" -o "$PROFGEN_REPORT/recorded.trace.json" -- "$@"
"${PROFGEN:-profgen}" generate -q "$PROFGEN_REPORT/recorded.trace.json" -o "$PROFGEN_REPORT/recorded"
