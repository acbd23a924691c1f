/*
 * Fills the metadata of a stopped service with rows, through the metadata contract itself, so that
 * kept totals and indexes are what the service would have made. DATA_DIR and the other settings
 * come from the environment as for the service; use DURABILITY=relaxed.
 *
 *     seed ROWS THREADS
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/id.h"
#include "metadata/metadata.h"

#define MAX_THREADS 64
#define SHA256_OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct seeding {
    struct metadata *metadata;
    int64_t first_ms;
    long rows;
    atomic_long next;
    atomic_int failures;
};

static void fill_row(struct file *file, const struct seeding *seeding, long number)
{
    *file = (struct file){.owner = "local",
                          .mime = "application/octet-stream",
                          .sha256 = SHA256_OF_NOTHING,
                          .bucket = "uploads",
                          .metadata = "{}",
                          .size = 1024 + number % 4096,
                          .created_ms = seeding->first_ms + number,
                          .updated_ms = seeding->first_ms + number,
                          .version = 1};
    id_new(&clock_system, file->id);
    snprintf(file->name, sizeof(file->name), "file-%08ld.bin", number * 7919 % seeding->rows);
    snprintf(file->key, sizeof(file->key), "%.2s/%s", file->id + ID_LENGTH - 2, file->id);
}

static void *work(void *argument)
{
    struct seeding *seeding = argument;
    struct file file;
    struct err err;
    long number;

    while (atomic_load(&seeding->failures) == 0 &&
           (number = atomic_fetch_add(&seeding->next, 1)) < seeding->rows) {
        fill_row(&file, seeding, number);
        if (metadata_file_insert(seeding->metadata, &file, NULL, &err) != ERR_OK &&
            atomic_fetch_add(&seeding->failures, 1) == 0)
            fprintf(stderr, "seed: row %ld: %s: %s\n", number, err.operation, err.message);
    }
    return NULL;
}

static bool run(struct seeding *seeding, long threads)
{
    pthread_t ids[MAX_THREADS];
    long started = 0;

    while (started < threads && pthread_create(&ids[started], NULL, work, seeding) == 0)
        started++;
    for (long i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    return started == threads && atomic_load(&seeding->failures) == 0;
}

int main(int argc, char **argv)
{
    static struct config config;
    struct seeding seeding = {.rows = argc == 3 ? strtol(argv[1], NULL, 10) : 0};
    long threads = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    struct err err;
    bool ok;

    if (seeding.rows < 1 || threads < 1 || threads > MAX_THREADS) {
        fputs("usage: seed ROWS THREADS\n", stderr);
        return EXIT_FAILURE;
    }
    seeding.first_ms = clock_wall_ms(&clock_system) - seeding.rows;
    if (config_load(&config, &err) != ERR_OK ||
        metadata_open(&seeding.metadata, &config, &clock_system, NULL, &err) != ERR_OK) {
        fprintf(stderr, "seed: %s: %s\n", err.operation, err.message);
        return EXIT_FAILURE;
    }
    ok = run(&seeding, threads);
    metadata_close(seeding.metadata);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
