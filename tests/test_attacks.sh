#!/usr/bin/env bash
# Every attack of tests/attacks/ is built as a plugin, run by `assay verify`, and must be caught and
# named as its first line says: EXPECT verdict: words of the reason.
set -u
cd "$(dirname "$0")/.."
ASSAY=${ASSAY:-build/assay}
# A sanitizer would take signals for its own.
export ASAN_OPTIONS="handle_segv=0:handle_abort=0:${ASAN_OPTIONS:-}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0 failed=0
case_=mb2ic8ih9oc16kh4sh2ph1oph1

ok() {
    echo "ok - $1"
    passed=$((passed + 1))
}
not_ok() {
    echo "not ok - $1"
    shift
    printf '    %s\n' "$@"
    failed=$((failed + 1))
}
build() { # SOURCE LIBRARY
    ${CC:-cc} -O1 -w -shared -fPIC -I. -Iharness -o "$2" "$1" -lm -lpthread
}
field() { # KEY, of a JSON line on stdin
    python3 -c 'import json, sys; print(json.loads(sys.stdin.read()).get(sys.argv[1]))' "$1"
}

for source in tests/attacks/*.c; do
    name=$(basename "$source" .c)
    expect=$(sed -n '1s/.*EXPECT \(.*\)/\1/p' "$source")
    build "$source" "$folder/$name.so" || { not_ok "$name builds"; continue; }
    options=()
    case $name in
    hang*) options=(--timeout 1) ;;
    eat_memory) options=(--memory 0.5) ;;
    esac
    out=$("$ASSAY" verify --json --threads 1 "${options[@]}" --impl "plugin:$folder/$name.so" $case_ \
        2>"$folder/err")
    if [ "$(wc -l <<<"$out")" != 1 ]; then
        not_ok "$name: one line of results" "$out" "$(cat "$folder/err")"
        continue
    fi
    verdict=$(field verdict <<<"$out") reason=$(field reason <<<"$out")
    words=${expect#*: }
    [ "$words" = "$expect" ] && words=
    if [ "$verdict" = "${expect%%:*}" ] && { [ "$verdict" = pass ] || [[ $reason == *"$words"* ]]; }; then
        ok "$name: $verdict${words:+, $words}"
    else
        not_ok "$name is $expect" "verdict $verdict: $reason"
    fi
done
if pgrep -f "$folder" >/dev/null; then
    not_ok 'no attack outlives its run' "$(pgrep -af "$folder")"
else
    ok 'no attack outlives its run'
fi

# The next implementation on the same case starts from the true inputs and whole guards.
build tests/examples/plugin_host.c "$folder/honest.so"
for name in write_input write_input_in_release write_weight write_behind write_behind_in_release \
    daemon_outlives cache_output; do
    out=$("$ASSAY" verify --json --threads 1 \
        --impl "plugin:$folder/$name.so,plugin:$folder/honest.so,cpu-gemm" $case_ 2>/dev/null |
        tail -n 2 | while read -r line; do field verdict <<<"$line"; done | tr '\n' ' ')
    if [ "$out" = 'pass pass ' ]; then
        ok "after $name the innocent pass"
    else
        not_ok "after $name the innocent pass" "$out"
    fi
done

# Nor are the innocent what a shell had started before it became the program.
start="'$ASSAY' verify --threads 1 --impl 'plugin:$folder/honest.so'"
bash -c "$start $case_ > >(tee '$folder/log' >/dev/null)" 2>"$folder/err"
status=$?
for _ in $(seq 100); do
    grep -q '1 pass' "$folder/log" && break
    sleep 0.05
done
if [ "$status" -eq 0 ] && grep -q '1 pass' "$folder/log"; then
    ok 'what reads the results is no stray'
else
    not_ok 'what reads the results is no stray' "status $status: $(cat "$folder/log" "$folder/err")"
fi
sh -c "sleep 300 & echo \$! >'$folder/pid'; exec $start,plugin:$folder/daemon_outlives.so $case_" \
    >"$folder/log"
kill "$(cat "$folder/pid")"
alive=$?
if [ "$alive" -eq 0 ] && grep -q '1 pass, 1 fail' "$folder/log" &&
    grep -q 'left 1 process running' "$folder/log"; then
    ok 'a job of the shell that became the program is no stray beside one that is'
else
    not_ok 'a job of the shell that became the program is no stray beside one that is' "$(cat "$folder/log")"
fi

# A run that is not reproducible passes, and is reported.
out=$("$ASSAY" verify --json --threads 1 --repeat 6 --impl "plugin:$folder/unordered_sum.so" $case_)
if [ "$(field deterministic <<<"$out")" = False ]; then
    ok '--repeat reports what differs from run to run'
else
    not_ok '--repeat reports what differs from run to run' "$out"
fi

# bench: a cached output does not get a time.
out=$("$ASSAY" bench --json --threads 1 --repeat 1 --samples 10 --impl "plugin:$folder/cache_output.so" \
    $case_ 2>/dev/null | tail -n 1)
if [ "$(field verdict <<<"$out")" = fail ] && [ "$(field median_s <<<"$out")" = None ]; then
    ok 'bench gives no time to a cached output'
else
    not_ok 'bench gives no time to a cached output' "$out"
fi

# bench: nor does one that leaves out every other timed run, the last of them excepted.
out=$("$ASSAY" bench --json --threads 1 --samples 10 --impl "plugin:$folder/skip_some.so" \
    $case_ 2>/dev/null | tail -n 1)
if [ "$(field verdict <<<"$out")" = fail ] && [ "$(field median_s <<<"$out")" = None ] &&
    [[ $(field reason <<<"$out") == 'right at first, wrong in a timed run: '* ]]; then
    ok 'bench gives no time to runs that are left out'
else
    not_ok 'bench gives no time to runs that are left out' "$out"
fi

# bench: nor does one whose timed runs write an element behind their answer, whoever looks later.
out=$("$ASSAY" bench --json --threads 1 --samples 10 \
    --impl "plugin:$folder/finish_later_when_timed.so" mb1ic2048ih64oc1kh1 2>/dev/null | tail -n 1)
if [ "$(field verdict <<<"$out")" = fail ] && [ "$(field median_s <<<"$out")" = None ] &&
    [[ $(field reason <<<"$out") == 'right at first, wrong in a timed run: '* ]]; then
    ok 'bench gives no time to runs that answer too early'
else
    not_ok 'bench gives no time to runs that answer too early' "$out"
fi

# bench: what goes wrong in release() takes the time away, and nothing from who is timed beside it.
for how in '--rounds 1' '--rounds 2'; do
    for name in abort_in_release write_input_in_release; do
        out=$("$ASSAY" bench --json --threads 1 --samples 4 $how \
            --impl "plugin:$folder/$name.so,plugin:$folder/honest.so" $case_ 2>/dev/null |
            python3 -c 'import json, sys
for line in sys.stdin:
    got = json.loads(line)
    print(got["verdict"], got.get("median_s") is not None, (got.get("reason") or "")[:12])')
        if [[ $out =~ ^(crashed|fail)\ False\ in\ release\(\).pass\ True\ $ ]]; then
            ok "bench $how gives no time after $name"
        else
            not_ok "bench $how gives no time after $name" "$out"
        fi
    done
done

# bench: times are taken from outside the process.
out=$("$ASSAY" bench --json --threads 1 --repeat 1 --samples 10 --impl "plugin:$folder/forge_times.so" \
    $case_ 2>/dev/null | tail -n 1)
if python3 -c 'import json, sys; sys.exit(not 1e-6 < json.loads(sys.argv[1])["median_s"] < 10)' "$out"; then
    ok 'bench takes no times from an implementation'
else
    not_ok 'bench takes no times from an implementation' "$out"
fi

# A plugin's own reason is told as it was given.
out=$("$ASSAY" verify --json --threads 1 --impl "plugin:$folder/report_error.so" $case_ 2>/dev/null)
if [ "$(field reason <<<"$out")" = 'no luck today' ]; then
    ok "a plugin's reason is told as it was given"
else
    not_ok "a plugin's reason is told as it was given" "'$(field reason <<<"$out")'"
fi

# bench: what is not reproducible is said, and recorded.
out=$("$ASSAY" bench --threads 1 --repeat 6 --samples 3 --impl "plugin:$folder/unordered_sum.so" \
    --record "$folder/bench.jsonl" $case_ 2>&1)
if [[ $out == *'not reproducible: '* ]] &&
    [ "$(field deterministic <"$folder/bench.jsonl")" = False ]; then
    ok 'bench says what differs from run to run'
else
    not_ok 'bench says what differs from run to run' "$out" "$(cut -c1-300 "$folder/bench.jsonl")"
fi

# What is not a plugin is said so, and is bad input.
${CC:-cc} -w -shared -fPIC -Iharness -x c -o "$folder/memory.so" - <<'END'
#include "plugin.h"
static int run(struct assay_call *call) { return 0; }
const struct assay_plugin *assay_plugin(void)
{
    static const struct assay_plugin p = {.abi = 1, .memory = 7, .arithmetic_class = "fp32", .run = run};
    return &p;
}
END
${CC:-cc} -w -shared -fPIC -Iharness -x c -o "$folder/large.so" - <<'END'
#include "plugin.h"
static int run(struct assay_call *call) { return 0; }
static size_t workspace(const struct assay_plugin_problem *p) { return (size_t)-1; }
const struct assay_plugin *assay_plugin(void)
{
    static const struct assay_plugin p = {.abi = 1, .arithmetic_class = "fp32", .run = run,
                                          .workspace = workspace};
    return &p;
}
END
for row in "nowhere.so|2|cannot be read" "Makefile|2|cannot be loaded" \
    "$folder/memory.so|2|names a memory, '7'" \
    "$folder/large.so|1|out of memory for a workspace of 18446744073709551615 bytes"; do
    IFS='|' read -r file expected words <<<"$row"
    out=$("$ASSAY" verify --json --impl "plugin:$file" $case_ 2>&1)
    status=$?
    [[ $out == *"$words"* ]] && [ $status -eq "$expected" ] && ok "plugin ${file##*/}: $words" ||
        not_ok "plugin ${file##*/}: $words" "status $status: $out"
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
