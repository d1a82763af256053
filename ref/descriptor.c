#include "ref/descriptor.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum key {
    KEY_MB,
    KEY_IC,
    KEY_IH,
    KEY_IW,
    KEY_OC,
    KEY_KH,
    KEY_KW,
    KEY_SH,
    KEY_SW,
    KEY_PH,
    KEY_PW,
    KEY_OPH,
    KEY_OPW,
    KEY_DH,
    KEY_DW,
    KEY_G,
    KEY_BS,
    KEY_CB,
    KEY_SF,
    KEY_COUNT
};

/* `follows`: the key whose value is taken when this one is missing; -1: `otherwise` is taken;
 * REQUIRED as `otherwise`: it must be there. In the order in which they are printed. */
#define REQUIRED INT64_MIN
static const struct {
    const char *name;
    int64_t otherwise;
    int follows;
} keys[KEY_COUNT] = {
    [KEY_MB] = {"mb", 1, -1},        [KEY_IC] = {"ic", REQUIRED, -1},
    [KEY_IH] = {"ih", REQUIRED, -1}, [KEY_IW] = {"iw", 0, KEY_IH},
    [KEY_OC] = {"oc", REQUIRED, -1}, [KEY_KH] = {"kh", REQUIRED, -1},
    [KEY_KW] = {"kw", 0, KEY_KH},    [KEY_SH] = {"sh", 1, -1},
    [KEY_SW] = {"sw", 0, KEY_SH},    [KEY_PH] = {"ph", 0, -1},
    [KEY_PW] = {"pw", 0, KEY_PH},    [KEY_OPH] = {"oph", 0, -1},
    [KEY_OPW] = {"opw", 0, KEY_OPH}, [KEY_DH] = {"dh", 1, -1},
    [KEY_DW] = {"dw", 0, KEY_DH},    [KEY_G] = {"g", 1, -1},
    [KEY_BS] = {"bs", 0, KEY_OC},    [KEY_CB] = {"cb", 1, -1},
    [KEY_SF] = {"sf", 2, -1},
};

static struct problem from_values(const int64_t v[KEY_COUNT], float scaling_factor)
{
    return (struct problem){.batch = v[KEY_MB],
                            .in_channels = v[KEY_IC],
                            .out_channels = v[KEY_OC],
                            .height = v[KEY_IH],
                            .width = v[KEY_IW],
                            .kernel_h = v[KEY_KH],
                            .kernel_w = v[KEY_KW],
                            .stride_h = v[KEY_SH],
                            .stride_w = v[KEY_SW],
                            .padding_h = v[KEY_PH],
                            .padding_w = v[KEY_PW],
                            .output_padding_h = v[KEY_OPH],
                            .output_padding_w = v[KEY_OPW],
                            .dilation_h = v[KEY_DH],
                            .dilation_w = v[KEY_DW],
                            .groups = v[KEY_G],
                            .bias_count = v[KEY_BS],
                            .has_conv_bias = v[KEY_CB] != 0,
                            .scaling_factor = scaling_factor};
}

static void to_values(const struct problem *p, int64_t v[KEY_COUNT])
{
    v[KEY_MB] = p->batch;
    v[KEY_IC] = p->in_channels;
    v[KEY_OC] = p->out_channels;
    v[KEY_IH] = p->height;
    v[KEY_IW] = p->width;
    v[KEY_KH] = p->kernel_h;
    v[KEY_KW] = p->kernel_w;
    v[KEY_SH] = p->stride_h;
    v[KEY_SW] = p->stride_w;
    v[KEY_PH] = p->padding_h;
    v[KEY_PW] = p->padding_w;
    v[KEY_OPH] = p->output_padding_h;
    v[KEY_OPW] = p->output_padding_w;
    v[KEY_DH] = p->dilation_h;
    v[KEY_DW] = p->dilation_w;
    v[KEY_G] = p->groups;
    v[KEY_BS] = p->bias_count;
    v[KEY_CB] = p->has_conv_bias;
    v[KEY_SF] = 0; /* printed apart */
}

static enum status parse_integer(const char *key, const char **text, int64_t *value,
                                 struct error *error)
{
    const char *p = *text;
    if (!isdigit((unsigned char)*p))
        return error_set(error, STATUS_BAD_INPUT,
                         "descriptor key '%s' needs a whole number, found '%.20s'", key, p);
    int64_t v = 0;
    for (; isdigit((unsigned char)*p); p++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
            return error_set(error, STATUS_BAD_INPUT,
                             "descriptor key '%s' has a number too large for 63 bits: '%.40s'", key,
                             *text);
    *text = p;
    *value = v;
    return STATUS_OK;
}

/* Infinity or 0 would be tried in the place of the number that was asked for. */
static enum status check_range(const char *key, const char *number, float value,
                               struct error *error)
{
    const bool overflow = isinf(value) && !strstr(number, "inf");
    const bool underflow = value == 0.0f && strcspn(number, "123456789") < strcspn(number, "e");
    if (!overflow && !underflow)
        return STATUS_OK;
    return error_set(error, STATUS_BAD_INPUT, "descriptor key '%s' is '%s': it %s float32", key,
                     number, overflow ? "overflows" : "underflows");
}

/* Decimal, with sign, fraction and exponent, or [-]inf, or nan. The digits are cut out first, so
 * that strtof sees neither hexadecimal numbers nor the letters of the next key. */
static enum status parse_real(const char *key, const char **text, float *value, struct error *error)
{
    const char *p = *text;
    char number[64];
    size_t n = 0;
    if (*p == '-' || *p == '+')
        number[n++] = *p++;
    if (strncmp(p, "inf", 3) == 0 || strncmp(p, "nan", 3) == 0) {
        memcpy(number + n, p, 3);
        n += 3;
        p += 3;
    } else {
        int digits = 0;
        while (n < 50 && (isdigit((unsigned char)*p) || *p == '.')) {
            digits += *p != '.';
            number[n++] = *p++;
        }
        const bool exponent =
            *p == 'e' && (isdigit((unsigned char)p[1]) ||
                          ((p[1] == '-' || p[1] == '+') && isdigit((unsigned char)p[2])));
        if (exponent)
            do
                number[n++] = *p++;
            while (n < 60 &&
                   (isdigit((unsigned char)*p) || ((*p == '-' || *p == '+') && p[-1] == 'e')));
        if (digits == 0)
            n = 0;
    }
    number[n] = 0;
    char *end = number;
    const float v = strtof(number, &end);
    if (n == 0 || *end != 0)
        return error_set(error, STATUS_BAD_INPUT,
                         "descriptor key '%s' needs a number, found '%.20s'", key, *text);
    *text = p;
    *value = isnan(v) ? NAN : v; /* one NaN, so that what is printed comes back the same */
    return check_range(key, number, v, error);
}

/* `home` or `home@mbN`; sets *matched when the word begins as either does. */
static enum status parse_home(const char *text, struct problem *problem, bool *matched,
                              struct error *error)
{
    *matched = strncmp(text, "home", 4) == 0 && (text[4] == 0 || text[4] == '@');
    if (!*matched)
        return STATUS_OK;
    *problem = problem_home();
    if (text[4] == 0)
        return STATUS_OK;
    const char *rest = text + 5;
    if (strncmp(rest, "mb", 2) != 0)
        return error_set(error, STATUS_BAD_INPUT, "'%.60s': only 'home@mbN' is known after 'home@'",
                         text);
    rest += 2;
    const enum status status = parse_integer("mb", &rest, &problem->batch, error);
    if (status != STATUS_OK)
        return status;
    if (*rest != 0)
        return error_set(error, STATUS_BAD_INPUT, "'%.60s': junk '%.20s' after the batch", text,
                         rest);
    return problem_validate(problem, error);
}

enum status descriptor_parse(const char *text, struct problem *problem, struct error *error)
{
    bool home;
    enum status status = parse_home(text, problem, &home, error);
    if (home)
        return status;
    if (*text == 0)
        return error_set(error, STATUS_BAD_INPUT, "the descriptor is empty: try 'home@mb1'");

    int64_t values[KEY_COUNT];
    bool seen[KEY_COUNT] = {false};
    float scaling_factor = 2.0f;
    for (const char *p = text; *p;) {
        size_t length = 0;
        while (p[length] >= 'a' && p[length] <= 'z')
            length++;
        /* A value may begin with letters (sfinf), so the key is the longest name that fits. */
        int key = -1;
        size_t key_length = 0;
        for (int k = 0; k < KEY_COUNT; k++) {
            const size_t n = strlen(keys[k].name);
            if (n <= length && n > key_length && strncmp(p, keys[k].name, n) == 0 &&
                (n == length || k == KEY_SF)) {
                key = k;
                key_length = n;
            }
        }
        if (key < 0)
            return error_set(error, STATUS_BAD_INPUT,
                             "unknown piece '%.20s' in descriptor '%.80s': try "
                             "'mb1ic64ih64oc128kh4sh2ph1oph1'",
                             p, text);
        if (seen[key])
            return error_set(error, STATUS_BAD_INPUT, "key '%s' stands twice in descriptor '%.80s'",
                             keys[key].name, text);
        seen[key] = true;
        p += key_length;
        status = key == KEY_SF ? parse_real("sf", &p, &scaling_factor, error)
                               : parse_integer(keys[key].name, &p, &values[key], error);
        if (status != STATUS_OK)
            return status;
    }
    for (int k = 0; k < KEY_COUNT; k++) {
        if (seen[k])
            continue;
        if (keys[k].otherwise == REQUIRED)
            return error_set(error, STATUS_BAD_INPUT, "descriptor '%.80s' lacks key '%s'", text,
                             keys[k].name);
        values[k] = keys[k].follows >= 0 ? values[keys[k].follows] : keys[k].otherwise;
    }
    if (values[KEY_CB] > 1)
        return error_set(error, STATUS_BAD_INPUT, "descriptor key 'cb' is '%lld': 0 or 1",
                         (long long)values[KEY_CB]);
    *problem = from_values(values, scaling_factor);
    status = problem_validate(problem, error);
    return status == STATUS_OK ? status : error_prefix(error, "descriptor '%.80s'", text);
}

int descriptor_print(const struct problem *problem, char *buffer, size_t size)
{
    int64_t values[KEY_COUNT];
    to_values(problem, values);
    int n = 0;
    if (size > 0)
        buffer[0] = 0;
    for (int k = 0; k < KEY_COUNT; k++) {
        const size_t used = (size_t)n < size ? (size_t)n : size;
        if (k == KEY_SF) {
            const float scale = problem->scaling_factor;
            if (scale == 2.0f)
                continue;
            if (isnan(scale)) {
                n += snprintf(buffer + used, size - used, "sfnan");
                continue;
            }
            /* The fewest digits that come back as the same float. */
            char number[32];
            for (int digits = 1; digits <= 9; digits++) {
                snprintf(number, sizeof number, "%.*g", digits, (double)scale);
                if (strtof(number, NULL) == scale)
                    break;
            }
            n += snprintf(buffer + used, size - used, "sf%s", number);
            continue;
        }
        const bool otherwise =
            keys[k].follows >= 0 ? values[k] == values[keys[k].follows]
                                 : keys[k].otherwise != REQUIRED && values[k] == keys[k].otherwise;
        /* The batch always shows: a problem without it reads as one image by accident. */
        if (!otherwise || k == KEY_MB)
            n += snprintf(buffer + used, size - used, "%s%lld", keys[k].name, (long long)values[k]);
    }
    return n;
}
