/* One logit of the transposed convolution by the definition (internal to gpu/): the fp32 path that
 * every problem can take.
 *
 * Taps that fall outside the input are skipped, never multiplied by a padding zero, so infinite and
 * NaN weights mean what they mean in the definition. Also the better path where a group is too
 * small to fill a GEMM tile (depthwise). Weights in PyTorch's layout. */
#ifndef ASSAY_GPU_CONV_DIRECT_CUH
#define ASSAY_GPU_CONV_DIRECT_CUH

#include "gpu/conv_tables.h"

/* conv + conv_bias for one image x [Cin, H, W], channel oc, output pixel (oh, ow); sums in order of
 * taps, then channels, one FMA each. */
static __device__ __forceinline__ float conv_direct(const conv_args &args, const float *x, int oc,
                                                    int oh, int ow)
{
    const int rh = oh % args.stride_h, a = oh / args.stride_h;
    const int rw = ow % args.stride_w, b = ow / args.stride_w;
    const int group = oc / args.group_out;
    const int64_t taps = (int64_t)args.kernel_h * args.kernel_w;
    const float *const x_group = x + (int64_t)group * args.group_in * args.x_plane;
    const float *const w_group =
        args.weight +
        ((int64_t)group * args.group_in * args.group_out + oc % args.group_out) * taps;
    const int64_t w_step = (int64_t)args.group_out * taps;
    float sum = 0.0f;
    for (int r = args.row_begin[rh]; r < args.row_begin[rh + 1]; r++) {
        const int ih = a + args.row_distance[r];
        if ((unsigned)ih >= (unsigned)args.height)
            continue;
        for (int c = args.column_begin[rw]; c < args.column_begin[rw + 1]; c++) {
            const int iw = b + args.column_distance[c];
            if ((unsigned)iw >= (unsigned)args.width)
                continue;
            const float *from = x_group + (int64_t)ih * args.width + iw;
            const float *w =
                w_group + (int64_t)args.row_tap[r] * args.kernel_w + args.column_tap[c];
            for (int ic = 0; ic < args.group_in; ic++, from += args.x_plane, w += w_step)
                sum = fmaf(*from, *w, sum);
        }
    }
    return sum + args.conv_bias[oc];
}

/* True where the direct path is the right one. Scales beyond the fused epilogue's range also go
 * there. */
static inline bool conv_prefers_direct(const struct problem *p, bool finite_weights)
{
    return !finite_weights || !(p->scaling_factor > -1e37f && p->scaling_factor < 1e37f) ||
           (p->groups > 1 && (p->out_channels / p->groups <= 4 || p->in_channels / p->groups <= 2));
}

#endif
