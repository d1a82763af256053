#include <assert.h>
#include <stdlib.h>

#include "harness/case_contents.h"
#include "harness/case_file.h"
#include "harness/case_reader.h"

struct case_file {
    struct case_reader reader;
    struct case_about about;
};

struct output_file {
    struct case_reader reader;
    struct case_about about;
};

/* ---- case files ------------------------------------------------------------------------------ */

static enum status open_place(struct case_file **file, const struct case_place *place,
                              struct error *error)
{
    *file = NULL;
    struct case_file *f = calloc(1, sizeof *f);
    if (!f)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    const enum status status = case_reader_init(&f->reader, place, NULL, &f->about, error);
    if (status == STATUS_OK)
        *file = f;
    else
        case_file_free(f);
    return status;
}

enum status case_file_open(struct case_file **file, const char *path, struct error *error)
{
    const struct case_place place = {.path = path};
    return open_place(file, &place, error);
}

enum status case_file_open_image(struct case_file **file, const void *image, size_t size,
                                 const char *name, struct error *error)
{
    const struct case_place place = {.path = name, .image = image, .size = size};
    return open_place(file, &place, error);
}

void case_file_free(struct case_file *f)
{
    if (!f)
        return;
    case_reader_release(&f->reader);
    free(f);
}

const struct problem *case_file_problem(const struct case_file *file)
{
    return &file->about.problem;
}

const struct case_expected *case_file_expected(const struct case_file *file)
{
    return &file->about.expected;
}

const struct case_provenance *case_file_provenance(const struct case_file *file)
{
    return &file->about.provenance;
}

enum status case_file_read_params(struct case_file *f, float *weight, float *conv_bias, float *bias,
                                  struct error *error)
{
    const struct problem *p = &f->about.problem;
    enum status status = case_reader_read(&f->reader, CASE_WEIGHT, 0, p->in_channels,
                                          problem_weight_count(p), weight, error);
    if (status == STATUS_OK && p->has_conv_bias)
        status = case_reader_read(&f->reader, CASE_CONV_BIAS, 0, p->out_channels, p->out_channels,
                                  conv_bias, error);
    /* Of [Cout, 1, 1], [Cout], [1, ...] and a scalar alike, bias_count rows are all. */
    if (status == STATUS_OK)
        status =
            case_reader_read(&f->reader, CASE_BIAS, 0, p->bias_count, p->bias_count, bias, error);
    return status;
}

static bool in_batch(const struct problem *p, int64_t first, int64_t count)
{
    return first >= 0 && count >= 0 && count <= p->batch && first <= p->batch - count;
}

enum status case_file_read_input(struct case_file *f, int64_t first, int64_t count, float *images,
                                 struct error *error)
{
    const struct problem *p = &f->about.problem;
    assert(in_batch(p, first, count));
    return case_reader_read(&f->reader, CASE_INPUT, first, count, count * problem_input_image(p),
                            images, error);
}

enum status case_file_read_expected(struct case_file *f, int64_t first, int64_t count,
                                    double *images, struct error *error)
{
    const struct problem *p = &f->about.problem;
    assert(f->about.expected.present && in_batch(p, first, count));
    return case_reader_read(&f->reader, CASE_EXPECTED, first, count,
                            count * problem_output_image(p), images, error);
}

enum status case_file_check_sums(struct case_file *f, int *checked, struct error *error)
{
    return case_reader_check_sums(&f->reader, checked, error);
}

enum status case_file_read_record(struct case_file *f, char *record, size_t size,
                                  struct error *error)
{
    return case_reader_record(&f->reader, record, size, error);
}

/* ---- output files ---------------------------------------------------------------------------- */

enum status output_file_open(struct output_file **file, const char *path, const struct problem *p,
                             struct error *error)
{
    *file = NULL;
    const struct case_place place = {.path = path};
    struct output_file *f = calloc(1, sizeof *f);
    if (!f)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    const enum status status = case_reader_init(&f->reader, &place, p, &f->about, error);
    f->about.problem = *p; /* not what came back */
    if (status == STATUS_OK)
        *file = f;
    else
        output_file_free(f);
    return status;
}

enum status output_file_read(struct output_file *f, int64_t first, int64_t count, float *images,
                             struct error *error)
{
    const struct problem *p = &f->about.problem;
    assert(in_batch(p, first, count));
    return case_reader_read(&f->reader, CASE_OUTPUT, first, count, count * problem_output_image(p),
                            images, error);
}

void output_file_free(struct output_file *f)
{
    if (!f)
        return;
    case_reader_release(&f->reader);
    free(f);
}
