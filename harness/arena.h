/* The memory that the program shares with the process of an implementation under test: the tensors
 * of one case, each between guard bands, and a block for results.
 *
 *     | results | x | W | conv_bias | bias | y |            guards before and behind each tensor
 *
 * Every tensor begins on a page; its trailing guard begins at its last byte. The layout is a
 * function of the problem alone, so both processes find the same places in the same memory file. */
#ifndef ASSAY_HARNESS_ARENA_H
#define ASSAY_HARNESS_ARENA_H

#include "harness/measurement.h"
#include "ref/problem.h"

struct arena {
    int fd; /* memory file, -1: none */
    size_t size;
    char *base;
    struct problem problem;
    struct measurement *measurement; /* the results block */
    float *x, *weight, *conv_bias, *bias, *y;
};

/* Creates the memory file for a problem and fills the guards. STATUS_ENVIRONMENT when the machine's
 * available memory is less than it needs, before any of it is taken. */
enum status arena_create(struct arena *arena, const struct problem *problem, struct error *error);

/* Maps a memory file that another process made for the same problem. */
enum status arena_map(struct arena *arena, int fd, const struct problem *problem,
                      struct error *error);

/* Unmaps and closes. A zeroed struct is legal. */
void arena_release(struct arena *arena);

struct params arena_params(const struct arena *arena);

/* y = one bit pattern, a NaN that no arithmetic makes: an element that still holds it was not
 * written. `which` selects one of two patterns. */
#define ARENA_POISONS 2
extern const uint32_t arena_poison[ARENA_POISONS];
void arena_poison_output(struct arena *arena, int which);

/* Elements of y that still hold the pattern. */
int64_t arena_count_poison(const struct arena *arena, int which);

/* Whether any of some thousand elements all over y still holds it. */
bool arena_has_poison(const struct arena *arena, int which);

/* STATUS_OK, or STATUS_FAILED naming the tensor and the side whose guard was written. */
enum status arena_check_guards(const struct arena *arena, struct error *error);
void arena_fill_guards(struct arena *arena);

/* Hashes of the tensors that an implementation may only read. */
#define ARENA_INPUTS 4
struct arena_inputs {
    uint64_t hashes[ARENA_INPUTS]; /* x, weight, conv_bias, bias */
};
struct arena_inputs arena_hash_inputs(const struct arena *arena);

/* STATUS_OK, or STATUS_FAILED naming the tensor that is no longer what it was. */
enum status arena_check_inputs(const struct arena *arena, const struct arena_inputs *before,
                               struct error *error);

/* x[i] = x[(i + steps) mod n] over the whole tensor: other data of the same kind, and every element
 * in another place. A negative number undoes it. */
void arena_rotate_input(struct arena *arena, int64_t steps);

/* MemAvailable of this machine in bytes, or SIZE_MAX where it cannot be read. */
size_t memory_available(void);

#endif
