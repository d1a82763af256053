#!/usr/bin/env bash
# The rules of the house: which folder may include what, format, scripts that parse.
set -u
failed=0
fail() {
    echo "✗ $1"
    shift
    printf '    %s\n' "$@"
    failed=1
}
# rule NAME PATTERN PATHSPEC...: no line of these files may match
rule() {
    local name=$1 pattern=$2 hits
    shift 2
    if hits=$(git grep -nE "$pattern" -- "$@"); then
        mapfile -t lines <<<"$hits"
        fail "$name" "${lines[@]:0:10}"
    else
        echo "✓ $name"
    fi
}

rule 'HDF5 only in harness/ (and tests)' '#include <(hdf5|H5)' 'ref/*' 'gpu/*'
rule 'BLAS only in ref/' '#include <cblas|cblas_[sd]gemm|openblas_' 'gpu/*' 'harness/*'
rule 'CUDA headers only in gpu/' '#include <(cuda|cublas|cudnn|nvml)' 'ref/*' 'harness/*'
rule 'ref/ includes only itself' '#include "(gpu|harness|tests)/' 'ref/*'
rule "gpu/ sees of ref/ the problem's headers only" \
    '#include "(harness|tests)/|#include "ref/(conv|model|oracle|bound|fill|strip|subpixel|ceiling)' \
    'gpu/*'
rule 'harness/ sees of gpu/ its C headers only' '#include "gpu/' 'harness/*.c' \
    ':!harness/implementation_gpu.c' ':!harness/machine.c' ':!harness/cmd_info.c' \
    ':!harness/implementation_plugin.c' ':!harness/assay_abi.c'
rule 'no code in data/' '^#include' 'data/*'
rule 'nothing left open' '\b(TODO|FIXME|XXX|HACK)\b' 'ref/*' 'gpu/*' 'harness/*' 'tests/*.c' \
    'tests/*.py' 'tests/emulator/*' Makefile
rule 'no value is folded by fast math' 'ffast-math|Ofast' Makefile 'ref/*' 'harness/*'

# cmocka's assert_float_equal of 1.1.5 passes NaN against anything.
rule 'no assert_float_equal' 'assert_(float|double)_equal' 'tests/*.c'

if large=$(git ls-files -z | xargs -0 -r du -k | awk '$1 > 1024 {print $2 ": " $1 " KiB"}') &&
    [ -n "$large" ]; then
    fail 'no tracked file above 1 MiB' "$large"
else
    echo '✓ no tracked file above 1 MiB'
fi

for script in $(git ls-files '*.sh' .ci/run); do
    bash -n "$script" || fail "$script does not parse"
done
for script in $(git ls-files '*.py'); do
    python3 -c "import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])" "$script" ||
        fail "$script does not parse"
done

# Formatting differs between versions of the tool; the tree is kept by version 14.
formatter=$(command -v clang-format-14 || command -v clang-format)
if [ -n "$formatter" ] && "$formatter" --version | grep -q 'version 14\.'; then
    if out=$(git ls-files -z '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' '*.hpp' |
        xargs -0 "$formatter" --dry-run -Werror 2>&1); then
        echo '✓ format'
    else
        mapfile -t lines < <(grep -E 'error:' <<<"$out")
        fail 'format (make format)' "${lines[@]:0:10}"
    fi
else
    echo '- format: skipped, clang-format 14 is not here'
fi
exit $failed
