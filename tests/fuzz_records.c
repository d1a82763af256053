/* libFuzzer target: any bytes as a line of a record file. What the quick reader takes for a record,
 * jansson parses, to the same values. */
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/record_read.h"

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void same_text(const json_t *object, const char *key, const char *text)
{
    const json_t *value = json_object_get(object, key);
    must(json_is_string(value) ? text && strcmp(json_string_value(value), text) == 0 : !text,
         "a text differs");
}

static void same_number(const json_t *object, const char *key, double number)
{
    const json_t *value = json_object_get(object, key);
    must(json_is_number(value) ? json_number_value(value) == number : isnan(number),
         "a number differs");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char good[] = "{\"schema\":1,\"commit\":\"c\",\"machine\":\"m\",\"problem\":\"p\","
                               "\"implementation\":\"i\",\"verdict\":\"pass\",";
    struct record_set set = {0};
    struct error error = {0};
    /* The first byte says whether the rest follows the beginning of a good record. */
    const size_t lead = size > 0 && data[0] % 2 ? strlen(good) : 0, skip = size > 0;
    const size_t n = lead + size - skip;
    char *line = malloc(n + 1);
    must(line != NULL, "out of memory");
    memcpy(line, good, lead);
    memcpy(line + lead, data + skip, size - skip);
    const enum status status = record_set_add_line(&set, line, n, "f", 1, &error);
    if (status != STATUS_OK) {
        must(status == STATUS_BAD_INPUT && error.message[0], "no reason");
        must(set.count == 0 && set.sample_count == 0, "something was left behind");
    }
    json_t *object = status == STATUS_OK ? json_loadb(line, n, 0, NULL) : NULL;
    must(status != STATUS_OK || object, "taken, but no JSON");
    if (set.count == 1 && !json_object_get(object, "outcome")) {
        const struct record *r = &set.records[0];
        same_text(object, "implementation", r->implementation);
        same_text(object, "note", r->note);
        same_text(object, "case", r->case_name);
        same_number(object, "gflops", r->gflops);
        same_number(object, "median_s", r->median_s);
        const json_t *samples = json_object_get(object, "samples_s");
        must((int64_t)json_array_size(samples) == r->sample_count, "the samples differ");
        for (int64_t i = 0; i < r->sample_count; i++)
            must(json_number_value(json_array_get(samples, (size_t)i)) == set.samples[i],
                 "a sample differs");
    }
    json_decref(object);
    record_set_release(&set);
    free(line);
    return 0;
}
