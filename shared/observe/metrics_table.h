/*
 * What the parts of metrics share: the const table of families, the layout it gives the file, and
 * the mapped file itself. Private to observe/.
 *
 * A family's series are numbered densely: the indices of its labels are the digits, the first
 * label the most significant. A series of a counter or gauge is one cell; of a histogram one cell
 * per bound, one for +Inf (none is cumulative) and one for the sum (the bits of a double). Behind
 * all cells of a slot stand the exemplars of its durations, one of each bucket.
 */
#ifndef COFFER_OBSERVE_METRICS_TABLE_H
#define COFFER_OBSERVE_METRICS_TABLE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/text.h"
#include "observe/metrics.h"

#define METRIC_LABELS_MAX 3
#define METRIC_BOUNDS_MAX BOUNDS_MAX
#define METRIC_PROGRAM_WORDS 4 /* 31 bytes of program name and a NUL */
#define METRIC_PROGRAM_SIZE (METRIC_PROGRAM_WORDS * sizeof(uint64_t))

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_label {
    const char *name;
    unsigned count;
    const char *const *values;            /* `count` texts, or NULL: */
    const char *(*value)(unsigned index); /* the text of a value */
    unsigned (*index)(unsigned given);    /* from what callers pass; NULL: that is the index */
};

struct metric_row {
    const char *name; /* without _total */
    const char *unit; /* the name's last word when it is a unit, else NULL */
    const char *help;
    enum metric_type type;
    unsigned label_count;
    const struct metric_label *labels[METRIC_LABELS_MAX];
    unsigned sets;        /* METRICS_SET_BIT()s */
    bool durations;       /* a histogram with the bounds of the options, and exemplars */
    const double *bounds; /* of another histogram: rising, without +Inf */
    unsigned bound_count;
};

#define METRICS_SET_BIT(set) (1u << (set))

struct metric_bounds {
    const double *values;
    unsigned count;
};

extern const struct metric_row metric_rows[METRIC_COUNT];

const char *metric_label_value(const struct metric_label *label, unsigned index);
size_t metric_series_count(const struct metric_row *row);

/* Where each family's cells begin in a slot, and what the file of this layout looks like. */
struct metrics_layout {
    enum metrics_set set;
    unsigned slot_count;
    unsigned duration_bound_count;
    double duration_bounds[METRIC_BOUNDS_MAX];
    size_t offset[METRIC_COUNT];          /* METRIC_ABSENT: not of this set */
    size_t exemplar_offset[METRIC_COUNT]; /* METRIC_ABSENT: none */
    size_t cells;                         /* per slot */
    size_t words;                         /* per slot: the cells, then the exemplars */
    size_t slot_size;                     /* bytes */
    size_t file_size;
    uint64_t hash; /* of everything that gives a cell its meaning */
};

#define METRIC_ABSENT SIZE_MAX
#define EXEMPLAR_WORDS 4

/* False when the bounds are none. */
bool metrics_layout_make(struct metrics_layout *layout, const struct metrics_options *options);
struct metric_bounds metric_bounds(const struct metrics_layout *layout,
                                   const struct metric_row *row);
size_t metric_cells_per_series(const struct metrics_layout *layout, const struct metric_row *row);

struct metrics_header {
    char magic[8];
    uint64_t layout_hash;
    uint64_t file_size;
    uint64_t reserved[5];
};

/* Cells belong to the owner; they are never cleared but for gauges. A slot's memory is only taken
 * from the file system with the slot: of others nothing but this head may be read. See
 * metrics_segment.c. */
struct metrics_slot {
    _Atomic uint64_t owner; /* process that has the slot, 0 = given back or never taken */
    _Atomic uint64_t program[METRIC_PROGRAM_WORDS]; /* its name; first word 0 = none */
    _Atomic uint64_t cpu_base_us;                   /* CPU time of the slot's former processes */
    _Atomic uint64_t cpu_total_us; /* the most CPU time that was ever shown for the slot */
    _Atomic uint64_t start_ms;     /* when the owner started, since 1970; 0 = not known */
    _Atomic uint64_t cells[];
};

struct metrics {
    unsigned char *map;
    struct metrics_slot *own;
    const struct clock *clock;
    struct metrics_layout layout;
};

struct metrics_slot *metrics_slot_at(const struct metrics *metrics, unsigned index);
/* False for a slot that no process ever took: its cells are all 0. */
bool metrics_slot_was_used(struct metrics_slot *slot);
/* The program's name; "" when the slot has none or is changing hands. */
void metrics_slot_program(struct metrics_slot *slot, char target[METRIC_PROGRAM_SIZE]);

struct exemplar_place {
    enum metric metric; /* one with exemplars */
    size_t series;
    unsigned bucket;
};

struct exemplar {
    uint64_t trace_high, trace_low;
    uint64_t time_ms; /* since 1970, never 0 */
    double value;
};

/* False when there is none, or it changes too fast to be read. */
bool exemplar_read(const struct metrics_layout *layout, struct metrics_slot *slot,
                   const struct exemplar_place *place, struct exemplar *ret_exemplar);

/*
 * A process as /proc shows it: who it is beyond its number, whether it still runs, what it uses.
 * Private to observe/. Thread-safe.
 */

struct process_usage {
    uint64_t cpu_us; /* user and system time since its start */
    uint64_t memory; /* resident, bytes */
    uint64_t virtual_memory;
    uint64_t threads;
    bool has_fds; /* open_fds is known: not of a process that may not be inspected */
    uint64_t open_fds;
    bool has_max_fds; /* max_fds is known and finite */
    uint64_t max_fds;
};

/* Number and start time in one word, so that a recycled number is another process. Never 0. */
uint64_t process_identity(pid_t pid);
/* False when the process is gone or a zombie, or its number is another process' now. When /proc
 * doesn't say, a process that has the number counts as alive. */
bool process_is_alive(uint64_t identity);
/* When the process started, ms since 1970; 0 when that can't be read. Two calls may differ by a few
 * ms, as the clock is set. */
uint64_t process_start_ms(uint64_t identity);
/* False when the process is gone; has_* tell what could not be read. */
bool process_read_usage(uint64_t identity, struct process_usage *ret_usage);

#endif
