#include "base/jsonw.h"
#include "base/text.h"
#include "observe/metrics_table.h"
#include "observe/report_parts.h"

struct trail {
    size_t count; /* ever added */
    struct report_crumb crumbs[REPORT_TRAIL_MAX];
};

static _Thread_local struct trail trail;

void report_trail_begin(void)
{
    trail.count = 0;
}

void report_crumb_add(const struct report_crumb *crumb)
{
    trail.crumbs[trail.count++ % REPORT_TRAIL_MAX] = *crumb;
}

struct report_crumb report_crumb_of(enum metric operations, const unsigned *labels)
{
    const struct metric_row *row = &metric_rows[operations];
    return (struct report_crumb){
        .category = operations == METRIC_STORAGE_OPERATIONS ? "storage" : "metadata",
        .driver = metric_label_value(row->labels[0], labels[0]),
        .operation = metric_label_value(row->labels[1], labels[1]),
    };
}

/* Milliseconds with three digits behind the point. */
static void write_duration(struct buf *out, int64_t duration_ns)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%lld.%03lld", (long long)(duration_ns / 1000000),
                       (long long)(duration_ns / 1000 % 1000));
    jsonw_raw(out, "duration_ms", (struct str){text, (size_t)len});
}

static void write_crumb(struct buf *out, const struct report_crumb *crumb)
{
    char time[TEXT_TIME_SIZE];
    const struct err_info *info = err_info(crumb->outcome);
    text_time(crumb->time_ms, time);
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "timestamp", str_of(time));
    jsonw_string(out, "type", STR("default"));
    jsonw_string(out, "category", str_of(crumb->category));
    jsonw_string(out, "message", str_of(crumb->operation));
    jsonw_string(out, "level",
                 crumb->outcome != ERR_OK && info->report ? STR("error") : STR("info"));
    jsonw_begin_object(out, "data");
    jsonw_string(out, "driver", str_of(crumb->driver));
    jsonw_string(out, "outcome", str_of(info->code));
    write_duration(out, crumb->duration_ns > 0 ? crumb->duration_ns : 0);
    jsonw_end_object(out);
    jsonw_end_object(out);
}

void report_write_trail(struct buf *out)
{
    size_t first = trail.count > REPORT_TRAIL_MAX ? trail.count - REPORT_TRAIL_MAX : 0;
    if (trail.count == 0)
        return;
    jsonw_begin_object(out, "breadcrumbs");
    jsonw_begin_array(out, "values");
    for (size_t i = first; i < trail.count; i++)
        write_crumb(out, &trail.crumbs[i % REPORT_TRAIL_MAX]);
    jsonw_end_array(out);
    jsonw_end_object(out);
}
