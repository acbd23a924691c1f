/* What tests of the drivers share: settings over a temporary DATA_DIR, sample rows, threads. */
#ifndef COFFER_TESTS_STORE_H
#define COFFER_TESTS_STORE_H

#include "base/clock.h"
#include "base/config.h"
#include "metadata/metadata.h"

/* Settings of a small installation whose DATA_DIR is `data_dir`; nothing is made there. */
void store_config(struct config *ret_config, const char *data_dir);
/* A temporary DATA_DIR with both drivers initialised; false (and a message) when that failed. */
bool store_make(struct config *ret_config);
/* Row number `number`: its id sorts by the number, name "file-<number>", size and times from it. */
void store_file(struct file *ret_file, int number, const char *owner);
/* The id of row `number`. */
void store_id(char target[ID_SIZE], int number);

/* Runs `run(context, index)` on `count` threads at once and waits for all. */
void store_threads(int count, void (*run)(void *context, int index), void *context);

#define STORE_NOW_MS 1800000000000LL /* the wall time of sample rows */

#endif
