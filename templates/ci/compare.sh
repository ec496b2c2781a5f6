#!/bin/sh
# Compare the policy of this change with the one of the base: diff.* in the report, and the text of the comment.
#
# PROFGEN_PROFILE  the directory of the policy in the repository
# PROFGEN_BASE     the commit to compare with; empty or zeros for none
# PROFGEN_FAIL_ON  any, widened, risky or never; default: widened
# PROFGEN_REPORT   the directory of the report, where record.sh has been
# PROFGEN_LOG      the format of what is printed: text, or github for annotations and a summary; default: text
set -eu
new=$PROFGEN_PROFILE/policy.yaml
report=$PROFGEN_REPORT
old=$report/base/policy.yaml
comment=$report/comment.md
mkdir -p -- "$report/base"
rm -f -- "$report"/*.failed "$report"/verify.*

base=${PROFGEN_BASE:-}
case $base in
*[!0]*)
    if ! git cat-file -e "$base^{commit}" 2> /dev/null && ! git fetch --quiet --no-tags --depth=1 origin "$base"; then
        echo "profgen: there is no commit $base to compare with; check out with fetch-depth: 0" >&2
        exit 2
    fi
    ;;
*) base= ;; # only zeros: a new branch
esac
if [ -z "$base" ] || ! git show "$base:./$new" > "$old" 2> /dev/null; then
    rm -f -- "$old"
fi
limit=${PROFGEN_FAIL_ON:-widened}

if [ ! -f "$new" ]; then
    if [ -f "$old" ] && [ "$limit" != never ]; then
        echo "the change removes $new" > "$report/diff.failed"
    fi
    cat > "$comment" << 'END'
### profgen

The repository has no `policy.yaml` at the configured place. The artifact of this run has one in `recorded/`: review it,
and commit it with the `trace.json` next to it.
END
    echo "profgen: no policy at $new: review $report/recorded, and commit it there" >&2
    exit 0
fi
if [ ! -f "$old" ]; then
    printf '%s\n' "### profgen" "" "The base has no policy to compare with." > "$comment"
    echo "profgen: the base has no $new: nothing to compare" >&2
    exit 0
fi

compare() { # FORMAT [FAIL-ON]: print the difference; 1 is a verdict, 2 is trouble
    "${PROFGEN:-profgen}" diff "$old" "$new" --format "$1" --fail-on "${2:-any}"
}
verdict() { # the same, with the verdict as text
    compare "$@" && return
    [ $? -eq 1 ] || exit 2
    return 1
}
for form in json sarif gitlab markdown; do
    verdict "$form" > "$report/diff.$form" || :
done
{
    echo "### profgen: \`$new\`"
    tail -n +2 -- "$report/diff.markdown" # its heading names the temporary file of the base
} > "$comment"
rm -- "$report/diff.markdown"
verdict "${PROFGEN_LOG:-text}" || :

if [ "$limit" != never ] && ! verdict json "$limit" > /dev/null; then
    echo "the policy differs from the base in a way that fails the job (fail-on: $limit)" > "$report/diff.failed"
fi
[ -z "${GITHUB_OUTPUT:-}" ] || echo "compared=true" >> "$GITHUB_OUTPUT"
