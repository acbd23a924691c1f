/* What only the S3 driver does, on each of its servers: how other clients see its objects, forms and
 * URLs for clients, pages of listings, unfinished uploads, memory. */
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/text.h"
#include "storage/s3/storage_s3.h"
#include "storage/storage_drivers.h"
#include "storage_contract.h"
#include "store.h"

#define KEY "ab/0123456789abcdef0123456789abcdef"
#define OTHER_KEY "cd/0123456789abcdef0123456789abcdef"
#define HELLO_SHA256 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define MIB (1024 * 1024)

static struct storage_s3 *open_raw(const struct config *config, const char *label)
{
    const struct storage_options options = {.config = config, .clock = &clock_system};
    struct err err;
    void *state = NULL;
    CHECK_ERR_ROW(label, s3_open(&state, &options, &err), ERR_OK, &err);
    return state;
}

/* As any other client of the store would ask. */
static void ask(struct storage_s3 *s3, const char *method, const char *key, const char *query,
                struct http_reply *reply)
{
    struct err err;
    struct s3_call call = {.operation = "ask", .method = method, .key = key};
    if (query)
        s3_call_query(&call, query, "");
    CHECK_ERR(s3_send(s3, &call, reply, &err), ERR_OK, &err);
}

static struct str header(const struct http_reply *reply, const char *name)
{
    struct str value = {NULL, 0};
    return http_reply_header(reply, name, &value) ? value : (struct str){NULL, 0};
}

S3_CONTRACT(other_clients_see_type_and_sha256_of_a_small_object)
{
    struct err err;
    struct http_reply reply;
    char tag[STORAGE_TAG_SIZE];
    const struct put_options options = {
        .size_hint = 5, .step = 5, .mime = "text/x-test; a=\"b c\"", .ret_tag = tag};
    struct storage_s3 *s3 = open_raw(config, label);
    REQUIRE(s3);
    http_reply_init(&reply);
    CHECK_ERR_ROW(label, put_object_with(storage, KEY, STR("hello"), &options, &err), ERR_OK, &err);
    ask(s3, "HEAD", KEY, NULL, &reply);
    CHECK_INT_ROW(label, reply.status, 200);
    CHECK_STR_ROW(label, header(&reply, "content-type"), "text/x-test; a=\"b c\"");
    CHECK_STR_ROW(label, header(&reply, "content-length"), "5");
    CHECK_STR_ROW(label, header(&reply, "x-amz-meta-sha256"), HELLO_SHA256);
    CHECK_STR_ROW(label, header(&reply, "etag"), tag);
    http_reply_release(&reply);
    s3_close(s3);
}

static void hash_content(struct str content, char hex[65])
{
    struct err err;
    unsigned char sha256[DIGEST_MAX_BYTES] = "";
    struct digest *digest = NULL;
    CHECK_ERR(digest_open(&digest, DIGEST_SHA256, &err), ERR_OK, &err);
    digest_update(digest, content.data, content.len);
    CHECK_ERR(digest_finish(digest, sha256, &err), ERR_OK, &err);
    digest_close(digest);
    text_hex(sha256, 32, hex);
}

S3_CONTRACT(other_clients_see_type_and_sha256_of_a_large_object)
{
    struct err err;
    struct http_reply reply;
    char *content = make_content(11 * MIB, 9);
    const struct put_options options = {
        .size_hint = 11 * MIB, .step = LIMIT_IO_BUFFER, .mime = "image/png"};
    struct storage_s3 *s3 = open_raw(config, label);
    REQUIRE(s3);
    http_reply_init(&reply);
    CHECK_ERR_ROW(label,
                  put_object_with(storage, KEY, (struct str){content, 11 * MIB}, &options, &err),
                  ERR_OK, &err);
    ask(s3, "HEAD", KEY, NULL, &reply);
    CHECK_STR_ROW(label, header(&reply, "content-type"), "image/png");
    CHECK_STR_ROW(label, header(&reply, "content-length"), "11534336");
    ask(s3, "GET", KEY, "tagging", &reply);
    CHECK_INT_ROW(label, reply.status, 200);
    char value[128];
    char hex[65];
    hash_content((struct str){content, 11 * MIB}, hex);
    snprintf(value, sizeof value, "<Key>sha256</Key><Value>%s</Value>", hex);
    CHECK_ROW(label, strstr(buf_text(&reply.body), value) != NULL);
    http_reply_release(&reply);
    s3_close(s3);
    free(content);
}

/* ---- verified ---- */

S3_CONTRACT(content_that_is_not_what_was_hashed_is_refused)
{
    static const unsigned char other[32] = {1, 2, 3};
    struct err err;
    char tag[STORAGE_TAG_SIZE];
    struct storage_stat stat;
    struct storage_put *put = NULL;
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, 5, &put, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(put, "hello", 5, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_commit(put, other, tag, &err), ERR_STORAGE, &err);
    CHECK_INT_ROW(label, err.remote_status, 400);
    storage_put_close(put);
    CHECK_ERR_ROW(label, storage_stat_object(storage, KEY, &stat, &err), ERR_NOT_FOUND, &err);
    (void)config;
}

S3_CONTRACT(a_put_that_is_closed_leaves_no_unfinished_upload)
{
    struct err err;
    int purged = -1;
    char *content = make_content(16 * MIB, 1);
    struct storage_put *put = NULL;
    int64_t later_ms = clock_wall_ms(&clock_system) + 3600000;
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, -1, &put, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(put, content, 16 * MIB, &err), ERR_OK, &err);
    storage_put_close(put);
    CHECK_ERR_ROW(label, storage_purge_unfinished(storage, later_ms, &purged, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, purged, 0);
    CHECK_INT_ROW(label, count_objects(storage), 0);
    free(content);
    (void)config;
}

S3_CONTRACT(unfinished_uploads_are_purged_and_can_not_be_committed)
{
    struct err err;
    int purged = -1;
    char tag[STORAGE_TAG_SIZE];
    char *content = make_content(12 * MIB, 2);
    struct storage_put *put = NULL;
    int64_t later_ms = clock_wall_ms(&clock_system) + 3600000;
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, -1, &put, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(put, content, 12 * MIB, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_purge_unfinished(storage, later_ms, &purged, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, purged, 1);
    CHECK_ERR_ROW(label, commit_content(put, (struct str){content, 12 * MIB}, tag, &err),
                  ERR_STORAGE_UNAVAILABLE, &err);
    storage_put_close(put);
    CHECK_INT_ROW(label, count_objects(storage), 0);
    free(content);
    (void)config;
}

/* ---- listings ---- */

#define LISTED 1100 /* more than a page */
#define LISTING_THREADS 8

static void put_some(void *context, int index)
{
    for (int i = index; i < LISTED; i += LISTING_THREADS) {
        char key[LIMIT_KEY_BYTES];
        snprintf(key, sizeof key, "%02x/%032d", (unsigned)i & 0xFFu, i);
        if (put_object(context, key, "x", 1) != ERR_OK)
            fprintf(stderr, "put_some: %s failed\n", key);
    }
}

struct seen {
    bool keys[LISTED];
    int wrong;
};

static enum err_code note_seen(void *context, const char *key, const struct storage_stat *stat,
                               struct err *err)
{
    struct seen *seen = context;
    int64_t number = -1;
    (void)err;
    if (stat->size != 1 || stat->tag[0] != '"' ||
        !text_parse_int(str_of(key + 3), 0, LISTED - 1, &number) || seen->keys[number])
        seen->wrong++;
    else
        seen->keys[number] = true;
    return ERR_OK;
}

S3_CONTRACT(a_listing_has_many_pages_and_no_foreign_keys)
{
    static const char *const foreign[] = {"readme.txt", "ab/UPPER", "ab/c/d", "zz/x", "ab/.x"};
    static struct seen seen;
    struct err err;
    struct storage_s3 *s3 = open_raw(config, label);
    struct http_reply reply;
    REQUIRE(s3);
    http_reply_init(&reply);
    memset(&seen, 0, sizeof seen);
    store_threads(LISTING_THREADS, put_some, storage);
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        ask(s3, "PUT", foreign[i], NULL, &reply);
    CHECK_ERR_ROW(label, storage_list(storage, note_seen, &seen, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, seen.wrong, 0);
    for (int i = 0; i < LISTED; i++)
        CHECK_ROW(label, seen.keys[i]);
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        ask(s3, "DELETE", foreign[i], NULL, &reply);
    http_reply_release(&reply);
    s3_close(s3);
}

/* ---- for clients ---- */

static void fetch(struct storage_s3 *s3, const char *url, struct http_reply *reply)
{
    struct err err;
    const struct http_request request = {
        .method = "GET", .url = url, .deadline_ms = 10000, .attempts = 1, .max_body = 1 << 20};
    CHECK_ERR(http_exchange(s3->client, &request, reply, &err), ERR_OK, &err);
}

S3_CONTRACT(a_presigned_url_answers_the_object_as_an_attachment)
{
    struct err err;
    struct http_reply reply;
    struct buf url;
    const struct storage_link link = {.key = KEY,
                                      .mime = "text/plain",
                                      .disposition = "attachment; filename=\"a b.txt\"",
                                      .seconds = 60};
    struct storage_s3 *s3 = open_raw(config, label);
    REQUIRE(s3);
    http_reply_init(&reply);
    buf_init(&url, 4096);
    CHECK_INT_ROW(label, put_object(storage, KEY, "hello", 5), ERR_OK);
    CHECK_ERR_ROW(label, storage_presign_get(storage, &link, &url, &err), ERR_OK, &err);
    fetch(s3, buf_text(&url), &reply);
    CHECK_INT_ROW(label, reply.status, 200);
    CHECK_STR_ROW(label, buf_str(&reply.body), "hello");
    CHECK_STR_ROW(label, header(&reply, "content-type"), "text/plain");
    CHECK_STR_ROW(label, header(&reply, "content-disposition"), link.disposition);
    buf_append_text(&url, "0");
    fetch(s3, buf_text(&url), &reply);
    CHECK_INT_ROW(label, reply.status, 403);
    buf_release(&url);
    http_reply_release(&reply);
    s3_close(s3);
}

/* ---- memory ---- */

#define PUTS_AT_ONCE 32
#define LARGE (16 * MIB)

struct many {
    struct storage *storage;
    const char *content;
    atomic_int failed;
    atomic_bool done;
    long highest; /* resident pages */
};

static long resident_pages(void)
{
    char text[128] = "";
    FILE *file = fopen("/proc/self/statm", "r");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[len] = '\0';
    struct str rest = str_of(text);
    int64_t pages = 0;
    str_cut(&rest, ' ');
    return text_parse_int(str_cut(&rest, ' '), 0, INT64_MAX, &pages) ? (long)pages : -1;
}

static void put_large(void *context, int index)
{
    struct many *many = context;
    char key[LIMIT_KEY_BYTES];
    if (index == PUTS_AT_ONCE) {
        while (!many->done) {
            long pages = resident_pages();
            many->highest = pages > many->highest ? pages : many->highest;
            usleep(2000);
        }
        return;
    }
    snprintf(key, sizeof key, "%02x/%032d", (unsigned)index, index);
    if (put_object(many->storage, key, many->content, LARGE) != ERR_OK)
        many->failed++;
    static atomic_int ended;
    if (++ended % PUTS_AT_ONCE == 0)
        many->done = true;
}

S3_CONTRACT(many_large_puts_stay_within_upload_memory)
{
    struct config small = *config;
    struct many many = {.content = make_content(LARGE, 5)};
    small.upload_memory = 32 * MIB;
    small.s3_deadline_seconds = 120; /* the last of them waits for all others */
    many.storage = s3_contract_open(&small, label);
    REQUIRE(many.storage);
    malloc_trim(0);
    long before = resident_pages();
    store_threads(PUTS_AT_ONCE + 1, put_large, &many);
    CHECK_INT_ROW(label, many.failed, 0);
    CHECK_INT_ROW(label, count_objects(storage), PUTS_AT_ONCE);
    long grown = (many.highest - before) * (sysconf(_SC_PAGESIZE) / 1024) / 1024;
    fprintf(stderr, "%s: %d puts of 16 MiB took %ld MiB\n", label, PUTS_AT_ONCE, grown);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* Beside the parts: stacks and the connections' buffers, about half a MiB a put in progress. */
    CHECK_ROW(label, grown <= 32 + 24);
#endif
    storage_close(many.storage);
    free((void *)(uintptr_t)many.content);
}
