/*
 * Debian's libs3 (libs3.so.2), loaded when a store is opened with it and not before: with what it
 * needs it is 9 MB of memory, which programs over another store don't pay. Only its header is
 * needed to build. Loaded and initialised once per process and kept; its functions may then be
 * called by any thread, but see libs3_compose_lock.
 */
#ifndef COFFER_STORAGE_STORAGE_LIBS3_LIBRARY_H
#define COFFER_STORAGE_STORAGE_LIBS3_LIBRARY_H

#include <libs3.h>

#include "base/errors.h"

#define LIBS3_FILE "libs3.so.2"

/* The functions that are used, with the names and types of libs3.h, and one of what it needs. */
struct libs3_library {
    __typeof__(&S3_initialize) initialize;
    __typeof__(&S3_get_status_name) get_status_name;
    __typeof__(&S3_validate_bucket_name) validate_bucket_name;
    __typeof__(&S3_create_request_context) create_request_context;
    __typeof__(&S3_destroy_request_context) destroy_request_context;
    __typeof__(&S3_runonce_request_context) runonce_request_context;
    __typeof__(&S3_get_request_context_fdsets) get_request_context_fdsets;
    __typeof__(&S3_get_request_context_timeout) get_request_context_timeout;
    __typeof__(&S3_test_bucket) test_bucket;
    __typeof__(&S3_create_bucket) create_bucket;
    __typeof__(&S3_list_bucket) list_bucket;
    __typeof__(&S3_put_object) put_object;
    __typeof__(&S3_get_object) get_object;
    __typeof__(&S3_head_object) head_object;
    __typeof__(&S3_copy_object) copy_object;
    __typeof__(&S3_delete_object) delete_object;
    /* libxml2's, which libs3 calls from any thread and never initialises. */
    void (*init_xml)(void);
};

/* The library, loaded by the first call. ERR_CONFIG when it is not installed; then the next call
 * tries again. */
enum err_code libs3_library_open(const struct libs3_library **ret_library, struct err *err)
    ERR_MUST_CHECK;

/* Fills *ret_library from `file`; what is loaded stays. For libs3_library_open and tests. */
enum err_code libs3_library_load(const char *file, struct libs3_library *ret_library,
                                 struct err *err) ERR_MUST_CHECK;

/* Held while a request is composed, not while it runs: libs3 dates requests with gmtime, which
 * has one result for all threads. */
void libs3_compose_lock(void);
void libs3_compose_unlock(void);

#endif
