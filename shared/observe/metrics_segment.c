/*
 * The file, its mapping, and who owns which slot (docs/decisions/0002).
 *
 * Making the file and taking a slot happen under an flock on "<path>.lock", so that programs that
 * start together end in one file. The lock is not held afterwards; nothing else ever waits.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "observe/metrics.h"
#include "observe/metrics_table.h"

/*
 * Exemplars: of each bucket the last traced value. One is EXEMPLAR_WORDS words of its slot. The
 * first is its version: the time in ms, a number of 16 bits that every write moves, and in the
 * lowest bit whether somebody is writing. A thread that finds the bit set leaves its own value: the
 * other's is as new. A reader takes what it read only when the version was the same before and
 * after. So nobody waits, and no reader sees half of one exemplar and half of another. Whoever is
 * killed while writing leaves the bit set; the slot's next owner clears such an exemplar.
 *
 * Order without fences, which ThreadSanitizer does not know: the writer's stores are releases, so
 * that whoever sees one of them also sees the bit; the reader's loads are acquires, so that the
 * second load of the version is not earlier than they.
 */

enum exemplar_word { WORD_VERSION, WORD_TRACE_HIGH, WORD_TRACE_LOW, WORD_VALUE, WORD_COUNT };

static_assert(WORD_COUNT == EXEMPLAR_WORDS, "the layout has room for them");

#define WRITING UINT64_C(1)
#define NUMBER_BITS 16
#define NUMBER_MASK ((UINT64_C(1) << NUMBER_BITS) - 1)
#define NUMBER_STEP 2
#define TRACE_ID_LEN 32
#define READ_TRIES 3

/* Every byte's value as a lower-case hex digit plus 1; 0: it is none. */
static const unsigned char digit_plus_one[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16};

/* 16 lower-case hex digits; false when they are not. */
static bool read_hex(const char *text, uint64_t *ret_word)
{
    uint64_t word = 0;
    for (int i = 0; i < TRACE_ID_LEN / 2; i++) {
        unsigned value = digit_plus_one[(unsigned char)text[i]];
        if (value == 0) /* the NUL of a shorter text ends here, too */
            return false;
        word = word << 4 | (value - 1);
    }
    *ret_word = word;
    return true;
}

static _Atomic uint64_t *words_of(const struct metrics_layout *layout, struct metrics_slot *slot,
                                  const struct exemplar_place *place)
{
    struct metric_bounds bounds = metric_bounds(layout, &metric_rows[place->metric]);
    size_t index = place->series * (bounds.count + 1) + place->bucket;
    return &slot->cells[layout->exemplar_offset[place->metric] + index * EXEMPLAR_WORDS];
}

static void exemplar_keep(struct metrics *metrics, const struct exemplar_place *place, double value,
                          const char *trace_id)
{
    uint64_t high, low, bits;
    if (!trace_id || !read_hex(trace_id, &high) || !read_hex(trace_id + TRACE_ID_LEN / 2, &low) ||
        trace_id[TRACE_ID_LEN] != '\0' || (high | low) == 0)
        return;
    _Atomic uint64_t *words = words_of(&metrics->layout, metrics->own, place);
    uint64_t version = atomic_load_explicit(&words[WORD_VERSION], memory_order_relaxed);
    if ((version & WRITING) ||
        !atomic_compare_exchange_strong_explicit(&words[WORD_VERSION], &version, version | WRITING,
                                                 memory_order_acquire, memory_order_relaxed))
        return;
    memcpy(&bits, &value, sizeof bits);
    atomic_store_explicit(&words[WORD_TRACE_HIGH], high, memory_order_release);
    atomic_store_explicit(&words[WORD_TRACE_LOW], low, memory_order_release);
    atomic_store_explicit(&words[WORD_VALUE], bits, memory_order_release);
    uint64_t time_ms = (uint64_t)clock_wall_ms(metrics->clock);
    uint64_t number = (version + NUMBER_STEP) & NUMBER_MASK;
    atomic_store_explicit(&words[WORD_VERSION], time_ms << NUMBER_BITS | number,
                          memory_order_release);
}

static bool read_once(_Atomic uint64_t *words, struct exemplar *ret_exemplar)
{
    uint64_t version = atomic_load_explicit(&words[WORD_VERSION], memory_order_acquire);
    if (version >> NUMBER_BITS == 0 || (version & WRITING))
        return false;
    struct exemplar exemplar = {
        .trace_high = atomic_load_explicit(&words[WORD_TRACE_HIGH], memory_order_acquire),
        .trace_low = atomic_load_explicit(&words[WORD_TRACE_LOW], memory_order_acquire),
        .time_ms = version >> NUMBER_BITS,
    };
    uint64_t bits = atomic_load_explicit(&words[WORD_VALUE], memory_order_acquire);
    if (atomic_load_explicit(&words[WORD_VERSION], memory_order_relaxed) != version)
        return false;
    memcpy(&exemplar.value, &bits, sizeof bits);
    *ret_exemplar = exemplar;
    return true;
}

bool exemplar_read(const struct metrics_layout *layout, struct metrics_slot *slot,
                   const struct exemplar_place *place, struct exemplar *ret_exemplar)
{
    _Atomic uint64_t *words = words_of(layout, slot, place);
    if (atomic_load_explicit(&words[WORD_VERSION], memory_order_relaxed) == 0)
        return false; /* none was ever kept */
    for (int i = 0; i < READ_TRIES; i++)
        if (read_once(words, ret_exemplar))
            return true;
    return false;
}

/* For a slot whose owner is gone. */
static void exemplars_clear_unfinished(const struct metrics_layout *layout,
                                       struct metrics_slot *slot)
{
    for (size_t at = layout->cells; at < layout->words; at += EXEMPLAR_WORDS)
        if (atomic_load(&slot->cells[at + WORD_VERSION]) & WRITING)
            atomic_store(&slot->cells[at + WORD_VERSION], 0);
}

#define MAGIC "COFMETR\n"
#define PATH_SIZE 1100
#define LOCK_TRIES 500
#define LOCK_PAUSE_NS (10 * 1000 * 1000)

static_assert(sizeof(struct metrics_header) == 64, "slots begin on a cache line");
static_assert(sizeof(struct metrics_slot) == 64, "cells begin on a cache line");
static_assert(sizeof(MAGIC) - 1 == sizeof((struct metrics_header *)0)->magic, "magic fits");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && sizeof(long long) == sizeof(uint64_t),
              "atomics that other processes see must not hide a lock");

static enum err_code fail(struct err *err, int os_errno, const char *operation, const char *path)
{
    return err_set_internal(err, ERR_INTERNAL, os_errno, operation,
                            "The metrics file %s can't be used: %s.", path,
                            strerrordesc_np(os_errno));
}

/* ---- the file ---- */

/* Waits for at most LOCK_TRIES pauses: who holds it may be stopped. */
static enum err_code lock_file(int *ret_fd, const char *path, struct err *err)
{
    char name[PATH_SIZE];
    snprintf(name, sizeof name, "%s.lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail(err, errno, "open", name);
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || i == LOCK_TRIES) {
            int reason = errno;
            close(fd);
            return fail(err, reason, "flock", name);
        }
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
    *ret_fd = fd;
    return ERR_OK;
}

static bool is_ours(int fd, const struct metrics_layout *layout)
{
    struct stat stat;
    struct metrics_header header;
    return fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) &&
           (size_t)stat.st_size == layout->file_size &&
           pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header &&
           memcmp(header.magic, MAGIC, sizeof header.magic) == 0 &&
           header.layout_hash == layout->hash && header.file_size == layout->file_size;
}

/* Gives the pages of a piece of the file their memory now: later the lack of it would be a SIGBUS. */
static int allocate(int fd, size_t at, size_t size)
{
    int reason;
    do
        reason = posix_fallocate(fd, (off_t)at, (off_t)size);
    while (reason == EINTR);
    return reason;
}

static size_t slot_at(const struct metrics_layout *layout, unsigned index)
{
    return sizeof(struct metrics_header) + index * layout->slot_size;
}

/* The heads of all slots, which everybody reads; a slot's cells get theirs when it is taken. */
static int allocate_heads(int fd, const struct metrics_layout *layout)
{
    int reason = ftruncate(fd, (off_t)layout->file_size) == 0 ? 0 : errno;
    if (reason == 0)
        reason = allocate(fd, 0, sizeof(struct metrics_header));
    for (unsigned i = 0; reason == 0 && i < layout->slot_count; i++)
        reason = allocate(fd, slot_at(layout, i), sizeof(struct metrics_slot));
    return reason;
}

static int fill_new_file(int fd, const struct metrics_layout *layout)
{
    struct metrics_header header = {.layout_hash = layout->hash, .file_size = layout->file_size};
    memcpy(header.magic, MAGIC, sizeof header.magic);
    int reason = allocate_heads(fd, layout);
    if (reason)
        return reason;
    errno = EIO; /* in case of a short write */
    return pwrite(fd, &header, sizeof header, 0) == (ssize_t)sizeof header ? 0 : errno;
}

/* Under another name first: a process that uses the old file keeps it, and no one sees half. */
static enum err_code make_file(int *ret_fd, const char *path, const struct metrics_layout *layout,
                               struct err *err)
{
    char name[PATH_SIZE];
    snprintf(name, sizeof name, "%s.new", path);
    unlink(name);
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(err, errno, "open", name);
    int reason = fill_new_file(fd, layout);
    if (reason == 0 && rename(name, path) != 0)
        reason = errno;
    if (reason) {
        close(fd);
        unlink(name);
        return fail(err, reason, "create", path);
    }
    *ret_fd = fd;
    return ERR_OK;
}

static enum err_code open_file(int *ret_fd, const char *path, const struct metrics_layout *layout,
                               struct err *err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno != ENOENT && errno != ELOOP && errno != ENXIO)
        return fail(err, errno, "open", path);
    if (fd >= 0 && is_ours(fd, layout)) {
        *ret_fd = fd;
        return ERR_OK;
    }
    if (fd >= 0)
        close(fd);
    return make_file(ret_fd, path, layout, err);
}

static enum err_code map_file(struct metrics *metrics, int fd, const char *path, struct err *err)
{
    void *map = mmap(NULL, metrics->layout.file_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return fail(err, errno, "mmap", path);
    metrics->map = map;
    return ERR_OK;
}

/* ---- slots ---- */

struct metrics_slot *metrics_slot_at(const struct metrics *metrics, unsigned index)
{
    return (struct metrics_slot *)(void *)(metrics->map + slot_at(&metrics->layout, index));
}

bool metrics_slot_was_used(struct metrics_slot *slot)
{
    return atomic_load(&slot->owner) != 0 || atomic_load(&slot->program[0]) != 0;
}

void metrics_slot_program(struct metrics_slot *slot, char target[METRIC_PROGRAM_SIZE])
{
    uint64_t words[METRIC_PROGRAM_WORDS];
    for (size_t i = 0; i < METRIC_PROGRAM_WORDS; i++)
        words[i] = atomic_load(&slot->program[i]);
    if (atomic_load(&slot->program[0]) != words[0])
        words[0] = 0;
    memcpy(target, words, sizeof words);
    target[METRIC_PROGRAM_SIZE - 1] = '\0';
}

/* The first word is written last and cleared first: it says whether the name stands. */
static void set_program(struct metrics_slot *slot, const char *program)
{
    char current[METRIC_PROGRAM_SIZE];
    uint64_t words[METRIC_PROGRAM_WORDS] = {0};
    memcpy(words, program, strnlen(program, METRIC_PROGRAM_SIZE - 1));
    metrics_slot_program(slot, current);
    if (memcmp(current, words, sizeof words) == 0)
        return;
    atomic_store(&slot->program[0], 0);
    atomic_store(&slot->cpu_base_us, 0);
    atomic_store(&slot->cpu_total_us, 0);
    for (size_t i = METRIC_PROGRAM_WORDS; i-- > 0;)
        atomic_store(&slot->program[i], words[i]);
}

/* Readies the slot of a dead process for the next one. Every step may be the last before a kill,
 * and may be done again. */
static void prepare(const struct metrics *metrics, struct metrics_slot *slot, const char *program,
                    uint64_t start_ms)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        if (metric_rows[i].type != METRIC_GAUGE || metrics->layout.offset[i] == METRIC_ABSENT)
            continue;
        for (size_t series = 0; series < metric_series_count(&metric_rows[i]); series++)
            atomic_store(&slot->cells[metrics->layout.offset[i] + series], 0);
    }
    exemplars_clear_unfinished(&metrics->layout, slot);
    set_program(slot, program);
    atomic_store(&slot->cpu_base_us, atomic_load(&slot->cpu_total_us));
    atomic_store(&slot->start_ms, start_ms);
}

/* In the order in which they are tried. */
enum slot_choice { SLOT_SAME_PROGRAM, SLOT_WITHOUT_NAME, SLOT_ANY, SLOT_CHOICES };

static bool slot_suits(struct metrics_slot *slot, enum slot_choice choice, const char *program)
{
    char name[METRIC_PROGRAM_SIZE];
    metrics_slot_program(slot, name);
    if (choice == SLOT_SAME_PROGRAM)
        return strncmp(name, program, METRIC_PROGRAM_SIZE - 1) == 0;
    return choice == SLOT_ANY || name[0] == '\0';
}

/* The index of a slot that nobody has, and who had it; slot_count: there is none. */
static unsigned find_free_slot(const struct metrics *metrics, const char *program,
                               uint64_t *ret_owner)
{
    for (int choice = 0; choice < SLOT_CHOICES; choice++) {
        for (unsigned i = 0; i < metrics->layout.slot_count; i++) {
            struct metrics_slot *slot = metrics_slot_at(metrics, i);
            uint64_t owner = atomic_load(&slot->owner);
            if (!slot_suits(slot, (enum slot_choice)choice, program) || process_is_alive(owner))
                continue;
            *ret_owner = owner;
            return i;
        }
    }
    return metrics->layout.slot_count;
}

static enum err_code take_slot(struct metrics *metrics, int fd,
                               const struct metrics_options *options, struct err *err)
{
    const struct metrics_layout *layout = &metrics->layout;
    uint64_t identity = process_identity(getpid());
    uint64_t start_ms = process_start_ms(identity);
    uint64_t owner = 0;
    struct metrics_slot *slot;
    do {
        unsigned index = find_free_slot(metrics, options->program, &owner);
        if (index == layout->slot_count)
            return err_set_internal(err, ERR_INTERNAL, 0, "metrics_open",
                                    "All %u slots of the metrics file are taken.",
                                    layout->slot_count);
        int reason = allocate(fd, slot_at(layout, index), layout->slot_size);
        if (reason)
            return fail(err, reason, "fallocate", options->path);
        slot = metrics_slot_at(metrics, index);
        prepare(metrics, slot, options->program, start_ms);
        /* Can only fail where somebody removed the lock file under us. */
    } while (!atomic_compare_exchange_strong(&slot->owner, &owner, identity));
    metrics->own = slot;
    return ERR_OK;
}

static enum err_code open_segment(struct metrics *metrics, const struct metrics_options *options,
                                  struct err *err)
{
    int lock = -1;
    int fd = -1;
    enum err_code code = lock_file(&lock, options->path, err);
    if (code == ERR_OK)
        code = open_file(&fd, options->path, &metrics->layout, err);
    if (code == ERR_OK)
        code = map_file(metrics, fd, options->path, err);
    if (code == ERR_OK)
        code = take_slot(metrics, fd, options, err);
    if (fd >= 0)
        close(fd);
    if (lock >= 0)
        close(lock);
    return code;
}

enum err_code metrics_open(struct metrics **ret_metrics, const struct metrics_options *options,
                           struct err *err)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return err_set(err, ERR_NO_MEMORY, "metrics_open", "Out of memory.");
    metrics->clock = options->clock ? options->clock : &clock_system;
    enum err_code code = ERR_OK;
    if (!metrics_layout_make(&metrics->layout, options))
        code = err_set_internal(err, ERR_INTERNAL, 0, "metrics_open",
                                "The bounds of the durations don't rise, or are too many.");
    if (code == ERR_OK)
        code = open_segment(metrics, options, err);
    if (code == ERR_OK)
        *ret_metrics = metrics;
    else
        metrics_close(metrics);
    return code;
}

enum err_code metrics_open_configured(struct metrics **ret_metrics, const struct config *config,
                                      enum metrics_set set, const char *program, struct err *err)
{
    char path[CONFIG_TEXT_SIZE + 32];
    struct bounds bounds = {.count = 0};
    if (!config->metrics) {
        *ret_metrics = NULL;
        return ERR_OK;
    }
    if (!bounds_parse(str_of(config->metrics_duration_buckets), &bounds))
        return err_set(err, ERR_CONFIG, "metrics_open", "METRICS_DURATION_BUCKETS has no bounds.");
    snprintf(path, sizeof path, "%s/metrics%s", config->runtime_dir,
             set == METRICS_OF_GATEWAY ? "-gateway" : "");
    const struct metrics_options options = {.path = path,
                                            .program = program,
                                            .set = set,
                                            .duration_bounds = bounds.values,
                                            .duration_bound_count = bounds.count};
    return metrics_open(ret_metrics, &options, err);
}

/* What was used since the last scrape would be lost with the process. */
static void leave_cpu_time(struct metrics_slot *slot)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return;
    uint64_t total = atomic_load(&slot->cpu_base_us) +
                     (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                     (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    if (total > atomic_load(&slot->cpu_total_us))
        atomic_store(&slot->cpu_total_us, total);
}

void metrics_close(struct metrics *metrics)
{
    if (!metrics)
        return;
    if (metrics->own) {
        leave_cpu_time(metrics->own);
        atomic_store(&metrics->own->owner, 0);
    }
    if (metrics->map)
        munmap(metrics->map, metrics->layout.file_size);
    free(metrics);
}

static bool has_metric(const struct metrics *metrics, enum metric metric)
{
    return metrics && (unsigned)metric < METRIC_COUNT &&
           metrics->layout.offset[metric] != METRIC_ABSENT;
}

/* The number of the series that the labels name. */
static size_t find_series(enum metric metric, const unsigned *labels)
{
    const struct metric_row *row = &metric_rows[metric];
    size_t series = 0;
    for (unsigned i = 0; i < row->label_count; i++) {
        const struct metric_label *label = row->labels[i];
        unsigned index = labels ? labels[i] : label->count;
        if (labels && label->index)
            index = label->index(index);
        if (index >= label->count)
            index = label->count - 1;
        series = series * label->count + index;
    }
    return series;
}

/* Of a counter or gauge. */
static _Atomic uint64_t *find_cell(const struct metrics *metrics, enum metric metric,
                                   const unsigned *labels)
{
    return &metrics->own->cells[metrics->layout.offset[metric] + find_series(metric, labels)];
}

void metrics_add(struct metrics *metrics, enum metric metric, const unsigned *labels,
                 int64_t amount)
{
    if (!has_metric(metrics, metric))
        return;
    enum metric_type type = metric_rows[metric].type;
    if (type == METRIC_HISTOGRAM || (type == METRIC_COUNTER && amount < 0))
        return;
    atomic_fetch_add_explicit(find_cell(metrics, metric, labels), (uint64_t)amount,
                              memory_order_relaxed);
}

void metrics_set(struct metrics *metrics, enum metric metric, const unsigned *labels, int64_t value)
{
    if (has_metric(metrics, metric) && metric_rows[metric].type == METRIC_GAUGE)
        atomic_store_explicit(find_cell(metrics, metric, labels), (uint64_t)value,
                              memory_order_relaxed);
}

static void add_double(_Atomic uint64_t *cell, double value)
{
    uint64_t old_bits = atomic_load_explicit(cell, memory_order_relaxed);
    uint64_t new_bits;
    do {
        double sum;
        memcpy(&sum, &old_bits, sizeof sum);
        sum += value;
        memcpy(&new_bits, &sum, sizeof new_bits);
    } while (!atomic_compare_exchange_weak_explicit(cell, &old_bits, new_bits, memory_order_relaxed,
                                                    memory_order_relaxed));
}

void metrics_observe_traced(struct metrics *metrics, enum metric metric, const unsigned *labels,
                            double value, const char *trace_id)
{
    if (!has_metric(metrics, metric) || !isfinite(value))
        return;
    const struct metric_row *row = &metric_rows[metric];
    if (row->type != METRIC_HISTOGRAM)
        return;
    if (value < 0) /* a sum that falls would be a counter that falls */
        value = 0;
    const struct metrics_layout *layout = &metrics->layout;
    struct metric_bounds bounds = metric_bounds(layout, row);
    struct exemplar_place place = {.metric = metric, .series = find_series(metric, labels)};
    while (place.bucket < bounds.count && value > bounds.values[place.bucket])
        place.bucket++;
    size_t first = layout->offset[metric] + place.series * metric_cells_per_series(layout, row);
    _Atomic uint64_t *cells = &metrics->own->cells[first];
    atomic_fetch_add_explicit(&cells[place.bucket], 1, memory_order_relaxed);
    add_double(&cells[bounds.count + 1], value);
    if (trace_id && layout->exemplar_offset[metric] != METRIC_ABSENT)
        exemplar_keep(metrics, &place, value, trace_id);
}

void metrics_observe(struct metrics *metrics, enum metric metric, const unsigned *labels,
                     double value)
{
    metrics_observe_traced(metrics, metric, labels, value, NULL);
}

uint64_t metrics_total(const struct metrics *metrics, enum metric metric)
{
    if (!has_metric(metrics, metric) || metric_rows[metric].type != METRIC_COUNTER)
        return 0;
    size_t first = metrics->layout.offset[metric];
    size_t count = metric_series_count(&metric_rows[metric]);
    uint64_t sum = 0;
    for (unsigned i = 0; i < metrics->layout.slot_count; i++) {
        struct metrics_slot *slot = metrics_slot_at(metrics, i);
        if (!metrics_slot_was_used(slot))
            continue;
        for (size_t cell = first; cell < first + count; cell++)
            sum += atomic_load_explicit(&slot->cells[cell], memory_order_relaxed);
    }
    return sum;
}
