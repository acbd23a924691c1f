/*
 * What a small durable upload costs with no HTTP: every thread writes a file of 1 KiB, syncs it,
 * renames it to its place, syncs that folder and commits a row to SQLite (WAL, synchronous=FULL)
 * over a connection of its own. Prints {"operations":N,"seconds":S}.
 *
 *     bare_loop FOLDER THREADS SECONDS
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES 1024
#define FOLDERS 256
#define MAX_THREADS 256
#define SHA256_OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct loop {
    int root;
    const char *database;
    double end;
    atomic_long operations;
    atomic_int failures;
};

struct worker {
    struct loop *loop;
    pthread_t thread;
    int number;
};

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool database_run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static sqlite3 *database_open(const char *path)
{
    sqlite3 *db = NULL;

    if (sqlite3_open(path, &db) == SQLITE_OK && sqlite3_busy_timeout(db, 10000) == SQLITE_OK &&
        database_run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"))
        return db;
    sqlite3_close(db);
    return NULL;
}

static bool write_synced(int root, const char *name, const char *body)
{
    int fd = openat(root, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok;

    if (fd < 0)
        return false;
    ok = write(fd, body, FILE_BYTES) == FILE_BYTES && fsync(fd) == 0;
    return close(fd) == 0 && ok;
}

static bool sync_folder(int root, const char *name)
{
    int fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok;

    if (fd < 0)
        return false;
    ok = fsync(fd) == 0;
    close(fd);
    return ok;
}

static bool insert_row(sqlite3_stmt *insert, const char *id)
{
    bool ok = sqlite3_bind_text(insert, 1, id, -1, SQLITE_STATIC) == SQLITE_OK &&
              sqlite3_step(insert) == SQLITE_DONE;

    return sqlite3_reset(insert) == SQLITE_OK && ok;
}

static bool store_one(struct loop *loop, sqlite3_stmt *insert, int worker, long number)
{
    static const char body[FILE_BYTES] = "one kilobyte";
    unsigned folder = (unsigned)((number * 7919 + worker * 131) % FOLDERS);
    char temporary[96];
    char final[96];
    char id[64];

    snprintf(id, sizeof(id), "%08lx-%04x-7000-8000-%012lx", number, (unsigned)worker, number);
    snprintf(temporary, sizeof(temporary), "tmp/%s", id);
    snprintf(final, sizeof(final), "objects/%02x/%s", folder, id);
    if (!write_synced(loop->root, temporary, body) ||
        renameat(loop->root, temporary, loop->root, final) != 0)
        return false;
    final[strlen("objects/00")] = '\0';
    return sync_folder(loop->root, final) && insert_row(insert, id);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct loop *loop = worker->loop;
    sqlite3 *db = database_open(loop->database);
    sqlite3_stmt *insert = NULL;
    bool ok = db != NULL &&
              sqlite3_prepare_v2(db,
                                 "INSERT INTO files VALUES (?, 'note.bin', 1024, "
                                 "'application/octet-stream', '" SHA256_OF_NOTHING "', 0, 0)",
                                 -1, &insert, NULL) == SQLITE_OK;

    for (long number = 0; ok && now_seconds() < loop->end; number++) {
        ok = store_one(loop, insert, worker->number, number);
        if (ok)
            atomic_fetch_add(&loop->operations, 1);
    }
    if (!ok) {
        fprintf(stderr, "bare_loop: %s, %s\n", strerror(errno), db ? sqlite3_errmsg(db) : "");
        atomic_fetch_add(&loop->failures, 1);
    }
    sqlite3_finalize(insert);
    sqlite3_close(db);
    return NULL;
}

static bool prepare(int root, const char *database)
{
    sqlite3 *db;
    bool ok = mkdirat(root, "tmp", 0700) == 0 && mkdirat(root, "objects", 0700) == 0;

    for (unsigned i = 0; ok && i < FOLDERS; i++) {
        char name[32];

        snprintf(name, sizeof(name), "objects/%02x", i);
        ok = mkdirat(root, name, 0700) == 0;
    }
    if (!ok)
        return false;
    db = database_open(database);
    ok = db != NULL && database_run(db, "CREATE TABLE files (id TEXT PRIMARY KEY, name TEXT, "
                                        "size INTEGER, mime TEXT, sha256 TEXT, "
                                        "created INTEGER, updated INTEGER)");
    sqlite3_close(db);
    return ok;
}

static int run(struct loop *loop, struct worker *workers, long threads, double seconds)
{
    double start = now_seconds();
    long started = 0;

    loop->end = start + seconds;
    for (; started < threads; started++) {
        workers[started] = (struct worker){.loop = loop, .number = (int)started};
        if (pthread_create(&workers[started].thread, NULL, work, &workers[started]) != 0) {
            atomic_fetch_add(&loop->failures, 1);
            break;
        }
    }
    for (long i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    printf("{\"operations\": %ld, \"seconds\": %.6f}\n", atomic_load(&loop->operations),
           now_seconds() - start);
    return atomic_load(&loop->failures) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static struct worker workers[MAX_THREADS];
    struct loop loop = {.root = -1};
    char database[4096];
    long threads = argc == 4 ? strtol(argv[2], NULL, 10) : 0;
    double seconds = argc == 4 ? strtod(argv[3], NULL) : 0;
    int status = EXIT_FAILURE;

    if (threads < 1 || threads > MAX_THREADS || seconds <= 0) {
        fputs("usage: bare_loop FOLDER THREADS SECONDS\n", stderr);
        return EXIT_FAILURE;
    }
    snprintf(database, sizeof(database), "%s/files.db", argv[1]);
    loop.database = database;
    loop.root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (loop.root < 0 || !prepare(loop.root, database)) {
        fprintf(stderr, "bare_loop: %s: %s\n", argv[1], strerror(errno));
        goto out;
    }
    status = run(&loop, workers, threads, seconds);
out:
    if (loop.root >= 0)
        close(loop.root);
    return status;
}
