#!/usr/bin/env bash
# What a GPU variant has to pass on a machine with a CUDA device, and the figures it is judged by, in
# one go. usage: gpu_acceptance.sh RECORDS.jsonl [SECTION...]
#
# Sections, each bounded in time: golden random many rows large home networks sanitizer peers cpu; all
# of them where none is named. ASSAY is the program (default build/assay), ASSAY_COMMIT the commit that
# is measured, where the tree does not know it; ASSAY_RACECHECK as tests/sanitize_gpu.sh says. Records
# are appended to RECORDS.jsonl; a line on standard output for each section, and everything that was not
# a pass.
set -u
ASSAY=${ASSAY:-build/assay}
root=$(cd "$(dirname "$0")/.." && pwd)
records=${1:?usage: gpu_acceptance.sh RECORDS.jsonl [SECTION...]}
shift
sections=${*:-golden random many rows large home networks sanitizer peers cpu}
variants() { # own | cudnn
    "$ASSAY" info --json | python3 -c "
import json, sys
own = sys.argv[1] == 'own'
names = [i['name'] for i in json.load(sys.stdin)['implementations']]
print(','.join(n for n in names if n.startswith('gpu-' if own else 'cudnn-')))" "$1"
}
own=$(variants own)
cudnn=$(variants cudnn)
start=$SECONDS

# say SECTION STATUS LOG
say() {
    echo "$1: status $2, $((SECONDS - start)) s so far"
    grep -vE '^✓|^- skipped|^    built|^$' "$3" | head -20
}

for section in $sections; do
    log=$(mktemp)
    case $section in
    golden) # files made by PyTorch, every variant
        timeout 200 "$ASSAY" verify --impl "$own,$cudnn" "$root"/data/golden/*.h5 ;;
    random) # 200 problems over all arguments and fills; cuDNN's search of engines takes long
        timeout 200 "$ASSAY" verify --random 200 --seed 7 --impl "$own" &&
            timeout 100 "$ASSAY" verify --random 25 --impl "$cudnn" ;;
    many) # 10,000 problems, on tensor cores and the fp32 kernel that they are measured by, in five shards
        shards=()
        for shard in 101 102 103 104 105; do
            timeout 300 "$ASSAY" verify --threads 1 --random 2000 --seed $shard \
                --impl gpu-fused-fp16,gpu-fused-fp16x3,gpu-stream-fp16,gpu-stream-fp16x3,gpu-fused-fp32 &
            shards+=($!)
        done
        failed=
        for shard in "${shards[@]}"; do wait "$shard" || failed=1; done
        [ -z "$failed" ] ;;
    rows) # forms of the fused kernels that small problems don't reach; images in range and not
        failed=
        for fill in conditioned extreme special; do
            timeout 60 "$ASSAY" verify --repeat 3 --fill $fill --impl "$own" home@mb3 \
                mb2ic64ih64oc64kh4sh2ph1 mb5ic20ih33iw60oc100kh3sh2ph1oph1 \
                mb1ic3ih64iw57oc128kh2sh2ph1 || failed=1
        done
        # many tiles, blocks of few channels
        timeout 90 "$ASSAY" verify --repeat 3 --impl gpu-fused-fp16,gpu-fused-fp16x3 \
            mb40ic64ih64oc1kh4sh2ph1oph1 mb40ic64ih64oc7kh4sh2ph1oph1 \
            mb40ic64ih64oc33kh4sh2ph1oph1 mb40ic64ih64oc65kh4sh2ph1oph1 || failed=1
        [ -z "$failed" ] ;;
    large) # 2^31 outputs and a few more
        timeout 200 "$ASSAY" verify --impl "$own" mb1ic1ih16385iw16384oc2kh2sh2 ;;
    home)
        # four rounds: each costs every variant a start, and brings several samples
        timeout 280 "$ASSAY" bench --budget 1 --rounds 4 --record "$records" \
            --impl "$own,$cudnn" home home@mb1 ;;
    networks)
        timeout 300 "$ASSAY" bench --budget 0.3 --rounds 4 --record "$records" \
            --impl "$own,cudnn-post-conv-tf32" --suite "$root/data/suites/networks.txt" ;;
    sanitizer) ASSAY=$ASSAY "$root"/tests/sanitize_gpu.sh "$own" ;;
    peers)
        timeout 300 python3 "$root/tests/pytorch_peers.py" --record "$records" \
            ${ASSAY_COMMIT:+--commit "$ASSAY_COMMIT"} home ;;
    cpu)
        for threads in 1 2 4 8 16; do
            [ "$threads" -le "$(nproc)" ] && timeout 60 "$ASSAY" bench --budget 2 \
                --record "$records" --threads $threads --impl cpu-gemm home@mb32
        done ;;
    *)
        echo "unknown section '$section'" >&2
        exit 2 ;;
    esac >"$log" 2>&1
    say "$section" $? "$log"
    [ "$section" = home ] || [ "$section" = peers ] || [ "$section" = cpu ] && cat "$log"
    rm -f "$log"
done
