#include "files/files_orphans.h"

#include <stdlib.h>

struct suspect {
    char key[LIMIT_KEY_BYTES + 1];
    int64_t size;
};

struct suspects {
    const struct files *files;
    const struct orphan_search *search;
    size_t count;
    struct suspect all[LIMIT_KEYS_ASKED];
};

static enum err_code judge(struct suspects *suspects, struct err *err)
{
    const char *keys[LIMIT_KEYS_ASKED];
    bool known[LIMIT_KEYS_ASKED];
    size_t count = suspects->count;
    suspects->count = 0;
    for (size_t i = 0; i < count; i++)
        keys[i] = suspects->all[i].key;
    enum err_code code =
        count > 0 ? metadata_keys_known(suspects->files->metadata, keys, count, known, err)
                  : ERR_OK;
    for (size_t i = 0; code == ERR_OK && i < count; i++)
        if (!known[i])
            code = suspects->search->found(suspects->search->context, suspects->all[i].key,
                                           suspects->all[i].size, err);
    return code;
}

static enum err_code suspect(void *context, const char *key, const struct storage_stat *stat,
                             struct err *err)
{
    struct suspects *suspects = context;
    struct suspect *next = &suspects->all[suspects->count];
    if (suspects->search->seen)
        ++*suspects->search->seen;
    if (stat->modified_ms > suspects->search->modified_before_ms)
        return ERR_OK;
    if (!str_copy(next->key, sizeof next->key, str_of(key)))
        return ERR_OK; /* no key of ours */
    next->size = stat->size;
    suspects->count++;
    return suspects->count == LIMIT_KEYS_ASKED ? judge(suspects, err) : ERR_OK;
}

enum err_code files_find_orphans(const struct files *files, const struct orphan_search *search,
                                 struct err *err)
{
    struct suspects *suspects = malloc(sizeof *suspects);
    if (!suspects)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "orphans", "out of memory");
    suspects->files = files;
    suspects->search = search;
    suspects->count = 0;
    enum err_code code = storage_list(files->storage, suspect, suspects, err);
    if (code == ERR_OK)
        code = judge(suspects, err);
    free(suspects);
    return code;
}
