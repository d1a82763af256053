/* What every unit test includes. */
#ifndef ASSAY_TESTS_UNIT_H
#define ASSAY_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The message stands in the failure's output. */
#define assert_status(call, want)                                                                  \
    do {                                                                                           \
        const enum status got_ = (call);                                                           \
        if (got_ != (want))                                                                        \
            fail_msg("%s: status %d, expected %d", #call, (int)got_, (int)(want));                 \
    } while (0)

/* NaN fails, as it must. */
#define assert_within(got, want, tolerance)                                                        \
    do {                                                                                           \
        const double g_ = (got), w_ = (want);                                                      \
        if (!(fabs(g_ - w_) <= (tolerance)))                                                       \
            fail_msg("%s is %.17g, expected %.17g within %g", #got, g_, w_, (double)(tolerance));  \
    } while (0)

#endif
