/*
 * The table of settings that config.h is about: only for config*.c and its tests. Const data.
 */
#ifndef COFFER_BASE_CONFIG_TABLE_H
#define COFFER_BASE_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/str.h"

enum setting_type {
    SETTING_TEXT,   /* char[CONFIG_TEXT_SIZE] */
    SETTING_PATH,   /* the same, made absolute */
    SETTING_LOG,    /* a path, or unix:/path of a datagram socket */
    SETTING_INT,    /* int64_t within min…max */
    SETTING_BYTES,  /* the same, written with an optional K, M, G */
    SETTING_BOOL,   /* bool, written 0 or 1 */
    SETTING_CHOICE, /* an enum: the index of the choice */
};

struct setting {
    const char *name;
    const char *alias; /* another name it may be set by, or NULL */
    enum setting_type type;
    size_t offset;               /* in struct config */
    const char *default_text;    /* as an operator would write it; "" for none */
    const char *derived_default; /* not NULL: said instead of default_text, and worked out later */
    int64_t min, max;            /* SETTING_INT, SETTING_BYTES */
    const char *const *choices;  /* ends with NULL; SETTING_CHOICE, or SETTING_TEXT of few words */
    bool (*is_valid)(struct str value); /* SETTING_TEXT without choices */
    const char *shape;                  /* what is_valid wants, in words */
    const char *meaning;                /* one line */
    bool secret;                        /* never shown; may come from the file NAME_FILE names */
};

extern const struct setting config_settings[];
extern const size_t config_setting_count;

#define SECRET_NAME_SIZE 64

/* What may be written for it, in words: "1 to 65535", "full or relaxed". */
void setting_print_range(const struct setting *setting, struct buf *out);
/* The value it has in *config; "***" for a secret unless `reveal` (an empty secret stays empty). */
void setting_print_value(const struct setting *setting, const struct config *config, bool reveal,
                         struct buf *out);
/* "export NAME='value'" and a line feed, quoted for a POSIX shell. */
void setting_print_export(const char *name, struct str value, struct buf *out);

/*
 * Shapes that the text of a setting must have: what the rows of config_table.c name as `is_valid`.
 */

/* At least one byte, each an ASCII letter, a digit or one of `others`. */
bool is_made_of(struct str text, const char *others);

bool is_authority(struct str value); /* a host with an optional port; IPv6 in brackets */
bool is_dsn(struct str value);       /* base/dsn.h */

#endif
