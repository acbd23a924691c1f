/* process_*{program}: what /proc says of the processes behind the slots. */
#include "observe/metrics_process.h"
#include "observe/metrics_text.h"

enum process_metric {
    PROCESS_CPU,
    PROCESS_MEMORY,
    PROCESS_VIRTUAL_MEMORY,
    PROCESS_OPEN_FDS,
    PROCESS_MAX_FDS,
    PROCESS_START,
    PROCESS_THREADS,
    PROCESS_METRIC_COUNT
};

static const struct metrics_family process_families[PROCESS_METRIC_COUNT] = {
    [PROCESS_CPU] = {"process_cpu_seconds", "seconds",
                     "CPU time of a program, over all its processes.", METRIC_COUNTER},
    [PROCESS_MEMORY] = {"process_resident_memory_bytes", "bytes", "Memory in RAM.", METRIC_GAUGE},
    [PROCESS_VIRTUAL_MEMORY] = {"process_virtual_memory_bytes", "bytes", "Address space.",
                                METRIC_GAUGE},
    [PROCESS_OPEN_FDS] = {"process_open_fds", NULL, "Open file descriptors.", METRIC_GAUGE},
    [PROCESS_MAX_FDS] = {"process_max_fds", NULL, "File descriptors it may open.", METRIC_GAUGE},
    [PROCESS_START] = {"process_start_time_seconds", "seconds",
                       "Start of the youngest process, seconds since 1970.", METRIC_GAUGE},
    [PROCESS_THREADS] = {"process_threads", NULL, "Threads.", METRIC_GAUGE},
};

/* A program may have several processes: while one drains and the next runs already. */
struct program {
    char name[METRIC_PROGRAM_SIZE];
    double values[PROCESS_METRIC_COUNT];
    bool known[PROCESS_METRIC_COUNT];
};

static void program_add(struct program *program, enum process_metric metric, double value)
{
    program->values[metric] += value;
    program->known[metric] = true;
}

/* CPU time that was shown once is never taken back, also when the process is gone; what a killed
 * process used after the last scrape is not known. The base is read before the process' own time:
 * it can only have been changed when that process was gone, and then there is no time to read. */
static double slot_cpu_seconds(struct metrics_slot *slot, uint64_t base, uint64_t used)
{
    uint64_t shown = atomic_load(&slot->cpu_total_us);
    while (base + used > shown &&
           !atomic_compare_exchange_weak(&slot->cpu_total_us, &shown, base + used))
        ;
    return (double)(base + used > shown ? base + used : shown) / 1e6;
}

static void program_add_slot(struct program *program, struct metrics_slot *slot, bool alive)
{
    struct process_usage usage = {0};
    uint64_t base = atomic_load(&slot->cpu_base_us);
    bool read = alive && process_read_usage(atomic_load(&slot->owner), &usage);
    program_add(program, PROCESS_CPU, slot_cpu_seconds(slot, base, usage.cpu_us));
    if (!read)
        return;
    program_add(program, PROCESS_MEMORY, (double)usage.memory);
    program_add(program, PROCESS_VIRTUAL_MEMORY, (double)usage.virtual_memory);
    program_add(program, PROCESS_THREADS, (double)usage.threads);
    if (usage.has_fds)
        program_add(program, PROCESS_OPEN_FDS, (double)usage.open_fds);
    if (usage.has_max_fds)
        program_add(program, PROCESS_MAX_FDS, (double)usage.max_fds);
    double start = (double)atomic_load(&slot->start_ms) / 1000;
    if (start > program->values[PROCESS_START])
        program->values[PROCESS_START] = start;
    program->known[PROCESS_START] = program->values[PROCESS_START] > 0;
}

static unsigned read_programs(const struct render *render, struct program *programs)
{
    unsigned count = 0;
    for (unsigned i = 0; i < render->slot_count; i++) {
        char name[METRIC_PROGRAM_SIZE];
        metrics_slot_program(render->slots[i], name);
        if (name[0] == '\0')
            continue;
        unsigned at = 0;
        while (at < count && strcmp(programs[at].name, name) != 0)
            at++;
        if (at == count)
            memcpy(programs[count++].name, name, sizeof name);
        program_add_slot(&programs[at], render->slots[i], render->alive[i]);
    }
    return count;
}

void metrics_append_programs(struct render *render)
{
    struct program programs[METRICS_SLOTS] = {0};
    unsigned count = read_programs(render, programs);
    for (size_t metric = 0; metric < PROCESS_METRIC_COUNT; metric++) {
        const struct metrics_family *family = &process_families[metric];
        metrics_append_head(render, family);
        for (unsigned i = 0; i < count; i++) {
            if (!programs[i].known[metric])
                continue;
            buf_printf(render->out, "%s%s", family->name,
                       family->type == METRIC_COUNTER ? "_total" : "");
            metrics_append_label(render->out, '{', "program", programs[i].name);
            buf_append_text(render->out, "} ");
            metrics_append_value(render->out, programs[i].values[metric]);
            buf_append_char(render->out, '\n');
        }
    }
}
