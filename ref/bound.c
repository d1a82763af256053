#include "ref/bound.h"

#define FALSE_ALARM 1e-6 /* delta */

/* gamma_n, or infinity where n u leaves no room. */
static double gamma_of(double n, double u)
{
    return n * u < 0.5 ? n * u / (1.0 - n * u) : INFINITY;
}

static double least(double a, double b)
{
    return a < b ? a : b;
}

void bound_init(struct bound *b, enum arithmetic_class cls, const struct problem *p, double max_x,
                double max_weight)
{
    const struct arithmetic_class_info *info = arithmetic_class_get(cls);
    const bool fp64 = cls == CLASS_FP64;
    const double sides = fp64 ? 2.0 : 1.0; /* the oracle errs as much */
    const double u = info->accumulation, unit = fp64 ? 0x1p-53 : 0x1p-24;
    const double k = (double)problem_reduction_length(p), n = k * info->products + 1.0;
    const double channels = (double)p->out_channels;
    const double outputs = (double)problem_output_count(p);

    *b = (struct bound){.cls = cls};
    b->lambda = sqrt(2.0 * log(2.0 * (outputs > 1.0 ? outputs : 1.0) / FALSE_ALARM));
    const double typical = info->operand_bias + info->operand_random;
    const double operand[BOUND_TIERS] = {typical, info->operand_worst};
    for (int tier = 0; tier < BOUND_TIERS; tier++) {
        double sum = gamma_of(n, u), channel_sum = gamma_of(channels, unit);
        if (tier == BOUND_TYPICAL) {
            sum = least(sum, b->lambda * sqrt(n) * u);
            channel_sum = least(channel_sum, b->lambda * sqrt(channels) * unit);
        }
        const double rounded = operand[tier] * (2.0 + operand[tier]);
        b->relative[tier] = sides * sum * (1.0 + rounded);
        if (tier == BOUND_WORST)
            b->relative[tier] += rounded;
        b->probability[tier] =
            sides * (2.0 * (fp64 ? 0x1p-51 : 0x1p-22) + 4.0 * unit + channel_sum);
    }
    b->operand_magnitude = typical * (2.0 + typical);
    b->operand_shrink = 2.0 * info->operand_bias;
    b->operand_walk = b->lambda / sqrt(3.0) * info->operand_random * sqrt(2.0 * max_x * max_weight);
    b->absolute = info->quantum == 0.0 ? 0.0 : 2.0 * k * info->quantum * max_x * max_weight;
    b->absolute += fp64 ? 0.0 : k * 0x1p-125;
    b->argument = sides * 4.0 * unit;
    b->rounding = sides * 4.0 * unit;
    b->exp_error = sides * (fp64 ? 0x1p-51 : 0x1p-22);
    b->scale = fabs((double)p->scaling_factor);
    b->output_relative = fp64 ? 8.0 * unit + 0x1p-24 : 4.0 * unit;
    b->output_absolute = 0x1p-125;
}

double bound_output_wide(const struct bound *b, enum bound_tier tier, double logit_error,
                         double largest, double log_p, double log_others, double p, double y,
                         double bias)
{
    if (!(largest < INFINITY))
        return INFINITY;
    const double shift = logit_error + largest;
    const double odds = 1.0 - p > 0x1p-53 ? 1.0 - p : 0x1p-53;
    const double range = p > odds ? p : odds;
    /* p (e^h - 1) <= e^(log p + h), which does not lose p below the smallest double. */
    double dp = shift <= 1.0 ? p * odds * expm1(shift) : least(exp(log_p + shift), range);
    if (shift > 1.0 && p > 0.5)
        dp = least(dp, exp(log_others + shift));
    dp += b->probability[tier] * (p + dp);
    const double addend = fabs(bias) < INFINITY ? fabs(bias) : 0.0;
    const double sum_error = dp + b->rounding * (p + dp + addend);
    const double h = b->scale * sum_error + b->exp_error;
    const double other = 1.0 - y > 0x1p-53 ? 1.0 - y : 0x1p-53;
    double dy = h <= 1.0 ? y * other * expm1(h) : y > other ? y : other;
    const double settled = exp(b->exp_error - b->scale * (fabs(p + bias) - sum_error));
    if (settled < dy) /* e^(h - |t|) */
        dy = settled;
    return dy + b->output_relative * y + b->output_absolute;
}
