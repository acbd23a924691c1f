#include "access/idempotency.h"

#include "base/digest.h"
#include "base/text.h"

#define NS_PER_MS 1000000LL

_Static_assert(LIMIT_IDEMPOTENCY_LEASE_MS + LIMIT_CLOCK_SKEW_MS <= 10000,
               "a key is free within 10 s of its request's end (API.md)");
_Static_assert(2 * LIMIT_IDEMPOTENCY_RENEW_MS < LIMIT_IDEMPOTENCY_LEASE_MS,
               "a renewal may fail once");

void idempotency_init(struct idempotency *idempotency, struct metadata *metadata,
                      const struct clock *clock)
{
    *idempotency = (struct idempotency){.metadata = metadata, .clock = clock};
    idempotency_record_init(&idempotency->record);
}

static bool key_is_valid(struct str key)
{
    if (key.len < 1 || key.len > LIMIT_IDEMPOTENCY_KEY_BYTES)
        return false;
    for (size_t i = 0; i < key.len; i++)
        if (key.data[i] < 0x20 || key.data[i] > 0x7e)
            return false;
    /* How the gateway joins a header that was sent twice. */
    return memmem(key.data, key.len, ", ", 2) == NULL;
}

static struct idempotency_claim claim_of(const struct idempotency *idempotency)
{
    int64_t now_ms = clock_wall_ms(idempotency->clock);
    return (struct idempotency_claim){.owner = idempotency->owner,
                                      .key = idempotency->key,
                                      .nonce = str_of(idempotency->nonce),
                                      .now_ms = now_ms,
                                      .lease_until_ms = now_ms + LIMIT_IDEMPOTENCY_LEASE_MS};
}

static void set_renewal(struct idempotency *idempotency)
{
    idempotency->renew_at_ns =
        clock_steady_ns(idempotency->clock) + LIMIT_IDEMPOTENCY_RENEW_MS * NS_PER_MS;
}

enum err_code idempotency_begin(struct idempotency *idempotency, struct str owner, struct str key,
                                struct err *err)
{
    unsigned char random[16];
    if (!key_is_valid(key))
        return err_set(err, ERR_BAD_REQUEST, "idempotency",
                       "Idempotency-Key must be one value of 1 to 255 printable ASCII characters.");
    clock_random(idempotency->clock, random, sizeof random);
    text_hex(random, sizeof random, idempotency->nonce);
    idempotency->owner = owner;
    idempotency->key = key;

    const struct idempotency_claim claim = claim_of(idempotency);
    enum err_code code =
        metadata_idempotency_begin(idempotency->metadata, &claim, &idempotency->record, err);
    if (code != ERR_OK)
        return code;
    if (idempotency->record.state == IDEMPOTENCY_RUNNING)
        return err_set(err, ERR_CONFLICT, "idempotency",
                       "The first request with this Idempotency-Key is still running.");
    idempotency->active = true;
    idempotency->replay = idempotency->record.state == IDEMPOTENCY_DONE;
    set_renewal(idempotency);
    return ERR_OK;
}

bool idempotency_renewal_due(struct idempotency *idempotency,
                             struct idempotency_renewal *ret_renewal)
{
    if (!idempotency->active || idempotency->replay ||
        clock_steady_ns(idempotency->clock) < idempotency->renew_at_ns)
        return false;
    set_renewal(idempotency);
    ret_renewal->metadata = idempotency->metadata;
    memcpy(ret_renewal->nonce, idempotency->nonce, sizeof ret_renewal->nonce);
    return str_copy(ret_renewal->owner, sizeof ret_renewal->owner, idempotency->owner) &&
           str_copy(ret_renewal->key, sizeof ret_renewal->key, idempotency->key);
}

enum err_code idempotency_renew(const struct idempotency_renewal *renewal,
                                const struct clock *clock, struct err *err)
{
    const struct idempotency_claim claim = {.owner = str_of(renewal->owner),
                                            .key = str_of(renewal->key),
                                            .nonce = str_of(renewal->nonce),
                                            .lease_until_ms =
                                                clock_wall_ms(clock) + LIMIT_IDEMPOTENCY_LEASE_MS};
    return metadata_idempotency_renew(renewal->metadata, &claim, err);
}

bool idempotency_has_plan(const struct idempotency *idempotency)
{
    return idempotency->active && !idempotency->replay &&
           idempotency->record.fingerprint[0] != '\0';
}

enum err_code idempotency_match(const struct idempotency *idempotency, const char fingerprint[65],
                                struct err *err)
{
    if (strcmp(idempotency->record.fingerprint, fingerprint) == 0)
        return ERR_OK;
    return err_set(err, ERR_IDEMPOTENCY_MISMATCH, "idempotency",
                   "This Idempotency-Key was used for another request.");
}

const struct idempotency_answer *idempotency_answer_of(struct idempotency *idempotency,
                                                       struct idempotency_answer *answer)
{
    if (!idempotency->active)
        return NULL;
    answer->owner = idempotency->owner;
    answer->key = idempotency->key;
    answer->nonce = str_of(idempotency->nonce);
    idempotency->answer_bytes =
        (int64_t)(answer->body.len + answer->location.len + answer->etag.len);
    return answer;
}

/* A failure leaves it to the owner's next request. */
static void bound_answers(const struct idempotency *idempotency)
{
    struct err err;
    enum err_code ignored = metadata_idempotency_stored(idempotency->metadata, idempotency->owner,
                                                        idempotency->answer_bytes, &err);
    (void)ignored;
}

void idempotency_end(struct idempotency *idempotency)
{
    if (idempotency->finished)
        bound_answers(idempotency);
    if (idempotency->active && !idempotency->replay && !idempotency->finished) {
        struct err err;
        /* When this fails the lease runs out by itself. */
        const struct idempotency_claim claim = claim_of(idempotency);
        enum err_code ignored = metadata_idempotency_release(idempotency->metadata, &claim, &err);
        (void)ignored;
    }
    idempotency_record_release(&idempotency->record);
    idempotency->active = false;
}

enum err_code idempotency_fingerprint(const struct str *parts, size_t count,
                                      char ret_fingerprint[65], struct err *err)
{
    struct digest *digest = NULL;
    unsigned char bytes[DIGEST_MAX_BYTES];
    enum err_code code = digest_open(&digest, DIGEST_SHA256, err);
    if (code != ERR_OK)
        return code;
    for (size_t i = 0; i < count; i++) {
        uint64_t len = parts[i].len;
        digest_update(digest, &len, sizeof len);
        digest_update(digest, parts[i].data, parts[i].len);
    }
    code = digest_finish(digest, bytes, err);
    if (code == ERR_OK)
        text_hex(bytes, 32, ret_fingerprint);
    digest_close(digest);
    return code;
}
