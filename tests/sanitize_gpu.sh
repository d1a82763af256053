#!/usr/bin/env bash
# The four tools of compute-sanitizer, side by side, over three small odd problems: the first takes
# clusters of two and four blocks, the last is too narrow for rows. usage: sanitize_gpu.sh IMPL,...
#
# ASSAY is the program (default build/assay). racecheck orders only threads that arrive at a barrier
# themselves: it gets ASSAY_RACECHECK, from make RACECHECK=1 (default build/racecheck/assay where it
# is, else ASSAY). Exit status 1 where a tool reports something or does not end in its time.
set -u
impls=${1:?usage: sanitize_gpu.sh IMPL,...}
ASSAY=${ASSAY:-build/assay}
racecheck=${ASSAY_RACECHECK:-build/racecheck/assay}
[ -x "$racecheck" ] || racecheck=$ASSAY
tools=()
for tool in memcheck racecheck initcheck synccheck; do
    [ $tool = racecheck ] && program=$racecheck || program=$ASSAY
    timeout 240 compute-sanitizer --tool $tool --target-processes all --error-exitcode 9 \
        "$program" verify --threads 1 --impl "$impls" mb1ic64ih3iw64oc128kh4sh2ph1oph1 \
        mb2ic5ih3iw57oc20kh4sh2ph1 mb2ic5ih3iw20oc20kh4sh2ph1 &
    tools+=("$!:$tool")
done
failed=0
for tool in "${tools[@]}"; do
    wait "${tool%:*}" || { echo "${tool#*:}: status $?" && failed=1; }
done
exit $failed
