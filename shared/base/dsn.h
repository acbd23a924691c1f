/*
 * The address of an error tracker that speaks Sentry's protocol, by the rules of its SDKs
 * (https://develop.sentry.dev/sdk/overview/#parsing-the-dsn):
 *
 *     http(s)://PUBLIC_KEY[:SECRET_KEY]@HOST[:PORT][/PATH]/PROJECT
 *
 * The secret key is of old and is not used.
 */
#ifndef COFFER_BASE_DSN_H
#define COFFER_BASE_DSN_H

#include <stdbool.h>

#include "base/config.h"
#include "base/str.h"

#define DSN_KEY_SIZE 129
#define DSN_URL_SIZE (CONFIG_TEXT_SIZE + 16)

struct dsn {
    char public_key[DSN_KEY_SIZE];
    char envelope_url[DSN_URL_SIZE]; /* http(s)://HOST[:PORT][/PATH]/api/PROJECT/envelope/ */
};

/* False when it is none; *ret_dsn is set only on success. */
bool dsn_parse(struct str text, struct dsn *ret_dsn);

#endif
