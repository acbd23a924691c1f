#include "base/text.h"

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Up to three bytes as four letters; the letters past len + 1 carry nothing. */
static void encode_group(const char *alphabet, const unsigned char *bytes, size_t len,
                         char letters[4])
{
    uint32_t group = (uint32_t)bytes[0] << 16;
    if (len > 1)
        group |= (uint32_t)bytes[1] << 8;
    if (len > 2)
        group |= bytes[2];
    for (int i = 0; i < 4; i++)
        letters[i] = alphabet[group >> (18 - 6 * i) & 0x3F];
}

/* Two to four letters as one to three bytes. Bits beyond the last byte must be zero: one value
 * has one spelling. */
static bool decode_group(const char *alphabet, struct str letters, unsigned char *bytes)
{
    uint32_t group = 0;
    for (size_t i = 0; i < 4; i++) {
        const char *found = i < letters.len ? memchr(alphabet, letters.data[i], 64) : alphabet;
        if (!found)
            return false;
        group = group << 6 | (uint32_t)(found - alphabet);
    }
    size_t len = letters.len - 1;
    if ((group & (0xFFFFFFu >> (8 * len))) != 0)
        return false;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)(group >> (16 - 8 * i));
    return true;
}

/* `text` without padding; its length decides how many bytes are written. */
static bool decode(const char *alphabet, struct str text, unsigned char *target)
{
    unsigned char bytes[3];
    for (int pass = 0; pass < 2; pass++) { /* nothing is written before all is known to be good */
        for (size_t at = 0; at < text.len; at += 4) {
            size_t len = text.len - at < 4 ? text.len - at : 4;
            if (!decode_group(alphabet, (struct str){text.data + at, len}, bytes))
                return false;
            if (pass == 1)
                memcpy(target + at / 4 * 3, bytes, len - 1);
        }
    }
    return true;
}

void text_base64(const unsigned char *bytes, size_t len, char *target)
{
    for (size_t at = 0; at < len; at += 3, target += 4) {
        size_t step = len - at < 3 ? len - at : 3;
        encode_group(standard, bytes + at, step, target);
        for (size_t i = step + 1; i < 4; i++)
            target[i] = '=';
    }
    *target = '\0';
}

bool text_unbase64(struct str text, unsigned char *target, size_t len)
{
    size_t padding = (3 - len % 3) % 3;
    if (text.len % 4 != 0 || text.len / 4 != len / 3 + (len % 3 != 0))
        return false;
    for (size_t i = 0; i < padding; i++)
        if (text.data[--text.len] != '=')
            return false;
    return decode(standard, text, target);
}

void text_base64url(const unsigned char *bytes, size_t len, struct buf *out)
{
    char letters[4];
    for (size_t at = 0; at < len; at += 3) {
        size_t step = len - at < 3 ? len - at : 3;
        encode_group(url_safe, bytes + at, step, letters);
        buf_append(out, letters, step + 1);
    }
}

bool text_unbase64url(struct str text, unsigned char *target, size_t size, size_t *ret_len)
{
    size_t rest = text.len % 4;
    size_t len = text.len / 4 * 3 + (rest > 0 ? rest - 1 : 0);
    if (rest == 1 || len > size || !decode(url_safe, text, target))
        return false;
    *ret_len = len;
    return true;
}
