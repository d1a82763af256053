#include "ref/conv_transpose_gemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ref/strip_kernels.h"

/* Rows of the panel multiplied at a time: bounds the panel at any Cin, and is long enough that C is
 * read and written seldom. */
#define GEMM_K_BLOCK 512

bool weights_are_finite(const struct problem *problem, const float *weight)
{
    const int64_t n = problem_weight_count(problem);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(weight[i]))
            return false;
    return true;
}

int64_t gemm_panel_size(const struct subpixel *s, int64_t pitch)
{
    const int64_t k = s->max_taps * (s->problem.in_channels / s->problem.groups);
    return (k < GEMM_K_BLOCK ? k : GEMM_K_BLOCK) * pitch;
}

#define REAL float
#define SUFFIX(name) name##_f32
#include "ref/conv_transpose_gemm_real.h"
#undef REAL
#undef SUFFIX

#define REAL double
#define SUFFIX(name) name##_f64
#include "ref/conv_transpose_gemm_real.h"
