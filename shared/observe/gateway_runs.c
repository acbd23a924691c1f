#include "observe/gateway_runs.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "observe/metrics_table.h"

#define MAGIC 0x31534e5552464f43u /* "COFRUNS1" */
#define RUNS 16
#define MARKS 256
#define LOCK_TRIES 500
#define PAUSE_NS (10L * 1000 * 1000)
#define BOOT_ID_SIZE 64

/* Counted lines of a run: carried + (lines in the slot - base) + own. */
struct run {
    _Atomic uint64_t id;      /* of its pipe; 0: free */
    _Atomic uint64_t age;     /* rises from run to run */
    _Atomic uint64_t slot;    /* index of its reader's slot, plus one; 0: none is counted in */
    _Atomic uint64_t base;    /* lines in that slot when the run came to it */
    _Atomic uint64_t carried; /* by readers that had other slots */
    _Atomic uint64_t own;     /* answers to the service itself */
    _Atomic uint64_t lost;    /* the most that was found */
    _Atomic uint64_t unknown; /* 1: what was counted before is not known: nothing is lost so far */
};

struct mark {
    _Atomic uint64_t mark; /* that came through; written last, cleared first */
    _Atomic uint64_t run;
    _Atomic uint64_t counted; /* lines of that run before the mark's */
    _Atomic uint64_t missed;  /* a mark that had not come through when its scraper left */
};

struct runs_file {
    _Atomic uint64_t magic;
    _Atomic uint64_t layout; /* of the metrics the numbers belong to */
    _Atomic uint64_t last_mark;
    _Atomic uint64_t last_age;
    _Atomic uint64_t lost_before; /* in runs that were forgotten */
    struct run runs[RUNS];
    struct mark marks[MARKS];
};

struct gateway_runs {
    pthread_mutex_t mutex; /* a lock on the file holds off other processes only */
    int fd;
    struct runs_file *file;
    struct metrics *metrics;
    struct run *run; /* the reader's */
};

static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && sizeof(long long) == sizeof(uint64_t),
              "atomics that other processes see must not hide a lock");

static enum err_code fail(struct err *err, int os_errno, const char *operation)
{
    return err_set_internal(err, ERR_INTERNAL, os_errno, operation,
                            "The file of the gateway's runs can't be used: %s.",
                            strerrordesc_np(os_errno));
}

/* ---- the file ---- */

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

/* False where somebody who is stopped holds it. */
static bool lock(struct gateway_runs *runs)
{
    pthread_mutex_lock(&runs->mutex);
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(runs->fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        pause_a_little();
    }
    pthread_mutex_unlock(&runs->mutex);
    return false;
}

static void unlock(struct gateway_runs *runs)
{
    flock(runs->fd, LOCK_UN);
    pthread_mutex_unlock(&runs->mutex);
}

static enum err_code map_file(struct gateway_runs *runs, const char *path, struct err *err)
{
    runs->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (runs->fd < 0)
        return fail(err, errno, "open");
    /* All of its memory now: later the lack of it would be a SIGBUS. */
    int reason = posix_fallocate(runs->fd, 0, sizeof *runs->file);
    if (reason)
        return fail(err, reason, "fallocate");
    void *map = mmap(NULL, sizeof *runs->file, PROT_READ | PROT_WRITE, MAP_SHARED, runs->fd, 0);
    if (map == MAP_FAILED)
        return fail(err, errno, "mmap");
    runs->file = map;
    return ERR_OK;
}

/* The metrics begin at nothing, and so does what is lost; pipes may go on. */
static void begin_anew(struct runs_file *file, uint64_t layout)
{
    for (size_t i = 0; i < RUNS; i++) {
        struct run *run = &file->runs[i];
        atomic_store(&run->unknown, 1);
        atomic_store(&run->slot, 0);
        atomic_store(&run->base, 0);
        atomic_store(&run->carried, 0);
        atomic_store(&run->own, 0);
        atomic_store(&run->lost, 0);
    }
    atomic_store(&file->lost_before, 0);
    atomic_store(&file->layout, layout);
    atomic_store(&file->magic, MAGIC);
}

enum err_code gateway_runs_open(struct gateway_runs **ret_runs, const char *path,
                                struct metrics *metrics, struct err *err)
{
    struct gateway_runs *runs = calloc(1, sizeof *runs);
    if (!runs)
        return err_set(err, ERR_NO_MEMORY, "gateway_runs_open", "Out of memory.");
    pthread_mutex_init(&runs->mutex, NULL);
    runs->metrics = metrics;
    runs->fd = -1;
    enum err_code code = map_file(runs, path, err);
    if (code == ERR_OK && !lock(runs))
        code = fail(err, EWOULDBLOCK, "flock");
    if (code != ERR_OK) {
        gateway_runs_close(runs);
        return code;
    }
    struct runs_file *file = runs->file;
    if (atomic_load(&file->magic) != MAGIC || atomic_load(&file->layout) != metrics->layout.hash)
        begin_anew(file, metrics->layout.hash);
    unlock(runs);
    *ret_runs = runs;
    return ERR_OK;
}

void gateway_runs_close(struct gateway_runs *runs)
{
    if (!runs)
        return;
    if (runs->file)
        munmap(runs->file, sizeof *runs->file);
    if (runs->fd >= 0)
        close(runs->fd);
    pthread_mutex_destroy(&runs->mutex);
    free(runs);
}

/* ---- counting ---- */

static uint64_t slot_lines(const struct metrics *metrics, unsigned index)
{
    struct metrics_slot *slot = metrics_slot_at(metrics, index);
    size_t at = metrics->layout.offset[METRIC_HTTP_REQUESTS];
    size_t count = metric_series_count(&metric_rows[METRIC_HTTP_REQUESTS]);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += atomic_load_explicit(&slot->cells[at + i], memory_order_relaxed);
    return sum;
}

static uint64_t counted_in_slot(const struct gateway_runs *runs, const struct run *run)
{
    uint64_t slot = atomic_load(&run->slot);
    if (slot == 0 || slot > runs->metrics->layout.slot_count)
        return 0;
    return slot_lines(runs->metrics, (unsigned)slot - 1) - atomic_load(&run->base);
}

static uint64_t counted(const struct gateway_runs *runs, const struct run *run)
{
    return atomic_load(&run->carried) + atomic_load(&run->own) + counted_in_slot(runs, run);
}

/* Nobody counts for the run in its slot any more. */
static void leave_slot(const struct gateway_runs *runs, struct run *run)
{
    uint64_t in_slot = counted_in_slot(runs, run);
    atomic_store(&run->slot, 0);
    atomic_fetch_add(&run->carried, in_slot);
}

static unsigned own_slot(const struct metrics *metrics)
{
    unsigned index = 0;
    while (metrics_slot_at(metrics, index) != metrics->own)
        index++;
    return index;
}

/* Inode numbers of pipes begin anew with the machine. */
static enum err_code identify(int fd, uint64_t *ret_id, struct err *err)
{
    struct stat stat;
    char boot[BOOT_ID_SIZE];
    size_t len = 0;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    if (fstat(fd, &stat) != 0 || !S_ISFIFO(stat.st_mode))
        return err_set_internal(err, ERR_INTERNAL, 0, "gateway_runs_join",
                                "The access log comes through no pipe.");
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (file >= 0 && io_read_some(file, boot, sizeof boot, &len, err) != ERR_OK)
        len = 0;
    if (file >= 0)
        close(file);
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)boot[i]) * 0x100000001b3u;
    hash ^= (uint64_t)stat.st_ino * 0x9e3779b97f4a7c15u;
    hash ^= (uint64_t)stat.st_dev << 48;
    *ret_id = hash ? hash : 1;
    return ERR_OK;
}

static struct run *find_run(struct runs_file *file, uint64_t id)
{
    for (size_t i = 0; i < RUNS; i++)
        if (atomic_load(&file->runs[i].id) == id)
            return &file->runs[i];
    return NULL;
}

/* ---- one reader a run ---- */

/* A lock on the run's own byte, which ends with its process. */
static bool lock_run(const struct gateway_runs *runs, const struct run *run)
{
    struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    byte.l_start = run - runs->file->runs;
    return fcntl(runs->fd, F_OFD_SETLK, &byte) == 0;
}

static bool has_reader(const struct gateway_runs *runs, const struct run *run)
{
    struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    byte.l_start = run - runs->file->runs;
    return fcntl(runs->fd, F_OFD_GETLK, &byte) == 0 && byte.l_type != F_UNLCK;
}

/* The oldest that nobody reads; NULL when there is none. What it lost stays known. */
static struct run *forget_run(struct gateway_runs *runs)
{
    struct run *oldest = NULL;
    for (size_t i = 0; i < RUNS; i++) {
        struct run *run = &runs->file->runs[i];
        if ((!oldest || atomic_load(&run->age) < atomic_load(&oldest->age)) &&
            !has_reader(runs, run))
            oldest = run;
    }
    if (oldest && atomic_load(&oldest->id) != 0) {
        atomic_store(&oldest->id, 0);
        atomic_fetch_add(&runs->file->lost_before, atomic_exchange(&oldest->lost, 0));
    }
    return oldest;
}

static struct run *begin_run(struct gateway_runs *runs, uint64_t id)
{
    struct run *run = forget_run(runs);
    if (!run)
        return NULL;
    atomic_store(&run->slot, 0);
    atomic_store(&run->base, 0);
    atomic_store(&run->carried, 0);
    atomic_store(&run->own, 0);
    atomic_store(&run->lost, 0);
    atomic_store(&run->unknown, 0);
    atomic_store(&run->age, atomic_fetch_add(&runs->file->last_age, 1) + 1);
    atomic_store(&run->id, id);
    return run;
}

/* A slot counts for one run: whoever had it before is dead. */
static void take_slot(struct gateway_runs *runs, struct run *run)
{
    unsigned slot = own_slot(runs->metrics);
    for (size_t i = 0; i < RUNS; i++) {
        struct run *other = &runs->file->runs[i];
        if (other != run && atomic_load(&other->slot) == slot + 1)
            leave_slot(runs, other);
    }
    if (atomic_load(&run->slot) == slot + 1)
        return; /* as if the reader before had never ended */
    leave_slot(runs, run);
    atomic_store(&run->base, slot_lines(runs->metrics, slot));
    atomic_store(&run->slot, slot + 1);
}

/* False while another reader of the pipe lives. */
static bool try_join(struct gateway_runs *runs, uint64_t id, bool *ret_no_room)
{
    struct run *run = find_run(runs->file, id);
    if (!run)
        run = begin_run(runs, id);
    *ret_no_room = !run;
    if (!run || !lock_run(runs, run))
        return false;
    take_slot(runs, run);
    runs->run = run;
    return true;
}

enum err_code gateway_runs_join(struct gateway_runs *runs, int fd, const atomic_bool *stopped,
                                struct err *err)
{
    uint64_t id;
    bool no_room = false;
    if (!runs)
        return ERR_OK;
    enum err_code code = identify(fd, &id, err);
    if (code != ERR_OK)
        return code;
    for (;;) {
        if (!lock(runs))
            return fail(err, EWOULDBLOCK, "flock");
        bool joined = try_join(runs, id, &no_room);
        unlock(runs);
        if (joined)
            return ERR_OK;
        if (no_room || atomic_load(stopped))
            return err_set_internal(err, ERR_INTERNAL, 0, "gateway_runs_join",
                                    no_room ? "There are too many gateways."
                                            : "Stopped while another reader had the pipe.");
        pause_a_little();
    }
}

void gateway_runs_count_own(struct gateway_runs *runs, uint64_t mark)
{
    if (!runs || !runs->run)
        return;
    uint64_t before = mark ? counted(runs, runs->run) : 0;
    atomic_fetch_add(&runs->run->own, 1);
    if (mark == 0)
        return;
    struct mark *place = &runs->file->marks[mark % MARKS];
    atomic_store(&place->mark, 0);
    atomic_store(&place->run, atomic_load(&runs->run->id));
    atomic_store(&place->counted, before);
    atomic_store(&place->mark, mark);
}

/* ---- scrapers ---- */

uint64_t gateway_runs_new_mark(struct gateway_runs *runs)
{
    return runs ? atomic_fetch_add(&runs->file->last_mark, 1) + 1 : 0;
}

static void raise_lost(struct run *run, uint64_t total, uint64_t lines)
{
    if (atomic_load(&run->unknown)) {
        if (total > lines)
            atomic_fetch_add(&run->carried, total - lines);
        atomic_store(&run->unknown, 0);
    } else if (total > lines && total - lines > atomic_load(&run->lost)) {
        atomic_store(&run->lost, total - lines);
    }
}

/* Lines come in their order: what was missed before this mark is lost, and was no client's. */
static uint64_t settle_missed(struct runs_file *file, uint64_t mark)
{
    uint64_t gone = 0;
    for (size_t i = 0; i < MARKS; i++) {
        struct mark *place = &file->marks[i];
        uint64_t missed = atomic_load(&place->missed);
        if (missed == 0 || missed >= mark)
            continue;
        gone += atomic_load(&place->mark) != missed;
        atomic_store(&place->missed, 0);
    }
    return gone;
}

bool gateway_runs_account(struct gateway_runs *runs, uint64_t mark, uint64_t total)
{
    if (!runs || mark == 0)
        return false;
    const struct mark *place = &runs->file->marks[mark % MARKS];
    if (atomic_load(&place->mark) != mark)
        return false;
    uint64_t id = atomic_load(&place->run);
    uint64_t lines = atomic_load(&place->counted);
    if (atomic_load(&place->mark) != mark || !lock(runs))
        return false;
    struct run *run = find_run(runs->file, id);
    if (run) {
        uint64_t gone = settle_missed(runs->file, mark);
        atomic_fetch_add(&run->own, gone);
        raise_lost(run, total, lines + gone);
    }
    unlock(runs);
    return true;
}

void gateway_runs_miss(struct gateway_runs *runs, uint64_t mark)
{
    if (runs && mark != 0)
        atomic_store(&runs->file->marks[mark % MARKS].missed, mark);
}

void gateway_runs_publish(struct gateway_runs *runs)
{
    if (!runs || !lock(runs))
        return;
    uint64_t lost = atomic_load(&runs->file->lost_before);
    for (size_t i = 0; i < RUNS; i++)
        lost += atomic_load(&runs->file->runs[i].lost);
    uint64_t shown = metrics_total(runs->metrics, METRIC_GATEWAY_LINES_LOST);
    if (lost > shown)
        metrics_add(runs->metrics, METRIC_GATEWAY_LINES_LOST, NULL, (int64_t)(lost - shown));
    unlock(runs);
}
