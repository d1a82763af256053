#!/usr/bin/env bash
# Runs unit tests (cmocka binaries) and command-line tests (scripts), and sums up.
# usage: run.sh TEST...     environment: ASSAY (the program), BUILD (for logs)
# A script announces what it leaves out with a line `skip - NAME: REASON`.
set -u
passed=0 failed=0 skipped=0
logs=${BUILD:-build}/test-logs
mkdir -p "$logs"

for test in "$@"; do
    name=$(basename "$test")
    log=$logs/$name.log
    start=$(date +%s%N)
    "$test" >"$log" 2>&1
    status=$?
    seconds=$((($(date +%s%N) - start) / 1000000))
    # cmocka prints `[       OK ] name`, scripts `ok - name`.
    p=$(grep -cE '^\[ +OK \]|^ok - ' "$log")
    f=$(grep -cE '^\[ +FAILED +\] +[a-z_0-9]+$|^not ok - ' "$log")
    s=$(grep -cE '^\[ +SKIPPED \] +[a-z_0-9]+$|^skip - ' "$log")
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ "$status" -eq 0 ] && [ $((p + f + s)) -eq 0 ]; then
        echo "    $name ran no test" >>"$log"
        f=1 status=1
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ "$status" -eq 0 ]; then
        printf '✓ %-28s %4d passed%s  %d.%03d s\n' "$name" "$p" \
            "$([ "$s" -gt 0 ] && echo ", $s skipped")" $((seconds / 1000)) $((seconds % 1000))
        grep -E '^skip - ' "$log" | sed 's/^/    /'
    else
        printf '✗ %-28s %4d passed, %d failed (status %d)\n' "$name" "$p" "$f" "$status"
        tail -n 60 "$log" | sed 's/^/    /'
        echo "    whole log: $log"
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
