/* Texts kept once: equal texts are the same pointer, so that they are compared by it. */
#ifndef ASSAY_HARNESS_TEXT_POOL_H
#define ASSAY_HARNESS_TEXT_POOL_H

#include <stddef.h>
#include <stdint.h>

struct text_pool {
    struct text_slot *slots;
    size_t slot_count, used;
    struct text_block *blocks;
};

/* The pool's copy of n bytes, ended by a zero; NULL when out of memory. Valid until the release. */
const char *text_pool_add(struct text_pool *pool, const char *text, size_t n);

/* A zeroed pool is legal. */
void text_pool_release(struct text_pool *pool);

/* Of bytes; not for anything that an adversary feeds. */
uint64_t text_hash(const char *text, size_t n);

#endif
