/*
 * The user a service runs as when it is started as root, and whether DATA_DIR is that user's. The
 * rules are in docs/decisions/0030. For start-up and the admin command: not thread-safe, may fork.
 */
#ifndef COFFER_BASE_SERVICE_USER_H
#define COFFER_BASE_SERVICE_USER_H

#include <sys/types.h>

#include "base/config.h"
#include "base/errors.h"

#define SERVICE_USER "coffer" /* where COFFER_USER is empty and DATA_DIR is new */
#define SERVICE_USER_SIZE 64
#define SERVICE_USER_WHY_SIZE 200

struct service_user {
    bool drops; /* root gives way to this user; false: the process stays who it is */
    uid_t uid;
    gid_t gid;
    char name[SERVICE_USER_SIZE];    /* the number where it has no name */
    char why[SERVICE_USER_WHY_SIZE]; /* why root stays root; "" otherwise */
};

/* Whom the caller should become. ERR_CONFIG: COFFER_USER does not exist, or can't reach DATA_DIR or
 * this program. */
enum err_code service_user_find(const struct config *config, struct service_user *ret_user,
                                struct err *err) ERR_MUST_CHECK;
/* As root, before service_user_become: DATA_DIR is made, or taken over while it is empty, and what
 * lies in it must be the user's. Does nothing unless user->drops. */
enum err_code service_user_own(const struct service_user *user, const struct config *config,
                               struct err *err) ERR_MUST_CHECK;
/* Gives up root for good. Does nothing unless user->drops. */
enum err_code service_user_become(const struct service_user *user, struct err *err) ERR_MUST_CHECK;

/* True for a folder with nothing in it but a file system's own lost+found. */
bool is_empty_folder(const char *path);
/* ERR_CONFIG when DATA_DIR, or what the service needs in it, is there but not for this process: with
 * its owner, its mode, the user of this process, and what to run. */
enum err_code data_dir_check(const struct config *config, struct err *err) ERR_MUST_CHECK;

#endif
