#include "harness/tensor_hash.h"

#include <string.h>

/* Hashed on its own by one thread. */
#define BLOCK ((int64_t)1 << 14)
#define LANES 8

/* The finaliser of MurmurHash3. */
static uint64_t mix(uint64_t h)
{
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdull;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53ull;
    return h ^ (h >> 33);
}

static uint64_t hash_block(const float *values, int64_t count, uint64_t seed)
{
    uint64_t lanes[LANES];
    uint32_t words[LANES];
    int64_t i = 0;
    for (int l = 0; l < LANES; l++)
        lanes[l] = mix(seed + (uint64_t)l);
    for (; i + LANES <= count; i += LANES) {
        memcpy(words, values + i, sizeof words);
        for (int l = 0; l < LANES; l++)
            lanes[l] = (lanes[l] ^ words[l]) * 0x9e3779b97f4a7c15ull + (lanes[l] >> 29);
    }
    uint64_t h = (uint64_t)count;
    for (int l = 0; l < LANES; l++)
        h = mix(h ^ lanes[l]);
    for (; i < count; i++) {
        memcpy(words, values + i, sizeof *words);
        h = mix(h ^ words[0]);
    }
    return h;
}

uint64_t tensor_hash(const float *values, int64_t count)
{
    const int64_t blocks = (count + BLOCK - 1) / BLOCK;
    uint64_t sum = 0; /* wraps; every block's hash knows where the block stands */
#pragma omp parallel for schedule(static) reduction(+ : sum) if (blocks > 8)
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t first = b * BLOCK, left = count - first;
        sum += hash_block(values + first, left < BLOCK ? left : BLOCK, (uint64_t)b * LANES + 1);
    }
    return mix(sum ^ (uint64_t)count);
}
