#include "worlds.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/text.h"
#include "check.h"
#include "files/files_installation.h"
#include "files/files_remove.h"
#include "store.h"

static void on_finding(void *context, const struct migrate_finding *finding)
{
    struct worlds *worlds = context;
    worlds->found[finding->kind]++;
    snprintf(worlds->text, sizeof worlds->text, "%s", finding->text);
}

static void on_progress(void *context, const struct migrate_result *result)
{
    struct worlds *worlds = context;
    worlds->progress++;
    if (worlds->delete_first && result->bytes > 0) {
        worlds_delete(&worlds->source.files, worlds->delete_first);
        worlds->delete_first = 0;
    }
    if (worlds->stop_at && result->bytes >= worlds->stop_at)
        atomic_store(&worlds->stop, true);
}

static bool open_installation(struct installation *installation)
{
    struct err err;
    struct files *files = &installation->files;
    *files = (struct files){.config = &installation->config, .clock = &clock_system};
    return store_make(&installation->config) &&
           storage_open(&files->storage, &installation->config, &clock_system, NULL, &err) ==
               ERR_OK &&
           metadata_open(&files->metadata, &installation->config, &clock_system, NULL, &err) ==
               ERR_OK &&
           files_installation_settle(files, &err) == ERR_OK;
}

bool worlds_open(struct worlds *worlds)
{
    *worlds = (struct worlds){.progress = 0};
    worlds->options = (struct migrate_options){.source = &worlds->source.files,
                                               .target = &worlds->target.files,
                                               .jobs = 4,
                                               .stop = &worlds->stop,
                                               .found = on_finding,
                                               .progress = on_progress,
                                               .context = worlds};
    return open_installation(&worlds->source) && open_installation(&worlds->target);
}

void worlds_close(struct worlds *worlds)
{
    metadata_close(worlds->source.files.metadata);
    storage_close(worlds->source.files.storage);
    metadata_close(worlds->target.files.metadata);
    storage_close(worlds->target.files.storage);
}

enum err_code worlds_migrate(struct worlds *worlds, struct err *err)
{
    memset(worlds->found, 0, sizeof worlds->found);
    return files_migrate(&worlds->options, &worlds->result, err);
}

void worlds_run(struct worlds *worlds)
{
    struct err err = {0};
    CHECK_ERR(worlds_migrate(worlds, &err), ERR_OK, &err);
}

/* ---- files by number ---- */

static size_t content_of(int number, char *target, size_t size)
{
    size_t len = (size_t)number * 1000 % size;
    for (size_t i = 0; i < len; i++)
        target[i] = (char)('a' + (i * 7 + (size_t)number) % 26);
    return len;
}

void worlds_put(const struct files *files, const char *key, const void *data, size_t len)
{
    struct storage_put *put = NULL;
    struct digest *digest = NULL;
    unsigned char sha256[DIGEST_MAX_BYTES];
    char tag[STORAGE_TAG_SIZE];
    struct err err = {0};
    CHECK_ERR(digest_open(&digest, DIGEST_SHA256, &err), ERR_OK, &err);
    digest_update(digest, data, len);
    CHECK_ERR(digest_finish(digest, sha256, &err), ERR_OK, &err);
    digest_close(digest);
    CHECK_ERR(storage_put_begin(files->storage, key, (int64_t)len, &put, &err), ERR_OK, &err);
    CHECK_ERR(storage_put_write(put, data, len, &err), ERR_OK, &err);
    CHECK_ERR(storage_put_commit(put, sha256, tag, &err), ERR_OK, &err);
    storage_put_close(put);
}

void worlds_describe(struct file *ret_file, int number, char content[WORLDS_CONTENT_SIZE],
                     size_t *ret_len)
{
    unsigned char sha256[DIGEST_MAX_BYTES];
    struct digest *digest = NULL;
    struct err err = {0};
    store_file(ret_file, number, "alice");
    *ret_len = content_of(number, content, WORLDS_CONTENT_SIZE);
    ret_file->size = (int64_t)*ret_len;
    CHECK_ERR(digest_open(&digest, DIGEST_SHA256, &err), ERR_OK, &err);
    digest_update(digest, content, *ret_len);
    CHECK_ERR(digest_finish(digest, sha256, &err), ERR_OK, &err);
    digest_close(digest);
    text_hex(sha256, 32, ret_file->sha256);
    ret_file->version = 1 + number % 3;
    ret_file->visibility = number % 2 ? VISIBILITY_PUBLIC : VISIBILITY_PRIVATE;
    snprintf(ret_file->metadata, sizeof ret_file->metadata, "{\"n\":\"%d\"}", number);
}

void worlds_insert(const struct files *files, const struct file *file)
{
    struct err err = {0};
    CHECK_ERR(metadata_file_insert(files->metadata, file, NULL, &err), ERR_OK, &err);
}

void worlds_create(const struct files *files, int number)
{
    static char content[WORLDS_CONTENT_SIZE];
    struct file file;
    size_t len;
    worlds_describe(&file, number, content, &len);
    worlds_put(files, file.key, content, len);
    worlds_insert(files, &file);
}

bool worlds_get(const struct files *files, int number, struct file *ret_file)
{
    char id[ID_SIZE];
    struct err err = {0};
    store_id(id, number);
    return metadata_file_get(files->metadata, id, 0, ret_file, &err) == ERR_OK;
}

void worlds_delete(const struct files *files, int number)
{
    char id[ID_SIZE];
    struct file file;
    struct err err = {0};
    enum err_code marked = ERR_OK;
    store_id(id, number);
    store_file(&file, number, "");
    const char *ids[] = {id};
    CHECK_ERR(store_mark_deleted(files->metadata, ids, NULL, 1, STR(""), 1, &marked, &err), ERR_OK,
              &err);
    CHECK_ERR(files_remove_marked(files, id, file.key, &err), ERR_OK, &err);
}

void worlds_path(const struct installation *installation, int number, char path[WORLDS_PATH_SIZE])
{
    struct file file;
    store_file(&file, number, "");
    snprintf(path, WORLDS_PATH_SIZE, "%s/objects/%s", installation->config.data_dir, file.key);
}

void worlds_write(const struct installation *installation, int number, const char *text)
{
    char path[WORLDS_PATH_SIZE];
    worlds_path(installation, number, path);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT, 0640);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

bool worlds_has(const struct installation *installation, int number)
{
    char path[WORLDS_PATH_SIZE];
    worlds_path(installation, number, path);
    return access(path, F_OK) == 0;
}

void worlds_remove(const struct installation *installation, int number)
{
    char path[WORLDS_PATH_SIZE];
    worlds_path(installation, number, path);
    CHECK(unlink(path) == 0);
}

void worlds_flip(const struct installation *installation, int number)
{
    char path[WORLDS_PATH_SIZE];
    worlds_path(installation, number, path);
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && pwrite(fd, "!", 1, 100) == 1);
    close(fd);
}

void worlds_check(const struct worlds *worlds, int number)
{
    static char content[WORLDS_CONTENT_SIZE];
    static char stored[WORLDS_CONTENT_SIZE];
    char label[16];
    char path[WORLDS_PATH_SIZE];
    size_t len;
    struct file want;
    struct file got;
    snprintf(label, sizeof label, "%d", number);
    worlds_describe(&want, number, content, &len);
    CHECK_ROW(label, worlds_get(&worlds->target.files, number, &got));
    CHECK_STR_ROW(label, str_of(got.sha256), want.sha256);
    CHECK_STR_ROW(label, str_of(got.key), want.key);
    CHECK_STR_ROW(label, str_of(got.name), want.name);
    CHECK_STR_ROW(label, str_of(got.mime), want.mime);
    CHECK_STR_ROW(label, str_of(got.owner), want.owner);
    CHECK_STR_ROW(label, str_of(got.metadata), want.metadata);
    CHECK_INT_ROW(label, got.size, want.size);
    CHECK_INT_ROW(label, got.version, want.version);
    CHECK_INT_ROW(label, got.created_ms, want.created_ms);
    CHECK_INT_ROW(label, got.updated_ms, want.updated_ms);
    CHECK_INT_ROW(label, got.visibility, want.visibility);
    CHECK_INT_ROW(label, got.status, FILE_READY);
    worlds_path(&worlds->target, number, path);
    int fd = open(path, O_RDONLY);
    ssize_t read_len = read(fd, stored, sizeof stored);
    close(fd);
    CHECK_INT_ROW(label, read_len, (int64_t)len);
    CHECK_ROW(label, read_len == (ssize_t)len && memcmp(stored, content, len) == 0);
}
