/* The libs3 driver where no store is needed: settings, the library, statuses, times. */
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

#include "check.h"
#include "storage/libs3/storage_libs3.h"
#include "storage/storage_drivers.h"

#define SIXTY_FIVE "01234567890123456789012345678901234567890123456789012345678901234"

static void good_config(struct config *config)
{
    memset(config, 0, sizeof *config);
    snprintf(config->storage_driver, sizeof config->storage_driver, "libs3");
    snprintf(config->s3_endpoint, sizeof config->s3_endpoint, "http://127.0.0.1:9");
    snprintf(config->s3_bucket, sizeof config->s3_bucket, "uploads");
    snprintf(config->s3_region, sizeof config->s3_region, "us-east-1");
    snprintf(config->s3_access_key, sizeof config->s3_access_key, "key");
    snprintf(config->s3_secret_key, sizeof config->s3_secret_key, "secret");
    snprintf(config->runtime_dir, sizeof config->runtime_dir, "%s", check_temp_dir());
    config->max_file_size = 1000000;
    config->s3_attempts = 1;
    config->s3_connect_timeout_ms = 1000;
    config->s3_stall_seconds = 1;
    config->s3_deadline_seconds = 1;
}

static enum err_code open_with(const struct config *config, struct err *err)
{
    struct storage *storage = NULL;
    enum err_code code =
        storage_open_driver(&storage, &storage_libs3_driver, config, &clock_system, err);
    storage_close(storage);
    return code;
}

TEST(storage_libs3, what_the_library_would_ignore_is_refused)
{
    static const struct {
        const char *label;
        size_t offset;
        const char *value;
        enum err_code want;
    } rows[] = {
        {"as it should be", offsetof(struct config, s3_region), "us-east-1", ERR_OK},
        {"https", offsetof(struct config, s3_endpoint), "https://127.0.0.1", ERR_CONFIG},
        {"no scheme", offsetof(struct config, s3_endpoint), "127.0.0.1", ERR_CONFIG},
        {"authorities", offsetof(struct config, s3_ca_file), "/ca.pem", ERR_CONFIG},
        {"session token", offsetof(struct config, s3_session_token), "token", ERR_CONFIG},
        {"64 bytes of secret", offsetof(struct config, s3_secret_key), &SIXTY_FIVE[1], ERR_OK},
        {"65 bytes of secret", offsetof(struct config, s3_secret_key), SIXTY_FIVE, ERR_CONFIG},
        {"79 bytes of key", offsetof(struct config, s3_access_key), "12345678901234" SIXTY_FIVE,
         ERR_OK},
        {"80 bytes of key", offsetof(struct config, s3_access_key), "123456789012345" SIXTY_FIVE,
         ERR_CONFIG},
        {"a bucket like an address", offsetof(struct config, s3_bucket), "127.0.0.1", ERR_CONFIG},
        {"a long host", offsetof(struct config, s3_endpoint),
         "http://" SIXTY_FIVE SIXTY_FIVE SIXTY_FIVE SIXTY_FIVE, ERR_CONFIG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err = {.code = ERR_OK};
        good_config(&config);
        memcpy((char *)&config + rows[i].offset, rows[i].value, strlen(rows[i].value) + 1);
        CHECK_ERR_ROW(rows[i].label, open_with(&config, &err), rows[i].want, &err);
        CHECK_ROW(rows[i].label, rows[i].want == ERR_OK || !err.internal);
    }
}

TEST(storage_libs3, a_missing_library_names_its_package)
{
    struct libs3_library library;
    struct err err;
    CHECK_ERR(libs3_library_load("libs3.so.0", &library, &err), ERR_CONFIG, &err);
    CHECK(strstr(err.message, "libs3-2") && !err.internal);
    CHECK_ERR(libs3_library_load("libm.so.6", &library, &err), ERR_CONFIG, &err);
    CHECK(strstr(err.message, "S3_initialize"));
}

/* Else the first answers that threads read at once would initialise it at once. Tells nothing when a
 * test before has read XML. */
TEST(storage_libs3, an_open_library_has_its_xml_parser_ready)
{
    const struct libs3_library *library = NULL;
    struct err err;
    int (*forget_one_reader)(void) = NULL; /* of files, which libs3 reads none of */
    CHECK_ERR(libs3_library_open(&library, &err), ERR_OK, &err);
    void *handle = dlopen(LIBS3_FILE, RTLD_NOW | RTLD_NOLOAD);
    REQUIRE(handle);
    *(void **)&forget_one_reader = dlsym(handle, "xmlPopInputCallbacks");
    REQUIRE(forget_one_reader);
    CHECK(forget_one_reader() >= 0); /* -1: there is none yet */
    dlclose(handle);
}

TEST(storage_libs3, claims_nothing_it_can_not_do)
{
    CHECK_INT(storage_libs3_driver.capabilities,
              STORAGE_WAITS | STORAGE_HAS_TAGS | STORAGE_MAY_LAG);
    CHECK(!storage_libs3_driver.presigning && !storage_libs3_driver.downloads->sendfile_path);
}

TEST(storage_libs3, a_status_says_whose_fault_it_is)
{
    static const struct {
        const char *label;
        S3Status status;
        enum err_code code;
        bool may_repeat;
    } rows[] = {
        {"ok", S3StatusOK, ERR_OK, false},
        {"refused", S3StatusFailedToConnect, ERR_STORAGE_UNAVAILABLE, true},
        {"no such host", S3StatusNameLookupError, ERR_STORAGE_UNAVAILABLE, true},
        {"lost", S3StatusConnectionFailed, ERR_STORAGE_UNAVAILABLE, true},
        {"reset", S3StatusInternalError, ERR_STORAGE_UNAVAILABLE, true},
        {"500", S3StatusErrorInternalError, ERR_STORAGE_UNAVAILABLE, true},
        {"503", S3StatusErrorSlowDown, ERR_STORAGE_UNAVAILABLE, true},
        {"502", S3StatusHttpErrorUnknown, ERR_STORAGE_UNAVAILABLE, true},
        {"a proxy's page", S3StatusXmlParseFailure, ERR_STORAGE_UNAVAILABLE, true},
        {"clocks", S3StatusErrorRequestTimeTooSkewed, ERR_STORAGE_UNAVAILABLE, false},
        {"no bucket", S3StatusErrorNoSuchBucket, ERR_STORAGE_UNAVAILABLE, false},
        {"no key", S3StatusErrorNoSuchKey, ERR_NOT_FOUND, false},
        {"404", S3StatusHttpErrorNotFound, ERR_NOT_FOUND, false},
        {"changed", S3StatusErrorPreconditionFailed, ERR_STORAGE, false},
        {"denied", S3StatusErrorAccessDenied, ERR_STORAGE, false},
        {"403", S3StatusHttpErrorForbidden, ERR_STORAGE, false},
        {"digest", S3StatusErrorBadDigest, ERR_STORAGE, false},
        {"memory", S3StatusOutOfMemory, ERR_NO_MEMORY, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool may_repeat = !rows[i].may_repeat;
        CHECK_INT_ROW(rows[i].label, libs3_status_code(rows[i].status, &may_repeat), rows[i].code);
        CHECK_INT_ROW(rows[i].label, may_repeat, rows[i].may_repeat);
    }
}

/* What libs3 makes of a listing's "2026-07-01T10:20:30" in the local time zone. */
static int64_t as_libs3_reads(int month)
{
    struct tm parts = {.tm_year = 126,
                       .tm_mon = month,
                       .tm_mday = 1,
                       .tm_hour = 10,
                       .tm_min = 20,
                       .tm_sec = 30,
                       .tm_isdst = -1};
    return mktime(&parts);
}

TEST(storage_libs3, listed_times_are_right_in_every_time_zone)
{
    static const char *const zones[] = {"UTC0", "EST5EDT,M3.2.0,M11.1.0", "IST-5:30", "NZST-12"};
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
        setenv("TZ", zones[i], 1);
        tzset();
        CHECK_INT_ROW(zones[i], libs3_listed_time(as_libs3_reads(0)), 1767262830);
        CHECK_INT_ROW(zones[i], libs3_listed_time(as_libs3_reads(6)), 1782901230);
    }
    unsetenv("TZ");
    tzset();
}

TEST(storage_libs3, a_put_takes_no_more_than_it_may)
{
    struct config config;
    struct err err;
    struct storage *storage = NULL;
    struct storage_put *put = NULL;
    static const char data[300000];
    good_config(&config);
    CHECK_ERR(storage_open_driver(&storage, &storage_libs3_driver, &config, &clock_system, &err),
              ERR_OK, &err);
    REQUIRE(storage);
    CHECK_ERR(storage_put_begin(storage, "ab/x", -1, &put, &err), ERR_OK, &err);
    for (int i = 0; i < 3; i++)
        CHECK_ERR(storage_put_write(put, data, sizeof data, &err), ERR_OK, &err);
    CHECK_ERR(storage_put_write(put, data, sizeof data, &err), ERR_FILE_TOO_LARGE, &err);
    storage_put_close(put);
    CHECK_ERR(storage_put_begin(storage, "../x", -1, &put, &err), ERR_INTERNAL, &err);
    storage_close(storage);
}

TEST(storage_libs3, a_put_without_its_spool_folder_fails)
{
    struct config config;
    struct err err;
    struct storage *storage = NULL;
    struct storage_put *put = NULL;
    static const char data[300000];
    good_config(&config);
    snprintf(config.runtime_dir, sizeof config.runtime_dir, "%s/absent", check_temp_dir());
    CHECK_ERR(storage_open_driver(&storage, &storage_libs3_driver, &config, &clock_system, &err),
              ERR_OK, &err);
    REQUIRE(storage);
    CHECK_ERR(storage_put_begin(storage, "ab/x", -1, &put, &err), ERR_OK, &err);
    CHECK_ERR(storage_put_write(put, data, 1000, &err), ERR_OK, &err);
    CHECK_ERR(storage_put_write(put, data, sizeof data, &err), ERR_STORAGE_UNAVAILABLE, &err);
    storage_put_close(put);
    storage_close(storage);
}
