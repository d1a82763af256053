"""Records as `assay bench` and `assay audit` write them, made up: for tests of compare, history and report.

    make_records.py FILE [COMMITS]

Two machines, a ladder of implementations, one that becomes 7 % slower half way and one that fails at
the end. The numbers are seeded.
"""

import datetime
import json
import random
import sys

LADDER = [("gpu-unfused", 6.1, "fp32"), ("gpu-fused-fp32", 3.1, "fp32"), ("gpu-fused-tf32", 0.62, "tf32"),
          ("gpu-fused-fp16", 0.41, "tf32"), ("cudnn-unfused", 9.4, "fp32")]


def base(commit, when, machine, **more):
    return {"schema": 1, "kind": "bench", "time": when, "run": "%016x" % random.getrandbits(64), "version": "0.1.0",
            "commit": commit, "dirty": False, "commit_time": when, "binary": "%016x" % int(commit, 16),
            "machine": machine, "cpu": "Example CPU", "cores": 16, "memory_gb": 128.0, "os": "Linux x86_64",
            "libraries": "OpenBLAS 0.3.21", "load": 0.1, **more}


def bench(commit, when, machine, problem, name, cls, ms, flops, data, verdict="pass"):
    samples = [float("%.9g" % (ms * 1e-3 * (1 + abs(random.gauss(0, 0.006))))) for _ in range(20)]
    ordered = sorted(samples)
    median = 0.5 * (ordered[9] + ordered[10])
    record = base(commit, when, machine, case=problem, problem=problem, implementation=name, verdict=verdict,
                  reason=None if verdict == "pass" else "2 of 9 elements <above> the bound & NaN",
                  max_abs_error=3.8e-7, error_over_bound=10 ** random.uniform(-1.5, -0.2) if verdict == "pass" else 40.0,
                  seed=1, fill="conditioned", threads=16)
    record["class"] = cls
    timed = verdict == "pass"
    record.update(median_s=median if timed else None, ci_low_s=ordered[5] if timed else None,
                  ci_high_s=ordered[14] if timed else None, gflops=flops / median * 1e-9 if timed else None,
                  gbytes_per_s=data / median * 1e-9 if timed else None, rounds=0, samples_s=samples if timed else None,
                  ceiling_copy_gbytes_per_s=4285.0 if "GPU" in machine else 180.0)
    if "GPU" in machine:
        record.update(device="Example GPU", driver="580.1, CUDA 13.0", floor_s=2.86e-4 * data / 1.225e9,
                      bound_by="bytes", ceiling_fp16_tflops=758.0, ceiling_tf32_tflops=408.0,
                      ceiling_fp32_tflops=51.0, throttle="", clocks={"sm_min_mhz": 1900})
    else:
        record["ceiling_gflops"] = 1280.0
    return record


def main():
    path, commits = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 24
    random.seed(7)
    with open(path, "w", encoding="utf-8") as out:

        def write(record):
            out.write(json.dumps(record, separators=(",", ":")) + "\n")

        for c in range(commits):
            commit = "%012x" % (0x9E3779B97F4A % 2**48 * (c + 1) % 2**48)
            when = datetime.datetime.fromtimestamp(1.79e9 + 5000 * c, datetime.timezone.utc)
            when = when.strftime("%Y-%m-%dT%H:%M:%SZ")
            for images, scale in ((16, 1 / 8), (128, 1.0)):
                problem = "mb%dic64ih64oc128kh4sh2ph1oph1" % images
                for name, ms, cls in LADDER:
                    slower = 1.07 if name == "gpu-fused-tf32" and c >= commits // 2 else 1.0
                    failed = name == "gpu-fused-fp16" and c == commits - 1 and images == 16
                    write(bench(commit, when, "Example CPU, 16 cores, Example GPU", problem, name, cls,
                                ms * scale * slower, 139.6e9 * scale, 1.225e9 * scale, "fail" if failed else "pass"))
                write(bench(commit, when, "Example CPU, 16 cores", problem, "cpu-gemm", "fp32", 290 * scale,
                            139.6e9 * scale, 1.225e9 * scale))
        for mutant in ("no-convolution", "flat-softmax", "flipped-kernel", "bias-dropped"):
            record = {"problem": "mb1ic64ih64oc128kh4sh2ph1oph1", "fill": "kernelbench", "mutant": mutant,
                      "outcome": {rule: "killed" if rule == "derived" or (rule == "1e-4" and mutant != "bias-dropped")
                                  else "PASSES" for rule in ("derived", "1e-2", "1e-4", "nmse")}}
            write(record)


if __name__ == "__main__":
    main()
