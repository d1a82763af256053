#!/usr/bin/env bash
# The program from outside: exact output, exit status, files.
set -u
ASSAY=${ASSAY:-build/assay}
root=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0

ok() { echo "ok - $1"; passed=$((passed + 1)); }
not_ok() { echo "not ok - $1: $2"; failed=$((failed + 1)); }

# is NAME WANT GOT
is() { if [ "$2" == "$3" ]; then ok "$1"; else not_ok "$1" "expected '$2', got '$3'"; fi; }

# refuses NAME STATUS MESSAGE ARGUMENT...: that status, and exactly that line on stderr
refuses() {
    local name=$1 want=$2 message=$3 out status
    shift 3
    out=$("$ASSAY" "$@" 2>&1 >/dev/null)
    status=$?
    if [ $status -ne "$want" ]; then
        not_ok "$name" "status $status, expected $want: $out"
    else
        is "$name" "assay: $message" "$out"
    fi
}

# field KEY: of the first JSON line on standard input
field() { python3 -c "import json,sys; print(json.loads(sys.stdin.readline())['$1'])"; }

small=mb2ic4ih5oc6kh3sh2ph1oph1

# ---- where the program is
if env -i PATH="$PATH" HOME="$HOME" make -C "$root" -n NVCC= build/assay >"$dir/make" 2>&1; then
    ok 'make without nvcc makes build/assay'
else
    not_ok 'make without nvcc makes build/assay' "$(tail -1 "$dir/make")"
fi

# ---- bad requests
refuses 'unknown command' 2 "unknown command 'frobnicate': see 'assay help'" frobnicate
refuses 'unknown option' 2 "unknown option '--frob': see 'assay help verify'" verify --frob
refuses 'option without value' 2 "option '--seed' needs a value: --seed N" verify $small --seed
refuses 'bad seed' 2 "option '--seed' is '-1': a whole number or 'random'" verify --seed -1 $small
refuses 'bad threads' 2 "option '--threads' is '0': a whole number from 1 to 4096" \
    verify --threads 0 $small
refuses 'no case' 2 "no case is given: a descriptor, a case file, or 'home@mb1'" verify
refuses 'bad fill' 2 "unknown fill 'x': known are conditioned, kernelbench, exact, impulse, extreme, special" \
    verify --fill x $small
refuses 'bad class' 2 "unknown arithmetic class 'fp8': known are fp64, fp32, fp16x3, bf16x3, tf32, bf16" \
    verify --class fp8 $small
refuses 'bad tolerance' 2 "tolerance '1' is neither 'derived' nor 'ATOL,RTOL', e.g. '1e-4,1e-4'" \
    verify --tolerance 1 $small
refuses 'bad descriptor' 2 "descriptor 'mb1ic4ih5oc6kh3sh2oph2': output_padding '2x2' must be smaller than either stride or dilation" \
    verify mb1ic4ih5oc6kh3sh2oph2
refuses 'check with one word' 2 "check takes a case and an output file, 1 words were given" check $small
refuses 'golden without output' 2 "no output is given: --out FILE" golden $small
refuses 'golden into nowhere' 2 "'/nonexistent/a.h5': cannot be created: No such file or directory" \
    golden --out /nonexistent/a.h5 $small
"$ASSAY" verify --impl nothing $small >/dev/null 2>"$dir/err"
is 'unknown implementation, status' 2 $?
is 'unknown implementation, one line' 1 "$(wc -l <"$dir/err")"
"$ASSAY" >/dev/null 2>&1
is 'no command, status' 2 $?

# ---- help
"$ASSAY" help >"$dir/help" 2>&1
is 'help, status' 0 $?
for command in $(awk '/^commands:/ { in_list = 1; next } /^$/ { in_list = 0 } in_list { print $1 }' "$dir/help"); do
    if "$ASSAY" help "$command" | grep -q "^usage: assay $command "; then ok "help $command"; else
        not_ok "help $command" 'no usage'
    fi
done

# ---- verify
out=$("$ASSAY" verify --json --impl cpu-gemm --seed 7 $small)
is 'verify, status' 0 $?
is 'verify, verdict' pass "$(field verdict <<<"$out")"
is 'verify, seed' 7 "$(field seed <<<"$out")"
is 'verify, unwritten' 0 "$(field unwritten <<<"$out")"
is 'verify, reproduce' "assay verify --impl cpu-gemm --fill conditioned --seed 7 $small" \
    "$(field reproduce <<<"$out")"
is 'verify, reproduce, with the options that are not the default' \
    "assay verify --impl cpu-gemm --tolerance 0.01,0.01 --repeat 4 --timeout 90 --fill exact --seed 1 $small" \
    "$("$ASSAY" verify --json --impl cpu-gemm --tolerance 1e-2,1e-2 --timeout 90 --repeat 4 \
        --fill exact $small | field reproduce)"
keys=$(python3 -c "
import json, sys
want = 'case problem implementation verdict max_abs_error error_over_bound worst_index unwritten seconds seed fill reproduce'
record = json.loads(sys.stdin.readline())
print(' '.join(k for k in want.split() if k not in record))" <<<"$out")
is 'verify, keys of the contract' '' "$keys"
is 'verify, every implementation of the CPU' 4 \
    "$("$ASSAY" verify --json --impl cpu-gemm,cpu-blas,cpu-gemm-fp64,cpu-direct $small | grep -c '"verdict":"pass"')"
is 'verify, random seed is printed' 1 \
    "$("$ASSAY" verify --json --impl cpu-gemm --seed random $small | grep -cE '"seed":[0-9]+')"
"$ASSAY" verify --impl cpu-gemm --tolerance 0,0 $small >"$dir/out"
is 'verify, a tolerance of nothing fails' 1 $?
if grep -q '✗ fail' "$dir/out" && grep -q 'again: assay verify' "$dir/out"; then
    ok 'verify, failure says how to run it again'
else
    not_ok 'verify, failure says how to run it again' "$(cat "$dir/out")"
fi
"$ASSAY" verify --json --impl cpu-gemm $small nonsense $small >"$dir/out" 2>"$dir/err"
is 'verify, a bad case among good ones, status' 2 $?
is 'verify, a bad case among good ones, the others run' 2 "$(grep -c '"verdict":"pass"' "$dir/out")"

# ---- golden, files, check
"$ASSAY" golden --out "$dir/a.h5" --seed 3 $small >/dev/null
is 'golden, status' 0 $?
cp "$dir/a.h5" "$dir/b.h5"
"$ASSAY" golden --out "$dir/b.h5" --seed 3 $small >/dev/null
if cmp -s "$dir/a.h5" "$dir/b.h5"; then ok 'golden, the same seed gives the same bytes'; else
    not_ok 'golden, the same seed gives the same bytes' 'they differ'
fi
is 'verify of a file' pass "$("$ASSAY" verify --json --impl cpu-gemm "$dir/a.h5" | field verdict)"
mkdir "$dir/folder"
"$ASSAY" golden --out "$dir/folder" --expected f32 $small home@mb0 >/dev/null
is 'golden into a folder' 2 "$(ls "$dir/folder" | grep -c '\.h5$')"
is 'golden leaves no temporary files' 4 "$(find "$dir" -type f -name '*.h5*' | wc -l)"

# ---- golden data made by PyTorch
if "$ASSAY" verify --impl cpu-gemm,cpu-gemm-fp64,cpu-direct "$root"/data/golden/*.h5 >"$dir/out" 2>&1; then
    ok "golden files made by PyTorch: $(tail -1 "$dir/out")"
else
    not_ok 'golden files made by PyTorch' "$(grep -v '✓' "$dir/out" | head -5)"
fi

# ---- exec:
"$ASSAY" verify --json --impl "exec:false {case} {output}" $small >"$dir/out"
is 'exec, a failing command fails' 1 $?
is 'exec, verdict' fail "$(field verdict <"$dir/out")"
"$ASSAY" verify --json --timeout 0.5 --impl "exec:sleep 60 # {case} {output}" $small >"$dir/out"
is 'exec, a hanging command is ended' timeout "$(field verdict <"$dir/out")"
"$ASSAY" verify --json --impl "exec:kill -SEGV \$PPID # {case} {output}" $small >"$dir/out"
is 'exec, a crash is named' crashed "$(field verdict <"$dir/out")"

# ---- bench
out=$("$ASSAY" bench --json --impl cpu-gemm --samples 3 --commit abc $small)
is 'bench, status' 0 $?
keys=$(python3 -c "
import json, sys
r = json.loads(sys.stdin.readline())
want = 'problem implementation median_s ci_low_s ci_high_s samples_s gflops gbytes_per_s ceiling_gflops share_of_ceiling threads machine commit'
missing = [k for k in want.split() if k not in r]
assert not missing, missing
assert len(r['samples_s']) == 3 and r['commit'] == 'abc'
assert r['ci_low_s'] <= r['median_s'] <= r['ci_high_s']
assert sorted(r['samples_s'])[1] == r['median_s']
assert r['share_of_ceiling'] > 0 and r['conv_s'] > 0 and r['epilogue_s'] > 0
print('good')" <<<"$out" 2>&1)
is 'bench, keys and figures' good "$keys"
"$ASSAY" bench --json --impl cpu-gemm --tolerance 0,0 --samples 3 $small >"$dir/out"
is 'bench, a failing implementation, status' 1 $?
is 'bench, a failing implementation gets no time' None "$(field median_s <"$dir/out")"
"$ASSAY" bench --impl cpu-gemm --samples 3 --record "$dir/r.jsonl" $small >/dev/null
"$ASSAY" bench --impl cpu-gemm --samples 3 --record "$dir/r.jsonl" $small >/dev/null
is 'bench, records are appended' 2 "$(wc -l <"$dir/r.jsonl")"
refuses 'bench, a record that cannot be written' 2 \
    "cannot append to '/nonexistent/r.jsonl': No such file or directory" \
    bench --impl cpu-gemm --samples 1 --record /nonexistent/r.jsonl $small

# ---- info
is 'info --json' True "$("$ASSAY" info --json | python3 -c "
import json, sys
r = json.loads(sys.stdin.readline())
print(r['cores'] > 0 and 'cpu-gemm' in [i['name'] for i in r['implementations']])")"

# ---- results that nobody can take
"$ASSAY" verify --impl cpu-gemm $small >/dev/full 2>/dev/null
is 'a full standard output is an error of the environment' 3 $?

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
