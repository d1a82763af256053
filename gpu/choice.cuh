/* A variant made of others: the first of a list that supports the problem does the work (internal
 * to gpu/). Its state is a `struct choice`. */
#ifndef ASSAY_GPU_CHOICE_CUH
#define ASSAY_GPU_CHOICE_CUH

#include <stdlib.h>

#include "gpu/variant.h"

struct choice {
    const struct variant_ops *ops; /* NULL: none was prepared */
    struct variant_context context;
};

struct choice_list {
    const struct variant_ops *const *ops; /* first wins */
    size_t count;
    bool within_class; /* pass over those of a coarser class than context->cls */
    /* Whether one that supports the problem is worth it there; NULL: always. The last one must be.
     */
    bool (*pays)(const struct variant_ops *, const struct problem *, const struct cudaDeviceProp *);
};

template <const struct choice_list &list>
static bool choice_supports(const struct problem *problem, const struct cudaDeviceProp *device,
                            char *reason, size_t reason_size)
{
    for (size_t i = 0; i < list.count; i++)
        if (list.ops[i]->supports(problem, device, reason, reason_size))
            return true;
    return false; /* the last one's reason: the most general stands last */
}

/* The most that any of them needs: the slice is settled before the choice is. */
template <const struct choice_list &list>
static size_t choice_workspace(const struct problem *problem, int64_t images)
{
    size_t most = 0;
    for (size_t i = 0; i < list.count; i++) {
        const size_t bytes = list.ops[i]->workspace ? list.ops[i]->workspace(problem, images) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}

template <const struct choice_list &list>
static enum status choice_prepare(struct variant_context *context, struct error *error)
{
    char reason[256] = "";
    struct choice *choice = (struct choice *)calloc(1, sizeof *choice);
    if (!choice)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    context->state = choice;
    struct error last; /* the caller's is for a failure */
    enum status status = error_set(&last, STATUS_UNSUPPORTED, "no variant keeps within the class");
    for (size_t i = 0; i < list.count && status == STATUS_UNSUPPORTED; i++) {
        const struct variant_ops *ops = list.ops[i];
        if ((list.within_class && ops->info.cls > context->cls) ||
            (list.pays && !list.pays(ops, &context->problem, context->properties)) ||
            !ops->supports(&context->problem, context->properties, reason, sizeof reason))
            continue;
        choice->ops = ops;
        choice->context = *context;
        choice->context.state = NULL;
        choice->context.note[0] = 0;
        choice->context.varies = false;
        status = ops->prepare ? ops->prepare(&choice->context, &last) : STATUS_OK;
        if (status != STATUS_OK && ops->release)
            ops->release(&choice->context);
        context->varies = choice->context.varies;
    }
    if (status != STATUS_OK) {
        choice->ops = NULL;
        *error = last;
    }
    return status;
}

static inline enum status choice_launch(struct variant_context *context, const float *d_x,
                                        float *d_y, int64_t images, cudaStream_t stream,
                                        struct error *error)
{
    struct choice *choice = (struct choice *)context->state;
    return choice->ops->launch(&choice->context, d_x, d_y, images, stream, error);
}

static inline void choice_release(struct variant_context *context)
{
    struct choice *choice = (struct choice *)context->state;
    if (choice && choice->ops && choice->ops->release)
        choice->ops->release(&choice->context);
    free(choice);
    context->state = NULL;
}

#endif
