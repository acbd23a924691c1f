#include "access/idempotency.h"

#include "base/digest.h"
#include "base/text.h"

#define NS_PER_MS 1000000LL

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

enum err_code idempotency_tick(struct idempotency *idempotency, struct err *err)
{
    if (!idempotency->active || idempotency->replay ||
        clock_steady_ns(idempotency->clock) < idempotency->renew_at_ns)
        return ERR_OK;
    const struct idempotency_claim claim = claim_of(idempotency);
    enum err_code code = metadata_idempotency_renew(idempotency->metadata, &claim, err);
    if (code == ERR_OK)
        set_renewal(idempotency);
    return code;
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

const struct idempotency_answer *idempotency_answer_of(const struct idempotency *idempotency,
                                                       struct idempotency_answer *answer)
{
    if (!idempotency->active)
        return NULL;
    answer->owner = idempotency->owner;
    answer->key = idempotency->key;
    answer->nonce = str_of(idempotency->nonce);
    return answer;
}

void idempotency_end(struct idempotency *idempotency)
{
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
