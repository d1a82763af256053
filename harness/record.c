#include "harness/record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "harness/resume.h"
#include "harness/statistics.h"

json_t *record_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *record_text(const char *text)
{
    if (!text || !*text)
        return json_null();
    json_t *value = json_string(text);
    char *ascii = value ? NULL : strdup(text);
    for (char *p = ascii; p && *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    if (ascii)
        value = json_string(ascii);
    free(ascii);
    return value ? value : json_null();
}

/* A measured figure, or null where 0 says that nothing was measured. */
static json_t *measured(double value)
{
    return value > 0.0 ? record_number(value) : json_null();
}

static json_t *stage(const struct measurement *m, double mean_s)
{
    return measured(measurement_stage(m->samples_s, m->count, mean_s));
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
    json_object_set_new(o, "expected", record_number(e->expected));
    json_object_set_new(o, "got", record_number(e->got));
    json_object_set_new(o, "bound", record_number(e->typical));
}

static void set_seed(json_t *o, const struct case_source *source)
{
    json_object_set_new(o, "seed",
                        source->file ? json_null() : json_integer((json_int_t)source->seed));
    json_object_set_new(o, "fill", source->file ? json_null() : json_string(source->fill->name));
}

static void set_subject(json_t *o, const struct case_source *source, const struct trial *t)
{
    json_object_set_new(o, "case", record_text(source->name));
    json_object_set_new(o, "problem", record_text(source->descriptor));
    json_object_set_new(o, "implementation", record_text(t->implementation));
    json_object_set_new(o, "class", json_string(arithmetic_class_get(t->cls)->name));
    json_object_set_new(o, "verdict", json_string(verdict_name(t->verdict)));
}

static void set_errors(json_t *o, const struct trial *t)
{
    json_object_set_new(o, "max_abs_error",
                        t->compared ? record_number(t->report.max_abs_error) : json_null());
    json_object_set_new(o, "error_over_bound",
                        t->compared ? record_number(t->report.error_over_bound) : json_null());
}

static void set_repeats(json_t *o, const struct trial *t)
{
    json_object_set_new(o, "repeats", t->repeats > 1 ? json_integer(t->repeats) : json_null());
    json_object_set_new(o, "deterministic",
                        t->repeats > 1 ? json_boolean(t->differing_images == 0) : json_null());
}

/* Below 1 the rule would not have seen that the stage is missing. */
static void set_sensitivity(json_t *o, const struct trial *t)
{
    const struct comparison_report *r = &t->report;
    json_t *insensitive = json_array();
    if (t->compared && r->without_convolution <= 1.0)
        json_array_append_new(insensitive, json_string("convolution"));
    if (t->compared && r->without_softmax <= 1.0)
        json_array_append_new(insensitive, json_string("softmax"));
    json_object_set_new(o, "sensitivity",
                        t->compared ? json_pack("{s:o,s:o}", "convolution",
                                                record_number(r->without_convolution), "softmax",
                                                record_number(r->without_softmax))
                                    : json_null());
    json_object_set_new(o, "insensitive", insensitive);
}

json_t *record_verdict(const struct record_context *context, const struct case_source *source,
                       const struct trial *t)
{
    char line[2048], changed[RUN_CHANGED_SIZE], identity[RESUME_IDENTITY_SIZE];
    json_t *o = json_object();
    resume_identity(context->provenance.binary, source, t->implementation, identity);
    run_changed_options(&context->list->arguments, false, changed, sizeof changed);
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
    json_object_set_new(o, "looks_like", record_text(t->looks_like));
    json_object_set_new(o, "tolerance", record_text(context->list->arguments.tolerance));
    json_object_set_new(o, "options", json_string(changed));
    set_sensitivity(o, t);
    json_object_set_new(o, "claim_kept",
                        t->compared ? json_boolean(!t->claim_broken) : json_null());
    set_repeats(o, t);
    json_object_set_new(o, "seconds", record_number(t->seconds));
    set_seed(o, source);
    json_object_set_new(o, "reason", record_text(t->reason));
    json_object_set_new(o, "note", record_text(t->measurement.note));
    json_object_set_new(o, "reproduce", record_text(line));
    json_object_set_new(o, "identity", json_string(identity));
    return o;
}

static json_t *samples_array(const struct measurement *m)
{
    json_t *array = json_array();
    for (int64_t i = 0; i < m->count; i++)
        json_array_append_new(array, json_real(m->samples_s[i]));
    return array;
}

void record_context_init(struct record_context *context, const struct run_list *list,
                         const char *commit, const char *commit_time)
{
    uint64_t run;
    *context = (struct record_context){.list = list};
    if (getrandom(&run, sizeof run, 0) != (ssize_t)sizeof run)
        run = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    snprintf(context->run, sizeof context->run, "%016llx", (unsigned long long)run);
    provenance_get(commit, commit_time, &context->provenance);
    machine_get(&context->machine);
}

json_t *record_begin(const struct record_context *context, const char *kind)
{
    const struct machine *m = &context->machine;
    const struct provenance *p = &context->provenance;
    char now[32], libraries[256];
    double load[1];
    const time_t seconds = time(NULL);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime(&seconds));
    libraries_describe(libraries, sizeof libraries);
    json_t *o = json_object();
    json_object_set_new(o, "schema", json_integer(RECORD_SCHEMA));
    json_object_set_new(o, "kind", json_string(kind));
    json_object_set_new(o, "time", json_string(now));
    json_object_set_new(o, "run", json_string(context->run));
    json_object_set_new(o, "version", json_string(assay_version()));
    json_object_set_new(o, "commit", record_text(p->commit));
    json_object_set_new(o, "dirty", json_boolean(p->dirty));
    json_object_set_new(o, "commit_time", record_text(p->commit_time));
    json_object_set_new(o, "binary", record_text(p->binary));
    json_object_set_new(o, "machine", record_text(m->id));
    json_object_set_new(o, "cpu", record_text(m->cpu));
    json_object_set_new(o, "cores", json_integer(m->cores));
    json_object_set_new(o, "memory_gb", record_number(m->memory_gb));
    json_object_set_new(o, "os", record_text(m->os));
    json_object_set_new(o, "libraries", record_text(libraries));
    json_object_set_new(o, "load", getloadavg(load, 1) == 1 ? record_number(load[0]) : json_null());
    return o;
}

/* What a trial ran in, where that is not this program. */
static void set_other_binary(json_t *o, const char *binary)
{
    struct provenance p;
    struct error ignored;
    if (provenance_of(binary, &p, &ignored) != STATUS_OK)
        p = (struct provenance){.commit = "unknown"};
    json_object_set_new(o, "commit", record_text(p.commit));
    json_object_set_new(o, "dirty", json_boolean(p.dirty));
    json_object_set_new(o, "commit_time", record_text(p.commit_time));
    json_object_set_new(o, "binary", record_text(p.binary));
}

/* A plugin is measured, not this program: its own file is the binary. A command's is not known. */
static json_t *binary_of(const struct trial *t)
{
    char hash[24];
    if (strncmp(t->implementation, "plugin:", 7) == 0)
        return provenance_file_hash(t->implementation + 7, hash) ? json_string(hash) : json_null();
    return json_null();
}

json_t *record_bench(const struct record_context *context, const struct case_source *source,
                     const struct trial *t)
{
    const struct measurement *m = &t->measurement;
    const double flops = problem_flops(&source->problem), bytes = problem_bytes(&source->problem);
    const bool timed = t->measured && m->count > 0;
    const struct median median =
        timed ? median_of(m->samples_s, m->count, 0.95) : (struct median){0};
    json_t *o = record_begin(context, "bench");
    if (t->binary)
        set_other_binary(o, t->binary);
    set_subject(o, source, t);
    json_object_set_new(o, "reason", record_text(t->reason));
    set_errors(o, t);
    set_repeats(o, t);
    set_seed(o, source);
    if (strchr(t->implementation, ':'))
        json_object_set_new(o, "binary", binary_of(t));
    json_object_set_new(o, "median_s", measured(median.median));
    json_object_set_new(o, "ci_low_s", measured(median.low));
    json_object_set_new(o, "ci_high_s", measured(median.high));
    json_object_set_new(o, "gflops",
                        timed ? record_number(flops / median.median * 1e-9) : json_null());
    json_object_set_new(o, "gbytes_per_s",
                        timed ? record_number(bytes / median.median * 1e-9) : json_null());
    json_object_set_new(o, "ceiling_gflops", measured(m->ceiling_gflops));
    json_object_set_new(o, "share_of_ceiling",
                        timed && m->ceiling_gflops > 0.0
                            ? record_number(flops / median.median * 1e-9 / m->ceiling_gflops)
                            : json_null());
    json_object_set_new(o, "conv_s", stage(m, m->conv_s));
    json_object_set_new(o, "epilogue_s", stage(m, m->epilogue_s));
    json_object_set_new(o, "prepare_s", measured(m->prepare_s));
    json_object_set_new(o, "threads", json_integer(m->threads));
    json_object_set_new(o, "ceiling_copy_gbytes_per_s", measured(m->ceiling_copy_gbytes_per_s));
    json_object_set_new(o, "ceiling_write_gbytes_per_s", measured(m->ceiling_write_gbytes_per_s));
    if (m->device[0]) {
        json_object_set_new(o, "device", record_text(m->device));
        json_object_set_new(o, "driver", record_text(m->driver));
        json_object_set_new(o, "floor_s", measured(m->floor_s));
        json_object_set_new(o, "over_floor",
                            timed && m->floor_s > 0.0 ? record_number(median.median / m->floor_s)
                                                      : json_null());
        json_object_set_new(o, "bound_by", json_string(m->bound_by));
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
    json_object_set_new(o, "note", record_text(m->note));
    json_object_set_new(o, "rounds", timed ? json_integer(m->rounds) : json_null());
    json_object_set_new(o, "samples_s", timed ? samples_array(m) : json_null());
    return o;
}

void record_print(const json_t *record)
{
    json_dumpf(record, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    fflush(stdout);
}
