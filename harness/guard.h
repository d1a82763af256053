/* Memory beside a buffer, of which nothing may be used. It holds signalling NaNs (fp32; also NaNs
 * as fp16 and bf16): what is read there and computed with shows, and no arithmetic on the host
 * writes one, because it makes NaNs quiet. */
#ifndef ASSAY_HARNESS_GUARD_H
#define ASSAY_HARNESS_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/* `bytes`: at least 4; `guard`: of any alignment. */
void guard_fill(void *guard, size_t bytes);
bool guard_is_intact(const void *guard, size_t bytes);

#endif
