#!/usr/bin/env bash
# Installs what the build and the tests need and this machine lacks: with apt, as root or by sudo.
# Where it cannot, it prints the line to type and exits with status 3.
set -u

missing=() reasons=()
need() { # PACKAGE REASON TEST...
    local package=$1 reason=$2
    shift 2
    "$@" >/dev/null 2>&1 && return
    missing+=("$package") reasons+=("$package: $reason")
}
command_there() { command -v "$1"; }
package_there() { dpkg -s "$1" 2>/dev/null | grep -q '^Status: install ok installed'; }

need gcc "the C compiler" command_there gcc
need libc6-dev "the C library's headers" test -e /usr/include/stdio.h
need pkg-config "finds the libraries" command_there pkg-config
need libhdf5-dev "case files" package_there libhdf5-dev
need libopenblas-dev "matrix products of the reference" package_there libopenblas-dev
need libsleef-dev "vector exponentials" package_there libsleef-dev
need librandom123-dev "seeded tensor fills" package_there librandom123-dev
need libjansson-dev "JSON results" package_there libjansson-dev
need zlib1g-dev "checksums of case files" package_there zlib1g-dev
need libcmocka-dev "unit tests" package_there libcmocka-dev
need python3 "command-line tests that read JSON" command_there python3
need g++ "kernels emulated on the CPU, and the host compiler of nvcc" command_there g++
if [ "${FUZZ:-0}" = 1 ]; then
    fuzzes() {
        printf 'int LLVMFuzzerTestOneInput(const char *d, long n);\n%s\n' \
            'int LLVMFuzzerTestOneInput(const char *d, long n) { return !d && n; }' |
            clang -x c -fopenmp -fsanitize=fuzzer,address - -o /dev/null
    }
    if ! fuzzes >/dev/null 2>&1; then # the runtime's package carries the compiler's version
        version=$(apt-cache depends clang 2>/dev/null | grep -oE 'clang-[0-9]+' | head -1)
        need clang "the fuzzers' compiler" false
        need libomp-dev "OpenMP for clang" false
        need "libclang-rt-${version#clang-}-dev" "libFuzzer and the sanitizers" false
    fi
fi

[ ${#missing[@]} -eq 0 ] && exit 0
echo "missing on this machine:"
printf '  %s\n' "${reasons[@]}"
line="apt-get install -y --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "install these by your system's own means (names are Debian's)" >&2
    exit 3
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "type:  sudo apt-get update && sudo $line" >&2
    exit 3
fi
echo "installing: $line"
if ! "${as_root[@]}" apt-get update -qq ||
    ! DEBIAN_FRONTEND=noninteractive "${as_root[@]}" $line -qq; then
    echo "installing failed; type:  apt-get update && $line" >&2
    exit 3
fi
