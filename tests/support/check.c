#include "check.h"

#include <CUnit/Basic.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
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

/* ---- running ---- */

#define SLOW_MS 500 /* tests that take longer are listed */

static struct check_test *current_test(void)
{
    const char *suite = CU_get_current_suite()->pName;
    const char *name = CU_get_current_test()->pName;
    struct check_test *test = first_test;
    while (test && (strcmp(test->suite, suite) != 0 || strcmp(test->name, name) != 0))
        test = test->next;
    return test;
}

static int64_t steady_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* CUnit's function of every test: runs the one that is due and keeps its time and its failures. */
static void run_current(void)
{
    struct check_test *test = current_test();
    unsigned failures = CU_get_number_of_failures();
    int64_t started_ms = steady_ms();
    test->run();
    test->milliseconds = steady_ms() - started_ms;
    test->failed = CU_get_number_of_failures() > failures;
}

static bool is_named(const char *suite, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], suite) == 0)
            return true;
    return argc == 1;
}

/* CHECK_SHARD=I/N runs every Nth test, from the Ith on: several processes share a run. */
static bool is_in_shard(unsigned index)
{
    const char *shard = getenv("CHECK_SHARD");
    unsigned number = 1;
    unsigned count = 1;
    if (shard && (sscanf(shard, "%u/%u", &number, &count) != 2 || number < 1 || number > count))
        abort();
    return index % count == number - 1;
}

static bool add_tests(int argc, char **argv)
{
    CU_pSuite suite = NULL;
    const char *suite_name = "";
    unsigned index = 0;
    for (struct check_test *test = first_test; test; test = test->next) {
        if (!is_named(test->suite, argc, argv) || !is_in_shard(index++))
            continue;
        if (strcmp(suite_name, test->suite) != 0)
            suite = CU_add_suite(test->suite, NULL, NULL);
        suite_name = test->suite;
        if (!CU_add_test(suite, test->name, run_current)) {
            fprintf(stderr, "cannot add test %s.%s\n", test->suite, test->name);
            return false;
        }
    }
    return true;
}

static void print_slow_tests(void)
{
    for (const struct check_test *test = first_test; test; test = test->next)
        if (test->milliseconds >= SLOW_MS)
            printf("slow: %.2f s %s.%s\n", (double)test->milliseconds / 1000, test->suite,
                   test->name);
}

static void print_failed_suites(const char *program)
{
    const char *last = "";
    printf("run again: make %s T=\"", strstr(program, "contract") ? "contract" : "unit");
    for (const struct check_test *test = first_test; test; test = test->next) {
        if (!test->failed || strcmp(last, test->suite) == 0)
            continue;
        printf("%s%s", *last ? " " : "", test->suite);
        last = test->suite;
    }
    printf("\"\n");
}

int main(int argc, char **argv)
{
    CU_initialize_registry();
    if (!add_tests(argc, argv))
        return 2;
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    unsigned failures = CU_get_number_of_failures();
    unsigned tests = CU_get_number_of_tests_run();
    CU_cleanup_registry();
    print_slow_tests();
    if (failures)
        print_failed_suites(argv[0]);
    if (tests == 0)
        fprintf(stderr, "no such suite; `grep -ho '^TEST([a-z0-9_]*' tests/*/*.c` lists them\n");
    return failures || tests == 0 ? 1 : 0;
}
