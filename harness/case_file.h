/* Case files (HDF5, version 1): the tensors of one case, and the output files that `check`
 * compares.
 *
 *     /                                root attributes
 *         format                       string "assay-case"
 *         version                      integer 1
 *         stride, padding,             integer, one element (both axes) or two (h, w);
 *         output_padding, dilation     missing = 1, 0, 0, 1, as PyTorch
 *         groups                       integer; missing = 1
 *         scaling_factor               float or integer, one element
 *     /input                           [N, Cin, H, W]
 *     /params/conv_transpose.weight    [Cin, Cout / groups, kH, kW]
 *     /params/conv_transpose.bias      [Cout]; absent = the layer has no bias
 *     /params/bias                     [Cout, 1, 1], [Cout], or one element
 *     /expected                        [N, Cout, Ho, Wo]; optional
 *
 * What assay writes is little-endian float32 (`/expected`: float64 or float32), contiguous, with
 * the provenance below as root attributes and, on each dataset, the attribute `crc32`: CRC-32
 * (zlib's; polynomial 0xEDB88320) of the elements in row-major order, in the bytes of their storage
 * type. In Python:
 *
 *     zlib.crc32(f['/input'][...].tobytes()) == f['/input'].attrs['crc32']
 *
 * What is read. Any integer or float storage type of at most 64 bits, in either byte order, whose
 * values convert without loss: to float32 for the input, the parameters and /output, to float64 for
 * /expected. Types that always do (float16, bfloat16, float32, integers of up to 24 bits; for
 * /expected also float64 and integers of up to 53) need no look at the values; with a wider type
 * the first value that has no equal is refused by name and index when it is read. NaN converts to
 * NaN, whatever its payload. Strings, compounds (h5py's complex), enumerations (NumPy's bool),
 * arrays, references and opaque types are refused by name when the file is opened. An integer
 * attribute may be of any integer type; scaling_factor is rounded to the nearest float32, as
 * PyTorch does with a Python scalar that multiplies a float32 tensor, and refused where that
 * overflows.
 *
 * Storage may be contiguous, compact or chunked, the chunks with the filters gzip, shuffle and
 * fletcher32. A dataset has to be whole: one that claims more bytes than its file can hold, or with
 * chunks that were never written, is refused when the file is opened, before anything is allocated
 * for it. Soft links are followed within the file; external links, external storage and virtual
 * datasets never are. Objects in the root that are not in the list above are ignored; in `/params`
 * they are refused, because there they are most likely a parameter with a wrong name.
 *
 * Errors. STATUS_BAD_INPUT for what is wrong with a file or a path, STATUS_ENVIRONMENT for disk and
 * memory; the message is one line and starts with the path. HDF5 itself prints nothing.
 *
 * Files are read in a child process (harness/case_reader.h), because HDF5 itself crashes or hangs
 * on some damaged files; that is then an error like any other. Different files may be read by
 * different threads; one file by one thread at a time, of the process that opened it. Writing
 * happens in this process.
 *
 * NOTE: HDF5 keeps global state and is not built thread-safe on Debian: of the writers, only one
 * function may run at a time in a process. */
#ifndef ASSAY_HARNESS_CASE_FILE_H
#define ASSAY_HARNESS_CASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ref/problem.h"
#include "ref/status.h"

/* Where a case comes from. Empty strings and has_seed = false: not known, not stored. Stored as
 * root attributes of the members' names (`seed` as an unsigned 64-bit integer). */
struct case_provenance {
    char descriptor[512]; /* the problem, as descriptor_print writes it */
    char fill[32];
    char version[64];    /* of assay; the attribute is `assay_version` */
    char libraries[256]; /* the libraries that computed /expected, with versions */
    char commit[64];
    bool has_seed;
    uint64_t seed;
};

/* ---- reading --------------------------------------------------------------------------------- */

struct case_file;

/* How /expected is stored. A value v of the true result is stored as some s with
 * |s - v| <= max(roundoff * |v|, quantum). */
struct case_expected {
    bool present;
    char type[48];   /* "float64", "float32", "float16", "int8", ... */
    double roundoff; /* 2^-53 for float64, 2^-24 for float32, 0 for integers */
    double quantum;  /* half the spacing of the subnormals; 0.5 for integers */
};

/* Opens `path` for reading and checks everything that needs no look at the values: attributes,
 * presence, types, ranks, shapes that agree, the problem (problem_validate), sizes against the
 * length of the file. *file is NULL unless STATUS_OK. Takes a few milliseconds; 0.5 s of processor
 * time at most. */
enum status case_file_open(struct case_file **file, const char *path, struct error *error);

/* The same for a file that lies in memory; `image` is not used any more after the call, `name`
 * stands in messages. */
enum status case_file_open_image(struct case_file **file, const void *image, size_t size,
                                 const char *name, struct error *error);

/* NULL is legal. */
void case_file_free(struct case_file *file);

/* Borrowed from `file`. */
const struct problem *case_file_problem(const struct case_file *file);
const struct case_expected *case_file_expected(const struct case_file *file);
const struct case_provenance *case_file_provenance(const struct case_file *file);

/* Whole tensors into the caller's buffers: weight [Cin, Cout / groups, kH, kW], conv_bias [Cout]
 * (not touched where the problem has none; may then be NULL), bias [problem.bias_count]. */
enum status case_file_read_params(struct case_file *file, float *weight, float *conv_bias,
                                  float *bias, struct error *error);

/* Images [first, first + count) of /input, to `images` [count, Cin, H, W]. In any order and number;
 * 0 <= first, first + count <= N. */
enum status case_file_read_input(struct case_file *file, int64_t first, int64_t count,
                                 float *images, struct error *error);

/* Images [first, first + count) of /expected, to `images` [count, Cout, Ho, Wo]. Only where
 * case_file_expected()->present. */
enum status case_file_read_expected(struct case_file *file, int64_t first, int64_t count,
                                    double *images, struct error *error);

/* Reads every tensor that carries a checksum (about 1 GB/s from a warm cache) and
 * compares. STATUS_OK also where none does. STATUS_BAD_INPUT names the damaged tensor.
 * `checked` (may be NULL): the number of tensors compared. */
enum status case_file_check_sums(struct case_file *file, int *checked, struct error *error);

/* The attribute `record` of a failure capsule (harness/capsule.h), to `record` [size],
 * 0-terminated. STATUS_BAD_INPUT where the file has none, or a longer one. */
enum status case_file_read_record(struct case_file *file, char *record, size_t size,
                                  struct error *error);

/* An output file: /output [N, Cout, Ho, Wo] of `problem`, stored and checked by the rules above;
 * attributes and other objects are ignored. */
struct output_file;
enum status output_file_open(struct output_file **file, const char *path,
                             const struct problem *problem, struct error *error);
void output_file_free(struct output_file *file);
enum status output_file_read(struct output_file *file, int64_t first, int64_t count, float *images,
                             struct error *error);

/* ---- writing ---------------------------------------------------------------------------------
 *
 * A file is written as `PATH.tmp.PID` in the same folder, the space for all of it is reserved
 * first, and it is renamed to `path` by commit, whole and synced. Until then, and after any
 * failure, whatever stood at `path` stands there unchanged. The same content gives the same bytes:
 * no time stamps. (On a signal that ends the program: new_file_remove_temporaries,
 * harness/new_file.h. SIGXFSZ has to be ignored by the program, or a limit on file sizes kills it
 * in the midst of a write.)
 *
 * After a failure the writer can only be freed. */

struct case_writer;

enum case_expected_storage { CASE_EXPECTED_NONE, CASE_EXPECTED_F32, CASE_EXPECTED_F64 };

/* Creates the structure of the file for a validated `problem`. provenance may be NULL. */
enum status case_writer_create(struct case_writer **writer, const char *path,
                               const struct problem *problem,
                               const struct case_provenance *provenance,
                               enum case_expected_storage expected, struct error *error);

/* Once; the tensors of struct params, contiguous. */
enum status case_writer_params(struct case_writer *writer, const struct params *params,
                               struct error *error);

/* The next `count` images, [count, Cin, H, W]. All of them in order, in calls of any size. */
enum status case_writer_input(struct case_writer *writer, const float *images, int64_t count,
                              struct error *error);

/* The next `count` expected images, [count, Cout, Ho, Wo]; rounded to nearest for F32 storage. */
enum status case_writer_expected(struct case_writer *writer, const double *images, int64_t count,
                                 struct error *error);

/* For failure capsules (harness/capsule.h), before anything is written: datasets /got and /bound
 * [N, Cout, Ho, Wo] float32, and root attributes `record` (a JSON object) and `first_image`.
 * Readers of cases leave them alone. */
enum status case_writer_capsule(struct case_writer *writer, const char *record, int64_t first_image,
                                struct error *error);

/* The next `count` images of both. */
enum status case_writer_got(struct case_writer *writer, const float *got, const float *bound,
                            int64_t count, struct error *error);

/* Checksums, sync, rename. Asserts that all parts were written. */
enum status case_writer_commit(struct case_writer *writer, struct error *error);

/* Removes what was not committed. NULL is legal. */
void case_writer_free(struct case_writer *writer);

/* An output file, /output [N, Cout, Ho, Wo] float32, in the same manner. */
struct output_writer;
enum status output_writer_create(struct output_writer **writer, const char *path,
                                 const struct problem *problem, struct error *error);
enum status output_writer_append(struct output_writer *writer, const float *images, int64_t count,
                                 struct error *error);
enum status output_writer_commit(struct output_writer *writer, struct error *error);
void output_writer_free(struct output_writer *writer);

#endif
