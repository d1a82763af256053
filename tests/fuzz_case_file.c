/* libFuzzer target: any bytes as a case file. Whatever opens is read whole, so that the indices of
 * chunks and the checksums are tried too. Seeds: tests/fuzz_seeds.c.
 *
 *     clang -fsanitize=fuzzer,address,undefined ... && ./fuzz_case_file -max_len=16384 CORPUS */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/case_file.h"

/* A compressed file may claim 1032 times its length; what is larger than this is opened only. */
#define READ_MAX ((int64_t)1 << 20)

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void check_message(enum status status, const struct error *error)
{
    must(status == STATUS_BAD_INPUT || status == STATUS_ENVIRONMENT, "unexpected status");
    must(error->status == status, "the message is of another status");
    must(error->message[0] != '\0', "no message");
    for (const char *c = error->message; *c; c++)
        must(*c >= 0x20 && *c <= 0x7e, "the message is not one printable line");
}

static void read_all(struct case_file *file)
{
    struct error error = {0};
    const struct problem *p = case_file_problem(file);
    struct error invalid;
    must(problem_validate(p, &invalid) == STATUS_OK, "the problem is not valid");
    const int64_t x = problem_input_image(p), y = problem_output_image(p),
                  w = problem_weight_count(p);
    if (x > READ_MAX || y > READ_MAX || w > READ_MAX || p->out_channels > READ_MAX || p->batch > 64)
        return;
    float *floats = malloc((size_t)(x + w + p->out_channels + p->bias_count) * sizeof *floats);
    double *doubles = malloc((size_t)y * sizeof *doubles);
    must(floats && doubles, "out of memory");
    enum status status =
        case_file_read_params(file, floats + x, p->has_conv_bias ? floats + x + w : NULL,
                              floats + x + w + p->out_channels, &error);
    if (status != STATUS_OK)
        check_message(status, &error);
    for (int64_t i = 0; i < p->batch; i++) {
        status = case_file_read_input(file, i, 1, floats, &error);
        if (status == STATUS_OK && case_file_expected(file)->present)
            status = case_file_read_expected(file, i, 1, doubles, &error);
        if (status != STATUS_OK)
            check_message(status, &error);
    }
    status = case_file_check_sums(file, NULL, &error);
    if (status != STATUS_OK)
        check_message(status, &error);
    free(doubles);
    free(floats);
}

/* HDF5 leaks a little on many broken files; our own leaks still count. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error = {0};
    struct case_file *file;
    const enum status status = case_file_open_image(&file, data, size, "image", &error);
    if (status == STATUS_OK)
        read_all(file);
    else
        check_message(status, &error);
    must((status == STATUS_OK) == (file != NULL), "a file after an error");
    case_file_free(file);
    return 0;
}
