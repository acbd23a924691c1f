#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "files/object_cache.h"
#include "store.h"

#define MAX (256 * 1024)

static struct file object(int number, int64_t size)
{
    struct file file;
    store_file(&file, number, "alice");
    file.size = size;
    return file;
}

/* Bytes of which every one tells whose they are. */
static char *bytes_of(const struct file *file, char *target)
{
    memset(target, file->key[strlen(file->key) - 1] ^ (int)file->size, (size_t)file->size);
    return target;
}

static bool is_kept(struct object_cache *cache, const struct file *file)
{
    char want[OBJECT_CACHE_LARGEST + 1];
    char got[OBJECT_CACHE_LARGEST + 1];
    if (!object_cache_find(cache, file, got))
        return false;
    return memcmp(got, bytes_of(file, want), (size_t)file->size) == 0;
}

static void keep(struct object_cache *cache, const struct file *file)
{
    char bytes[OBJECT_CACHE_LARGEST + 1];
    object_cache_keep(cache, file, bytes_of(file, bytes));
}

static struct object_cache *open_cache(size_t max)
{
    struct err err;
    struct object_cache *cache = NULL;
    CHECK_ERR(object_cache_open(&cache, max, &err), ERR_OK, &err);
    return cache;
}

TEST(object_cache, gives_back_what_was_kept)
{
    struct object_cache *cache = open_cache(MAX);
    struct file files[] = {object(1, 0), object(2, 1), object(3, 1000),
                           object(4, OBJECT_CACHE_LARGEST)};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        CHECK(!is_kept(cache, &files[i]));
        keep(cache, &files[i]);
        CHECK(is_kept(cache, &files[i]));
        keep(cache, &files[i]);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        CHECK(is_kept(cache, &files[i]));
    object_cache_close(cache);
}

TEST(object_cache, a_row_that_says_otherwise_finds_nothing)
{
    struct object_cache *cache = open_cache(MAX);
    struct file file = object(1, 1000);
    keep(cache, &file);
    struct file other = file;
    other.sha256[0] = other.sha256[0] == 'a' ? 'b' : 'a';
    CHECK(!is_kept(cache, &other));
    other = file;
    other.size = 999;
    CHECK(!is_kept(cache, &other));
    other = file;
    other.key[0] = other.key[0] == 'a' ? 'b' : 'a';
    CHECK(!is_kept(cache, &other));
    CHECK(is_kept(cache, &file));
    object_cache_close(cache);
}

TEST(object_cache, large_objects_and_no_cache)
{
    struct object_cache *cache = open_cache(MAX);
    struct file large = object(1, OBJECT_CACHE_LARGEST + 1);
    struct file file = object(2, 10);
    keep(cache, &large);
    CHECK(!is_kept(cache, &large));
    object_cache_close(cache);
    cache = open_cache(100);
    keep(cache, &file); /* has no room even alone */
    CHECK(!is_kept(cache, &file));
    object_cache_close(cache);
    keep(NULL, &file);
    CHECK(!is_kept(NULL, &file));
    object_cache_close(NULL);
}

TEST(object_cache, what_was_asked_for_last_stays)
{
    struct object_cache *cache = open_cache(MAX);
    struct file first = object(0, 10000);
    struct file second = object(1, 10000);
    keep(cache, &first);
    keep(cache, &second);
    int kept = 0;
    for (int i = 2; i < 60; i++) {
        struct file file = object(i, 10000);
        keep(cache, &file);
        CHECK(is_kept(cache, &first));
    }
    CHECK(!is_kept(cache, &second));
    for (int i = 0; i < 60; i++) {
        struct file file = object(i, 10000);
        kept += is_kept(cache, &file);
    }
    CHECK(kept > 15 && kept * 10000 <= MAX);
    object_cache_close(cache);
}

#define THREADS 4
#define TURNS 2000

struct many {
    struct object_cache *cache;
    atomic_int found;
    atomic_int wrong;
};

static void use(void *context, int index)
{
    char got[OBJECT_CACHE_LARGEST + 1];
    char want[OBJECT_CACHE_LARGEST + 1];
    struct many *many = context;
    for (int i = 0; i < TURNS; i++) {
        struct file file = object((i * 7 + index * 3) % 80, 5000);
        if (object_cache_find(many->cache, &file, got)) {
            atomic_fetch_add(&many->found, 1);
            if (memcmp(got, bytes_of(&file, want), (size_t)file.size) != 0)
                atomic_fetch_add(&many->wrong, 1);
        } else {
            object_cache_keep(many->cache, &file, bytes_of(&file, want));
        }
    }
}

TEST(object_cache, many_threads)
{
    struct many many = {.cache = open_cache(MAX)};
    store_threads(THREADS, use, &many);
    CHECK(atomic_load(&many.found) > 0);
    CHECK_INT(atomic_load(&many.wrong), 0);
    object_cache_close(many.cache);
}
