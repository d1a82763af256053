/* The table of variants: the rows of gpu/variant_list.h, joined with their kernels. */
#include "gpu/variant.h"

const struct variant_ops *const variant_table[] = {
#define X(symbol, name, summary, cls, unit, passes, verified) &variant_##symbol,
    GPU_VARIANT_LIST(X)
#undef X
};

const size_t variant_table_count = sizeof variant_table / sizeof *variant_table;
