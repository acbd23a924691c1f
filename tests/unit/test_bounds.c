#include "base/text.h"

#include "check.h"

TEST(bounds, a_list_of_rising_decimals)
{
    static const struct {
        const char *in;
        unsigned count;
        double first, last;
    } rows[] = {
        {"1", 1, 1, 1},
        {"0.0005,0.001", 2, 0.0005, 0.001},
        {"0.0005,0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10,60", 15, 0.0005, 60},
        {" 0.1 , 2 ", 2, 0.1, 2},
        {"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31", 31,
         1, 31},
        {"0.00000000000001,123456789012345", 2, 1e-14, 123456789012345},
        {"007", 1, 7, 7},
        /* none */
        {"", 0, 0, 0},
        {",", 0, 0, 0},
        {"1,", 0, 0, 0},
        {"1,,2", 0, 0, 0},
        {"2,1", 0, 0, 0},
        {"1,1", 0, 0, 0},
        {"1,1.0", 0, 0, 0},
        {"0", 0, 0, 0},
        {"-1", 0, 0, 0},
        {"+1", 0, 0, 0},
        {"1e3", 0, 0, 0},
        {"inf", 0, 0, 0},
        {"nan", 0, 0, 0},
        {"0x1", 0, 0, 0},
        {"1.", 0, 0, 0},
        {".5", 0, 0, 0},
        {"1.2.3", 0, 0, 0},
        {"1 2", 0, 0, 0},
        {"1234567890123456", 0, 0, 0},
        {"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32",
         0, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bounds bounds = {.count = 0};
        bool ok = bounds_parse(str_of(rows[i].in), &bounds);
        CHECK_ROW(rows[i].in, ok == (rows[i].count > 0));
        CHECK_INT_ROW(rows[i].in, bounds.count, rows[i].count);
        if (!ok || bounds.count == 0)
            continue;
        CHECK_ROW(rows[i].in, bounds.values[0] == rows[i].first);
        CHECK_ROW(rows[i].in, bounds.values[bounds.count - 1] == rows[i].last);
    }
}
