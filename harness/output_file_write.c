#include <stdlib.h>

#include "harness/case_file.h"
#include "harness/hdf5_writer.h"

/* Room for the file's structure, on top of the tensor. */
#define STRUCTURE_BYTES 65536

struct output_writer {
    struct hdf5_writer file;
    struct tensor_writer output;
};

enum status output_writer_create(struct output_writer **out, const char *path,
                                 const struct problem *p, struct error *error)
{
    *out = NULL;
    int64_t bytes = 0;
    struct output_writer *w = calloc(1, sizeof *w);
    if (!w)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    const int64_t y[] = {p->batch, p->out_channels, problem_output_h(p), problem_output_w(p)};
    enum status status = STATUS_OK;
    if (__builtin_mul_overflow(problem_output_count(p), (int64_t)sizeof(float), &bytes) ||
        __builtin_add_overflow(bytes, STRUCTURE_BYTES, &bytes))
        status =
            error_set(error, STATUS_ENVIRONMENT, "'%.300s': no file can hold this output", path);
    if (status == STATUS_OK)
        status = hdf5_writer_init(&w->file, path, bytes, error);
    if (status == STATUS_OK)
        status = hdf5_writer_tensor(&w->file, &w->output, "output", TENSOR_FLOAT32, y, 4, error);
    if (status != STATUS_OK) {
        output_writer_free(w);
        return status;
    }
    *out = w;
    return STATUS_OK;
}

enum status output_writer_append(struct output_writer *w, const float *images, int64_t count,
                                 struct error *error)
{
    return hdf5_writer_append(&w->file, &w->output, images, count, error);
}

enum status output_writer_commit(struct output_writer *w, struct error *error)
{
    const enum status status = hdf5_writer_finish_tensor(&w->file, &w->output, error);
    return status == STATUS_OK ? hdf5_writer_commit(&w->file, error) : status;
}

void output_writer_free(struct output_writer *w)
{
    if (!w)
        return;
    hdf5_writer_release(&w->file);
    free(w);
}
