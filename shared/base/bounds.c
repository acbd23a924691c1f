#include "base/bounds.h"

#define DIGITS_MAX 15 /* so many are exact in a double, and so is their power of ten */

/* "10", "0.25". Not by strtod, which takes more and follows the locale. */
static bool parse_number(struct str text, double *ret_value)
{
    double digits = 0;
    double scale = 1;
    unsigned digit_count = 0;
    bool after_point = false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '.' && !after_point && i > 0 && i + 1 < text.len) {
            after_point = true;
            continue;
        }
        if (text.data[i] < '0' || text.data[i] > '9' || ++digit_count > DIGITS_MAX)
            return false;
        digits = digits * 10 + (text.data[i] - '0');
        scale *= after_point ? 10 : 1;
    }
    *ret_value = digits / scale;
    return digit_count > 0;
}

bool bounds_parse(struct str list, struct bounds *ret_bounds)
{
    struct bounds bounds = {.count = 0};
    bool is_last;
    double before = 0;
    do {
        is_last = str_find(list, ',') == list.len;
        double value;
        if (bounds.count == BOUNDS_MAX || !parse_number(str_trim(str_cut(&list, ',')), &value) ||
            value <= before)
            return false;
        before = bounds.values[bounds.count++] = value;
    } while (!is_last);
    *ret_bounds = bounds;
    return true;
}
