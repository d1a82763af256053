#!/usr/bin/env bash
# Performance tracking on the command line: records, bench's gate, compare, history, bisect, report.
# usage: test_tracking.sh     environment: ASSAY (the program; default build/assay)
set -u
assay=$(realpath "${ASSAY:-build/assay}")
tests=$(realpath "$(dirname "$0")")
[ -x "$assay" ] || { echo "not ok - the program '$assay' is missing: run make"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
passed=0 failed=0
small=mb20ic16ih8oc16kh4sh2ph1oph1
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
export GIT_CONFIG_GLOBAL=/dev/null

ok() { echo "ok - $1"; passed=$((passed + 1)); }
not_ok() { echo "not ok - $1: $2"; failed=$((failed + 1)); }

# run NAME STATUS PATTERN ARGUMENT...: the exit status, and an extended regular expression that must be
# found in stdout and stderr (empty: anything).
run() {
    local name=$1 status=$2 pattern=$3 found
    shift 3
    "$assay" "$@" >out 2>err
    found=$?
    if [ "$found" -ne "$status" ]; then
        not_ok "$name" "exit status $found, not $status: $(head -c 600 err; tail -n 5 out)"
    elif [ -n "$pattern" ] && ! cat out err | grep -qE -- "$pattern"; then
        not_ok "$name" "no '$pattern' in: $(head -c 1500 out; head -c 500 err)"
    else
        ok "$name"
    fi
}

# record COMMIT MINUTE MILLISECONDS [MACHINE] [VERDICT]: a line as bench writes it, with ten samples.
record() {
    local i samples=""
    for i in 0 1 2 3 4 5 6 7 8 9; do samples="$samples,$3$((i % 4))e-3"; done
    printf '{"schema":1,"kind":"bench","time":"2026-01-01T00:%02d:00Z","run":"%s","commit":"%s",' "$2" "$RANDOM$RANDOM" "$1"
    printf '"commit_time":"2026-01-01T00:%02d:00Z","dirty":false,"binary":"%s","machine":"%s",' "$2" "$1" "${4:-M, 2 cores}"
    printf '"problem":"p","fill":"conditioned","implementation":"cpu-gemm","class":"fp32","verdict":"%s",' "${5:-pass}"
    printf '"threads":2,"samples_s":[%s]}\n' "${samples#,}"
}

# ---- bench writes records ------------------------------------------------------------------------

run bench_record_is_appended 0 "" bench $small --impl cpu-gemm --threads 1 --samples 12 --record r.jsonl --commit abcdefabcdef --commit-time 2026-02-03T04:05:06Z
missing=
for key in schema kind time run commit dirty commit_time binary machine cpu cores memory_gb os libraries load problem \
    fill seed implementation class verdict error_over_bound median_s ci_low_s ci_high_s ceiling_gflops \
    ceiling_copy_gbytes_per_s threads rounds samples_s; do
    grep -q "\"$key\":" r.jsonl || missing="$missing $key"
done
[ -z "$missing" ] && [ "$(wc -l <r.jsonl)" = 1 ] && ok bench_record_has_every_key || not_ok bench_record_has_every_key "missing:$missing"
grep -q '"commit":"abcdefabcdef","dirty":false,"commit_time":"2026-02-03T04:05:06Z"' r.jsonl && ok bench_record_takes_the_given_commit ||
    not_ok bench_record_takes_the_given_commit "$(head -c 300 r.jsonl)"
run bench_record_unwritable_is_refused 2 "cannot append" bench $small --impl cpu-gemm --threads 1 --samples 1 --record /nonexistent/r.jsonl

run bench_of_several_is_timed_in_turn 0 "cpu-blas" bench $small --impl cpu-gemm,cpu-blas --threads 1 --budget 0 --record ten.jsonl
least=$(sed 's/.*"samples_s":\[\([^]]*\)\].*/\1/' ten.jsonl | awk -F, 'NR == 1 || NF < n { n = NF } END { print n }')
[ "$least" -ge 10 ] && [ "$(wc -l <ten.jsonl)" = 2 ] && ok bench_takes_ten_samples_of_each || not_ok bench_takes_ten_samples_of_each "the fewest are $least"

# ---- the gate of bench ---------------------------------------------------------------------------

run bench_baseline_finds_twice_the_work 1 "SLOWER" bench $small --impl cpu-gemm,cpu-gemm-twice --baseline cpu-gemm --threads 1 --threshold 30
run bench_threshold_lets_it_pass 0 "SLOWER" bench $small --impl cpu-gemm,cpu-gemm-twice --baseline cpu-gemm --threads 1 --threshold 400
run bench_against_itself_is_no_regression 0 "cpu-gemm .*\(" bench $small --impl cpu-gemm --against "$assay" --threads 1 --threshold 30
run bench_against_another_program_is_refused 2 "not a binary of this program" bench $small --impl cpu-gemm --against /bin/sh
run bench_calibrate_compares_with_nothing_else 2 "give it without --baseline" bench $small --impl cpu-gemm --calibrate --baseline cpu-gemm
run bench_baseline_must_be_listed 2 "not among the implementations" bench $small --impl cpu-gemm --baseline cpu-direct
run bench_calibrate_writes_a_record 0 "4 comparisons of identical code" bench $small --impl cpu-gemm --threads 1 --calibrate --pairs 4 --rounds 10 --record cal.jsonl
grep -q '"kind":"calibration".*"interleaved_noise":[0-9.e-]*,"separate_noise":' cal.jsonl && ok calibration_has_its_keys || not_ok calibration_has_its_keys "$(cat cal.jsonl)"

# ---- compare -------------------------------------------------------------------------------------

record aaaaaaaaaaaa 1 1.00 >a.jsonl
record bbbbbbbbbbbb 2 1.20 >b.jsonl
record bbbbbbbbbbbb 2 1.20 "N, 64 cores" >other.jsonl
record bbbbbbbbbbbb 2 1.00 "M, 2 cores" fail >fail.jsonl
run compare_a_file_with_itself_is_the_same 0 "SAME" compare a.jsonl a.jsonl
run compare_slower_is_status_1 1 "SLOWER" compare a.jsonl b.jsonl
run compare_faster_is_status_0 0 "FASTER" compare b.jsonl a.jsonl
run compare_below_the_threshold_is_status_0 0 "SLOWER" compare --threshold 30 a.jsonl b.jsonl
run compare_within_the_given_noise_is_the_same 0 "SAME" compare --noise 25 a.jsonl b.jsonl
run compare_other_machine_is_refused 2 "nothing is compared: .*M, 2 cores.*N, 64 cores" compare a.jsonl other.jsonl
run compare_new_failure_is_status_1 1 "NEW FAILURE" compare a.jsonl fail.jsonl
run compare_json_is_for_programs 1 '"change":"SLOWER".*"identical_binary":false' compare --json a.jsonl b.jsonl
run compare_unknown_side_is_refused 2 "neither a file of records nor a commit" compare a.jsonl no-such-thing
run compare_one_side_is_refused 2 "takes two sides" compare a.jsonl
cp a.jsonl copy.jsonl
cat a.jsonl b.jsonl >both.jsonl
run compare_a_copy_is_the_same 0 "SAME" compare a.jsonl copy.jsonl
run compare_with_what_has_grown 1 "SLOWER" compare a.jsonl both.jsonl
run compare_with_what_it_has_grown_from 0 "FASTER" compare both.jsonl a.jsonl
run compare_newest_commit_is_the_same 0 "SAME" compare b.jsonl ./both.jsonl
{ cat a.jsonl; echo '{"schema":1,"kin'; echo 'hello'; cat b.jsonl; } >torn.jsonl
run compare_torn_lines_are_named 1 "torn.jsonl:2: skipped: torn" compare a.jsonl torn.jsonl

# Of a file, each implementation's newest commit counts: the heading knows of all.
{ cat a.jsonl; sed 's/cpu-gemm/cpu-direct/' b.jsonl; record cccccccccccc 3 1.00 | sed 's/cpu-gemm/cpu-blas/'; } >three.jsonl
run compare_heading_counts_the_commits 1 "^A  three.jsonl: commit c{12} and 2 others$" compare three.jsonl b.jsonl
grep -q '^B  b.jsonl: commit b*$' out && ok compare_heading_of_one_commit || not_ok compare_heading_of_one_commit "$(head -2 out)"
[ "$(grep '^    commit' out)" = "    commit: aaaaaaaaaaaa -> bbbbbbbbbbbb
    commit: bbbbbbbbbbbb -> none" ] && ok compare_rows_of_other_commits_name_them || not_ok compare_rows_of_other_commits_name_them "$(cat out)"
{ cat b.jsonl; sed 's/cpu-gemm/cpu-direct/; s/false/true/; s/00:02:00Z","run/00:03:00Z","run/' b.jsonl; } >changed.jsonl
run compare_heading_of_a_changed_tree 0 "^A  changed.jsonl: commit b{12}, changed, and 1 other$" compare changed.jsonl changed.jsonl

{ cat a.jsonl; sed 's/"threads":2/"threads":4/' a.jsonl; } >threads.jsonl
run compare_tells_threads_apart 0 "cpu-gemm, 4 threads" compare threads.jsonl threads.jsonl
run compare_of_one_number_of_threads_is_silent_on_it 0 "cpu-gemm  +p " compare a.jsonl a.jsonl
run report_of_several_numbers_of_threads 0 "2 series" report --output threads.html threads.jsonl
grep -q '>cpu-gemm, 2 threads<' threads.html && grep -q '>cpu-gemm, 4 threads<' threads.html && ok report_tells_threads_apart ||
    not_ok report_tells_threads_apart "$(grep -o '>cpu-gemm[^<]*<' threads.html | sort -u)"

sed 's/"threads":2/"threads":1e300/; p; s/1e300/2/; s/\[1.000e-3/[1e300/' a.jsonl >absurd.jsonl
run absurd_numbers_are_foreign 2 "absurd.jsonl:1: skipped: foreign: 1e.300 threads" history absurd.jsonl
run absurd_times_are_foreign 2 "absurd.jsonl:2: skipped: foreign: a sample of 1e.300 s" history absurd.jsonl
mkdir 'odd [a-z]* name' && cp a.jsonl b.jsonl 'odd [a-z]* name'
run a_folder_may_have_any_name 0 "2 commits" history 'odd [a-z]* name'
sed 's/aaaaaaaaaaaa/<b>aaaaaaaa/g; s/"threads"/"ceiling_gflops":1,&/' a.jsonl >markup.jsonl
run report_of_a_commit_with_markup 0 "1 records" report --output markup.html markup.jsonl
if ! grep -qE '<b>|[^a-z]nan[^a-z]' markup.html; then ok markup_is_escaped; else not_ok markup_is_escaped "$(grep -oE '.{40}(<b>|[^a-z]nan).{20}' markup.html)"; fi

# Half of the width of this interval is 112 % of the median; nothing is below it.
sed 's/\[.*\]/[1e-3,1e-3,1e-3,1e-3,1e-3,3.24e-3]/' a.jsonl >skewed.jsonl
run compare_of_a_skewed_interval 0 " 1 ms -0\.0 % \+224\.0 % " compare skewed.jsonl skewed.jsonl
run history_of_a_skewed_interval 0 " 1 ms -0\.0 % \+224\.0 %$" history skewed.jsonl
run report_of_a_skewed_interval 0 "1 records" report --output skewed.html skewed.jsonl
grep -q '<td class="n">1 ms -0.0 % +224.0 %</td>' skewed.html && ok report_prints_the_same_interval || not_ok report_prints_the_same_interval "$(grep -o '<td class="n">[^<]*' skewed.html)"

# More than the room for a sorted copy: samples of each of six runs, commits of a level.
for i in 1 2 3 4 5 6; do sed "s/\[.*\]/[$(seq -s, -f %.0fe-6 1000 6000)]/" <(record aaaaaaaaaaaa 1 1.00); done >long.jsonl
awk '{ for (i = 0; i < 4620; i++) { line = $0; gsub(i < 4500 ? "aaaaaaaaaaaa" : "bbbbbbbbbbbb", sprintf("%012x", i), line)
    if ((i < 4500) == (NR == 1)) print line } }' a.jsonl b.jsonl >many.jsonl
run compare_of_runs_of_5001_samples 0 "SAME" compare long.jsonl long.jsonl
run history_of_runs_of_5001_samples 0 " 3\.5 ms .*6 runs" history long.jsonl
run history_of_4620_commits 0 "4620 commits, 1 change$" history --brief many.jsonl
run report_of_4620_commits 0 "4620 records" report --output many.html many.jsonl

# ---- commits: compare, history, bisect -----------------------------------------------------------

mkdir repo results && cd repo && git init -q . && mkdir results
cat >build.sh <<EOF
#!/bin/sh
mkdir -p build && rm -f build/assay && cp '$assay' build/assay
# Names change places: what is called slow5 then does its work twice.
[ ! -e slow ] || perl -pi -e 's/cpu-gemm-slow5|cpu-gemm-twice/\$& eq "cpu-gemm-slow5" ? "cpu-gemm-twice" : "cpu-gemm-slow5"/ge' build/assay
[ ! -e broken ]
EOF
chmod +x build.sh
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    echo $i >number
    [ $i = 4 ] && touch broken
    [ $i = 5 ] && rm broken
    [ $i = 8 ] && touch slow
    git add . && git commit -qm "c$i"
    git rev-parse --short=12 HEAD >>../commits
    record "$(tail -n 1 ../commits)" 7 "$([ $i -lt 8 ] && echo 1.00 || echo 1.15)" >>../history.jsonl
done
cp ../history.jsonl results/
first=$(sed -n 7p ../commits) bad=$(sed -n 8p ../commits)
run compare_commits_of_the_repository 1 "SLOWER" compare HEAD~8 HEAD
run compare_neighbours_are_the_same 0 "SAME" compare HEAD~1 HEAD
run compare_commit_without_records_is_refused 2 "no record of" compare --records ../a.jsonl HEAD~1 HEAD
run history_names_the_commits_of_the_change 0 "change: .* in $first\.\.$bad" history
run history_json_marks_one_change 0 "\"commit\":\"$bad\".*\"change\":true" history --json
[ "$(grep -c '"change":true' out)" = 1 ] && ok history_has_one_change || not_ok history_has_one_change "$(grep -c '"change":true' out)"
run history_of_nothing_is_refused 2 "no record matches" history --impl nothing
if [ "$(grep -c __asan_init "$assay")" -gt 0 ]; then
    echo "skip - bisect_finds_the_slow_commit: a sanitizer's times say nothing"
elif ! command -v perl >/dev/null; then
    echo "skip - bisect_finds_the_slow_commit: no perl"
else
    run bisect_finds_the_slow_commit 0 "^$bad[0-9a-f]* is the first bad commit" bisect HEAD~11 HEAD $small --impl cpu-gemm-slow5 --build ./build.sh --threshold 30
    [ -z "$(git status --porcelain --untracked-files=no)" ] && [ "$(git worktree list | wc -l)" = 1 ] &&
        ok bisect_leaves_the_repository_as_it_was || not_ok bisect_leaves_the_repository_as_it_was "$(git worktree list)"
fi
setsid env --default-signal=INT "$assay" bisect HEAD~1 HEAD $small --build 'sleep 4714' >out 2>err &
pid=$!
for _ in $(seq 100); do
    pgrep -f '^sleep 4714' >/dev/null && break
    sleep 0.05
done
kill -s INT -- "-$pid"
wait $pid
[ $? -eq 130 ] && [ "$(git worktree list | wc -l)" = 1 ] && ok bisect_that_is_interrupted_leaves_nothing ||
    not_ok bisect_that_is_interrupted_leaves_nothing "$(git worktree list; cat err)"
run bisect_of_no_threads_is_refused 2 "'none': a whole number" bisect HEAD~1 HEAD $small --build false --threads none
run bisect_of_no_implementation_is_refused 2 "unknown implementation 'none'" bisect HEAD~1 HEAD $small --build false --impl none
run bisect_of_no_case_is_refused 2 "in descriptor 'none'" bisect HEAD~1 HEAD $small none --build false
run bisect_of_one_commit_is_refused 2 "^assay: GOOD 'HEAD' and BAD '$(tail -n 1 ../commits)' are the same commit" bisect HEAD "$(tail -n 1 ../commits)" $small --build "touch $folder/built"
[ "$(cat out err | wc -l)" = 1 ] && ok bisect_of_one_commit_is_one_line || not_ok bisect_of_one_commit_is_one_line "$(cat out err)"
run bisect_of_exchanged_commits_is_refused 2 "^assay: GOOD 'HEAD' is no ancestor of BAD 'HEAD~3'" bisect HEAD HEAD~3 $small --build "touch $folder/built"
[ "$(cat out err | wc -l)" = 1 ] && ok bisect_of_exchanged_commits_is_one_line || not_ok bisect_of_exchanged_commits_is_one_line "$(cat out err)"
[ ! -e "$folder/built" ] && ok bisect_refuses_before_it_builds || not_ok bisect_refuses_before_it_builds "$folder/built is there"
run bisect_unknown_commit_is_refused 2 "no commit that git knows" bisect nothing HEAD $small
cd ..

# ---- report --------------------------------------------------------------------------------------

run report_without_records_is_refused 2 "no record to report" report /dev/null
if command -v python3 >/dev/null; then
    python3 "$tests/make_records.py" made.jsonl
    run report_is_written 0 "report.html: [0-9]+ records, 14 series" report made.jsonl r.jsonl cal.jsonl torn.jsonl --title 'A <b> & "c"'
    grep -qE '(src|href)="?(https?:)?//|@import|url\(' report.html && not_ok report_needs_no_network "$(grep -oE '(src|href)="?(https?:)?//.{30}' report.html | head -3)" || ok report_needs_no_network
    browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
else
    echo "skip - report: no python3"
    browser=
fi
# page NAME PATTERN: in the document as the browser has it after parsing.
page() { if grep -qE -- "$2" dom; then ok "$1"; else not_ok "$1" "no '$2' in the document"; fi; }
if [ -z "$browser" ]; then
    echo "skip - report_in_a_browser: no chromium"
else
    "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$folder/profile" --enable-logging=stderr \
        --v=0 --dump-dom "file://$folder/report.html" >dom 2>log
    page report_has_the_verdict_table 'id="verdicts"'
    page report_marks_failures 'class="bad">✗ fail'
    page report_escapes_what_it_quotes '2 of 9 elements &lt;above&gt; the bound &amp; NaN'
    page report_has_ladders 'class="ladder"'
    page report_has_intervals 'class="whisker"'
    page report_has_the_roofline 'class="roofline".*'
    page report_has_roofs 'tf32 408k GFLOP/s'
    page report_has_the_history 'class="history"'
    page report_has_change_points 'class="change"'
    page report_has_the_error_histogram 'class="errors"'
    page report_has_the_kill_matrix '✗ PASSES'
    page report_has_the_machines 'Example GPU'
    page report_has_the_calibration 'smallest visible slowdown'
    if grep -E 'CONSOLE|Uncaught|ERR_' log | grep -qv 'dbus'; then not_ok report_console_is_silent "$(grep -E 'CONSOLE|ERR_' log | head -3)"; else ok report_console_is_silent; fi
    for width in 1280 390; do
        "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$folder/profile" --hide-scrollbars \
            --window-size=$width,2000 --screenshot="$folder/shot$width.png" "file://$folder/report.html" >/dev/null 2>&1
        [ "$(stat -c %s "shot$width.png" 2>/dev/null || echo 0)" -gt 20000 ] && ok "report_is_drawn_at_$width" || not_ok "report_is_drawn_at_$width" "no picture"
    done
fi

# ---- speed: 100,000 records of 30 samples --------------------------------------------------------

if [ "$(grep -c __asan_init "$assay")" -gt 0 ]; then
    echo "skip - tracking_is_quick: a sanitizer's times say nothing"
else
    awk 'BEGIN { for (c = 0; c < 1000; c++) for (k = 0; k < 100; k++) {
        when = sprintf("2026-%02d-%02dT%02d:00:00Z", 1 + c / 84 % 12, 1 + c / 3 % 28, c % 3)
        printf "{\"schema\":1,\"kind\":\"bench\",\"time\":\"%s\",\"run\":\"%08x\",\"version\":\"0.1.0\",\"commit\":\"%012x\",\"dirty\":false,\"commit_time\":\"%s\",\"binary\":\"%016x\",\"machine\":\"M, 2 cores\",\"cpu\":\"M\",\"cores\":2,\"memory_gb\":25.3,\"os\":\"Linux\",\"libraries\":\"OpenBLAS 0.3.21; HDF5 1.10.8; jansson 2.14; vector kernels avx512\",\"load\":0.5,\"case\":\"p%d\",\"problem\":\"p%d\",\"implementation\":\"gpu-%d\",\"class\":\"fp32\",\"verdict\":\"pass\",\"reason\":null,\"max_abs_error\":3.8e-07,\"error_over_bound\":0.29,\"seed\":1,\"fill\":\"conditioned\",\"threads\":2,\"note\":null,\"gflops\":30.1,\"gbytes_per_s\":1.5,\"samples_s\":[", when, 100 * c + k, c + 65536, when, c, k / 10, k / 10, k % 10
        for (i = 0; i < 30; i++) printf "%s0.00%d", i ? "," : "", 100000 + (7919 * (i + k + c)) % 997
        print "]}" } }' >big.jsonl
    TIMEFORMAT='%U %S'
    times=$({ time { "$assay" compare --records big.jsonl 000000010000 0000000103e7 && "$assay" report big.jsonl; } >out 2>err; } 2>&1)
    if awk -v t="$times" 'BEGIN { split(t, s, " "); exit !(s[1] + s[2] < 2) }' && grep -q 'over 100: ' out && grep -q '100000 records' err; then
        ok "tracking_is_quick (compare and report of 100,000 records: $times s)"
    else
        not_ok tracking_is_quick "user and system seconds $times; $(tail -n 2 out) $(cat err)"
    fi
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
