/*
 * Tests in C over CUnit. A test registers itself:
 *
 *     TEST(str, cut_takes_what_stands_before_the_byte) { ...; CHECK_INT(a, b); }
 *
 * The first name is the suite (the unit under test), the second says what must hold. Files that are
 * linked in are run; `run [SUITE...]` runs only those suites. CHECK_* continue after a failure,
 * REQUIRE ends the test.
 */
#ifndef COFFER_TESTS_CHECK_H
#define COFFER_TESTS_CHECK_H

#include <CUnit/CUnit.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"
#include "base/str.h"

struct check_test {
    const char *suite;
    const char *name;
    void (*run)(void);
    struct check_test *next;
    int64_t milliseconds; /* it took */
    bool failed;
};

void check_register(struct check_test *test);

#define TEST(suite_name, test_name)                                                                \
    static void test_##suite_name##_##test_name(void);                                             \
    __attribute__((constructor)) static void register_##suite_name##_##test_name(void)             \
    {                                                                                              \
        static struct check_test test = {#suite_name, #test_name, test_##suite_name##_##test_name, \
                                         NULL,        0,          false};                          \
        check_register(&test);                                                                     \
    }                                                                                              \
    static void test_##suite_name##_##test_name(void)

/* Where random tests begin: COFFER_TEST_SEED, or always the same. */
unsigned check_seed(void);

/* Failures print the values and, when `label` is not NULL, which row of a table it was. */
void check_true(bool value, const char *expression, const char *label, const char *file, int line);
void check_int(int64_t got, int64_t want, const char *label, const char *file, int line);
void check_str(struct str got, struct str want, const char *label, const char *file, int line);
void check_err(enum err_code got, enum err_code want, const struct err *err, const char *label,
               const char *file, int line);

#define CHECK(value) check_true((value), #value, NULL, __FILE__, __LINE__)
#define CHECK_ROW(label, value) check_true((value), #value, (label), __FILE__, __LINE__)
#define CHECK_INT(got, want) check_int((got), (want), NULL, __FILE__, __LINE__)
#define CHECK_INT_ROW(label, got, want) check_int((got), (want), (label), __FILE__, __LINE__)
#define CHECK_STR(got, want) check_str((got), str_of(want), NULL, __FILE__, __LINE__)
#define CHECK_STR_ROW(label, got, want) check_str((got), str_of(want), (label), __FILE__, __LINE__)
#define CHECK_TEXT(got, want) check_str(str_of(got), str_of(want), NULL, __FILE__, __LINE__)
/* got: enum err_code; err: the struct err it filled, shown on failure. */
#define CHECK_ERR(got, want, err) check_err((got), (want), (err), NULL, __FILE__, __LINE__)
#define CHECK_ERR_ROW(label, got, want, err) \
    check_err((got), (want), (err), (label), __FILE__, __LINE__)
#define REQUIRE(value)                                           \
    do {                                                         \
        bool required_ = (value);                                \
        check_true(required_, #value, NULL, __FILE__, __LINE__); \
        if (!required_)                                          \
            return;                                              \
    } while (0)

/* A new folder under $TMPDIR or /tmp, removed with all it holds when the program ends. */
const char *check_temp_dir(void);

#endif
