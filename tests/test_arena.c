/* The shared tensors: guards, input hashes, rotation, poison. */
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/arena.h"
#include "harness/tensor_hash.h"
#include "ref/descriptor.h"

static struct arena make_arena(const char *descriptor)
{
    struct arena arena;
    struct problem problem;
    struct error error = {0};
    assert_int_equal(descriptor_parse(descriptor, &problem, &error), STATUS_OK);
    assert_int_equal(arena_create(&arena, &problem, &error), STATUS_OK);
    for (int64_t i = 0; i < problem_input_count(&problem); i++)
        arena.x[i] = (float)i;
    return arena;
}

static void test_guard_written_on_either_side_is_named(void **state)
{
    (void)state;
    struct arena arena = make_arena("mb1ic3ih5oc7kh3");
    struct error error = {0};
    float *const tensors[] = {arena.x, arena.weight, arena.conv_bias, arena.bias, arena.y};
    static const char *const names[] = {"'x'", "'weight'", "'conv_bias'", "'bias'", "'y'"};
    const struct problem *p = &arena.problem;
    const int64_t counts[] = {problem_input_count(p), problem_weight_count(p), p->out_channels,
                              p->bias_count, problem_output_count(p)};
    assert_int_equal(arena_check_guards(&arena, &error), STATUS_OK);
    for (int i = 0; i < 5; i++)
        for (int behind = 0; behind < 2; behind++) {
            unsigned char *at = behind ? (unsigned char *)(tensors[i] + counts[i])
                                       : (unsigned char *)tensors[i] - 1;
            *at ^= 1;
            assert_int_equal(arena_check_guards(&arena, &error), STATUS_FAILED);
            assert_non_null(strstr(error.message, names[i]));
            assert_non_null(strstr(error.message, behind ? "behind" : "before"));
            arena_fill_guards(&arena);
            assert_int_equal(arena_check_guards(&arena, &error), STATUS_OK);
        }
    arena_release(&arena);
}

static void test_input_hash_sees_one_bit_of_any_input(void **state)
{
    (void)state;
    struct arena arena = make_arena("mb2ic3ih40oc7kh3");
    struct error error = {0};
    const struct arena_inputs before = arena_hash_inputs(&arena);
    float *const tensors[] = {arena.x, arena.weight, arena.conv_bias, arena.bias};
    static const char *const names[] = {"'x'", "'weight'", "'conv_bias'", "'bias'"};
    for (int i = 0; i < 4; i++) {
        unsigned char *byte = (unsigned char *)tensors[i] + 3;
        *byte ^= 0x80;
        assert_int_equal(arena_check_inputs(&arena, &before, &error), STATUS_FAILED);
        assert_non_null(strstr(error.message, names[i]));
        *byte ^= 0x80;
    }
    assert_int_equal(arena_check_inputs(&arena, &before, &error), STATUS_OK);
    arena_release(&arena);
}

static void test_rotation_moves_every_element_and_is_undone(void **state)
{
    (void)state;
    static const int64_t steps[] = {1, 2, 7, 4095, 4096, 4097, 5999, 6000, 12001, 0, -3};
    struct arena arena = make_arena("mb2ic3ih100iw10oc1kh1"); /* 6000 elements */
    const int64_t n = problem_input_count(&arena.problem);
    assert_int_equal(n, 6000);
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
        arena_rotate_input(&arena, steps[k]);
        for (int64_t i = 0; i < n; i++)
            if (arena.x[i] != (float)(((i + steps[k]) % n + n) % n))
                fail_msg("by %lld: element %lld is %g", (long long)steps[k], (long long)i,
                         (double)arena.x[i]);
        arena_rotate_input(&arena, -steps[k]);
        for (int64_t i = 0; i < n; i++)
            assert_true(arena.x[i] == (float)i);
    }
    arena_release(&arena);
    arena = make_arena("mb1ic1ih1oc1kh1");
    arena_rotate_input(&arena, 1);
    assert_true(arena.x[0] == 0.0f);
    arena_release(&arena);
}

static void test_hash_depends_on_order_sign_and_length_only(void **state)
{
    (void)state;
    enum { N = 100003 };
    float *a = malloc(N * sizeof *a);
    for (int i = 0; i < N; i++)
        a[i] = (float)(i % 977);
    const uint64_t hash = tensor_hash(a, N);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    assert_true(tensor_hash(a, N) == hash);
    omp_set_num_threads(threads);
    assert_true(tensor_hash(a, N - 1) != hash);
    a[0] = -0.0f;
    assert_true(tensor_hash(a, N) != hash);
    a[0] = 0.0f;
    /* Two blocks exchanged. */
    for (int i = 0; i < 977; i++) {
        const float kept = a[i];
        a[i] = a[i + 16384];
        a[i + 16384] = kept;
    }
    assert_true(tensor_hash(a, N) != hash);
    assert_true(tensor_hash(NULL, 0) == tensor_hash(a, 0));
    free(a);
}

static void test_poison_is_counted(void **state)
{
    (void)state;
    struct arena arena = make_arena("mb1ic3ih5oc7kh3");
    const int64_t n = problem_output_count(&arena.problem);
    for (int which = 0; which < ARENA_POISONS; which++) {
        arena_poison_output(&arena, which);
        assert_int_equal(arena_count_poison(&arena, which), n);
        assert_int_equal(arena_count_poison(&arena, 1 - which), 0);
        arena.y[n - 1] = 0.5f;
        assert_int_equal(arena_count_poison(&arena, which), n - 1);
    }
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guard_written_on_either_side_is_named),
        cmocka_unit_test(test_input_hash_sees_one_bit_of_any_input),
        cmocka_unit_test(test_rotation_moves_every_element_and_is_undone),
        cmocka_unit_test(test_hash_depends_on_order_sign_and_length_only),
        cmocka_unit_test(test_poison_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
