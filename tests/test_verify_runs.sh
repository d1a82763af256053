#!/usr/bin/env bash
# What a run of `assay verify` leaves behind: results that are on disk at once, a run that is gone on
# with, JUnit, failure capsules that replay; audit's matrix; data that cannot tell.
set -u
cd "$(dirname "$0")/.."
ASSAY=${ASSAY:-build/assay}
# A sanitizer would take signals for its own.
export ASAN_OPTIONS="handle_segv=0:handle_abort=0:${ASAN_OPTIONS:-}"
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
passed=0 failed=0
case_=mb2ic8ih9oc16kh4sh2ph1oph1
export OMP_NUM_THREADS=1

check() { # NAME CONDITION...: a command that must succeed
    local name=$1
    shift
    if "$@"; then
        echo "ok - $name"
        passed=$((passed + 1))
    else
        echo "not ok - $name: $*"
        failed=$((failed + 1))
    fi
}
has() { grep -qF -- "$2" "$1"; }
lacks() { ! grep -qF -- "$2" "$1"; }
lines() { [ "$(wc -l <"$1")" -eq "$2" ]; }
status() { # EXPECTED COMMAND...
    local expected=$1
    shift
    "$@" >"$t/out" 2>"$t/err"
    [ $? -eq "$expected" ]
}
verify() { "$ASSAY" verify --threads 1 "$@"; }

${CC:-cc} -O1 -w -shared -fPIC -I. -Iharness -o "$t/wrong.so" tests/attacks/bf16_for_fp32.c -lm -lpthread
${CC:-cc} -O1 -w -shared -fPIC -I. -Iharness -o "$t/crash.so" tests/attacks/crash.c -lm -lpthread

# ---- random problems ---------------------------------------------------------------------------------
check 'random: twenty honest runs' status 0 verify --impl cpu-gemm,cpu-direct --random 10 --seed 9
check 'random: the cases are named' has "$t/out" random:9/7
check 'random: one alone is the same case' status 0 verify --json --impl cpu-gemm random:9/7
descriptor=$(python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); print(r["problem"], r["fill"], r["seed"])' "$t/out")
read -r d f s <<<"$descriptor"
cp "$t/out" "$t/one"
check 'random: its descriptor, fill and seed give the same numbers' \
    status 0 verify --json --impl cpu-gemm --fill "$f" --seed "$s" "$d"
check 'random: to the last bit' python3 -c '
import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:3])
keys = ("max_abs_error", "error_over_bound", "worst_index", "expected", "got")
sys.exit([a.get(k) for k in keys] != [b.get(k) for k in keys])' "$t/one" "$t/out"
check 'random: what is no range is refused' status 2 verify random:1/9-3
check 'random: by its text' has "$t/err" 'random:SEED/FIRST-LAST'

# ---- --out and --resume ------------------------------------------------------------------------------
check 'out: a failure is exit status 1' \
    status 1 verify --impl "cpu-gemm,plugin:$t/wrong.so" --out "$t/a.jsonl" $case_ random:4/0-3
check 'out: a line for each trial' lines "$t/a.jsonl" 10
head -c $(($(head -n 4 "$t/a.jsonl" | wc -c) + 100)) "$t/a.jsonl" >"$t/b.jsonl" # torn in the fifth
check 'resume: the status is that of the whole' \
    status 1 verify --impl "cpu-gemm,plugin:$t/wrong.so" --out "$t/b.jsonl" --resume $case_ random:4/0-3
check 'resume: says what it left out' has "$t/out" '4 of an earlier run'
check 'resume: runs the rest' [ "$(grep -c '"verdict"' "$t/b.jsonl")" = 10 ]
check 'resume: again there is nothing to do' \
    status 1 verify --impl "cpu-gemm,plugin:$t/wrong.so" --out "$t/b.jsonl" --resume $case_ random:4/0-3
check 'resume: nothing is added' [ "$(grep -c '"verdict"' "$t/b.jsonl")" = 10 ]
check 'resume: a changed rule is another trial' \
    status 0 verify --impl cpu-gemm --tolerance 1e-2,1e-2 --out "$t/b.jsonl" --resume $case_
verify --impl "cpu-gemm,plugin:$t/wrong.so" --junit "$t/whole.xml" $case_ random:4/0-3 >"$t/whole"
head -n 5 "$t/a.jsonl" >"$t/h.jsonl" # the third case has one of two
check 'resume: a case that is half done' \
    status 1 verify --impl "cpu-gemm,plugin:$t/wrong.so" --out "$t/h.jsonl" --resume \
    --junit "$t/h.xml" $case_ random:4/0-3
check 'resume: counts each once' has "$t/out" '5 of an earlier run'
check 'resume: and all' [ "$(tail -n 1 "$t/out")" = "$(tail -n 1 "$t/whole")" ]
check 'resume: JUnit holds what is left out, too' cmp -s <(sed 's/time="[^"]*"//g' "$t/h.xml") <(sed 's/time="[^"]*"//g' "$t/whole.xml")
cp "$t/wrong.so" "$t/now.so"
status 1 verify --impl "plugin:$t/now.so" --out "$t/n.jsonl" $case_
${CC:-cc} -O1 -w -shared -fPIC -Iharness -o "$t/now.so" tests/examples/plugin_host.c -lm
check 'resume: a library that was built anew is run' \
    status 0 verify --impl "plugin:$t/now.so" --out "$t/n.jsonl" --resume $case_
cp "$t/wrong.so" "$t/now.so"
check 'resume: and one that was built back is not' \
    status 1 verify --impl "plugin:$t/now.so" --out "$t/n.jsonl" --resume $case_
check 'resume: for its verdict is there' has "$t/out" '1 of an earlier run'
cp data/golden/groups_2.h5 "$t/case.h5"
status 0 verify --impl cpu-gemm --out "$t/f.jsonl" "$t/case.h5"
touch "$t/case.h5"
status 0 verify --impl cpu-gemm --out "$t/f.jsonl" --resume "$t/case.h5"
check 'resume: a case file that was written anew is run' lacks "$t/out" 'of an earlier run'
printf '#!/bin/sh\ncp "$1" "$2"\n' >"$t/copy.sh"
status 1 verify --impl "exec:sh '$t/copy.sh' {case} {output}" --out "$t/e.jsonl" $case_
status 1 verify --impl "exec:sh '$t/copy.sh' {case} {output}" --out "$t/e.jsonl" --resume $case_
check 'resume: a command is known by the files among its words' has "$t/out" '1 of an earlier run'
echo : >>"$t/copy.sh"
status 1 verify --impl "exec:sh '$t/copy.sh' {case} {output}" --out "$t/e.jsonl" --resume $case_
check 'resume: and run when they change' lacks "$t/out" 'of an earlier run'
check 'exec: that writes nothing' status 1 verify --impl 'exec:: {case} {output}' $case_
check 'exec: is told so' has "$t/out" 'the command ended well, but wrote no output file'
check 'resume: needs a file' status 2 verify --resume $case_
# A run that is killed leaves every verdict that it had.
"$ASSAY" verify --threads 1 --impl cpu-gemm --random 5000 --out "$t/k.jsonl" >/dev/null 2>&1 &
pid=$!
for _ in $(seq 600); do
    [ -s "$t/k.jsonl" ] && [ "$(wc -l <"$t/k.jsonl")" -ge 5 ] && break
    sleep 0.1
done
kill -9 $pid
wait $pid 2>/dev/null
check 'killed: the verdicts are whole' python3 -c '
import json, sys
n = [json.loads(l)["verdict"] for l in open(sys.argv[1])]
sys.exit(len(n) < 5)' "$t/k.jsonl"
sleep 0.3
check 'killed: no worker is left' [ -z "$(ps -o pid= --ppid "$pid" 2>/dev/null)" ]

# ---- commands ------------------------------------------------------------------------------------------
export TMPDIR=$t/a-folder-whose-name-is-as-long-as-those-of-runners
mkdir "$TMPDIR"
check 'exec: a hang is killed with what it started' \
    status 1 verify --timeout 1 --impl "exec:sleep 4711 & sleep 4711; : {case} {output}" $case_
check 'exec: and nothing of it is left' [ -z "$(pgrep -f '^sleep 4711')" ]
check 'exec: a command that writes nonsense fails' status 1 verify \
    --impl "exec:setsid sleep 4712 & echo >{output}; : {case}" $case_
check 'exec: with the path in the folder that was asked for' has "$t/out" "$TMPDIR/assay-exec-"
check 'exec: what it left in the background is killed' [ -z "$(pgrep -f '^sleep 4712')" ]
check 'exec: no file is left' [ -z "$(ls "$TMPDIR")" ]
check 'exec: what lies beside the output' status 1 verify \
    --impl 'exec:: {case}; mkdir -p {output}/a && : >{output}/a/b && : >{output}.tmp' $case_
check 'exec: goes, too' [ -z "$(ls "$TMPDIR")" ]
for signal in TERM USR1; do
    "$ASSAY" verify --impl "exec:: >{output}.tmp; sleep 4713; : {case} {output}" $case_ >/dev/null 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        pgrep -f '^sleep 4713' >/dev/null && break
        sleep 0.05
    done
    kill -s $signal $pid
    wait $pid 2>/dev/null
    check "exec: SIG$signal ends what runs, too" [ -z "$(pgrep -f '^sleep 4713')" ]
    check 'exec: and leaves no file' [ -z "$(ls "$TMPDIR")" ]
done
TMPDIR="$t/a folder whose name is longer than most, and isn't without a quote"
mkdir "$TMPDIR"
# Others whose TMPDIR is the same may have processes of the numbers that are next here.
next=$(sh -c 'echo $$')
(cd "$TMPDIR" && seq -f 'assay-exec-%.0f' "$next" $((next + 299)) | xargs mkdir)
check 'exec: where another has its folders' status 1 verify --impl "exec:cp {case} {output}" $case_
check 'exec: or where nothing needs one' status 0 verify --impl cpu-gemm $case_
check 'exec: those of others are left alone' [ "$(ls "$TMPDIR" | wc -l)" -eq 300 ]
rmdir "$TMPDIR"/*
check 'exec: any TMPDIR' status 1 verify --impl "exec:cp {case} {output}" $case_
check 'exec: is where the files are' has "$t/out" "output.h5': dataset '/output' is missing"
TMPDIR=$t/none
check 'exec: no TMPDIR' status 3 verify --impl "exec:cp {case} {output}" $case_
check 'exec: which is said' has "$t/err" "cannot make a temporary folder in '$t/none': No such file"
unset TMPDIR

# ---- JUnit -------------------------------------------------------------------------------------------
check 'junit: written beside a failure' status 1 verify --impl "cpu-gemm,plugin:$t/wrong.so,plugin:$t/crash.so" \
    --junit "$t/j.xml" $case_
check 'junit: is XML with the counts' python3 -c '
import sys, xml.etree.ElementTree as e
r = e.parse(sys.argv[1]).getroot()
sys.exit((r.get("tests"), r.get("failures"), r.get("errors")) != ("3", "1", "1"))' "$t/j.xml"
check 'junit: holds the line that runs it again' has "$t/j.xml" "again: assay verify --impl plugin:"
check 'junit: of names that are no UTF-8' status 1 verify \
    --impl $'exec:: \xff {case} {output}' --junit "$t/j.xml" --out "$t/u.jsonl" $case_
check 'junit: which are there, but for those bytes' has "$t/j.xml" 'again: assay verify --impl '
check 'out: too' has "$t/u.jsonl" '"reproduce":"assay verify'

# ---- capsules ----------------------------------------------------------------------------------------
check 'capsule: a failure leaves one' status 1 verify --impl "cpu-gemm,plugin:$t/wrong.so,plugin:$t/crash.so" \
    --capsule "$t/capsules" --fill exact --seed 5 $case_ random:4/0
check 'capsule: its line is printed' has "$t/out" 'capsule: assay replay'
wrong=$(ls "$t"/capsules/capsule-wrong.so-random*.h5)
check 'capsule: replays as a failure' status 1 "$ASSAY" replay "$wrong"
check 'capsule: says what it was' has "$t/out" 'then: fail'
check 'capsule: and what it is' has "$t/out" 'looks like: operands rounded to bf16'
check 'capsule: another implementation passes on it' status 0 "$ASSAY" replay --impl cpu-gemm "$wrong"
check 'capsule: is a case file' status 0 verify --impl cpu-direct "$wrong"
check 'capsule: of a crash' status 1 "$ASSAY" replay "$t"/capsules/capsule-crash.so-mb2*.h5
check 'capsule: of a crash, with the signal' has "$t/out" SIGSEGV
check 'replay: what ran too long' status 1 "$ASSAY" verify --threads 1 --timeout 1 --repeat 3 \
    --impl "exec:sleep 60 # {case} {output}" --capsule "$t/capsules" $case_
SECONDS=0
check 'replay: is not waited for any longer' status 1 "$ASSAY" replay --json "$t"/capsules/capsule-exec*.h5
check 'replay: with the options of then' [ "$SECONDS" -lt 20 ]
check 'replay: which it holds' has "$t/out" '"options":" --threads 1 --repeat 3 --timeout 1"'
mkdir "$t/other" && cp "$t/wrong.so" "$t/other/"
for again in first again; do
    verify --impl "plugin:$t/wrong.so,plugin:$t/other/wrong.so" --capsule "$t/twins" $case_ >/dev/null
    check "capsule: each of two files of one name leaves one, $again" [ "$(ls "$t/twins" | wc -l)" -eq 2 ]
done
for fill in conditioned extreme; do
    for seed in 1 2; do
        verify --impl "exec:: {case} {output}" --capsule "$t/fills" --fill $fill --seed $seed mb1ic8ih4oc4kh3 >/dev/null
    done
done
check 'capsule: one for each fill and seed' [ "$(ls "$t/fills" | wc -l)" -eq 4 ]
check 'capsule: the second is the other' status 1 "$ASSAY" replay "$t"/twins/*-2.h5
check 'capsule: by its path' has "$t/out" "plugin:$t/other/wrong.so"
check 'replay: a case file is no capsule' status 2 "$ASSAY" replay data/golden/groups_2.h5
check 'replay: takes one file' status 2 "$ASSAY" replay
if python3 -c 'import h5py' 2>/dev/null; then
    check 'capsule: holds got, expected and bound' python3 -c '
import h5py, json, numpy as np, sys
with h5py.File(sys.argv[1]) as f:
    over = np.abs(f["got"][()] - f["expected"][()]) > f["bound"][()]
    r = json.loads(f.attrs["record"])
sys.exit(int(over.sum()) != r["above_bound"] or r["verdict"] != "fail")' "$wrong"
    python3 -c '
import h5py, sys
with h5py.File(sys.argv[1]) as f, h5py.File(sys.argv[2], "w") as to:
    to["output"] = f["got"][()]' "$wrong" "$t/got.h5"
    check 'check: refuses that output' status 1 "$ASSAY" check "$wrong" "$t/got.h5"
    check 'check: and says what it looks like' \
        has "$t/out" 'looks like: operands rounded to bf16'
    "$ASSAY" golden --out "$t/golden.h5" --expected f32 $case_ >/dev/null
    python3 -c '
import h5py, sys
with h5py.File(sys.argv[1]) as f, h5py.File(sys.argv[2], "w") as to:
    to["output"] = f["expected"][()]' "$t/golden.h5" "$t/right.h5"
    check 'exec: a right output passes' status 0 verify --repeat 1 \
        --impl "exec:cp $t/right.h5 {output} # {case}" $case_
    check 'check: the same output under a rule' status 0 "$ASSAY" check --json --tolerance 0.1,0 $case_ "$t/right.h5"
    check 'check: says how to do that again' has "$t/out" \
        "assay check --class fp32 --tolerance 0.1,0 --fill conditioned --seed 1 $case_ $t/right.h5"
    check 'exec: unless something runs on in the background' status 1 verify --repeat 1 \
        --impl "exec:setsid sleep 4713 & cp $t/right.h5 {output} # {case}" $case_
    check 'exec: which is named' has "$t/out" 'left 1 process running behind it'
else
    echo 'skip - capsule: holds got, expected and bound: no h5py'
    echo 'skip - exec: what runs on in the background is named: no h5py'
fi

# ---- audit -------------------------------------------------------------------------------------------
check 'audit: the derived bound kills all on conditioned data' status 0 "$ASSAY" audit --threads 1 mb3ic8ih9oc48kh4sh2ph1oph1
check 'audit: the reference is not killed' bash -c "grep -q '^(the reference) *same *same *same *same' '$t/out'"
check 'audit: nothing passes the derived bound' bash -c "! grep -E '^[a-z0-9-]+ +[a-z_]+ +PASSES' '$t/out'"
check 'audit: kernelbench data hides the convolution from 1e-2' \
    status 0 "$ASSAY" audit --threads 1 --fill kernelbench mb2ic64ih6oc128kh4sh2ph1oph1
check 'audit: which is said' bash -c "grep -qE '^no-convolution +convolution +killed +PASSES' '$t/out'"
check 'audit: and named' bash -c "grep -qE '^convolution .*1e-2.*\(insensitive\)' '$t/out'"
check 'audit: where there is no element' status 0 "$ASSAY" audit --threads 1 mb0ic1ih1oc1kh1
check 'audit: the reference is not killed there' bash -c "grep -q '^(the reference) *same *same *same *same' '$t/out'"
check 'audit: nor is anything else' has "$t/out" 'of 0 wrong kernels that this data can show'
check 'audit: by any rule' has "$t/out" 'derived kills 0, 1e-2 kills 0, 1e-4 kills 0, nmse 5e-4 kills 0'
check 'audit: as JSON' bash -c "'$ASSAY' audit --threads 1 --json $case_ | python3 -c '
import json, sys
rows = [json.loads(l) for l in sys.stdin]
sys.exit(len(rows) < 25 or any(r[\"outcome\"][\"derived\"] == \"PASSES\" for r in rows))'"
check 'verify: data that cannot tell is insensitive' \
    status 0 verify --impl cpu-gemm --fill kernelbench --tolerance 1e-2,1e-2 mb1ic64ih6oc128kh4sh2ph1oph1
check 'verify: which is said' has "$t/out" insensitive
check 'verify: and is not under the derived bound' \
    status 0 verify --impl cpu-gemm --fill kernelbench mb1ic64ih6oc128kh4sh2ph1oph1
check 'verify: where nothing is said' lacks "$t/out" insensitive

# ---- suites ------------------------------------------------------------------------------------------
check 'suite: smoke' status 0 verify --impl cpu-gemm --suite data/suites/smoke.txt
check 'suite: a filter on names' status 0 verify --impl cpu-gemm --suite data/suites/exhaustive.txt --filter 'k2-s[12]-*'
check 'suite: takes only those' has "$t/out" '4 pass'
check 'suite: a filter on descriptors' status 0 verify --impl cpu-gemm --suite data/suites/smoke.txt --filter '*dh3*'
check 'suite: takes the dilated case' has "$t/out" 'dilated'
check 'seed: random is accepted' status 0 verify --impl cpu-gemm --seed random $case_
check 'seed: and printed' bash -c "grep -qE '^seed [0-9]+$' '$t/out'"
check 'suite: every line of the others is understood' \
    status 2 verify --suite data/suites/regression.txt --filter 'no-such-case'
check 'suite: and nothing matches' has "$t/err" 'no case matches'

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
