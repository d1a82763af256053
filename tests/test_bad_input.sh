#!/usr/bin/env bash
# Bad requests and bad files on the command line: one exact line on stderr, nothing on stdout, exit
# status 2 (or 3), at once, in little memory, and no file left behind.
# usage: test_bad_input.sh     environment: ASSAY (the program; default build/assay)
set -u
assay=$(realpath "${ASSAY:-build/assay}")
golden=$(realpath "$(dirname "$0")/../data/golden")
[ -x "$assay" ] || { echo "not ok - the program '$assay' is missing: run make"; exit 1; }
folder=$(mktemp -d)
mounted=
trap '[ -z "$mounted" ] || umount "$mounted"; rm -rf "$folder"' EXIT
cd "$folder" || exit 1
passed=0 failed=0
# A sanitizer needs terabytes of address space, and longer.
sanitized=$(grep -c __asan_init "$assay")
milliseconds_most=$([ "$sanitized" -gt 0 ] && echo 5000 || echo 1000)
d=mb2ic4ih5oc3kh3sh2 # a small case

ok() { echo "ok - $1"; passed=$((passed + 1)); }
not_ok() { echo "not ok - $1: $2"; failed=$((failed + 1)); }

# bad NAME STATUS MESSAGE ARGUMENT...: MESSAGE is the whole of stderr behind "assay: "; "*" stands for
# anything. Nothing else may change in the folder.
bad() {
    local name=$1 status=$2 message=$3 before after out err found start milliseconds
    shift 3
    before=$(ls -A)
    start=$(date +%s%N)
    ([ "$sanitized" -gt 0 ] || ulimit -v 4000000; exec "$assay" "$@" >stdout 2>stderr)
    found=$?
    milliseconds=$((($(date +%s%N) - start) / 1000000))
    err=$(cat stderr)
    out=$(od -c stdout | head -n 3)
    [ -s stdout ] || out=
    rm stdout stderr
    after=$(ls -A)
    # shellcheck disable=SC2053 # the right side is a pattern
    if [ "$found" -ne "$status" ]; then
        not_ok "$name" "exit status $found, not $status ($err)"
    elif [[ $err != "assay: "$message ]]; then
        not_ok "$name" "stderr is '$err', not 'assay: $message'"
    elif [ -n "$out" ]; then
        not_ok "$name" "stdout is '$out'"
    elif [ "$milliseconds" -gt "$milliseconds_most" ]; then
        not_ok "$name" "took $milliseconds ms"
    elif [ "$before" != "$after" ]; then
        not_ok "$name" "left '$after' where '$before' was"
    else
        ok "$name"
    fi
}

# patch FILE PATTERN REPLACEMENT: the first bytes that match the Perl pattern are overwritten.
patch_bytes() {
    local offset
    offset=$(LC_ALL=C grep -obUaP -m 1 "$2" "$1" | head -n 1 | cut -d: -f1)
    [ -n "$offset" ] || { not_ok "patch of $1" "no bytes '$2'"; return; }
    # shellcheck disable=SC2059 # the replacement is a format
    printf "$3" | dd of="$1" bs=1 seek="$offset" conv=notrunc status=none
}

# ---- files -----------------------------------------------------------------------------------------

if ! "$assay" golden --out good.h5 "$d" >golden.log 2>&1; then
    not_ok golden_of_a_small_case "$(cat golden.log)"
    exit 1
fi
rm golden.log
: >empty.h5
echo text >text.h5
head -c 3000 good.h5 >cut.h5
mkdir folder.h5
mkfifo fifo.h5
ln -s loop.h5 loop.h5
cp good.h5 format.h5 && patch_bytes format.h5 'assay-case' 'assay-cake'
cp good.h5 claim.h5
x='\x02\x00{7}\x04\x00{7}\x05\x00{7}\x05\x00{7}' # the shape of /input
claim='\0\x80\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\0\0\0'
patch_bytes claim.h5 "$x" "$claim"
cp good.h5 damaged.h5 # a byte in the midst of the largest tensor, /expected
printf '\x55' | dd of=damaged.h5 bs=1 seek=$(($(stat -c %s damaged.h5) - 2000)) conv=notrunc status=none

for command in verify bench; do
    bad "${command}_of_no_file" 2 "'none.h5': cannot be opened: No such file or directory" \
        $command none.h5
    bad "${command}_of_an_empty_file" 2 "'empty.h5': empty: it must be an HDF5 file" \
        $command empty.h5
    bad "${command}_of_text" 2 "'text.h5': not an HDF5 file" $command text.h5
    bad "${command}_of_a_truncated_file" 2 \
        "'cut.h5': damaged or truncated (HDF5: truncated file: eof = 3000, *)" $command cut.h5
    bad "${command}_of_a_folder" 2 "'folder.h5': a directory: it must be an HDF5 file" \
        $command folder.h5
    bad "${command}_of_a_fifo" 2 "'fifo.h5': not a regular file" $command fifo.h5
    bad "${command}_of_a_link_loop" 2 \
        "'loop.h5': cannot be opened: Too many levels of symbolic links" $command loop.h5
    bad "${command}_of_another_format" 2 \
        "'format.h5': attribute 'format' is 'assay-cake': it must be 'assay-case'" \
        $command format.h5
    bad "${command}_of_a_claim_of_2_to_60_bytes" 2 \
        "'claim.h5': '/input' claims 1152921504606846976 bytes, more than the file of *" \
        $command claim.h5
done
# A length that wraps around in the heap of variable-length strings, on which HDF5 1.10.8 loops. It is
# stopped after half a second of processor time, which is longer where others want the processor.
cp "$golden/batch_four.h5" hang.h5
offset=$(LC_ALL=C grep -obUa -m 1 GCOL hang.h5 | head -n 1 | cut -d: -f1)
printf '\xf0\xff\xff\xff\xff\xff\xff\xff' |
    dd of=hang.h5 bs=1 seek=$((offset + 24)) conv=notrunc status=none
most=$milliseconds_most
milliseconds_most=10000
bad verify_of_a_file_that_hdf5_loops_on 2 "'hang.h5': *" verify hang.h5
milliseconds_most=$most
bad verify_of_a_damaged_tensor 2 "'damaged.h5': '/expected' is damaged: its CRC-32 is *" \
    verify damaged.h5
bad check_of_no_output 2 "'none.h5': cannot be opened: No such file or directory" \
    check good.h5 none.h5
bad check_of_no_case 2 "'none.h5': cannot be opened: No such file or directory" \
    check none.h5 good.h5
bad check_of_a_file_without_output 2 "'good.h5': dataset '/output' is missing" check good.h5 good.h5
bad check_of_text 2 "'text.h5': not an HDF5 file" check good.h5 text.h5

# ---- descriptors -----------------------------------------------------------------------------------

bad descriptor_without_a_key 2 "descriptor 'mb1' lacks key 'ic'" verify mb1
bad descriptor_with_junk 2 "unknown piece 'x' in descriptor '${d}x': try *" verify ${d}x
bad descriptor_with_a_newline 2 "unknown piece 'a?b' in descriptor 'a?b': try *" verify $'a\nb'
bad descriptor_with_a_duplicate 2 "key 'sh' stands twice in descriptor '${d}sh3'" verify ${d}sh3
bad descriptor_that_overflows 2 \
    "descriptor key 'mb' has a number too large for 63 bits: '99999999999999999999ic1ih1oc1kh1'" \
    verify mb99999999999999999999ic1ih1oc1kh1
bad descriptor_with_a_negative_size 2 \
    "descriptor key 'ic' needs a whole number, found '-1ih1oc1kh1'" verify mb1ic-1ih1oc1kh1
bad descriptor_with_a_zero_stride 2 \
    "descriptor 'mb1ic1ih1oc1kh1sh0': stride height '0' must be at least 1" \
    verify mb1ic1ih1oc1kh1sh0
bad descriptor_with_a_factor_too_large 2 "descriptor key 'sf' is '1e39': it overflows float32" \
    verify mb1ic1ih1oc1kh1sf1e39
bad descriptor_with_a_factor_too_small 2 "descriptor key 'sf' is '1e-50': it underflows float32" \
    verify mb1ic1ih1oc1kh1sf1e-50
bad descriptor_of_enormous_tensors 2 \
    "descriptor 'mb1ic1048576ih1048576iw1048577oc1kh1': *too large*" \
    verify mb1ic1048576ih1048576iw1048577oc1kh1
bad descriptor_that_is_empty 2 "the descriptor is empty: try 'home@mb1'" verify ""
bad home_with_junk 2 "'home@mb8x': junk 'x' after the batch" verify home@mb8x

# ---- options ---------------------------------------------------------------------------------------

bad unknown_command 2 "unknown command 'frob': see 'assay help'" frob
bad unknown_option 2 "unknown option '--bogus': see 'assay help verify'" verify --bogus $d
bad unknown_fill 2 "*'bogus'*" verify --fill bogus $d
bad unknown_implementation 2 "*'bogus'*" verify --impl bogus $d
bad option_without_its_value 2 "*'--seed'*" verify $d --seed
bad seed_that_is_no_number 2 "*'--seed'*" verify --seed 1x $d
bad golden_without_output 2 "no output is given: --out FILE" golden $d
bad unknown_storage 2 "option '--expected' is 'f16': f64, f32 or none" golden --expected f16 --out a.h5 $d

bad seed_behind_a_space 2 "option '--seed' is ' -1': a whole number or 'random'" verify --seed ' -1' $d
bad command_without_a_case 2 "the command 'exec:./mine {output}' lacks {case}, *" \
    verify --impl 'exec:./mine {output}' $d
bad command_without_an_output 2 "the command 'exec:./mine {case}' lacks {output}, *" \
    bench --impl 'cpu-gemm,exec:./mine {case}' $d
bad plugin_that_is_not_there 2 "plugin 'none.so' cannot be read: No such file or directory" \
    verify --impl plugin:none.so $d
bad plugin_without_a_name 2 "plugin '' cannot be read: No such file or directory" \
    bench --impl cpu-gemm,plugin: $d
bad plugin_that_is_a_folder 2 "plugin 'folder.h5' is not a file" verify --impl plugin:folder.h5 $d
bad too_many_random_problems 2 "option '--random' is '1000001': a whole number from 1 to 1000000" \
    verify --random 1000001
bad too_long_a_range 2 "'random:1/0-9223372036854775807' is more than 1000000 problems at a time" \
    verify random:1/0-9223372036854775807
bad binary_without_against 2 "--binary needs --against BINARY" bench --binary x --impl cpu-gemm $d
bad commit_time_that_is_none 2 "option '--commit-time' is 'noon': a time like *" \
    bench --commit-time noon --impl cpu-gemm $d

# ---- suites ----------------------------------------------------------------------------------------

# suite NAME MESSAGE LINES: the lines are a format of printf.
suite() {
    # shellcheck disable=SC2059
    printf "$3" >suite.txt
    bad "suite_$1" 2 "$2" verify --impl cpu-gemm --suite suite.txt
    rm -f suite.txt
}
suite with_a_zero_byte "suite.txt:2: a zero byte: a suite is text" "a $d\nb $d\0 fill=x\n"
suite with_a_fill_twice "suite.txt:1: key 'fill' stands twice" "a $d fill=exact seed=1 fill=impulse\n"
suite with_a_seed_twice "suite.txt:1: key 'seed' stands twice" "a $d seed=1 seed=1\n"
suite with_a_name_twice_in_a_range "suite.txt:2: the name 'a2' stands twice" "a2 $d\na* random:1/0-3\n"
bad suite_that_is_a_fifo 2 "suite 'fifo.h5' is not a file" verify --impl cpu-gemm --suite fifo.h5
bad suite_that_is_a_folder 2 "suite 'folder.h5' is not a file" golden --out new --suite folder.h5
printf 'a/b %s\na@b %s seed=2\n' $d $d >both.txt
bad golden_of_two_cases_in_one_file 2 "cases 'a/b' and 'a@b' would both be written to 'new/a_b.h5'" \
    golden --out new --suite both.txt
rm both.txt

# ---- where nothing can be written ------------------------------------------------------------------

bad golden_in_no_folder 2 "'none/a.h5': cannot be created: No such file or directory" \
    golden --out none/a.h5 $d
bad golden_below_a_file 2 "'text.h5/a.h5': cannot be created: Not a directory" \
    golden --out text.h5/a.h5 $d
bad golden_to_a_device 2 "'/dev/null': not a regular file: name a file to write" \
    golden --out /dev/null $d
if [ "$(id -u)" -ne 0 ]; then
    mkdir locked && chmod a-w locked
    bad golden_in_a_locked_folder 2 "'locked/a.h5': cannot be created: Permission denied" \
        golden --out locked/a.h5 $d
else
    echo "skip - golden_in_a_locked_folder: root may write everywhere"
fi

# Files of results, before anything is run.
ln -s text.h5 link.xml
mknod null c 1 3 2>/dev/null || mkfifo null
bad junit_in_no_folder 2 "'none/j.xml': cannot be created: No such file or directory" \
    verify --impl cpu-gemm --junit none/j.xml $d
bad junit_to_a_device 2 "'null': not a regular file: name a file to write" \
    verify --impl cpu-gemm --junit null $d
bad junit_to_a_folder 2 "'folder.h5': a directory: name a file to write" \
    verify --impl cpu-gemm --junit folder.h5 $d
for option in "verify --out" "bench --record"; do
    bad "${option% *}_results_in_no_folder" 2 "cannot append to 'none/a.jsonl': No such file or directory" \
        $option none/a.jsonl --impl cpu-gemm $d
    bad "${option% *}_results_to_a_device" 2 "cannot append to 'null': not a file" \
        $option null --impl cpu-gemm $d
    bad "${option% *}_results_to_no_name" 2 "cannot append to '': No such file or directory" \
        $option "" --impl cpu-gemm $d
done
bad resume_of_a_device 2 "cannot append to 'null': not a file" \
    verify --impl cpu-gemm --out null --resume $d
bad resume_of_nothing 2 "--resume needs --out FILE, whose verdicts it leaves out" \
    verify --impl cpu-gemm --seed 7 --resume $d
bad two_results_in_one_file 2 "--out and --junit name the same file 'a.jsonl': give two" \
    verify --impl cpu-gemm --out a.jsonl --junit a.jsonl $d
bad report_over_its_records 2 "'./text.h5' is read: give --output another name" \
    report --output ./text.h5 text.h5
bad capsules_in_no_folder 2 "cannot make the folder 'none/c': No such file or directory" \
    verify --impl cpu-gemm --capsule none/c $d
bad capsules_in_a_file 2 "cannot make the folder 'text.h5': File exists" \
    verify --impl cpu-gemm --capsule text.h5 $d
if "$assay" verify --impl cpu-gemm --junit link.xml $d >/dev/null && [ -L link.xml ] &&
    grep -q testsuite text.h5; then
    ok junit_through_a_link
else
    not_ok junit_through_a_link "$(ls -l link.xml)"
fi
rm -f link.xml null

cp good.h5 old.h5
file_limit() {
    local err status
    err=$( (ulimit -f 40; exec "$assay" golden --out old.h5 mb2ic4ih50oc3kh3sh2 2>&1 >/dev/null) | cat)
    (ulimit -f 40; exec "$assay" golden --out old.h5 mb2ic4ih50oc3kh3sh2 >/dev/null 2>&1)
    status=$?
    if [ "$status" -eq 3 ] && [[ $err == "assay: "*"files are limited to 40960 (ulimit -f)" ]] &&
        cmp -s old.h5 good.h5 && [ -z "$(find . -name '*.tmp.*')" ]; then
        ok golden_over_the_file_limit
    else
        not_ok golden_over_the_file_limit "status $status: $err"
    fi
}
file_limit
err=$(ulimit -f 4; exec "$assay" verify --impl cpu-gemm $d 2>&1 >/dev/null)
status=$?
if [ "$status" -eq 3 ] &&
    [[ $err == "assay: the case needs "*" of shared memory, and files are limited to 4096 (ulimit -f)" ]]; then
    ok verify_over_the_file_limit
else
    not_ok verify_over_the_file_limit "status $status: $err"
fi

mkdir disk
if mount -t tmpfs -o size=256k assay-test disk 2>/dev/null; then
    mounted=$folder/disk
    cp good.h5 disk/old.h5
    bad golden_on_a_full_disk 3 "'*disk/old.h5': no room for * bytes: No space left on device" \
        golden --out disk/old.h5 mb8ic4ih50oc3kh3sh2
    if cmp -s disk/old.h5 good.h5 && [ "$(ls -A disk)" = old.h5 ]; then
        ok a_full_disk_leaves_the_old_file
    else
        not_ok a_full_disk_leaves_the_old_file "$(ls -A disk)"
    fi
    head -c 230000 /dev/zero >disk/filler
    : >disk/filler2
    dd if=/dev/zero of=disk/filler2 status=none 2>/dev/null
    bad golden_on_a_disk_without_a_byte 3 "'*disk/new.h5': *: No space left on device" \
        golden --out disk/new.h5 $d
else
    echo "skip - golden_on_a_full_disk: no right to mount a small file system"
fi

# ---- standard streams -----------------------------------------------------------------------------

# unprinted NAME ARGUMENT...: results that cannot be printed are an error of the environment.
unprinted() {
    local name=$1 status closed
    shift
    "$assay" "$@" >/dev/full 2>full.log
    status=$?
    "$assay" "$@" >&- 2>closed.log
    closed=$?
    if [ "$status $closed" = "3 3" ] && cmp -s full.log closed.log &&
        [ "$(cat full.log)" = "assay: cannot write the results to standard output" ]; then
        ok "$name"
    else
        not_ok "$name" "exit status $status and $closed: $(cat full.log closed.log)"
    fi
    rm -f full.log closed.log
}
unprinted verify_in_json_to_a_full_disk verify --json --impl cpu-gemm $d
unprinted verify_in_text_to_a_full_disk verify --impl cpu-gemm $d
unprinted help_to_a_full_disk help verify
unprinted version_to_a_full_disk version
# Nor does a file that is opened take the place of a closed stream.
"$assay" verify --impl "exec:readlink /proc/\$PPID/fd/2 >stderr.log; : {case} {output}" $d <&- >&- 2>&-
if [ "$(cat stderr.log)" = /dev/null ]; then
    ok a_closed_stream_is_no_file_of_the_program
else
    not_ok a_closed_stream_is_no_file_of_the_program "it is '$(cat stderr.log)'"
fi
rm -f stderr.log

# ---- interrupted -----------------------------------------------------------------------------------

ulimit -S -c 0
for signal in INT TERM HUP QUIT XCPU ALRM USR1 USR2; do
    # (a job in the background would inherit that SIGINT and SIGQUIT are ignored)
    env --default-signal="$signal" "$assay" golden --out interrupted.h5 home@mb64 >/dev/null 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        [ -n "$(find . -name 'interrupted.h5*')" ] && break
        sleep 0.05
    done
    kill -s "$signal" "$pid"
    wait "$pid" 2>/dev/null
    status=$?
    if [ "$(kill -l "$status")" = "$signal" ] && [ -z "$(find . -name 'interrupted.h5*')" ]; then
        ok "golden_ended_by_SIG${signal}_leaves_nothing"
    else
        not_ok "golden_ended_by_SIG${signal}_leaves_nothing" "status $status, $(ls -A)"
        rm -f interrupted.h5*
    fi
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
