#include "access/forwarded.h"

#include "base/address.h"

static bool is_given(const struct request *request, const char *cgi_name)
{
    struct str unused;
    return request_header(request, cgi_name, &unused);
}

static bool peer_is_listed(const struct config *config, const struct request *request)
{
    return address_in_list(str_of(config->trusted_proxies), request->peer_addr);
}

/* Takes the last item from a list with commas. */
static struct str cut_last(struct str *list)
{
    size_t start = list->len;
    while (start > 0 && list->data[start - 1] != ',')
        start--;
    const struct str last = {list->data + start, list->len - start};
    list->len = start > 0 ? start - 1 : 0;
    return str_trim(last);
}

/* Of the addresses that proxies added, nearest last: the first that no setting lists is the client, and
 * it forwarded nothing. lighttpd must have read it in the same way. */
static bool ends_at_client(const struct config *config, const struct request *request,
                           struct str addresses)
{
    while (addresses.len > 0) {
        const struct str address = cut_last(&addresses);
        if (!address_in_list(str_of(config->trusted_proxies), address))
            return addresses.len == 0 && str_equal(address, request->remote_addr);
    }
    return true;
}

static bool chain_is_sound(const struct config *config, const struct request *request)
{
    struct str addresses;
    return !request_header(request, "X_FORWARDED_FOR", &addresses) ||
           ends_at_client(config, request, addresses);
}

void forwarded_apply(const struct config *config, struct request *request)
{
    struct str addresses;
    if (!peer_is_listed(config, request) || !request_header(request, "X_FORWARDED_FOR", &addresses))
        return;
    while (addresses.len > 0) {
        const struct str address = cut_last(&addresses);
        if (address_in_list(str_of(config->trusted_proxies), address))
            continue;
        if (address_is_valid(address))
            request->remote_addr = address;
        return;
    }
}

bool forwarded_by_unlisted(const struct config *config, const struct request *request)
{
    if (is_given(request, "X_COFFER_UNLISTED_PROXY"))
        return true;
    bool forwarded = is_given(request, "X_FORWARDED_FOR") || is_given(request, "FORWARDED") ||
                     is_given(request, "VIA");
    return forwarded && (!peer_is_listed(config, request) || !chain_is_sound(config, request));
}

bool forwarded_client_is_known(const struct config *config, const struct request *request)
{
    if (forwarded_by_unlisted(config, request))
        return false;
    bool other_client = is_given(request, "FORWARDED") || is_given(request, "VIA");
    return !other_client || !address_in_list(str_of(config->trusted_proxies), request->remote_addr);
}
