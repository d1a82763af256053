/* plugin:PATH: a shared library behind harness/plugin.h. Opened in the worker only. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gpu/foreign_device.h"
#include "harness/arena.h"
#include "harness/clock.h"
#include "harness/guard.h"
#include "harness/implementation.h"
#include "harness/plugin.h"
#include "harness/statistics.h"

#define CHUNK ((size_t)1 << 20) /* compared at once */
#define WORKSPACE_BYTE 0xff     /* a NaN in any format: read and used, it shows */

enum { X, WEIGHT, CONV_BIAS, BIAS, Y, WORKSPACE, BUFFERS };
static const char *const buffer_names[BUFFERS] = {"x",    "weight", "conv_bias",
                                                  "bias", "y",      "workspace"};

struct plugin_state {
    const struct assay_plugin *plugin;
    struct problem problem;
    struct params params;
    struct assay_plugin_problem seen; /* the problem as the library sees it */
    struct assay_call call;
    enum arithmetic_class cls;
    char *guarded; /* the host's workspace between two guards */
    size_t bytes[BUFFERS];
    struct foreign_device *device; /* NULL: host memory */
    struct foreign_buffer buffers[BUFFERS], rotated;
    bool prepared;
    char reason[512];
};

static bool supports(const struct implementation *i, const struct problem *problem,
                     const struct run_options *options, char *reason, size_t reason_size)
{
    (void)i, (void)problem, (void)options, (void)reason, (void)reason_size;
    return true; /* prepare() asks the library */
}

static void release_library(struct plugin_state *s)
{
    s->call.x = NULL;
    s->call.y = NULL;
    if (s->prepared && s->plugin->release)
        s->plugin->release(&s->call);
    s->prepared = false;
}

static void release(void *state)
{
    struct plugin_state *s = state;
    if (!s)
        return;
    release_library(s);
    for (int b = 0; s->device && b < BUFFERS; b++)
        foreign_buffer_release(s->device, &s->buffers[b]);
    if (s->device)
        foreign_buffer_release(s->device, &s->rotated);
    foreign_device_free(s->device);
    free(s->guarded);
    free(s); /* the library stays open: its threads may still run in it */
}

static enum status open_library(struct plugin_state *s, const char *path, struct error *error)
{
    char here[IMPLEMENTATION_NAME_SIZE + 4];
    const struct assay_plugin *(*entry)(void);
    /* A name without a slash is a file here, not one of the system's libraries. */
    snprintf(here, sizeof here, "%s%s", strchr(path, '/') ? "" : "./", path);
    void *library = dlopen(here, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return error_set(error, STATUS_BAD_INPUT, "plugin cannot be loaded: %.600s", dlerror());
    *(void **)&entry = dlsym(library, "assay_plugin");
    if (!entry)
        return error_set(error, STATUS_BAD_INPUT,
                         "plugin '%.400s' exports no 'assay_plugin': see harness/plugin.h", path);
    const struct assay_plugin *plugin = entry();
    if (!plugin || plugin->abi != ASSAY_PLUGIN_ABI)
        return error_set(error, STATUS_BAD_INPUT,
                         "plugin '%.400s' is for ABI version '%d', this program for %d: compile it "
                         "with this program's harness/plugin.h",
                         path, plugin ? (int)plugin->abi : 0, ASSAY_PLUGIN_ABI);
    if (!plugin->run || !plugin->arithmetic_class)
        return error_set(error, STATUS_BAD_INPUT,
                         "plugin '%.400s' has no run() or names no arithmetic_class", path);
    if (plugin->memory != ASSAY_MEMORY_HOST && plugin->memory != ASSAY_MEMORY_DEVICE)
        return error_set(error, STATUS_BAD_INPUT,
                         "plugin '%.400s' names a memory, '%d', that is none of harness/plugin.h's",
                         path, (int)plugin->memory);
    s->plugin = plugin;
    return arithmetic_class_parse(plugin->arithmetic_class, &s->cls, error);
}

static void set_problem(struct plugin_state *s, const struct problem *p)
{
    s->seen = (struct assay_plugin_problem){.batch = p->batch,
                                            .in_channels = p->in_channels,
                                            .out_channels = p->out_channels,
                                            .height = p->height,
                                            .width = p->width,
                                            .output_h = problem_output_h(p),
                                            .output_w = problem_output_w(p),
                                            .kernel_h = p->kernel_h,
                                            .kernel_w = p->kernel_w,
                                            .stride_h = p->stride_h,
                                            .stride_w = p->stride_w,
                                            .padding_h = p->padding_h,
                                            .padding_w = p->padding_w,
                                            .output_padding_h = p->output_padding_h,
                                            .output_padding_w = p->output_padding_w,
                                            .dilation_h = p->dilation_h,
                                            .dilation_w = p->dilation_w,
                                            .groups = p->groups,
                                            .bias_count = p->bias_count,
                                            .scaling_factor = p->scaling_factor};
    const size_t bytes[BUFFERS] = {(size_t)problem_input_count(p) * sizeof(float),
                                   (size_t)problem_weight_count(p) * sizeof(float),
                                   p->has_conv_bias ? (size_t)p->out_channels * sizeof(float) : 0,
                                   (size_t)p->bias_count * sizeof(float),
                                   (size_t)problem_output_count(p) * sizeof(float),
                                   0};
    memcpy(s->bytes, bytes, sizeof bytes);
}

static enum status call_failed(const struct plugin_state *s, const char *function,
                               enum status status, struct error *error)
{
    if (s->reason[0])
        return error_set(error, status, "%.500s", s->reason);
    return error_set(error, status, "%s returned an error", function);
}

static enum status make_host_workspace(struct plugin_state *s, struct error *error)
{
    const size_t bytes = s->bytes[WORKSPACE];
    if (bytes == 0)
        return STATUS_OK;
    if (bytes <= PTRDIFF_MAX - 3 * FOREIGN_GUARD)
        s->guarded = aligned_alloc(64, (bytes + 63) / 64 * 64 + 2 * FOREIGN_GUARD);
    if (!s->guarded)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for a workspace of %zu bytes",
                         bytes);
    guard_fill(s->guarded, FOREIGN_GUARD);
    memset(s->guarded + FOREIGN_GUARD, WORKSPACE_BYTE, bytes);
    guard_fill(s->guarded + FOREIGN_GUARD + bytes, FOREIGN_GUARD);
    return STATUS_OK;
}

static float *device_pointer(const struct plugin_state *s, int buffer)
{
    return (float *)(uintptr_t)s->buffers[buffer].pointer;
}

static const void *host_input(const struct plugin_state *s, int buffer)
{
    const void *const inputs[] = {
        [X] = NULL,
        [WEIGHT] = s->params.weight,
        [CONV_BIAS] = s->params.conv_bias,
        [BIAS] = s->params.bias,
    };
    return inputs[buffer];
}

static enum status make_device_buffers(struct plugin_state *s, int index, struct error *error)
{
    enum status status = foreign_device_create(&s->device, index, error);
    for (int b = 0; b < BUFFERS && status == STATUS_OK; b++) {
        status = foreign_buffer_init(s->device, &s->buffers[b], s->bytes[b], error);
        if (status == STATUS_OK && b >= WEIGHT && b <= BIAS)
            status = foreign_buffer_upload(s->device, &s->buffers[b], host_input(s, b), s->bytes[b],
                                           error);
    }
    return status;
}

static void set_call(struct plugin_state *s, const struct run_options *options)
{
    const bool device = s->device != NULL, conv_bias = s->problem.has_conv_bias;
    s->call = (struct assay_call){.problem = &s->seen,
                                  .weight = device ? device_pointer(s, WEIGHT) : s->params.weight,
                                  .conv_bias = !conv_bias ? NULL
                                               : device   ? device_pointer(s, CONV_BIAS)
                                                          : s->params.conv_bias,
                                  .bias = device ? device_pointer(s, BIAS) : s->params.bias,
                                  .workspace = s->bytes[WORKSPACE] == 0 ? NULL
                                               : device ? (void *)device_pointer(s, WORKSPACE)
                                                        : s->guarded + FOREIGN_GUARD,
                                  .workspace_size = s->bytes[WORKSPACE],
                                  .stream = device ? foreign_device_stream(s->device) : NULL,
                                  .threads = options->threads,
                                  .reason = s->reason,
                                  .reason_size = sizeof s->reason};
}

static enum status prepare(const struct implementation *i, const struct problem *problem,
                           const struct params *params, const struct run_options *options,
                           void **state, struct error *error)
{
    struct plugin_state *s = calloc(1, sizeof *s);
    *state = s;
    if (!s)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    s->problem = *problem;
    s->params = *params;
    set_problem(s, problem);
    enum status status = open_library(s, i->name + strlen("plugin:"), error);
    if (status != STATUS_OK)
        return status;
    s->call = (struct assay_call){.problem = &s->seen,
                                  .threads = options->threads,
                                  .reason = s->reason,
                                  .reason_size = sizeof s->reason};
    if (s->plugin->supports && s->plugin->supports(&s->call) != 0)
        return call_failed(s, "supports()", STATUS_UNSUPPORTED, error);
    s->bytes[WORKSPACE] = s->plugin->workspace ? s->plugin->workspace(&s->seen) : 0;
    status = s->plugin->memory == ASSAY_MEMORY_DEVICE
                 ? make_device_buffers(s, options->device, error)
                 : make_host_workspace(s, error);
    if (status != STATUS_OK)
        return status;
    set_call(s, options);
    s->prepared = true;
    if (s->plugin->prepare && s->plugin->prepare(&s->call) != 0)
        return call_failed(s, "prepare()", STATUS_FAILED, error);
    return s->device ? foreign_device_synchronize(s->device, error) : STATUS_OK;
}

static enum status call_run(struct plugin_state *s, const float *x, float *y, struct error *error)
{
    s->call.x = x;
    s->call.y = y;
    s->reason[0] = 0;
    return s->plugin->run(&s->call) == 0 ? STATUS_OK
                                         : call_failed(s, "run()", STATUS_FAILED, error);
}

static enum status check_host_workspace(const struct plugin_state *s, struct error *error)
{
    if (!s->guarded)
        return STATUS_OK;
    const bool before = guard_is_intact(s->guarded, FOREIGN_GUARD);
    if (before && guard_is_intact(s->guarded + FOREIGN_GUARD + s->bytes[WORKSPACE], FOREIGN_GUARD))
        return STATUS_OK;
    return error_set(error, STATUS_FAILED,
                     "wrote outside its buffers: memory %s 'workspace' was changed",
                     before ? "behind" : "before");
}

/* A device input against the host's copy of it. */
static enum status check_device_input(struct plugin_state *s, int buffer, const void *host,
                                      struct error *error)
{
    enum status status = STATUS_OK;
    char *chunk = malloc(CHUNK);
    if (!chunk)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    for (size_t at = 0; at < s->bytes[buffer] && status == STATUS_OK; at += CHUNK) {
        const size_t left = s->bytes[buffer] - at, n = left < CHUNK ? left : CHUNK;
        status = foreign_buffer_download(s->device, &s->buffers[buffer], at, chunk, n, error);
        if (status == STATUS_OK && memcmp(chunk, (const char *)host + at, n) != 0)
            status = error_set(error, STATUS_FAILED, "wrote to its input '%s' in device memory",
                               buffer_names[buffer]);
    }
    free(chunk);
    return status;
}

/* x: NULL where the device's is another by now. */
static enum status check_device(struct plugin_state *s, const float *x, struct error *error)
{
    enum status status = STATUS_OK;
    for (int b = 0; b < BUFFERS && status == STATUS_OK; b++)
        status = foreign_buffer_check(s->device, &s->buffers[b], buffer_names[b], error);
    for (int b = WEIGHT; b <= BIAS && status == STATUS_OK; b++)
        if (s->bytes[b] > 0)
            status = check_device_input(s, b, host_input(s, b), error);
    if (status == STATUS_OK && x)
        status = check_device_input(s, X, x, error);
    return status;
}

/* y goes up before the run, so that what is not written shows. */
static enum status run_on_device(struct plugin_state *s, const float *x, float *y,
                                 struct error *error)
{
    enum status status = foreign_buffer_upload(s->device, &s->buffers[X], x, s->bytes[X], error);
    if (status == STATUS_OK)
        status = foreign_buffer_upload(s->device, &s->buffers[Y], y, s->bytes[Y], error);
    if (status == STATUS_OK)
        status = call_run(s, device_pointer(s, X), device_pointer(s, Y), error);
    if (status == STATUS_OK)
        status = foreign_device_synchronize(s->device, error);
    if (status == STATUS_OK)
        status = foreign_buffer_download(s->device, &s->buffers[Y], 0, y, s->bytes[Y], error);
    return status == STATUS_OK ? check_device(s, x, error) : status;
}

static enum status run(void *state, const float *x, float *y, struct error *error)
{
    struct plugin_state *s = state;
    if (s->device)
        return run_on_device(s, x, y, error);
    const enum status status = call_run(s, x, y, error);
    return status == STATUS_OK ? check_host_workspace(s, error) : status;
}

static enum status finish(void *state, struct error *error)
{
    struct plugin_state *s = state;
    release_library(s);
    if (!s->device)
        return check_host_workspace(s, error);
    const enum status status = foreign_device_synchronize(s->device, error);
    return status == STATUS_OK ? check_device(s, NULL, error) : status;
}

static bool measures(void *state)
{
    return ((const struct plugin_state *)state)->device != NULL;
}

/* The next sample's x: that of the last one, rotated by an element, in another buffer. */
static enum status rotate(struct plugin_state *s, struct error *error)
{
    const size_t bytes = s->bytes[X], one = sizeof(float);
    enum status status = STATUS_OK;
    if (bytes > one) {
        status =
            foreign_buffer_copy(s->device, &s->rotated, 0, &s->buffers[X], one, bytes - one, error);
        if (status == STATUS_OK)
            status = foreign_buffer_copy(s->device, &s->rotated, bytes - one, &s->buffers[X], 0,
                                         one, error);
        const struct foreign_buffer old = s->buffers[X];
        s->buffers[X] = s->rotated;
        s->rotated = old;
    }
    return status;
}

/* The time in which no device moves the problem's bytes, from a copy within its memory; 0 where the
 * tensors are small enough to stay in a cache, or there is no room for the copy. */
static double byte_floor(struct plugin_state *s)
{
    enum { COPIES = 3 };
    const size_t bytes = (size_t)1 << 28;
    struct foreign_buffer a = {0}, b = {0};
    struct error ignored;
    double best = 0.0;
    if (problem_bytes(&s->problem) < 2.0 * (double)bytes)
        return 0.0;
    bool good = foreign_buffer_init(s->device, &a, bytes, &ignored) == STATUS_OK &&
                foreign_buffer_init(s->device, &b, bytes, &ignored) == STATUS_OK;
    for (int i = 0; i < COPIES && good; i++) {
        double seconds = 0.0;
        good = foreign_device_begin(s->device, &ignored) == STATUS_OK &&
               foreign_buffer_copy(s->device, &b, 0, &a, 0, bytes, &ignored) == STATUS_OK &&
               foreign_device_end(s->device, &seconds, &ignored) == STATUS_OK;
        if (good && (best == 0.0 || seconds < best))
            best = seconds;
    }
    foreign_buffer_release(s->device, &a);
    foreign_buffer_release(s->device, &b);
    return good ? problem_bytes(&s->problem) * best / (2.0 * (double)bytes) : 0.0;
}

/* A look at some elements all over y, which held arena_poison[1] before the run. */
static enum status check_written(struct plugin_state *s, struct error *error)
{
    enum { LOOKS = 16 };
    const size_t count = s->bytes[Y] / sizeof(float);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < LOOKS && count > 0 && status == STATUS_OK; i++) {
        const size_t element = (count - 1) / (LOOKS - 1) * i;
        uint32_t word = 0;
        status = foreign_buffer_download(s->device, &s->buffers[Y], element * sizeof word, &word,
                                         sizeof word, error);
        if (status == STATUS_OK && word == arena_poison[1])
            status = error_set(error, STATUS_FAILED,
                               "right at first, wrong in a timed run: element %zu of y was not "
                               "written",
                               element);
    }
    return status;
}

/* Device memory only. Leaves x on the device rotated by *rotation elements. */
static enum status measure(void *state, const float *x, float *y,
                           const struct measurement_plan *plan, struct measurement *m,
                           struct error *error)
{
    struct plugin_state *s = state;
    m->count = 0;
    m->rotation = 0;
    snprintf(m->device, sizeof m->device, "%s", foreign_device_name(s->device));
    enum status status = STATUS_OK;
    if (!s->rotated.base)
        status = foreign_buffer_init(s->device, &s->rotated, s->bytes[X], error);
    if (status == STATUS_OK)
        status = foreign_buffer_upload(s->device, &s->buffers[X], x, s->bytes[X], error);
    if (status == STATUS_OK) /* warms up */
        status = call_run(s, device_pointer(s, X), device_pointer(s, Y), error);
    m->floor_s = byte_floor(s);
    if (m->floor_s > 0.0)
        snprintf(m->bound_by, sizeof m->bound_by, "bytes");
    const double start = clock_seconds();
    do {
        double seconds;
        if (status == STATUS_OK)
            status = rotate(s, error);
        m->rotation++;
        if (status == STATUS_OK)
            status = foreign_buffer_fill(s->device, &s->buffers[Y], arena_poison[1], error);
        if (status == STATUS_OK)
            status = foreign_device_begin(s->device, error);
        if (status == STATUS_OK)
            status = call_run(s, device_pointer(s, X), device_pointer(s, Y), error);
        if (status == STATUS_OK)
            status = foreign_device_end(s->device, &seconds, error);
        if (status == STATUS_OK && !plan->profile)
            m->samples_s[m->count++] = seconds;
        if (status == STATUS_OK)
            status = check_written(s, error);
    } while (status == STATUS_OK && !plan->profile &&
             !measurement_complete(plan, m->samples_s, m->count, clock_seconds() - start));
    for (int b = 0; b < BUFFERS && status == STATUS_OK; b++)
        status = foreign_buffer_check(s->device, &s->buffers[b], buffer_names[b], error);
    if (status == STATUS_OK)
        status = foreign_buffer_download(s->device, &s->buffers[Y], 0, y, s->bytes[Y], error);
    return status;
}

static enum arithmetic_class declared(void *state)
{
    return ((const struct plugin_state *)state)->cls;
}

static void describe(void *state, struct measurement *result)
{
    const struct plugin_state *s = state;
    snprintf(result->note, sizeof result->note, "%.200s", s->plugin->name ? s->plugin->name : "");
}

enum status implementation_plugin_init(struct implementation *implementation, const char *name,
                                       struct error *error)
{
    const char *path = name + strlen("plugin:");
    struct stat info;
    if (access(path, R_OK) != 0 || stat(path, &info) != 0)
        return error_set(error, STATUS_BAD_INPUT, "plugin '%.400s' cannot be read: %s", path,
                         strerror(errno));
    if (!S_ISREG(info.st_mode))
        return error_set(error, STATUS_BAD_INPUT, "plugin '%.400s' is not a file", path);
    *implementation = (struct implementation){.name = name,
                                              .summary = "a shared library (harness/plugin.h)",
                                              .cls = CLASS_FP32,
                                              .foreign = true,
                                              .supports = supports,
                                              .prepare = prepare,
                                              .run = run,
                                              .declared = declared,
                                              .measures = measures,
                                              .measure = measure,
                                              .describe = describe,
                                              .finish = finish,
                                              .release = release};
    return STATUS_OK;
}
