#!/bin/sh
# Find the pages with the most errors in a generated log: pipeline.sh RESULT [LINES]
set -eu
result=$1
lines=${2:-5000}

generate() { # a linear congruential generator, which gives the same lines every time
    awk -v lines="$lines" 'BEGIN {
        seed = 42
        for (i = 0; i < lines; i++) {
            seed = (seed * 1103515245 + 12345) % 2147483648
            printf "10.0.0.%d /page/%d %d\n", seed % 250, int(seed / 7) % 40, int(seed / 1000) % 10 == 0 ? 500 : 200
        }
    }'
}

generate | grep ' 500$' | cut -d ' ' -f 2 | sort | uniq -c | sort -k 1,1nr -k 2 | head -n 10 | sed 's/^ *//' > "$result.part"
if [ "$(id -u)" = 0 ]; then
    chown nobody "$result.part"
fi
mv -f "$result.part" "$result"
cat "$result"
