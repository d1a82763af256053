/* assay replay: run a failure capsule again. */
#include <stdio.h>
#include <string.h>

#include "harness/capsule.h"
#include "harness/command.h"
#include "harness/options.h"
#include "harness/record.h"
#include "harness/run_list.h"

static const char *text_of(const json_t *record, const char *key)
{
    const char *text = json_string_value(json_object_get(record, key));
    return text ? text : "";
}

/* The options that the failure was found with, of those that a verdict may hang on: at most as many
 * words as there are in two for each. Cuts `text`. */
static int add_options(char **words, char *text)
{
    static const char *const known[] = {"--threads", "--repeat", "--memory", "--timeout"};
    int count = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char *word = strstr(text, known[i]);
        if (word && word[strlen(known[i])] == ' ') {
            words[count++] = word;
            words[count++] = word + strlen(known[i]) + 1;
        }
    }
    for (char *p = text; *p; p++)
        if (*p == ' ')
            *p = 0;
    return count;
}

/* What the capsule says of its failure. */
static void print_before(const json_t *record)
{
    printf("then: %s, %s on %s, commit %s, %s\n    %s\n", text_of(record, "verdict"),
           text_of(record, "implementation"), text_of(record, "case"), text_of(record, "commit"),
           text_of(record, "machine"), text_of(record, "reason"));
    if (text_of(record, "looks_like")[0])
        printf("    looks like: %s\n", text_of(record, "looks_like"));
    printf("now:\n");
    fflush(stdout);
}

int cmd_replay(int argc, char **argv)
{
    const char *implementation = NULL;
    bool json = false;
    const struct option options[] = {
        {"impl", OPTION_STRING, &implementation, "NAME",
         "another implementation than the one that failed", 0, 0},
        {"json", OPTION_FLAG, &json, NULL, "one JSON object, of the new run", 0, 0},
    };
    const struct option_set set = {
        "replay", "[options] FILE",
        "Runs a failure capsule (verify --capsule) again: the same implementation on the same\n"
        "data under the same rule, with the same --threads, --repeat, --memory and --timeout,\n"
        "beside what the capsule says of its failure.\n"
        "Exit status: 0 it passes now, 1 it fails, 2 bad request or input, 3 the environment "
        "failed.",
        options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    char text[CAPSULE_RECORD_SIZE];
    enum status status = options_parse(&set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    if (status == STATUS_OK && words != 1)
        status =
            error_set(&error, STATUS_BAD_INPUT, "replay takes one capsule: %d are given", words);
    struct case_file *file = NULL;
    if (status == STATUS_OK)
        status = case_file_open(&file, argv[0], &error);
    if (status == STATUS_OK)
        status = case_file_read_record(file, text, sizeof text, &error);
    case_file_free(file);
    if (status != STATUS_OK)
        return command_error(&error);
    json_t *record = json_loads(text, 0, NULL);
    if (!record || !text_of(record, "implementation")[0]) {
        error_set(&error, STATUS_BAD_INPUT, "'%.300s': attribute 'record' %s", argv[0],
                  record ? "names no implementation" : "is no JSON");
        json_decref(record);
        return command_error(&error);
    }
    const char *name = implementation ? implementation : text_of(record, "implementation");
    const bool foreign = strncmp(name, "plugin:", 7) == 0 || strncmp(name, "exec:", 5) == 0;
    char *again[18], changed[RUN_CHANGED_SIZE];
    int count = 0;
    again[count++] = (char *)"--impl";
    again[count++] = (char *)(uintptr_t)name;
    if (text_of(record, "tolerance")[0]) {
        again[count++] = (char *)"--tolerance";
        again[count++] = (char *)(uintptr_t)text_of(record, "tolerance");
    }
    if (foreign && text_of(record, "class")[0]) {
        again[count++] = (char *)"--class";
        again[count++] = (char *)(uintptr_t)text_of(record, "class");
    }
    snprintf(changed, sizeof changed, "%s", text_of(record, "options"));
    count += add_options(again + count, changed);
    if (json)
        again[count++] = (char *)"--json";
    else
        print_before(record);
    again[count++] = argv[0];
    const int result = cmd_verify(count, again);
    json_decref(record);
    return result;
}
