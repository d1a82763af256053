#!/usr/bin/env bash
# Attacks on device memory (tests/attacks/device_attacks.cu) and the example of a CUDA plugin. Needs a
# CUDA device, and nvcc or a folder of libraries built elsewhere:
#
#     tests/test_attacks_device.sh --build FOLDER     builds them only
#     PLUGINS=FOLDER tests/test_attacks_device.sh     runs what was built
set -u
cd "$(dirname "$0")/.."
ASSAY=${ASSAY:-build/assay}
NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
attacks='write_behind write_input unwritten illegal_address cache_output endless other_stream
    skip_some write_weight_in_release fault_in_release'
passed=0 failed=0
case_=mb2ic8ih9oc16kh4sh2ph1oph1

build() { # FOLDER
    local flags="-O2 -arch=${ARCH:-native} -w -shared -Xcompiler -fPIC -Iharness"
    mkdir -p "$1"
    $NVCC $flags -o "$1/plugin_cuda.so" tests/examples/plugin_cuda.cu || return 1
    for a in $attacks; do
        $NVCC $flags -DATTACK=$a -o "$1/$a.so" tests/attacks/device_attacks.cu || return 1
    done
}
if [ "${1:-}" = --build ]; then
    build "$2"
    exit
fi
check() { # NAME IMPLEMENTATION VERDICT WORDS [OPTION...]
    local name=$1 library=$2 verdict=$3 words=$4 out
    shift 4
    out=$("$ASSAY" verify --json "$@" --impl "plugin:$PLUGINS/$library.so" $case_ 2>&1)
    if [[ $out == *"\"verdict\":\"$verdict\""* && $out == *"$words"* ]]; then
        echo "ok - device $name: $verdict${words:+, $words}"
        passed=$((passed + 1))
    else
        echo "not ok - device $name is $verdict, $words"
        echo "    $out"
        failed=$((failed + 1))
    fi
}

if ! ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
    echo 'skip - attacks on device memory: no CUDA device'
    exit 0
fi
if [ -z "${PLUGINS:-}" ]; then
    PLUGINS=$(mktemp -d)
    trap 'rm -rf "$PLUGINS"' EXIT
    if ! build "$PLUGINS"; then
        echo 'skip - attacks on device memory: nvcc cannot build them'
        exit 0
    fi
fi
check example plugin_cuda pass ''
check write_behind write_behind fail "device memory behind 'y' was changed"
check write_input write_input fail "wrote to its input 'x' in device memory"
check unwritten unwritten fail 'unwritten elements'
check illegal_address illegal_address fail 'illegal memory access'
check cache_output cache_output fail 'returned the output of an earlier run'
check endless endless timeout 'killed after' --timeout 5
check other_stream other_stream pass ''
check write_weight_in_release write_weight_in_release fail \
    "in release(): wrote to its input 'weight' in device memory"
check fault_in_release fault_in_release fail 'in release(): '
out=$("$ASSAY" bench --json --samples 10 --impl "plugin:$PLUGINS/skip_some.so" $case_ 2>/dev/null | tail -n 1)
if [[ $out == *'"verdict":"fail"'* && $out == *'right at first, wrong in a timed run: element 0 of y'* ]]; then
    echo 'ok - device runs that are left out get no time'
    passed=$((passed + 1))
else
    echo 'not ok - device runs that are left out get no time'
    echo "    $out"
    failed=$((failed + 1))
fi
out=$("$ASSAY" bench --json --budget 1 --impl "plugin:$PLUGINS/plugin_cuda.so" home@mb1 2>/dev/null | tail -n 1)
if [[ $out == *'"verdict":"pass"'* && $out != *'"median_s":null'* ]]; then
    echo 'ok - device example is timed'
    passed=$((passed + 1))
else
    echo 'not ok - device example is timed'
    echo "    $out"
    failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
