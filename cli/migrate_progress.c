#include "migrate_progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define NS_PER_SECOND INT64_C(1000000000)
#define TERMINAL_INTERVAL_NS (NS_PER_SECOND / 5)
#define LINE_INTERVAL_NS (5 * NS_PER_SECOND)
#define FILE_WORK (64.0 * 1024.0) /* a file costs as much as so many bytes, besides its own */
#define SMOOTHING_SECONDS 10.0
#define MIB (1024.0 * 1024.0)
#define ERASE "\r\033[K"
#define LEFT_SIZE 48

void migrate_progress_begin(struct migrate_progress *progress, const struct clock *clock)
{
    bool is_terminal = isatty(STDERR_FILENO);
    *progress = (struct migrate_progress){.clock = clock,
                                          .is_terminal = is_terminal,
                                          .interval_ns =
                                              is_terminal ? TERMINAL_INTERVAL_NS : LINE_INTERVAL_NS,
                                          .shown_ns = clock_steady_ns(clock)};
}

static double work_of(int64_t files, int64_t bytes)
{
    return (double)files * FILE_WORK + (double)bytes;
}

/* A mean that forgets what is long ago. */
static double smoothed(double before, double now, double seconds)
{
    double weight = seconds / (seconds + SMOOTHING_SECONDS);
    return before > 0 ? before + (now - before) * weight : now;
}

static void print_left(double left, double rate, char target[LEFT_SIZE])
{
    if (rate <= 0 || left / rate > 1e7) {
        snprintf(target, LEFT_SIZE, "time left unknown");
        return;
    }
    int64_t seconds = (int64_t)(left / rate);
    if (seconds >= 3600)
        snprintf(target, LEFT_SIZE, "%" PRId64 " h %02" PRId64 " min left", seconds / 3600,
                 seconds / 60 % 60);
    else
        snprintf(target, LEFT_SIZE, "%" PRId64 ":%02" PRId64 " min left", seconds / 60,
                 seconds % 60);
}

/* Short, so that it fits a terminal's line. */
static void print_line(const struct migrate_progress *progress, const struct migrate_result *result,
                       const char *left)
{
    static const char *const units[] = {"MiB", "GiB", "TiB"};
    size_t unit = 0;
    double scale = MIB;
    for (; unit + 1 < sizeof units / sizeof *units && (double)result->total_bytes / scale >= 10000;
         unit++)
        scale *= 1024;
    fprintf(stderr, "%s%" PRId64 " of %" PRId64 " files, %.1f of %.1f %s, %.1f MiB/s, %s",
            progress->is_terminal ? ERASE : "", result->files, result->total_files,
            (double)result->bytes / scale, (double)result->total_bytes / scale, units[unit],
            progress->byte_rate / MIB, left);
    if (result->failed > 0)
        fprintf(stderr, ", %" PRId64 " failed", result->failed);
    if (!progress->is_terminal)
        fputc('\n', stderr);
}

void migrate_progress_show(void *context, const struct migrate_result *result)
{
    struct migrate_progress *progress = context;
    char left[LEFT_SIZE];
    int64_t now_ns = clock_steady_ns(progress->clock);
    if (now_ns - progress->shown_ns < progress->interval_ns)
        return;
    double seconds = (double)(now_ns - progress->shown_ns) / (double)NS_PER_SECOND;
    double done = work_of(result->files, result->bytes);
    double total = work_of(result->total_files, result->total_bytes);
    progress->rate = smoothed(progress->rate, (done - progress->done) / seconds, seconds);
    progress->byte_rate =
        smoothed(progress->byte_rate, (double)(result->bytes - progress->bytes) / seconds, seconds);
    progress->shown_ns = now_ns;
    progress->done = done;
    progress->bytes = result->bytes;
    print_left(total > done ? total - done : 0, progress->rate, left);
    print_line(progress, result, left);
}

void migrate_progress_found(void *context, const struct migrate_finding *finding)
{
    static const char *const kinds[] = {
        [MIGRATE_FAILED] = "failed",
        [MIGRATE_DAMAGED] = "damaged",
        [MIGRATE_NEWER] = "newer",
        [MIGRATE_EXTRA] = "extra",
    };
    migrate_progress_end(context);
    printf("%s\t%s\t%s\t%s\n", kinds[finding->kind], finding->id, finding->key, finding->text);
    fflush(stdout);
}

void migrate_progress_end(const struct migrate_progress *progress)
{
    if (progress->is_terminal)
        fputs(ERASE, stderr);
}

void migrate_print_summary(const struct migrate_result *result, bool is_dry_run)
{
    printf("%s %" PRId64 " files (%" PRId64 " bytes), changed %" PRId64 ", there already %" PRId64
           ", tokens %" PRId64 "; of %" PRId64 " files (%" PRId64 " bytes)\n",
           is_dry_run ? "would copy" : "copied", result->copied, result->copied_bytes,
           result->updated, result->skipped, result->tokens, result->total_files,
           result->total_bytes);
    printf("failed %" PRId64 ", damaged %" PRId64 ", newer in the target %" PRId64
           ", deleted meanwhile %" PRId64 ", extra in the target %" PRId64 " (removed %" PRId64
           ")\n",
           result->failed, result->damaged, result->newer, result->gone, result->extra,
           result->pruned);
}
