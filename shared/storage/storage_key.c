#include "storage/storage_drivers.h"

static bool is_hex_digit(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
}

static bool is_key_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '.' ||
           byte == '_' || byte == '-';
}

bool storage_is_key(struct str key)
{
    const size_t name = STORAGE_SHARD_LENGTH + 1;
    if (key.len <= name || key.len > LIMIT_KEY_BYTES || !is_hex_digit(key.data[0]) ||
        !is_hex_digit(key.data[1]) || key.data[STORAGE_SHARD_LENGTH] != '/' ||
        key.data[name] == '.')
        return false;
    for (size_t i = name; i < key.len; i++)
        if (!is_key_byte(key.data[i]) || (key.data[i] == '.' && key.data[i - 1] == '.'))
            return false;
    return true;
}

enum err_code storage_check_key(const char *key, struct err *err)
{
    if (storage_is_key(str_of(key)))
        return ERR_OK;
    return err_set_internal(err, ERR_INTERNAL, 0, "check key", "Not a storage key.");
}
