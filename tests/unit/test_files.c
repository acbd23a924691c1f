/* The use cases over a real folder and a real database. */
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "check.h"
#include "files/files_check.h"
#include "files/files_create.h"
#include "files/files_list.h"
#include "files/files_open.h"
#include "files/files_remove.h"
#include "files/files_sweep.h"
#include "files/files_update.h"
#include "world.h"

TEST(files, are_created_opened_listed_changed_and_removed)
{
    struct world world;
    struct err err = {0};
    struct file file;
    struct buf out;
    char id[ID_SIZE];
    bool replayed;
    REQUIRE(open_world(&world));
    buf_init(&out, 1 << 20);
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 0, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_OK, &err);
    CHECK_TEXT(file.name, "a.txt");
    CHECK_INT(file.size, 5);
    CHECK_TEXT(file.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    CHECK_ERR(files_locate(&world.files, &file, &out, &err), ERR_OK, &err);
    CHECK(access(buf_text(&out), R_OK) == 0);

    buf_reset(&out);
    CHECK_ERR(files_list(&world.files, &world.alice, STR("limit=10"), &out, &err), ERR_OK, &err);
    CHECK(strstr(buf_text(&out), id) != NULL);
    CHECK(strstr(buf_text(&out), "\"total\":1,") != NULL);

    const struct request request = {.method = METHOD_PATCH, .id = str_of(id)};
    const struct str patch = STR("{\"originalName\":\"b.txt\",\"metadata\":{\"k\":\"v\"}}");
    const struct update_request change = {&world.alice, &request, patch, &world.idempotency};
    CHECK_ERR(files_update(&world.files, &change, &file, &replayed, &err), ERR_OK, &err);
    CHECK_TEXT(file.name, "b.txt");
    CHECK_TEXT(file.metadata, "{\"k\":\"v\"}");
    CHECK_INT(file.version, 2);

    CHECK_ERR(files_remove(&world.files, &world.alice, &request, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR(files_remove(&world.files, &world.alice, &request, id, &err), ERR_NOT_FOUND, &err);
    buf_release(&out);
    close_world(&world);
}

TEST(files, refuse_bad_patches_and_change_nothing)
{
    static const struct {
        const char *patch;
        enum err_code want;
    } rows[] = {
        {"", ERR_BAD_JSON},
        {"[]", ERR_BAD_PARAMETER},
        {"{\"size\":1}", ERR_BAD_PARAMETER},
        {"{\"originalName\":\"a/b\"}", ERR_BAD_NAME},
        {"{\"originalName\":1}", ERR_BAD_PARAMETER},
        {"{\"originalName\":null}", ERR_BAD_PARAMETER},
        {"{\"visibility\":\"secret\"}", ERR_BAD_PARAMETER},
        {"{\"visibility\":null}", ERR_BAD_PARAMETER},
        {"{\"metadata\":[]}", ERR_BAD_PARAMETER},
        {"{\"metadata\":{\"a\":1}}", ERR_BAD_PARAMETER},
        {"{\"expiresAt\":\"2001-01-01T00:00:00Z\"}", ERR_BAD_PARAMETER},
        {"{\"expiresAt\":\"tomorrow\"}", ERR_BAD_PARAMETER},
        {"{\"expiresAt\":5}", ERR_BAD_PARAMETER},
        {"{\"originalName\":\"ok\",\"originalName\":\"twice\"}", ERR_BAD_JSON},
    };
    struct world world;
    struct err err = {0};
    struct file file;
    char id[ID_SIZE];
    bool replayed;
    REQUIRE(open_world(&world));
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 0, id, &err), ERR_OK, &err);
    const struct request request = {.method = METHOD_PATCH, .id = str_of(id)};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct update_request change = {&world.alice, &request, str_of(rows[i].patch),
                                              &world.idempotency};
        CHECK_ERR_ROW(rows[i].patch, files_update(&world.files, &change, &file, &replayed, &err),
                      rows[i].want, &err);
    }
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_OK, &err);
    CHECK_TEXT(file.name, "a.txt");
    CHECK_INT(file.version, 1);
    close_world(&world);
}

TEST(files, that_the_gateway_could_not_send_are_not_found_only_without_a_row)
{
    struct world world;
    struct err err = {0};
    char id[ID_SIZE];
    REQUIRE(open_world(&world));
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 0, id, &err), ERR_OK, &err);
    CHECK_ERR(files_judge_unsent(&world.files, str_of(id), &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK(strstr(err_public_message(&err), id) == NULL);
    const struct request request = {.method = METHOD_DELETE, .id = str_of(id)};
    CHECK_ERR(files_remove(&world.files, &world.alice, &request, id, &err), ERR_OK, &err);
    CHECK_ERR(files_judge_unsent(&world.files, str_of(id), &err), ERR_NOT_FOUND, &err);
    CHECK_ERR(files_judge_unsent(&world.files, STR("x"), &err), ERR_BAD_ID, &err);
    close_world(&world);
}

TEST(files, that_expired_are_gone_at_once_and_swept)
{
    struct world world;
    struct err err = {0};
    struct file file;
    struct sweep_result swept;
    char id[ID_SIZE];
    REQUIRE(open_world(&world));
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 1, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_OK, &err);
    while (clock_wall_ms(&clock_system) < file.expires_ms)
        usleep(10000);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR(files_sweep(&world.files, 0, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.expired, 1);
    CHECK_INT(swept.deleted, 1);
    CHECK_INT(swept.orphans, 0);
    close_world(&world);
}

/* fs does not look at the hash. */
static enum err_code commit(struct storage_put *handle, struct err *err)
{
    static const unsigned char sha256[32];
    char tag[STORAGE_TAG_SIZE];
    return storage_put_commit(handle, sha256, tag, err);
}

TEST(files, sweep_takes_orphans_but_never_an_upload_on_its_way)
{
    struct world world;
    struct err err = {0};
    struct sweep_result swept;
    struct storage_put *orphan = NULL;
    struct storage_put *on_its_way = NULL;
    REQUIRE(open_world(&world));
    CHECK_ERR(storage_put_begin(world.files.storage, "aa/00000000000000000000000000000001", -1,
                                &orphan, &err),
              ERR_OK, &err);
    CHECK_ERR(storage_put_write(orphan, "abc", 3, &err), ERR_OK, &err);
    CHECK_ERR(commit(orphan, &err), ERR_OK, &err);
    storage_put_close(orphan);
    CHECK_ERR(storage_put_begin(world.files.storage, "aa/00000000000000000000000000000002", -1,
                                &on_its_way, &err),
              ERR_OK, &err);
    CHECK_ERR(commit(on_its_way, &err), ERR_OK, &err);
    CHECK_ERR(files_sweep(&world.files, 0, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.orphans, 1);
    CHECK_INT(swept.orphan_bytes, 3);
    storage_put_close(on_its_way);
    CHECK_ERR(files_sweep(&world.files, 3600, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.orphans, 0); /* younger than the grace */
    CHECK_ERR(files_sweep(&world.files, 0, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.orphans, 1);
    close_world(&world);
}

static void count_finding(void *context, const struct check_finding *finding)
{
    int *kinds = context;
    kinds[finding->kind]++;
}

static void overwrite(struct world *world, const struct file *file, const char *text)
{
    struct buf path;
    struct err err = {0};
    buf_init(&path, 4096);
    CHECK_ERR(files_locate(&world->files, file, &path, &err), ERR_OK, &err);
    FILE *stream = fopen(buf_text(&path), "w");
    if (stream) {
        CHECK(fputs(text, stream) >= 0);
        fclose(stream);
    }
    buf_release(&path);
}

TEST(files, check_finds_rot_and_repair_quarantines_and_releases)
{
    struct world world;
    struct err err = {0};
    struct file file;
    struct buf path;
    struct check_result result;
    char id[ID_SIZE];
    int kinds[CHECK_METADATA + 1] = {0};
    struct check_options options = {.found = count_finding, .context = kinds};
    REQUIRE(open_world(&world));
    buf_init(&path, 4096);
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 0, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_OK, &err);
    CHECK_ERR(files_check(&world.files, &options, &result, &err), ERR_OK, &err);
    CHECK_INT(result.files, 1);
    CHECK_INT(result.findings, 0);

    overwrite(&world, &file, "hellO");
    CHECK_ERR(files_check(&world.files, &options, &result, &err), ERR_OK, &err);
    CHECK_INT(kinds[CHECK_HASH], 1);
    CHECK_ERR(files_locate(&world.files, &file, &path, &err), ERR_OK, &err); /* only looked */

    options.repair = true;
    CHECK_ERR(files_check(&world.files, &options, &result, &err), ERR_OK, &err);
    CHECK_INT(result.repaired, 1);
    struct file damaged;
    CHECK_ERR(open_file(&world, id, &damaged, &err), ERR_OK, &err);
    CHECK_ERR(files_locate(&world.files, &damaged, &path, &err), ERR_INTERNAL, &err);

    overwrite(&world, &file, "hello");
    CHECK_ERR(files_check(&world.files, &options, &result, &err), ERR_OK, &err);
    CHECK_INT(result.findings, 0);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_OK, &err);
    CHECK_INT(file.status, FILE_READY);
    CHECK_ERR(storage_remove(world.files.storage, file.key, &err), ERR_OK, &err);
    CHECK_ERR(files_check(&world.files, &options, &result, &err), ERR_OK, &err);
    CHECK_INT(kinds[CHECK_MISSING], 1);
    buf_release(&path);
    close_world(&world);
}

TEST(files, one_idempotency_key_makes_one_file)
{
    struct world world;
    struct err err = {0};
    char first[ID_SIZE];
    char second[ID_SIZE];
    REQUIRE(open_world(&world));
    struct idempotency *key = &world.idempotency;
    CHECK_ERR(idempotency_begin(key, STR("alice"), STR("k1"), &err), ERR_OK, &err);
    struct idempotency racing;
    idempotency_init(&racing, world.files.metadata, &clock_system);
    CHECK_ERR(idempotency_begin(&racing, STR("alice"), STR("k1"), &err), ERR_CONFLICT, &err);
    idempotency_end(&racing);
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 0, first, &err), ERR_OK, &err);
    idempotency_end(key);

    idempotency_init(key, world.files.metadata, &clock_system);
    CHECK_ERR(idempotency_begin(key, STR("alice"), STR("k1"), &err), ERR_OK, &err);
    CHECK(key->replay);
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 0, second, &err), ERR_OK, &err);
    CHECK_TEXT(second, first);
    CHECK_ERR(upload(&world, "a.txt", STR("hellO"), 0, second, &err), ERR_IDEMPOTENCY_MISMATCH,
              &err);
    CHECK_ERR(upload(&world, "b.txt", STR("hello"), 0, second, &err), ERR_IDEMPOTENCY_MISMATCH,
              &err);
    idempotency_end(key);

    idempotency_init(key, world.files.metadata,
                     &clock_system); /* a request that failed frees its key */
    CHECK_ERR(idempotency_begin(key, STR("alice"), STR("k2"), &err), ERR_OK, &err);
    idempotency_end(key);
    idempotency_init(key, world.files.metadata, &clock_system);
    CHECK_ERR(idempotency_begin(key, STR("alice"), STR("k2"), &err), ERR_OK, &err);
    CHECK(!key->replay);
    idempotency_end(key);
    CHECK_ERR(idempotency_begin(key, STR("alice"), STR("bad\nkey"), &err), ERR_BAD_REQUEST, &err);
    close_world(&world);
}

TEST(files, asserted_digests_are_read_strictly)
{
    static const struct {
        const char *name;
        const char *content;
        const char *repr;
        const char *md5;
        enum err_code want;
        bool sha256;
    } rows[] = {
        {"none", "", "", "", ERR_OK, false},
        {"content", "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:", "", "", ERR_OK, true},
        {"repr", "", "sha-512=:xx:, sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:", "",
         ERR_OK, true},
        {"other only", "sha-512=:xx:", "", "", ERR_OK, false},
        {"short", "sha-256=:LPJN:", "", "", ERR_BAD_REQUEST, false},
        {"bare", "sha-256=abc", "", "", ERR_BAD_REQUEST, false},
        {"md5", "", "", "XUFAKrxLKna5cZ2REBfFkg==", ERR_OK, false},
        {"bad md5", "", "", "XUFA", ERR_BAD_REQUEST, false},
        {"contradiction", "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
         "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", "", ERR_DIGEST_MISMATCH, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct asserted_digests digests;
        CHECK_ERR_ROW(rows[i].name,
                      asserted_digests_parse(&digests, str_of(rows[i].content),
                                             str_of(rows[i].repr), str_of(rows[i].md5), &err),
                      rows[i].want, &err);
        if (rows[i].want == ERR_OK)
            CHECK_INT_ROW(rows[i].name, digests.has_sha256, rows[i].sha256);
    }
}
