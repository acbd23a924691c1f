#include "files/object_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_PER_CHAIN 4096 /* of the bound: chains stay short, and cost little */

struct object {
    struct object *next; /* of its chain */
    struct object *older;
    struct object *newer;
    size_t size;
    char key[LIMIT_KEY_BYTES + 1];
    char sha256[65];
    char bytes[];
};

struct object_cache {
    pthread_mutex_t lock;
    size_t max;
    size_t used;
    struct object *oldest;
    struct object *newest;
    size_t chain_count;
    struct object *chains[];
};

static size_t cost(size_t size)
{
    return sizeof(struct object) + size;
}

enum err_code object_cache_open(struct object_cache **ret_cache, size_t max, struct err *err)
{
    size_t chains = max / BYTES_PER_CHAIN + 1;
    size_t size = sizeof(struct object_cache) + chains * sizeof(struct object *);
    struct object_cache *cache = calloc(1, size);
    if (!cache || pthread_mutex_init(&cache->lock, NULL) != 0) {
        free(cache);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "open cache", "out of memory");
    }
    cache->max = max;
    cache->used = size;
    cache->chain_count = chains;
    *ret_cache = cache;
    return ERR_OK;
}

void object_cache_close(struct object_cache *cache)
{
    if (!cache)
        return;
    for (struct object *object = cache->oldest; object;) {
        struct object *newer = object->newer;
        free(object);
        object = newer;
    }
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

/* Storage keys are random, and nobody but us makes them. */
static struct object **chain_of(struct object_cache *cache, const char *key)
{
    size_t hash = 5381;
    for (; *key; key++)
        hash = hash * 33 ^ (unsigned char)*key;
    return &cache->chains[hash % cache->chain_count];
}

static struct object *find(struct object_cache *cache, const char *key)
{
    struct object *object = *chain_of(cache, key);
    while (object && strcmp(object->key, key) != 0)
        object = object->next;
    return object;
}

static void take_out_of_order(struct object_cache *cache, struct object *object)
{
    *(object->older ? &object->older->newer : &cache->oldest) = object->newer;
    *(object->newer ? &object->newer->older : &cache->newest) = object->older;
}

static void make_newest(struct object_cache *cache, struct object *object)
{
    object->older = cache->newest;
    object->newer = NULL;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = object;
    cache->newest = object;
}

static void drop(struct object_cache *cache, struct object *object)
{
    struct object **at = chain_of(cache, object->key);
    while (*at != object)
        at = &(*at)->next;
    *at = object->next;
    take_out_of_order(cache, object);
    cache->used -= cost(object->size);
    free(object);
}

bool object_cache_find(struct object_cache *cache, const struct file *file, char *target)
{
    bool found = false;
    if (!cache)
        return false;
    pthread_mutex_lock(&cache->lock);
    struct object *object = find(cache, file->key);
    if (object && object->size == (uint64_t)file->size &&
        strcmp(object->sha256, file->sha256) == 0) {
        memcpy(target, object->bytes, object->size);
        take_out_of_order(cache, object);
        make_newest(cache, object);
        found = true;
    }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

static struct object *make_object(const struct file *file, const char *bytes)
{
    struct object *object = malloc(cost((size_t)file->size));
    if (!object)
        return NULL;
    object->size = (size_t)file->size;
    memcpy(object->key, file->key, sizeof object->key);
    memcpy(object->sha256, file->sha256, sizeof object->sha256);
    memcpy(object->bytes, bytes, object->size);
    return object;
}

void object_cache_keep(struct object_cache *cache, const struct file *file, const char *bytes)
{
    if (!cache || file->size < 0 || file->size > OBJECT_CACHE_LARGEST)
        return;
    struct object *object = make_object(file, bytes);
    if (!object)
        return; /* it is asked of the store again */
    pthread_mutex_lock(&cache->lock);
    struct object *before = find(cache, file->key);
    if (before)
        drop(cache, before);
    while (cache->oldest && cache->used + cost(object->size) > cache->max)
        drop(cache, cache->oldest);
    if (cache->used + cost(object->size) <= cache->max) {
        struct object **chain = chain_of(cache, object->key);
        object->next = *chain;
        *chain = object;
        make_newest(cache, object);
        cache->used += cost(object->size);
        object = NULL;
    }
    pthread_mutex_unlock(&cache->lock);
    free(object);
}
