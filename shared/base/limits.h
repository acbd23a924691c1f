/* Every ceiling of the service, by name. What an operator may change is in base/config.h. */
#ifndef COFFER_BASE_LIMITS_H
#define COFFER_BASE_LIMITS_H

#define LIMIT_NAME_BYTES 255      /* originalName */
#define LIMIT_OWNER_BYTES 128     /* owner */
#define LIMIT_MIME_BYTES 255      /* mimeType */
#define LIMIT_CHARSET_BYTES 40    /* of a text type; IANA names are no longer */
#define LIMIT_METADATA_BYTES 4096 /* metadata as compact JSON */
#define LIMIT_KEY_BYTES 128       /* storage key */
#define LIMIT_TAG_BYTES 79        /* a store's tag of an object's content */
#define LIMIT_MARK_BYTES 255      /* what a store and a database say of their installation */
#define LIMIT_ROWS_TRIED 1000     /* rows whose objects are looked for, to know a store again */
#define LIMIT_BUCKET_BYTES 63
#define LIMIT_IDEMPOTENCY_KEY_BYTES 255
#define LIMIT_REQUEST_ID_BYTES 64
#define LIMIT_HEADERS 64 /* request headers a program looks at */
#define LIMIT_QUERY_BYTES 8192
#define LIMIT_QUERY_PARAMETERS 32
#define LIMIT_JSON_BODY_BYTES (64 * 1024)
#define LIMIT_JSON_DEPTH 16
#define LIMIT_SPOOL_FULL_BYTES (1024 * 1024) /* a gateway's spool with less free refuses bodies */
#define LIMIT_JSON_RESPONSE_BYTES (16 * 1024 * 1024)
#define LIMIT_EXPIRES_IN_SECONDS 315360000
#define LIMIT_PAGE 1000
#define LIMIT_OFFSET 10000
#define LIMIT_COUNT 10000 /* a filtered total is counted up to here */
#define LIMIT_BATCH_IDS 1000
#define LIMIT_KEYS_ASKED 1000      /* storage keys in one question of the sweep */
#define LIMIT_ORPHANS_KEPT 100000  /* that one sweep removes, after it has counted all */
#define LIMIT_ORPHANS_AT_LEAST 100 /* that may go at once, however few objects there are */

/* multipart/form-data, ABUSE rows 1–25 */
#define LIMIT_BOUNDARY_BYTES 70 /* RFC 2046 §5.1.1 */
#define LIMIT_PARTS 16
#define LIMIT_PART_HEADERS 8
#define LIMIT_PART_HEADER_BYTES 4096 /* all headers of one part */
#define LIMIT_PREAMBLE_BYTES 1024    /* also the epilogue */
#define LIMIT_TEXT_PART_BYTES 8192

#define LIMIT_ENV_FILE_BYTES (64 * 1024)
#define LIMIT_SOCKET_PATH_BYTES 107 /* sun_path of Linux, without the NUL */

#define LIMIT_IO_BUFFER (256 * 1024) /* one step of streaming, bytes */
/* One step of what comes from a store on its way to a client: received, hashed, and sent as one record
 * (app/fcgi.c), so that the gateway sends one while the next is received. Bytes. */
#define LIMIT_STREAM_STEP (56 * 1024)

/* A store may show an object so long after it acknowledged it; what is missing later is lost. */
#define LIMIT_VISIBLE_MS (60LL * 1000)

/* Downloads from a store that may wait while DOWNLOAD_WORKERS are under way, and for how long. */
#define LIMIT_DOWNLOADS_WAITING 64
#define LIMIT_DOWNLOAD_WAIT_MS (10LL * 1000)

#define LIMIT_UNFINISHED_KEEP_MS (24LL * 3600 * 1000) /* of multipart uploads at the store */

/* A key whose request ended without a word is free again within 10 s (API.md). */
#ifdef COFFER_CRASH_POINTS /* tests wait for it to run out */
#define LIMIT_IDEMPOTENCY_LEASE_MS 3000
#define LIMIT_IDEMPOTENCY_RENEW_MS 750
#else
#define LIMIT_IDEMPOTENCY_LEASE_MS 8000
#define LIMIT_IDEMPOTENCY_RENEW_MS 2500
#endif
/* A lease that ends later than one taken now would, by more than this, was taken before a clock was set
 * back: it has run out. Clocks of nodes may differ by as much. */
#define LIMIT_CLOCK_SKEW_MS 2000
#define LIMIT_IDEMPOTENCY_KEEP_MS (24LL * 3600 * 1000)

#endif
