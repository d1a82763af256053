/* What the attacks share: an honest run(), which each of them spoils in its own way.
 *
 * An attack is one file that includes this, defines `static int attack(struct assay_call *call)`
 * (and ATTACK_CLASS where it claims another class than fp32, ATTACK_RELEASE, the name of its
 * release(), where it has one), and says in its first line
 *
 *     EXPECT verdict: words that the reason must hold
 *
 * which tests/test_attacks.sh reads. */
#ifndef ASSAY_TESTS_ATTACK_H
#define ASSAY_TESTS_ATTACK_H

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The honest one; its entry point (not the struct of that name) is renamed. */
#define assay_plugin(arguments) honest_plugin(arguments)
#include "../examples/plugin_host.c"
#undef assay_plugin

static int attack(struct assay_call *call);

#ifndef ATTACK_CLASS
#define ATTACK_CLASS "fp32"
#endif

#ifdef ATTACK_RELEASE
static void ATTACK_RELEASE(struct assay_call *call);
#else
#define ATTACK_RELEASE NULL
#endif

static inline size_t y_count(const struct assay_call *call)
{
    const struct assay_plugin_problem *p = call->problem;
    return (size_t)(p->batch * p->out_channels * p->output_h * p->output_w);
}

static inline size_t x_count(const struct assay_call *call)
{
    const struct assay_plugin_problem *p = call->problem;
    return (size_t)(p->batch * p->in_channels * p->height * p->width);
}

/* Which run of this process this is, from 1. */
static inline int run_number(void)
{
    static int runs;
    return ++runs;
}

const struct assay_plugin *assay_plugin(void)
{
    static const struct assay_plugin plugin = {.abi = ASSAY_PLUGIN_ABI,
                                               .name = "an attack",
                                               .arithmetic_class = ATTACK_CLASS,
                                               .workspace = workspace,
                                               .run = attack,
                                               .release = ATTACK_RELEASE};
    return &plugin;
}

#endif
