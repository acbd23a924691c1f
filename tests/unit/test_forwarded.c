#include "access/origin.h"

#include "check.h"

static void add_header(struct request *request, const char *name, const char *value)
{
    if (value)
        request->headers[request->header_count++] =
            (struct request_header){str_of(name), str_of(value)};
}

TEST(forwarded, what_a_proxy_says_counts_where_all_before_the_client_are_listed)
{
    static const struct {
        const char *name, *peer, *client, *addresses, *forwarded, *via, *mark;
        bool unlisted, known;
    } rows[] = {
        {"direct", "10.1.1.1", "10.1.1.1", NULL, NULL, NULL, NULL, false, true},
        {"peer not listed", "10.1.1.1", "10.1.1.1", "8.8.8.8", NULL, NULL, NULL, true, false},
        {"its own address", "10.1.1.1", "10.1.1.1", "10.1.1.1", NULL, NULL, NULL, true, false},
        {"Forwarded", "10.1.1.1", "10.1.1.1", NULL, "for=8.8.8.8", NULL, NULL, true, false},
        {"Via", "10.1.1.1", "10.1.1.1", NULL, NULL, "1.1 proxy", NULL, true, false},
        {"a gateway says so", "10.9.9.9", "10.1.1.1", "10.1.1.1", NULL, NULL, "1", true, false},
        {"listed", "10.9.9.9", "8.8.8.8", "8.8.8.8", NULL, "1.1 proxy", NULL, false, true},
        {"two listed", "10.9.9.9", "8.8.8.8", "8.8.8.8,10.9.1.2", NULL, NULL, NULL, false, true},
        {"all listed", "10.9.9.9", "10.9.9.9", "10.9.1.1, 10.9.1.2", NULL, NULL, NULL, false, true},
        {"one of two listed", "10.9.9.9", "10.1.1.1", "8.8.8.8, 10.1.1.1", NULL, NULL, NULL, true,
         false},
        {"no address", "10.9.9.9", "10.9.9.9", "unknown", NULL, NULL, NULL, true, false},
        {"with a port", "10.9.9.9", "10.9.9.9", "8.8.8.8:80", NULL, NULL, NULL, true, false},
        {"empty items", "10.9.9.9", "8.8.8.8", "8.8.8.8, ,10.9.9.9", NULL, NULL, NULL, true, false},
        {"client not named", "10.9.9.9", "10.9.9.9", NULL, "for=8.8.8.8", NULL, NULL, false, false},
        {"Via alone", "10.9.9.9", "10.9.9.9", NULL, NULL, "1.1 proxy", NULL, false, false},
    };
    const struct config config = {.trusted_proxies = "10.9.0.0/16"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct request request = {.remote_addr = str_of(rows[i].client),
                                  .peer_addr = str_of(rows[i].peer)};
        add_header(&request, "X_FORWARDED_FOR", rows[i].addresses);
        add_header(&request, "FORWARDED", rows[i].forwarded);
        add_header(&request, "VIA", rows[i].via);
        add_header(&request, "X_COFFER_UNLISTED_PROXY", rows[i].mark);
        CHECK_INT_ROW(rows[i].name, forwarded_by_unlisted(&config, &request), rows[i].unlisted);
        CHECK_INT_ROW(rows[i].name, forwarded_client_is_known(&config, &request), rows[i].known);
    }
}
