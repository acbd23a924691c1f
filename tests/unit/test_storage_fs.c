/* The layout of DATA_DIR, and what happens when it moves, vanishes or is tampered with. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "http_tools.h"
#include "storage/fs/storage_fs.h"
#include "store.h"

#define KEY "ab/0123456789abcdef0123456789abcdef"

/* ---- steps ---- */

static void path_in(const struct config *config, const char *rest, char target[2048])
{
    snprintf(target, 2048, "%s/%s", config->data_dir, rest);
}

static bool exists(const struct config *config, const char *rest)
{
    char path[2048];
    struct stat stat;
    path_in(config, rest, path);
    return lstat(path, &stat) == 0;
}

static unsigned mode_of(const struct config *config, const char *rest)
{
    char path[2048];
    struct stat stat;
    path_in(config, rest, path);
    return lstat(path, &stat) == 0 ? (unsigned)stat.st_mode & 07777u : 0;
}

static void write_text(const struct config *config, const char *rest, const char *text)
{
    char path[2048];
    path_in(config, rest, path);
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    if (!file)
        return;
    fputs(text, file);
    fclose(file);
}

/* fs does not look at the hash. */
static enum err_code commit(struct storage_put *handle, struct err *err)
{
    static const unsigned char sha256[32];
    char tag[STORAGE_TAG_SIZE];
    return storage_put_commit(handle, sha256, tag, err);
}

static enum err_code open_get(struct storage *storage, const char *key,
                              struct storage_get **ret_get, struct err *err)
{
    const struct storage_wanted whole = {key, -1, NULL, 0, -1};
    return storage_get_open(storage, &whole, ret_get, err);
}

static enum err_code put(struct storage *storage, const char *key, const char *text)
{
    struct err err;
    struct storage_put *handle = NULL;
    enum err_code code = storage_put_begin(storage, key, -1, &handle, &err);
    if (code == ERR_OK)
        code = storage_put_write(handle, text, strlen(text), &err);
    if (code == ERR_OK)
        code = commit(handle, &err);
    storage_put_close(handle);
    return code;
}

static struct storage *open_storage(const struct config *config)
{
    struct err err;
    struct storage *storage = NULL;
    CHECK_ERR(storage_open(&storage, config, &clock_system, NULL, &err), ERR_OK, &err);
    return storage;
}

static enum err_code see_object(void *context, const char *key, const struct storage_stat *stat,
                                struct err *err)
{
    (void)key;
    (void)stat;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

/* Every operation's outcome while the store is away. */
static void check_away(struct storage *storage, const char *label)
{
    struct err err;
    struct storage_put *handle = NULL;
    struct storage_get *reader = NULL;
    struct storage_stat stat;
    struct buf path;
    int seen = 0;
    buf_init(&path, 4096);
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, 1, &handle, &err), ERR_STORAGE_UNAVAILABLE,
                  &err);
    CHECK_ERR_ROW(label, open_get(storage, KEY, &reader, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_ERR_ROW(label, storage_sendfile_path(storage, KEY, 1, &path, &err),
                  ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_ERR_ROW(label, storage_stat_object(storage, KEY, &stat, &err), ERR_STORAGE_UNAVAILABLE,
                  &err);
    CHECK_ERR_ROW(label, storage_remove(storage, KEY, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_ERR_ROW(label, storage_list(storage, see_object, &seen, &err), ERR_STORAGE_UNAVAILABLE,
                  &err);
    CHECK_ERR_ROW(label, storage_ping(storage, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_INT_ROW(label, seen, 0);
    buf_release(&path);
}

/* ---- init ---- */

TEST(storage_fs, init_makes_the_layout_whatever_the_umask_is)
{
    struct config config;
    struct err err;
    char path[2048];
    snprintf(path, sizeof path, "%s/data", check_temp_dir());
    store_config(&config, path);
    mode_t mask = umask(0777);
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_OK, &err);
    umask(mask);
    CHECK_INT(mode_of(&config, ""), 0750);
    CHECK_INT(mode_of(&config, "objects"), 0750);
    CHECK_INT(mode_of(&config, "objects/00"), 0750);
    CHECK_INT(mode_of(&config, "objects/ff"), 0750);
    CHECK_INT(mode_of(&config, "db"), 0700);
    CHECK_INT(mode_of(&config, "log"), 0750);
    CHECK_INT(mode_of(&config, FS_MARKER), 0640);
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_EXISTS, &err);
    struct storage *storage = open_storage(&config);
    mask = umask(0777);
    CHECK_INT(put(storage, KEY, "x"), ERR_OK);
    umask(mask);
    CHECK_INT(mode_of(&config, "objects/" KEY), 0640);
    storage_close(storage);
}

TEST(storage_fs, init_takes_an_empty_folder_and_an_unfinished_one)
{
    struct config config;
    struct err err;
    char path[2048];
    store_config(&config, check_temp_dir());
    path_in(&config, "lost+found", path);
    CHECK_INT(mkdir(path, 0700), 0);
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_OK, &err);
    /* As a crash before the marker leaves it. */
    path_in(&config, FS_MARKER, path);
    CHECK_INT(unlink(path), 0);
    write_text(&config, FS_MARKER_TEMP, "cof");
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_OK, &err);
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_EXISTS, &err);
}

TEST(storage_fs, init_refuses_what_is_not_its_own)
{
    static const char *const files[] = {"notes.txt", "objects/ab/x", "objects/x",
                                        "db/coffer.sqlite", "log/x"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct config config;
        struct err err;
        char path[2048];
        store_config(&config, check_temp_dir());
        CHECK_ERR_ROW(files[i], storage_init(&config, &clock_system, &err), ERR_OK, &err);
        write_text(&config, files[i], "x");
        path_in(&config, FS_MARKER, path);
        unlink(path);
        CHECK_ERR_ROW(files[i], storage_init(&config, &clock_system, &err), ERR_CONFIG, &err);
        CHECK_ROW(files[i], exists(&config, files[i]) && !exists(&config, FS_MARKER));
    }
}

TEST(storage_fs, init_refuses_a_damaged_store)
{
    struct config config;
    struct err err;
    char path[2048];
    char moved[2048];
    store_config(&config, check_temp_dir());
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_OK, &err);
    path_in(&config, "objects/7f", path);
    CHECK_INT(rmdir(path), 0);
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_CONFIG, &err);
    CHECK(!exists(&config, "objects/7f"));
    CHECK_INT(mkdir(path, 0700), 0);
    path_in(&config, "objects", path);
    path_in(&config, "elsewhere", moved);
    CHECK_INT(rename(path, moved), 0);
    CHECK_INT(symlink("elsewhere", path), 0);
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_CONFIG, &err);
    struct storage *storage = open_storage(&config);
    check_away(storage, "objects is a symbolic link");
    storage_close(storage);
    write_text(&config, FS_MARKER, "coffer 2\n");
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_CONFIG, &err);
    store_config(&config, "/nowhere/at/all");
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_CONFIG, &err);
}

/* ---- a store that moves ---- */

static void rename_in(const struct config *config, const char *from, const char *to)
{
    char old_path[2048];
    char new_path[2048];
    snprintf(old_path, sizeof old_path, "%s%s", config->data_dir, from);
    snprintf(new_path, sizeof new_path, "%s%s", config->data_dir, to);
    CHECK_INT(rename(old_path, new_path), 0);
}

static bool make_nested(struct config *config)
{
    struct err err;
    char path[2048];
    snprintf(path, sizeof path, "%s/data", check_temp_dir());
    store_config(config, path);
    return storage_init(config, &clock_system, &err) == ERR_OK;
}

TEST(storage_fs, a_vanished_store_is_never_made_anew_and_comes_back)
{
    struct config config;
    struct storage_stat stat;
    struct err err;
    REQUIRE(make_nested(&config));
    struct storage *storage = open_storage(&config);
    CHECK_INT(put(storage, KEY, "x"), ERR_OK);
    rename_in(&config, "", ".away");
    check_away(storage, "moved away");
    CHECK(!exists(&config, ""));
    CHECK_INT(mkdir(config.data_dir, 0700), 0);
    check_away(storage, "an empty mount point");
    CHECK(!exists(&config, "objects"));
    CHECK_INT(rmdir(config.data_dir), 0);
    rename_in(&config, ".away", "");
    CHECK_ERR(storage_stat_object(storage, KEY, &stat, &err), ERR_OK, &err);
    CHECK_ERR(storage_ping(storage, &err), ERR_OK, &err);
    storage_close(storage);
}

TEST(storage_fs, a_restored_copy_is_taken)
{
    struct config config;
    struct config copy;
    struct storage_stat stat;
    struct err err;
    REQUIRE(make_nested(&config) && make_nested(&copy));
    struct storage *storage = open_storage(&config);
    struct storage *other = open_storage(&copy);
    CHECK_INT(put(storage, KEY, "old"), ERR_OK);
    CHECK_INT(put(other, KEY, "restored"), ERR_OK);
    rename_in(&config, "", ".away");
    CHECK_INT(rename(copy.data_dir, config.data_dir), 0);
    CHECK_ERR(storage_stat_object(storage, KEY, &stat, &err), ERR_OK, &err);
    CHECK_INT(stat.size, 8);
    storage_close(storage);
    storage_close(other);
}

TEST(storage_fs, an_upload_into_a_folder_that_was_moved_is_not_acknowledged)
{
    struct config config;
    struct err err;
    struct storage_put *handle = NULL;
    REQUIRE(make_nested(&config));
    struct storage *storage = open_storage(&config);
    CHECK_ERR(storage_put_begin(storage, KEY, 1, &handle, &err), ERR_OK, &err);
    rename_in(&config, "", ".away");
    CHECK_ERR(storage_put_write(handle, "x", 1, &err), ERR_OK, &err);
    CHECK_ERR(commit(handle, &err), ERR_STORAGE_UNAVAILABLE, &err);
    storage_put_close(handle);
    rename_in(&config, ".away", "");
    CHECK(!exists(&config, "objects/" KEY));
    storage_close(storage);
}

/* ---- a store that was tampered with ---- */

TEST(storage_fs, symbolic_links_are_never_followed)
{
    struct config config;
    struct err err;
    struct storage_get *reader = NULL;
    char path[2048];
    const char *outside = check_temp_dir();
    REQUIRE(store_make(&config));
    struct storage *storage = open_storage(&config);
    CHECK_INT(put(storage, KEY, "x"), ERR_OK);
    /* an object that is a link */
    path_in(&config, "objects/ab/link", path);
    CHECK_INT(symlink("0123456789abcdef0123456789abcdef", path), 0);
    CHECK_ERR(open_get(storage, "ab/link", &reader, &err), ERR_STORAGE_UNAVAILABLE, &err);
    /* a shard that is one */
    path_in(&config, "objects/cd", path);
    CHECK(rmdir(path) == 0 && symlink(outside, path) == 0);
    CHECK_INT(put(storage, "cd/x", "x"), ERR_STORAGE_UNAVAILABLE);
    snprintf(path, sizeof path, "%s/secret", outside);
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fclose(file) == 0);
    CHECK_ERR(open_get(storage, "cd/secret", &reader, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_ERR(storage_remove(storage, "cd/secret", &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_INT(access(path, F_OK), 0);
    CHECK(reader == NULL);
    storage_close(storage);
}

TEST(storage_fs, an_object_must_be_a_file)
{
    struct config config;
    struct err err;
    struct storage_stat stat;
    char path[2048];
    int seen = 0;
    REQUIRE(store_make(&config));
    struct storage *storage = open_storage(&config);
    path_in(&config, "objects/ab/fifo", path);
    CHECK_INT(mkfifo(path, 0600), 0);
    path_in(&config, "objects/ab/folder", path);
    CHECK_INT(mkdir(path, 0700), 0);
    CHECK_ERR(storage_stat_object(storage, "ab/fifo", &stat, &err), ERR_STORAGE, &err);
    CHECK_ERR(storage_stat_object(storage, "ab/folder", &stat, &err), ERR_STORAGE, &err);
    write_text(&config, "objects/ab/README.txt", "not a key");
    CHECK_ERR(storage_list(storage, see_object, &seen, &err), ERR_OK, &err);
    CHECK_INT(seen, 0);
    CHECK(exists(&config, "objects/ab/README.txt"));
    storage_close(storage);
}

TEST(storage_fs, a_missing_shard_is_no_missing_object)
{
    struct config config;
    struct err err;
    struct storage_stat stat;
    char path[2048];
    int seen = 0;
    REQUIRE(store_make(&config));
    struct storage *storage = open_storage(&config);
    CHECK_ERR(storage_stat_object(storage, KEY, &stat, &err), ERR_NOT_FOUND, &err);
    path_in(&config, "objects/ab", path);
    CHECK_INT(rmdir(path), 0);
    CHECK_ERR(storage_stat_object(storage, KEY, &stat, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_ERR(storage_remove(storage, KEY, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_ERR(storage_list(storage, see_object, &seen, &err), ERR_STORAGE_UNAVAILABLE, &err);
    storage_close(storage);
}

TEST(storage_fs, a_folder_without_its_marker_is_no_store)
{
    struct config config;
    char path[2048];
    REQUIRE(store_make(&config));
    path_in(&config, FS_MARKER, path);
    CHECK_INT(unlink(path), 0);
    struct storage *storage = open_storage(&config);
    check_away(storage, "no marker");
    write_text(&config, FS_MARKER, "coffer 2\n");
    check_away(storage, "the marker of another version");
    write_text(&config, FS_MARKER, FS_MARKER_TEXT);
    CHECK_INT(put(storage, KEY, "x"), ERR_OK);
    storage_close(storage);
}

/* ---- temporary files with names ---- */

static void make_temp(const struct config *config, const char *name, int age_seconds)
{
    char path[2048];
    path_in(config, name, path);
    write_text(config, name, "half");
    struct timespec times[2];
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= age_seconds;
    times[1] = times[0];
    CHECK_INT(utimensat(AT_FDCWD, path, times, 0), 0);
}

TEST(storage_fs, a_listing_sweeps_temporary_files_that_nobody_claims)
{
    struct config config;
    struct err err;
    char path[2048];
    int seen = 0;
    REQUIRE(store_make(&config));
    struct storage *storage = open_storage(&config);
    make_temp(&config, "objects/ab/.tmp-stale", 3600);
    make_temp(&config, "objects/ab/.tmp-fresh", 0);
    make_temp(&config, "objects/ab/.tmp-claimed", 3600);
    path_in(&config, "objects/ab/.tmp-claimed", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_INT(flock(fd, LOCK_EX), 0);
    CHECK_ERR(storage_list(storage, see_object, &seen, &err), ERR_OK, &err);
    close(fd);
    CHECK_INT(seen, 0);
    CHECK(!exists(&config, "objects/ab/.tmp-stale"));
    CHECK(exists(&config, "objects/ab/.tmp-fresh"));
    CHECK(exists(&config, "objects/ab/.tmp-claimed"));
    storage_close(storage);
}

/* ---- wrappers ---- */

struct observed {
    int count[STORAGE_OPERATION_COUNT];
    int failed;
};

static void observe(void *context, unsigned driver, enum storage_operation operation,
                    enum err_code outcome, int64_t duration_ns)
{
    struct observed *observed = context;
    observed->count[operation]++;
    observed->failed += outcome != ERR_OK;
    if (driver != 0 || duration_ns < 0)
        observed->failed += 1000;
}

TEST(storage_fs, each_operation_is_observed_once)
{
    struct config config;
    struct err err;
    struct storage *storage = NULL;
    struct observed observed = {.failed = 0};
    struct storage_get *reader = NULL;
    char back[8];
    size_t len = 0;
    REQUIRE(store_make(&config));
    CHECK_ERR(storage_open(&storage, &config, &clock_system,
                           &(struct storage_observer){observe, &observed}, &err),
              ERR_OK, &err);
    CHECK_INT(put(storage, KEY, "bytes"), ERR_OK);
    CHECK_INT(put(storage, KEY, "bytes"), ERR_EXISTS);
    CHECK_ERR(open_get(storage, KEY, &reader, &err), ERR_OK, &err);
    for (int i = 0; i < 3; i++)
        CHECK_ERR(storage_get_read(reader, back, 2, &len, &err), ERR_OK, &err);
    storage_get_close(reader);
    CHECK_ERR(open_get(storage, "cd/none", &reader, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR(storage_remove(storage, KEY, &err), ERR_OK, &err);
    CHECK_ERR(storage_ping(storage, &err), ERR_OK, &err);
    CHECK_INT(observed.count[STORAGE_PUT], 2);
    CHECK_INT(observed.count[STORAGE_GET], 2);
    CHECK_INT(observed.count[STORAGE_REMOVE], 1);
    CHECK_INT(observed.count[STORAGE_PING], 1);
    CHECK_INT(observed.failed, 2);
    storage_close(storage);
}

TEST(storage_fs, an_unknown_driver_is_a_fault_of_the_settings)
{
    struct config config;
    struct err err;
    struct storage *storage = NULL;
    store_config(&config, "/nowhere");
    snprintf(config.storage_driver, sizeof config.storage_driver, "tape");
    CHECK_ERR(storage_open(&storage, &config, &clock_system, NULL, &err), ERR_CONFIG, &err);
    CHECK_ERR(storage_init(&config, &clock_system, &err), ERR_CONFIG, &err);
    CHECK(storage == NULL);
}

TEST(storage_fs, uploads_leave_no_descriptor_open)
{
    struct config config;
    struct err err;
    REQUIRE(store_make(&config));
    struct storage *storage = open_storage(&config);
    REQUIRE(storage != NULL);
    CHECK_INT(put(storage, "00/first", "opens what stays open"), ERR_OK);
    const int before = http_test_open_files();
    for (int i = 0; i < 5; i++) {
        char key[LIMIT_KEY_BYTES + 1];
        struct storage_put *broken_off = NULL;
        snprintf(key, sizeof key, "00/%d", i);
        CHECK_INT(put(storage, key, "published"), ERR_OK);
        CHECK_ERR(storage_put_begin(storage, "00/never", -1, &broken_off, &err), ERR_OK, &err);
        storage_put_close(broken_off);
    }
    CHECK_INT(http_test_open_files(), before);
    storage_close(storage);
}
