#include "ref/arithmetic_class.h"

#include <string.h>

static const struct arithmetic_class_info classes[CLASS_COUNT] = {
#define X(id, name, worst, bias, random, quantum, accumulation, products, summary)                 \
    [id] = {name, worst, bias, random, quantum, accumulation, products, summary},
    ARITHMETIC_CLASS_LIST(X)
#undef X
};

const struct arithmetic_class_info *arithmetic_class_get(enum arithmetic_class cls)
{
    return &classes[cls];
}

enum status arithmetic_class_parse(const char *name, enum arithmetic_class *cls,
                                   struct error *error)
{
    char known[128] = "";
    for (int i = 0; i < CLASS_COUNT; i++) {
        if (strcmp(name, classes[i].name) == 0) {
            *cls = (enum arithmetic_class)i;
            return STATUS_OK;
        }
        strcat(strcat(known, i ? ", " : ""), classes[i].name);
    }
    return error_set(error, STATUS_BAD_INPUT, "unknown arithmetic class '%.40s': known are %s",
                     name, known);
}
