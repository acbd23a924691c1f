/*
 * A strict reader of the small XML documents that S3 answers with: elements, text, the five named
 * and the numeric references, UTF-8 with or without a byte order mark. No DOCTYPE, no CDATA; attributes and comments are passed over,
 * prefixes of names too. Everything is bounded: depth, names, the text of one element. Pure
 * functions, thread-safe.
 */
#ifndef COFFER_STORAGE_STORAGE_S3_XML_H
#define COFFER_STORAGE_STORAGE_S3_XML_H

#include "base/errors.h"
#include "base/str.h"

#define S3_XML_DEPTH 8
#define S3_XML_NAME_BYTES 64
#define S3_XML_TEXT_BYTES 8192 /* of one element, decoded */

/* Told at each element's end: its path ("ListBucketResult/Contents/Key") and, when it holds no
 * other elements, its text; both borrowed for the call. A code other than ERR_OK ends the reading
 * with that code. */
typedef enum err_code s3_xml_callback(void *context, struct str path, struct str text,
                                      struct err *err);

/* ERR_STORAGE for what is not well-formed or beyond a bound, ERR_NO_MEMORY. */
enum err_code s3_xml_read(struct str document, s3_xml_callback *callback, void *context,
                          struct err *err) ERR_MUST_CHECK;

/* Appends the text of the first element with that path. ERR_STORAGE when there is none. */
enum err_code s3_xml_value(struct str document, const char *path, struct buf *ret_text,
                           struct err *err) ERR_MUST_CHECK;

/* Whether the root element has that name. Only its tag is read, so this is cheap for any document. */
bool s3_xml_has_root(struct str document, const char *name);

#endif
