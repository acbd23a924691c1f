/* Two real installations on folders, one to migrate from and one to migrate to. */
#ifndef COFFER_TESTS_WORLDS_H
#define COFFER_TESTS_WORLDS_H

#include "files/files_migrate.h"

#define WORLDS_PATH_SIZE 1400
#define WORLDS_CONTENT_SIZE 40000

struct installation {
    struct config config;
    struct files files;
};

struct worlds {
    struct installation source;
    struct installation target;
    struct migrate_options options;
    struct migrate_result result;
    int found[4]; /* one a kind */
    char text[ERR_MESSAGE_MAX + 1];
    int progress;
    atomic_bool stop;
    int64_t stop_at;  /* bytes; 0: never */
    int delete_first; /* number of a file that is deleted in the source as the copying begins */
};

/* Both with nothing in them; false (and a message) when that failed. */
bool worlds_open(struct worlds *worlds);
void worlds_close(struct worlds *worlds);
/* Migrates with worlds->options into worlds->result. */
enum err_code worlds_migrate(struct worlds *worlds, struct err *err);
/* The same, and expects no failure of the run. */
void worlds_run(struct worlds *worlds);

/* Files by number, each with a content and fields of its own. */
void worlds_describe(struct file *ret_file, int number, char content[WORLDS_CONTENT_SIZE],
                     size_t *ret_len);
void worlds_put(const struct files *files, const char *key, const void *data, size_t len);
void worlds_insert(const struct files *files, const struct file *file);
void worlds_create(const struct files *files, int number);
/* The row, also an expired one. */
bool worlds_get(const struct files *files, int number, struct file *ret_file);
/* As a client's DELETE: row marked, bytes removed, row removed. */
void worlds_delete(const struct files *files, int number);
/* The target holds the file as it was created. */
void worlds_check(const struct worlds *worlds, int number);

/* Objects, behind everybody's back. */
void worlds_path(const struct installation *installation, int number, char path[WORLDS_PATH_SIZE]);
void worlds_write(const struct installation *installation, int number, const char *text);
bool worlds_has(const struct installation *installation, int number);
void worlds_remove(const struct installation *installation, int number);
/* Changes one byte. */
void worlds_flip(const struct installation *installation, int number);

#endif
