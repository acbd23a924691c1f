/* What a scrape of metrics says about one series. */
#ifndef COFFER_TESTS_SCRAPE_H
#define COFFER_TESTS_SCRAPE_H

#include "observe/metrics.h"

#define SCRAPE_ABSENT (-1.0)

/* The value of a series, e.g. `http_requests_total{method="GET",…}` or `files_uploaded_total`;
 * SCRAPE_ABSENT when it is not shown. */
double scrape_value(struct metrics *metrics, const char *series);
/* The text of a scrape; caller releases it. Ends the program when rendering fails. */
struct buf scrape_text(struct metrics *metrics, enum metrics_format format);

#endif
