#include "files/files_cursor.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/text.h"

#define MAC_BYTES 16
#define NUMBER_BYTES 8
#define PAYLOAD_MAX (NUMBER_BYTES + ID_LENGTH + LIMIT_NAME_BYTES)
#define CURSOR_MAX (PAYLOAD_MAX + MAC_BYTES)

static void append_sized(struct buf *out, struct str part)
{
    uint32_t len = (uint32_t)part.len;
    buf_append(out, &len, sizeof len);
    buf_append_str(out, part);
}

/* The MAC covers the query too: a cursor fits no other. False when memory ran out. */
static bool make_mac(const unsigned char secret[CURSOR_SECRET_BYTES],
                     const struct file_query *query, struct str payload,
                     unsigned char mac[MAC_BYTES])
{
    struct buf text;
    unsigned char full[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    buf_init(&text, 64 * 1024);
    buf_append_char(&text, (char)('0' + (int)query->sort));
    append_sized(&text, query->owner);
    append_sized(&text, query->prefix);
    append_sized(&text, query->mime);
    buf_append_str(&text, payload);
    bool made = !text.failed && HMAC(EVP_sha256(), secret, CURSOR_SECRET_BYTES,
                                     (const unsigned char *)text.data, text.len, full, &len);
    if (made)
        memcpy(mac, full, MAC_BYTES);
    buf_release(&text);
    return made;
}

void files_cursor_encode(const unsigned char secret[CURSOR_SECRET_BYTES],
                         const struct file_query *query, const struct file_position *position,
                         struct buf *out)
{
    unsigned char bytes[CURSOR_MAX];
    size_t len = 0;
    uint64_t number = (uint64_t)position->number;
    for (int shift = 56; shift >= 0; shift -= 8)
        bytes[len++] = (unsigned char)(number >> shift);
    memcpy(bytes + len, position->id, ID_LENGTH);
    len += ID_LENGTH;
    size_t name_len = query->sort == SORT_NAME ? strlen(position->name) : 0;
    memcpy(bytes + len, position->name, name_len);
    len += name_len;
    if (!make_mac(secret, query, (struct str){(const char *)bytes, len}, bytes + len))
        out->failed = true;
    text_base64url(bytes, len + MAC_BYTES, out);
}

static enum err_code refuse(struct err *err)
{
    return err_set(err, ERR_BAD_CURSOR, "cursor", "The cursor is not one of this list.");
}

enum err_code files_cursor_decode(const unsigned char secret[CURSOR_SECRET_BYTES],
                                  const struct file_query *query, struct str cursor,
                                  struct file_position *ret_position, struct err *err)
{
    unsigned char bytes[CURSOR_MAX];
    unsigned char mac[MAC_BYTES];
    size_t len = 0;
    if (!text_unbase64url(cursor, bytes, sizeof bytes, &len) ||
        len < NUMBER_BYTES + ID_LENGTH + MAC_BYTES)
        return refuse(err);
    len -= MAC_BYTES;
    if (!make_mac(secret, query, (struct str){(const char *)bytes, len}, mac))
        return err_set_internal(err, ERR_NO_MEMORY, 0, "cursor", "cannot compute the signature");
    if (CRYPTO_memcmp(mac, bytes + len, MAC_BYTES) != 0)
        return refuse(err);

    struct file_position position = {0};
    uint64_t number = 0;
    for (int i = 0; i < NUMBER_BYTES; i++)
        number = number << 8 | bytes[i];
    position.number = (int64_t)number;
    const char *text = (const char *)bytes + NUMBER_BYTES;
    struct str name = {text + ID_LENGTH, len - NUMBER_BYTES - ID_LENGTH};
    if (!id_is_valid((struct str){text, ID_LENGTH}) ||
        !str_copy(position.id, sizeof position.id, (struct str){text, ID_LENGTH}) ||
        !str_copy(position.name, sizeof position.name, name))
        return refuse(err);
    *ret_position = position;
    return ERR_OK;
}
