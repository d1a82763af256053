#include "harness/text_pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_SIZE 65536

struct text_slot {
    uint64_t hash;
    const char *text; /* NULL: empty */
    size_t length;
};

struct text_block {
    struct text_block *next;
    size_t used, size;
    char bytes[];
};

uint64_t text_hash(const char *text, size_t n)
{
    uint64_t hash = 0x9e3779b97f4a7c15u ^ n;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, text + i, 8);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    uint64_t word = 0;
    memcpy(&word, text + i, n - i);
    hash = (hash ^ word) * 0xff51afd7ed558ccdu;
    return hash ^ hash >> 32;
}

static bool grow(struct text_pool *p)
{
    const size_t count = p->slot_count ? 2 * p->slot_count : 1024;
    struct text_slot *slots = calloc(count, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < p->slot_count; i++) {
        size_t k = p->slots[i].hash & (count - 1);
        if (!p->slots[i].text)
            continue;
        while (slots[k].text)
            k = (k + 1) & (count - 1);
        slots[k] = p->slots[i];
    }
    free(p->slots);
    p->slots = slots;
    p->slot_count = count;
    return true;
}

static char *store(struct text_pool *p, const char *text, size_t n)
{
    struct text_block *b = p->blocks;
    if (!b || b->size - b->used < n + 1) {
        const size_t size = n + 1 > BLOCK_SIZE ? n + 1 : BLOCK_SIZE;
        b = malloc(sizeof *b + size);
        if (!b)
            return NULL;
        *b = (struct text_block){.next = p->blocks, .size = size};
        p->blocks = b;
    }
    char *copy = b->bytes + b->used;
    memcpy(copy, text, n);
    copy[n] = 0;
    b->used += n + 1;
    return copy;
}

const char *text_pool_add(struct text_pool *p, const char *text, size_t n)
{
    if (2 * (p->used + 1) > p->slot_count && !grow(p))
        return NULL;
    const uint64_t hash = text_hash(text, n);
    size_t k = hash & (p->slot_count - 1);
    for (; p->slots[k].text; k = (k + 1) & (p->slot_count - 1))
        if (p->slots[k].hash == hash && p->slots[k].length == n &&
            memcmp(p->slots[k].text, text, n) == 0)
            return p->slots[k].text;
    char *copy = store(p, text, n);
    if (!copy)
        return NULL;
    p->slots[k] = (struct text_slot){hash, copy, n};
    p->used++;
    return copy;
}

void text_pool_release(struct text_pool *p)
{
    while (p->blocks) {
        struct text_block *next = p->blocks->next;
        free(p->blocks);
        p->blocks = next;
    }
    free(p->slots);
    *p = (struct text_pool){0};
}
