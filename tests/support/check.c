#include "check.h"

#include <CUnit/Basic.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TEMP_DIRS_MAX 1024

static struct check_test *first_test;
static char temp_dirs[TEMP_DIRS_MAX][64];
static int temp_dir_count;

void check_register(struct check_test *test)
{
    struct check_test **at = &first_test;
    while (*at && strcmp((*at)->suite, test->suite) <= 0)
        at = &(*at)->next;
    test->next = *at;
    *at = test;
}

static void report(bool passed, const char *text, const char *label, const char *file, int line)
{
    char message[1024];
    snprintf(message, sizeof message, "%s%s%s", label ? label : "", label ? ": " : "", text);
    CU_assertImplementation(passed, (unsigned)line, message, file, "", CU_FALSE);
}

void check_true(bool value, const char *expression, const char *label, const char *file, int line)
{
    report(value, expression, label, file, line);
}

void check_int(int64_t got, int64_t want, const char *label, const char *file, int line)
{
    char text[128];
    snprintf(text, sizeof text, "got %" PRId64 ", want %" PRId64, got, want);
    report(got == want, text, label, file, line);
}

void check_str(struct str got, struct str want, const char *label, const char *file, int line)
{
    char text[800];
    snprintf(text, sizeof text, "got \"%.*s\" (%zu), want \"%.*s\" (%zu)", (int)got.len,
             got.data ? got.data : "", got.len, (int)want.len, want.data ? want.data : "",
             want.len);
    report(got.len == want.len && (got.len == 0 || memcmp(got.data, want.data, got.len) == 0), text,
           label, file, line);
}

void check_err(enum err_code got, enum err_code want, const struct err *err, const char *label,
               const char *file, int line)
{
    char text[512];
    snprintf(text, sizeof text, "got code %d (%s: %s), want code %d", (int)got,
             got != ERR_OK && err->operation ? err->operation : "",
             got != ERR_OK ? err->message : "", (int)want);
    report(got == want, text, label, file, line);
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *at)
{
    (void)stat;
    (void)type;
    (void)at;
    return remove(path);
}

static void remove_temp_dirs(void)
{
    for (int i = 0; i < temp_dir_count; i++)
        nftw(temp_dirs[i], remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

unsigned check_seed(void)
{
    const char *given = getenv("COFFER_TEST_SEED");
    return given ? (unsigned)strtoul(given, NULL, 10) : 1;
}

const char *check_temp_dir(void)
{
    if (temp_dir_count == TEMP_DIRS_MAX)
        abort();
    char *path = temp_dirs[temp_dir_count];
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof temp_dirs[0], "%s/coffer-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(path))
        abort();
    if (temp_dir_count++ == 0)
        atexit(remove_temp_dirs);
    return path;
}

static bool is_wanted(const char *suite, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], suite) == 0)
            return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    CU_initialize_registry();
    CU_pSuite suite = NULL;
    const char *suite_name = "";
    for (struct check_test *test = first_test; test; test = test->next) {
        if (!is_wanted(test->suite, argc, argv))
            continue;
        if (strcmp(suite_name, test->suite) != 0)
            suite = CU_add_suite(test->suite, NULL, NULL);
        suite_name = test->suite;
        if (!CU_add_test(suite, test->name, test->run)) {
            fprintf(stderr, "cannot add test %s.%s\n", test->suite, test->name);
            return 2;
        }
    }
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    unsigned failures = CU_get_number_of_failures();
    unsigned tests = CU_get_number_of_tests_run();
    CU_cleanup_registry();
    if (tests == 0)
        fprintf(stderr, "no test was run\n");
    return failures || tests == 0 ? 1 : 0;
}
