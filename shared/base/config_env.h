/*
 * The file of settings (.env) that `coffer` and, through it, coffer-serve read: lines NAME=value.
 * The only reader of it. What the environment has already wins. Changes the environment, so only
 * before threads are started.
 */
#ifndef COFFER_BASE_CONFIG_ENV_H
#define COFFER_BASE_CONFIG_ENV_H

#include "base/errors.h"
#include "base/str.h"

#define CONFIG_ENV_FILE ".env" /* in the current folder; may be missing */

/* Adds the settings of the file `path` to the environment; NULL: of COFFER_ENV_FILE, else of ./.env
 * where that exists. `exports` (may be NULL) gets what was added as shell assignments, secrets
 * included. ERR_CONFIG with one clear line: the file can't be read, a line is not NAME=value, a name
 * is no setting's (with the nearest one) or is set twice. */
enum err_code config_env_load(const char *path, struct buf *exports, struct err *err)
    ERR_MUST_CHECK;

/* Appends a line to `out` for each variable of the environment that is not a setting's but differs
 * from one by at most two letters. */
void config_env_suspects(struct buf *out);

#endif
