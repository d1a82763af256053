#include "gpu/cudnn.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cuda_check.h"
#include "gpu/cudnn_api.h"
#include "gpu/random_fill.cuh"

#define DEVICE_LIMIT 16

static const struct cudnn_api *api;        /* set before the first call through it */
static cudnn_handle handles[DEVICE_LIMIT]; /* one a device, for the life of the process */
/* Of the handles: a stream is set and used in one go, whatever plans of other threads do. */
static pthread_mutex_t handles_mutex = PTHREAD_MUTEX_INITIALIZER;

bool cudnn_conv_supports(const struct problem *p, char *reason, size_t reason_size)
{
    if (p->output_padding_h >= p->stride_h || p->output_padding_w >= p->stride_w) {
        snprintf(reason, reason_size,
                 "cuDNN takes the output's size for that of another input where output_padding >= "
                 "stride");
        return false;
    }
    if (problem_input_image(p) >= (1ll << 31) || problem_output_image(p) >= (1ll << 31) ||
        problem_weight_count(p) >= (1ll << 31)) {
        snprintf(reason, reason_size, "cuDNN's tensors hold fewer than 2^31 elements");
        return false;
    }
    return cudnn_load(reason, reason_size) != NULL;
}

/* ---- descriptors ---------------------------------------------------------------------------- */

/* Collects the first failure, so that a run of calls needs one check at its end. */
struct calls {
    int code;
    const char *what;
};

static void note_call(struct calls *c, int code, const char *what)
{
    if (c->code == 0 && code != 0) {
        c->code = code;
        c->what = what;
    }
}

static enum status calls_status(const struct calls *c, struct error *error)
{
    if (c->code == 0)
        return STATUS_OK;
    return error_set(error, STATUS_UNSUPPORTED, "cuDNN refuses the problem: %s: %s", c->what,
                     api->error_string(c->code));
}

static cudnn_descriptor make(struct calls *c, int type)
{
    cudnn_descriptor d = NULL;
    if (c->code == 0)
        note_call(c, api->descriptor_create(type, &d), "creating a descriptor");
    return d;
}

static void destroy(cudnn_descriptor d)
{
    if (d)
        api->descriptor_destroy(d);
}

static void set(struct calls *c, cudnn_descriptor d, int attribute, int type, int64_t count,
                const void *values)
{
    if (c->code == 0)
        note_call(c, api->set(d, attribute, type, count, values), "setting an attribute");
}

static void finalize(struct calls *c, cudnn_descriptor d, const char *what)
{
    if (c->code == 0)
        note_call(c, api->finalize(d), what);
}

enum { ID_X = 1, ID_W = 2, ID_Y = 3 };

/* What is settled for one number of images. */
struct sized_plan {
    int64_t images;
    cudnn_descriptor x, w, y, convolution, operation, graph;
    cudnn_descriptor plan;
    cudnn_descriptor configs[32];
    int config_count;
};

#define SIZES 4 /* numbers of images that plans are kept for */

struct cudnn_conv {
    struct problem problem;
    cudnn_handle handle;
    bool tf32, channels_last;
    int64_t images;
    float *d_weight_last; /* weights in channels-last order */
    const float *d_weight;
    char *d_workspace;
    size_t workspace_bytes;
    struct sized_plan sized[SIZES];
    int next_size;
    int64_t engine; /* the index of the chosen engine */
    bool varies;
    double seconds;
    char note[128];
};

static cudnn_descriptor make_tensor(struct calls *c, int64_t id, const int64_t (&dims)[4],
                                    bool channels_last)
{
    const int64_t alignment = 16;
    const int float_type = DATA_FLOAT;
    int64_t strides[4] = {dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1};
    if (channels_last) {
        strides[1] = 1;
        strides[2] = dims[3] * dims[1];
        strides[3] = dims[1];
    }
    cudnn_descriptor d = make(c, DESCRIPTOR_TENSOR);
    set(c, d, TENSOR_DATA_TYPE, TYPE_DATA_TYPE, 1, &float_type);
    set(c, d, TENSOR_DIMENSIONS, TYPE_INT64, 4, dims);
    set(c, d, TENSOR_STRIDES, TYPE_INT64, 4, strides);
    set(c, d, TENSOR_UNIQUE_ID, TYPE_INT64, 1, &id);
    set(c, d, TENSOR_ALIGNMENT, TYPE_INT64, 1, &alignment);
    finalize(c, d, "a tensor");
    return d;
}

static void sized_release(struct sized_plan *s)
{
    destroy(s->plan);
    for (int i = 0; i < s->config_count; i++)
        destroy(s->configs[i]);
    destroy(s->graph);
    destroy(s->operation);
    destroy(s->convolution);
    destroy(s->y);
    destroy(s->w);
    destroy(s->x);
    memset(s, 0, sizeof *s);
}

/* The operation for `images` images and the engines that cuDNN's heuristics propose for it. */
static void sized_init(struct calls *c, struct sized_plan *s, const struct cudnn_conv *conv,
                       int64_t images)
{
    const struct problem *p = &conv->problem;
    const int64_t x_dims[4] = {images, p->in_channels, p->height, p->width};
    const int64_t w_dims[4] = {p->in_channels, p->out_channels / p->groups, p->kernel_h,
                               p->kernel_w};
    const int64_t y_dims[4] = {images, p->out_channels, problem_output_h(p), problem_output_w(p)};
    const int64_t dilations[2] = {p->dilation_h, p->dilation_w};
    const int64_t strides[2] = {p->stride_h, p->stride_w};
    const int64_t paddings[2] = {p->padding_h, p->padding_w}, spatial = 2;
    const int float_type = DATA_FLOAT, mode = CROSS_CORRELATION;
    const float one = 1.0f, zero = 0.0f;

    memset(s, 0, sizeof *s);
    s->images = images;
    s->x = make_tensor(c, ID_X, x_dims, conv->channels_last);
    s->w = make_tensor(c, ID_W, w_dims, conv->channels_last);
    s->y = make_tensor(c, ID_Y, y_dims, conv->channels_last);

    s->convolution = make(c, DESCRIPTOR_CONVOLUTION);
    set(c, s->convolution, CONVOLUTION_SPATIAL_DIMS, TYPE_INT64, 1, &spatial);
    set(c, s->convolution, CONVOLUTION_COMP_TYPE, TYPE_DATA_TYPE, 1, &float_type);
    set(c, s->convolution, CONVOLUTION_CONV_MODE, TYPE_CONVOLUTION_MODE, 1, &mode);
    set(c, s->convolution, CONVOLUTION_PRE_PADDINGS, TYPE_INT64, 2, paddings);
    set(c, s->convolution, CONVOLUTION_POST_PADDINGS, TYPE_INT64, 2, paddings);
    set(c, s->convolution, CONVOLUTION_DILATIONS, TYPE_INT64, 2, dilations);
    set(c, s->convolution, CONVOLUTION_STRIDES, TYPE_INT64, 2, strides);
    finalize(c, s->convolution, "the convolution");

    s->operation = make(c, DESCRIPTOR_BACKWARD_DATA);
    set(c, s->operation, BACKWARD_DATA_DX, TYPE_DESCRIPTOR, 1, &s->y);
    set(c, s->operation, BACKWARD_DATA_W, TYPE_DESCRIPTOR, 1, &s->w);
    set(c, s->operation, BACKWARD_DATA_DY, TYPE_DESCRIPTOR, 1, &s->x);
    set(c, s->operation, BACKWARD_DATA_CONV, TYPE_DESCRIPTOR, 1, &s->convolution);
    set(c, s->operation, BACKWARD_DATA_ALPHA, TYPE_FLOAT, 1, &one);
    set(c, s->operation, BACKWARD_DATA_BETA, TYPE_FLOAT, 1, &zero);
    finalize(c, s->operation, "the backward-data operation");

    s->graph = make(c, DESCRIPTOR_GRAPH);
    set(c, s->graph, GRAPH_OPS, TYPE_DESCRIPTOR, 1, &s->operation);
    set(c, s->graph, GRAPH_HANDLE, TYPE_HANDLE, 1, &conv->handle);
    finalize(c, s->graph, "the operation graph");
    if (c->code != 0)
        return;

    static const int modes[] = {MODE_A, MODE_FALLBACK};
    const int most = (int)(sizeof s->configs / sizeof *s->configs);
    for (int m = 0; m < 2 && s->config_count < most; m++) {
        struct calls quiet = {0, NULL}; /* a mode may have nothing to propose */
        cudnn_descriptor heuristics = make(&quiet, DESCRIPTOR_ENGINEHEUR);
        int64_t got = 0;
        const int room = m == 0 ? most / 2 : most - s->config_count;
        set(&quiet, heuristics, HEUR_GRAPH, TYPE_DESCRIPTOR, 1, &s->graph);
        set(&quiet, heuristics, HEUR_MODE, TYPE_HEUR_MODE, 1, &modes[m]);
        finalize(&quiet, heuristics, "heuristics");
        cudnn_descriptor *to = s->configs + s->config_count;
        for (int i = 0; i < room; i++)
            to[i] = make(&quiet, DESCRIPTOR_ENGINECFG);
        if (quiet.code == 0 &&
            api->get(heuristics, HEUR_RESULTS, TYPE_DESCRIPTOR, room, &got, to) != 0)
            got = 0;
        got = got < room ? got : room;
        for (int64_t i = got; i < room; i++) {
            destroy(to[i]);
            to[i] = NULL;
        }
        s->config_count += (int)got;
        destroy(heuristics);
    }
}

/* True where the engine keeps the class's promise; its global index in *index, and whether it adds
 * in no fixed order in *varies. */
static bool engine_allowed(cudnn_descriptor config, bool tf32, int64_t *index, bool *varies)
{
    struct calls c = {0, NULL};
    int notes[NOTE_COUNT];
    int64_t count = 0, one = 0;
    bool allowed = false;
    cudnn_descriptor engine = make(&c, DESCRIPTOR_ENGINE);
    *index = -1;
    *varies = false;
    if (c.code == 0 && api->get(config, ENGINECFG_ENGINE, TYPE_DESCRIPTOR, 1, &one, &engine) == 0 &&
        api->get(engine, ENGINE_NUMERICAL_NOTE, TYPE_NUMERICAL_NOTE, NOTE_COUNT, &count, notes) ==
            0) {
        allowed = true;
        for (int64_t i = 0; i < count && i < NOTE_COUNT; i++) {
            allowed = allowed && ((notes[i] == NOTE_TENSOR_CORE && tf32) ||
                                  notes[i] == NOTE_NONDETERMINISTIC || notes[i] == NOTE_STRICT_NAN);
            *varies = *varies || notes[i] == NOTE_NONDETERMINISTIC;
        }
        api->get(engine, ENGINE_GLOBAL_INDEX, TYPE_INT64, 1, &one, index);
    }
    destroy(engine);
    return allowed;
}

/* An execution plan of the configuration that needs no more than `most` bytes; NULL otherwise. */
static cudnn_descriptor plan_of(const struct cudnn_conv *conv, cudnn_descriptor config,
                                int64_t most)
{
    struct calls c = {0, NULL};
    int64_t bytes = 0, one = 0;
    cudnn_descriptor plan = make(&c, DESCRIPTOR_PLAN);
    set(&c, plan, PLAN_HANDLE, TYPE_HANDLE, 1, &conv->handle);
    set(&c, plan, PLAN_ENGINE_CONFIG, TYPE_DESCRIPTOR, 1, &config);
    finalize(&c, plan, "a plan");
    if (c.code == 0)
        note_call(&c, api->get(plan, PLAN_WORKSPACE_SIZE, TYPE_INT64, 1, &one, &bytes),
                  "a plan's workspace");
    if (c.code == 0 && bytes <= most)
        return plan;
    destroy(plan);
    return NULL;
}

static enum status execute(struct cudnn_conv *conv, cudnn_descriptor plan, const float *d_x,
                           float *d_y, cudaStream_t stream, struct error *error)
{
    struct calls c = {0, NULL};
    const int64_t ids[3] = {ID_X, ID_W, ID_Y};
    void *const pointers[3] = {
        (void *)d_x, (void *)(conv->channels_last ? conv->d_weight_last : conv->d_weight), d_y};
    void *const workspace = conv->d_workspace;
    cudnn_descriptor pack = make(&c, DESCRIPTOR_VARIANT_PACK);
    set(&c, pack, PACK_POINTERS, TYPE_VOID_PTR, 3, pointers);
    set(&c, pack, PACK_UNIQUE_IDS, TYPE_INT64, 3, ids);
    set(&c, pack, PACK_WORKSPACE, TYPE_VOID_PTR, 1, &workspace);
    finalize(&c, pack, "the pointers");
    pthread_mutex_lock(&handles_mutex);
    if (c.code == 0)
        note_call(&c, api->set_stream(conv->handle, stream), "setting the stream");
    if (c.code == 0)
        note_call(&c, api->execute(conv->handle, plan, pack), "executing the plan");
    pthread_mutex_unlock(&handles_mutex);
    destroy(pack);
    return calls_status(&c, error);
}

/* ---- choosing ------------------------------------------------------------------------------- */

#define TRIES 3

static enum status time_plan(struct cudnn_conv *conv, cudnn_descriptor plan, const float *d_x,
                             float *d_y, cudaEvent_t start, cudaEvent_t stop, double *seconds,
                             struct error *error)
{
    enum status status = STATUS_OK;
    *seconds = 1e30;
    for (int i = 0; i < TRIES; i++) {
        float ms;
        CHECK(cudaEventRecord(start));
        if ((status = execute(conv, plan, d_x, d_y, NULL, error)) != STATUS_OK)
            goto out;
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (i > 0)
            *seconds = fmin(*seconds, 1e-3 * ms);
    }
out:
    return status;
}

/* Times every engine that is allowed and keeps the fastest. */
static enum status choose(struct cudnn_conv *conv, struct error *error)
{
    enum status status = STATUS_OK;
    struct calls c = {0, NULL};
    struct sized_plan *s = &conv->sized[0];
    const struct problem *p = &conv->problem;
    const int64_t x_count = conv->images * problem_input_image(p);
    float *d_x = NULL, *d_y = NULL;
    cudaEvent_t start = NULL, stop = NULL;
    int tried = 0;
    sized_init(&c, s, conv, conv->images);
    conv->next_size = 1;
    if ((status = calls_status(&c, error)) != STATUS_OK)
        goto out;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    CHECK(cudaMalloc(&d_x, (size_t)x_count * sizeof *d_x));
    CHECK(cudaMalloc(&d_y, (size_t)(conv->images * problem_output_image(p)) * sizeof *d_y));
    random_fill_kernel<<<1024, 256>>>(d_x, x_count, 7u);
    CHECK_LAUNCH("random_fill_kernel");
    conv->seconds = 1e30;
    for (int i = 0; i < s->config_count; i++) {
        int64_t engine;
        bool varies;
        double seconds;
        struct error ignored;
        if (!engine_allowed(s->configs[i], conv->tf32, &engine, &varies))
            continue;
        cudnn_descriptor plan = plan_of(conv, s->configs[i], (int64_t)conv->workspace_bytes);
        if (!plan)
            continue;
        tried++;
        if (time_plan(conv, plan, d_x, d_y, start, stop, &seconds, &ignored) == STATUS_OK &&
            seconds < conv->seconds) {
            conv->seconds = seconds;
            conv->engine = engine;
            conv->varies = varies;
            destroy(s->plan);
            s->plan = plan;
        } else {
            destroy(plan);
        }
    }
    if (!s->plan)
        status = error_set(error, STATUS_UNSUPPORTED,
                           "cuDNN has no %s engine for the problem (%d proposed, %d tried)",
                           conv->tf32 ? "tf32" : "fp32", s->config_count, tried);
    else
        snprintf(conv->note, sizeof conv->note,
                 "engine %lld of %d tried, %s, convolution %.3f ms%s", (long long)conv->engine,
                 tried, conv->channels_last ? "channels last" : "NCHW", 1e3 * conv->seconds,
                 conv->varies ? ", adds in no fixed order" : "");
out:
    if (stop)
        cudaEventDestroy(stop);
    if (start)
        cudaEventDestroy(start);
    cudaFree(d_y);
    cudaFree(d_x);
    return status;
}

/* W [Cin][Cout/g][kH][kW] -> [Cin][kH][kW][Cout/g] */
static enum status weights_last(struct cudnn_conv *conv, const float *weight, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &conv->problem;
    const int64_t channels = p->out_channels / p->groups, taps = p->kernel_h * p->kernel_w;
    const int64_t count = problem_weight_count(p);
    float *h = (float *)malloc((size_t)count * sizeof *h);
    if (!h)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    for (int64_t ic = 0; ic < p->in_channels; ic++)
        for (int64_t oc = 0; oc < channels; oc++)
            for (int64_t k = 0; k < taps; k++)
                h[(ic * taps + k) * channels + oc] = weight[(ic * channels + oc) * taps + k];
    CHECK(cudaMalloc(&conv->d_weight_last, (size_t)count * sizeof *h));
    CHECK(cudaMemcpy(conv->d_weight_last, h, (size_t)count * sizeof *h, cudaMemcpyHostToDevice));
out:
    free(h);
    return status;
}

enum status cudnn_conv_create(struct cudnn_conv **out_conv, const struct variant_context *context,
                              bool tf32, bool channels_last, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    const int64_t image = problem_output_image(p) > problem_input_image(p) ? problem_output_image(p)
                                                                           : problem_input_image(p);
    int64_t most = ((1ll << 31) - 1) / image;
    char reason[256];
    *out_conv = NULL;
    for (int64_t i = 0; i < problem_weight_count(p); i++)
        if (!isfinite(context->h_params.weight[i]))
            return error_set(error, STATUS_UNSUPPORTED,
                             "weights that are not finite: cuDNN multiplies padding zeros by them");
    if (!(api = cudnn_load(reason, sizeof reason)))
        return error_set(error, STATUS_UNSUPPORTED, "%s", reason);
    cudnn_version(reason, sizeof reason);
    if (context->device >= DEVICE_LIMIT)
        return error_set(error, STATUS_UNSUPPORTED, "device %d is past the last that is counted on",
                         context->device);
    struct cudnn_conv *conv = (struct cudnn_conv *)calloc(1, sizeof *conv);
    if (!conv)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    cudnn_handle *handle = &handles[context->device];
    pthread_mutex_lock(&handles_mutex);
    if (!*handle && api->create(handle) != 0)
        *handle = NULL;
    pthread_mutex_unlock(&handles_mutex);
    if (!*handle) {
        status =
            error_set(error, STATUS_UNSUPPORTED, "cuDNN %s cannot start on this device", reason);
        goto out;
    }
    most = most > 4 ? most / 4 * 4 : most; /* later parts of a slice stay aligned to 16 bytes */
    conv->problem = *p;
    conv->handle = *handle;
    conv->tf32 = tf32;
    conv->channels_last = channels_last;
    conv->images = context->slice < most ? context->slice : most;
    conv->d_weight = context->d_weight;
    conv->workspace_bytes = CUDNN_WORKSPACE;
    CHECK(cudaMalloc(&conv->d_workspace, conv->workspace_bytes));
    if (channels_last &&
        (status = weights_last(conv, context->h_params.weight, error)) != STATUS_OK)
        goto out;
    status = choose(conv, error);
out:
    if (status != STATUS_OK) {
        cudnn_conv_free(conv);
        return status;
    }
    *out_conv = conv;
    return status;
}

void cudnn_conv_free(struct cudnn_conv *conv)
{
    if (!conv)
        return;
    for (int i = 0; i < SIZES; i++)
        sized_release(&conv->sized[i]);
    cudaFree(conv->d_workspace);
    cudaFree(conv->d_weight_last);
    free(conv);
}

int64_t cudnn_conv_images(const struct cudnn_conv *conv)
{
    return conv->images;
}

double cudnn_conv_seconds(const struct cudnn_conv *conv)
{
    return conv->seconds;
}

bool cudnn_conv_varies(const struct cudnn_conv *conv)
{
    return conv->varies;
}

const char *cudnn_conv_note(const struct cudnn_conv *conv)
{
    return conv->note;
}

/* The plan for a number of images other than the chosen one: the same engine where it will have
 * them, else the first that is allowed. Made on first use, on the host alone. */
static cudnn_descriptor plan_for(struct cudnn_conv *conv, int64_t images)
{
    for (int i = 0; i < SIZES; i++)
        if (conv->sized[i].images == images)
            return conv->sized[i].plan;
    struct calls c = {0, NULL};
    struct sized_plan *s = &conv->sized[conv->next_size];
    conv->next_size = conv->next_size + 1 < SIZES ? conv->next_size + 1 : 1;
    sized_release(s);
    sized_init(&c, s, conv, images);
    for (int same = 1; same >= 0 && c.code == 0 && !s->plan; same--)
        for (int i = 0; i < s->config_count && !s->plan; i++) {
            int64_t engine;
            bool varies;
            if (engine_allowed(s->configs[i], conv->tf32, &engine, &varies) &&
                (!same || engine == conv->engine))
                s->plan = plan_of(conv, s->configs[i], (int64_t)conv->workspace_bytes);
        }
    return s->plan;
}

enum status cudnn_conv_launch(struct cudnn_conv *conv, const float *d_x, float *d_logits,
                              int64_t images, cudaStream_t stream, struct error *error)
{
    enum status status = STATUS_OK;
    const int64_t x_image = problem_input_image(&conv->problem);
    const int64_t y_image = problem_output_image(&conv->problem);
    for (int64_t first = 0; first < images && status == STATUS_OK; first += conv->images) {
        const int64_t part = images - first < conv->images ? images - first : conv->images;
        cudnn_descriptor plan = plan_for(conv, part);
        status = plan ? execute(conv, plan, d_x + first * x_image, d_logits + first * y_image,
                                stream, error)
                      : error_set(error, STATUS_UNSUPPORTED, "cuDNN has no engine for %lld images",
                                  (long long)part);
    }
    return status;
}
