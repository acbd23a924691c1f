/*
 * What the parts of metrics share: the const table of families, the layout it gives the file, and
 * the mapped file itself. Private to observe/.
 *
 * A family's series are numbered densely: the indices of its labels are the digits, the first
 * label the most significant. A series of a counter or gauge is one cell; of a histogram one cell
 * per bound, one for +Inf (none is cumulative) and one for the sum (the bits of a double).
 */
#ifndef COFFER_OBSERVE_METRICS_TABLE_H
#define COFFER_OBSERVE_METRICS_TABLE_H

#include <stdatomic.h>

#include "observe/metrics.h"

#define METRIC_LABELS_MAX 3
#define METRIC_BOUNDS_MAX 32
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
    const double *bounds; /* rising upper bounds, without +Inf */
    unsigned bound_count;
};

extern const struct metric_row metric_rows[METRIC_COUNT];

const char *metric_label_value(const struct metric_label *label, unsigned index);
size_t metric_series_count(const struct metric_row *row);
size_t metric_cells_per_series(const struct metric_row *row);

/* Where each family's cells begin in a slot, and what the file of this layout looks like. */
struct metrics_layout {
    size_t offset[METRIC_COUNT];
    size_t cells;     /* per slot */
    size_t slot_size; /* bytes */
    size_t file_size;
    uint64_t hash; /* of everything that gives a cell its meaning */
};

void metrics_layout_make(struct metrics_layout *layout);

struct metrics_header {
    char magic[8];
    uint64_t layout_hash;
    uint64_t file_size;
    uint64_t reserved[5];
};

/* Cells belong to the owner; they are never cleared but for gauges. See metrics_segment.c. */
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
    struct metrics_layout layout;
};

struct metrics_slot *metrics_slot_at(const struct metrics *metrics, unsigned index);
/* False for a slot that no process ever took: its cells are all 0. */
bool metrics_slot_was_used(struct metrics_slot *slot);
/* The program's name; "" when the slot has none or is changing hands. */
void metrics_slot_program(struct metrics_slot *slot, char target[METRIC_PROGRAM_SIZE]);

#endif
