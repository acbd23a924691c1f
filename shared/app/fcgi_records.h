/*
 * Large pieces of an answer as FastCGI STDOUT records (FastCGI 1.0, section 3.3), written straight to
 * the connection: libfcgi copies every byte and writes 8 KiB at a time. Used by one thread.
 */
#ifndef COFFER_APP_FCGI_RECORDS_H
#define COFFER_APP_FCGI_RECORDS_H

#include <stdbool.h>

#include "app/watchdog.h"
#include "base/str.h"

/* Once, before the first piece. */
void fcgi_records_begin(int fd);
/* Blocks while the gateway takes nothing. False when it is gone or the watch was ended. */
bool fcgi_records_write(int fd, int request_id, struct str piece, struct watch *watch);

#endif
