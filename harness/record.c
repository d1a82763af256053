#include "harness/record.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "harness/statistics.h"

#define RECORD_SCHEMA 1

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* A measured figure, or null where 0 says that nothing was measured. */
static json_t *measured(double value)
{
    return value > 0.0 ? number(value) : json_null();
}

static void set_worst(json_t *o, const struct trial *t)
{
    const struct element *e = &t->report.worst;
    if (!t->compared || !t->report.has_worst) {
        json_object_set_new(o, "worst_index", json_null());
        return;
    }
    json_object_set_new(o, "worst_index",
                        json_pack("[I,I,I,I]", (json_int_t)e->n, (json_int_t)e->c, (json_int_t)e->h,
                                  (json_int_t)e->w));
    json_object_set_new(o, "expected", number(e->expected));
    json_object_set_new(o, "got", number(e->got));
    json_object_set_new(o, "bound", number(e->typical));
}

static void set_seed(json_t *o, const struct case_source *source)
{
    json_object_set_new(o, "seed",
                        source->file ? json_null() : json_integer((json_int_t)source->seed));
    json_object_set_new(o, "fill", source->file ? json_null() : json_string(source->fill->name));
}

static void set_subject(json_t *o, const struct case_source *source, const struct trial *t)
{
    json_object_set_new(o, "case", json_string(source->name));
    json_object_set_new(o, "problem", json_string(source->descriptor));
    json_object_set_new(o, "implementation", json_string(t->implementation));
    json_object_set_new(o, "class", json_string(arithmetic_class_get(t->cls)->name));
    json_object_set_new(o, "verdict", json_string(verdict_name(t->verdict)));
}

static void set_errors(json_t *o, const struct trial *t)
{
    json_object_set_new(o, "max_abs_error",
                        t->compared ? number(t->report.max_abs_error) : json_null());
    json_object_set_new(o, "error_over_bound",
                        t->compared ? number(t->report.error_over_bound) : json_null());
}

json_t *record_verdict(const struct record_context *context, const struct case_source *source,
                       const struct trial *t)
{
    char line[2048];
    json_t *o = json_object();
    run_reproduce(context->list, source, t, "verify", line, sizeof line);
    set_subject(o, source, t);
    set_errors(o, t);
    set_worst(o, t);
    json_object_set_new(o, "compared", json_integer(t->report.compared));
    json_object_set_new(o, "above_bound", json_integer(t->report.above_typical));
    json_object_set_new(o, "unwritten", json_integer(t->report.unwritten));
    json_object_set_new(o, "narrowest_class",
                        t->compared && t->report.has_narrowest
                            ? json_string(arithmetic_class_get(t->report.narrowest)->name)
                            : json_null());
    json_object_set_new(o, "seconds", number(t->seconds));
    set_seed(o, source);
    json_object_set_new(o, "reason", t->reason[0] ? json_string(t->reason) : json_null());
    json_object_set_new(o, "note",
                        t->measurement.note[0] ? json_string(t->measurement.note) : json_null());
    json_object_set_new(o, "reproduce", json_string(line));
    return o;
}

static json_t *samples_array(const struct measurement *m)
{
    json_t *array = json_array();
    for (int64_t i = 0; i < m->count; i++)
        json_array_append_new(array, json_real(m->samples_s[i]));
    return array;
}

json_t *record_bench(const struct record_context *context, const struct case_source *source,
                     const struct trial *t)
{
    const struct measurement *m = &t->measurement;
    const double flops = problem_flops(&source->problem), bytes = problem_bytes(&source->problem);
    const bool timed = t->measured && m->count > 0;
    const struct median median =
        timed ? median_of(m->samples_s, m->count, 0.95) : (struct median){0};
    char now[32];
    const time_t seconds = time(NULL);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime(&seconds));

    json_t *o = json_object();
    json_object_set_new(o, "schema", json_integer(RECORD_SCHEMA));
    json_object_set_new(o, "time", json_string(now));
    json_object_set_new(o, "commit", json_string(context->commit));
    json_object_set_new(o, "machine", json_string(context->machine.id));
    set_subject(o, source, t);
    json_object_set_new(o, "reason", t->reason[0] ? json_string(t->reason) : json_null());
    set_errors(o, t);
    set_seed(o, source);
    json_object_set_new(o, "median_s", measured(median.median));
    json_object_set_new(o, "ci_low_s", measured(median.low));
    json_object_set_new(o, "ci_high_s", measured(median.high));
    json_object_set_new(o, "gflops", timed ? number(flops / median.median * 1e-9) : json_null());
    json_object_set_new(o, "gbytes_per_s",
                        timed ? number(bytes / median.median * 1e-9) : json_null());
    json_object_set_new(o, "ceiling_gflops", measured(m->ceiling_gflops));
    json_object_set_new(o, "share_of_ceiling",
                        timed && m->ceiling_gflops > 0.0
                            ? number(flops / median.median * 1e-9 / m->ceiling_gflops)
                            : json_null());
    json_object_set_new(o, "conv_s", measured(m->conv_s));
    json_object_set_new(o, "epilogue_s", measured(m->epilogue_s));
    json_object_set_new(o, "prepare_s", measured(m->prepare_s));
    json_object_set_new(o, "threads", json_integer(m->threads));
    if (m->device[0]) {
        json_object_set_new(o, "device", json_string(m->device));
        json_object_set_new(o, "driver", json_string(m->driver));
        json_object_set_new(o, "floor_s", measured(m->floor_s));
        json_object_set_new(o, "over_floor",
                            timed && m->floor_s > 0.0 ? number(median.median / m->floor_s)
                                                      : json_null());
        json_object_set_new(o, "bound_by", json_string(m->bound_by));
        json_object_set_new(o, "ceiling_copy_gbytes_per_s", measured(m->ceiling_copy_gbytes_per_s));
        json_object_set_new(o, "ceiling_write_gbytes_per_s",
                            measured(m->ceiling_write_gbytes_per_s));
        json_object_set_new(o, "ceiling_fp16_tflops", measured(m->ceiling_fp16_tflops));
        json_object_set_new(o, "ceiling_tf32_tflops", measured(m->ceiling_tf32_tflops));
        json_object_set_new(o, "ceiling_fp32_tflops", measured(m->ceiling_fp32_tflops));
        json_object_set_new(o, "h2d_s", measured(m->h2d_s));
        json_object_set_new(o, "d2h_s", measured(m->d2h_s));
        json_object_set_new(o, "clocks",
                            json_pack("{s:i,s:i,s:i}", "sm_min_mhz", m->sm_clock_min_mhz,
                                      "sm_max_mhz", m->sm_clock_max_mhz, "memory_mhz",
                                      m->memory_clock_mhz));
        json_object_set_new(o, "throttle", json_string(m->throttle));
    }
    json_object_set_new(o, "note", m->note[0] ? json_string(m->note) : json_null());
    json_object_set_new(o, "samples_s", timed ? samples_array(m) : json_null());
    return o;
}

void record_print(const json_t *record)
{
    json_dumpf(record, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    fflush(stdout);
}

enum status record_append(const char *path, const json_t *record, struct error *error)
{
    char *text = json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(9));
    enum status status = STATUS_OK;
    struct stat info;
    char last = '\n';
    const int fd = text ? open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (fd < 0) {
        status = error_set(error, STATUS_ENVIRONMENT, "cannot append to '%.200s': %s", path,
                           strerror(text ? errno : ENOMEM));
        goto out;
    }
    if (flock(fd, LOCK_EX) != 0 || fstat(fd, &info) != 0) {
        status =
            error_set(error, STATUS_ENVIRONMENT, "cannot lock '%.200s': %s", path, strerror(errno));
        goto out;
    }
    /* A line that an earlier writer left torn is ended first, so that ours stays whole. */
    if (info.st_size > 0 && pread(fd, &last, 1, info.st_size - 1) != 1)
        last = '\n';
    const size_t n = strlen(text), lead = last == '\n' ? 0 : 1;
    char *line = malloc(n + 2);
    if (!line) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory");
        goto out;
    }
    line[0] = '\n';
    memcpy(line + lead, text, n);
    line[lead + n] = '\n';
    const ssize_t written = write(fd, line, n + lead + 1);
    if (written != (ssize_t)(n + lead + 1)) {
        status = error_set(error, STATUS_ENVIRONMENT, "cannot append to '%.200s': %s", path,
                           written < 0 ? strerror(errno) : "the disk is full");
        if (ftruncate(fd, info.st_size) != 0) /* nothing half written */
            status = STATUS_ENVIRONMENT;
    }
    free(line);
out:
    if (fd >= 0)
        close(fd);
    free(text);
    return status;
}
