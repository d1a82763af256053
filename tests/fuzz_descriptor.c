/* libFuzzer target: any text as a descriptor. What parses is valid, prints, and what was printed
 * parses to the same problem and prints the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref/descriptor.h"

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), printed[DESCRIPTOR_SIZE], again[DESCRIPTOR_SIZE];
    must(text != NULL, "out of memory");
    memcpy(text, data, size);
    text[size] = '\0';

    struct problem problem, reparsed;
    struct error error = {0};
    const enum status status = descriptor_parse(text, &problem, &error);
    if (status != STATUS_OK) {
        must(status == STATUS_BAD_INPUT && error.status == status, "unexpected status");
        must(error.message[0] && !strchr(error.message, '\n'), "the message is not one line");
    } else {
        must(problem_validate(&problem, &error) == STATUS_OK, "the problem is not valid");
        const int length = descriptor_print(&problem, printed, sizeof printed);
        must(length > 0 && (size_t)length == strlen(printed), "the length is wrong");
        must(descriptor_parse(printed, &reparsed, &error) == STATUS_OK, "the print does not parse");
        must(problem_equal(&problem, &reparsed), "the print is another problem");
        must(descriptor_print(&reparsed, again, sizeof again) == length &&
                 strcmp(printed, again) == 0,
             "the print is not stable");
    }
    free(text);
    return 0;
}
