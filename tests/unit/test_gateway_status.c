#include "metrics/gateway_status.h"

#include "check.h"

#define HEAD "Total Accesses: 63206\nTotal kBytes: 2932\nUptime: 17\nBusyServers: 9\n"

TEST(gateway_status, tells_totals_and_states)
{
    struct gateway_status status;
    REQUIRE(gateway_status_parse(STR(HEAD "IdleServers: 5\nScoreboard: hhWkqkr?r____\n"), &status));
    CHECK_INT((int64_t)status.total, 63206);
    CHECK_INT(status.uptime_seconds, 17);
    CHECK_INT(status.busy, 9);
    CHECK_INT(status.connections[GATEWAY_HANDLE_REQ], 2);
    CHECK_INT(status.connections[GATEWAY_WRITE], 1);
    CHECK_INT(status.connections[GATEWAY_KEEP_ALIVE], 2);
    CHECK_INT(status.connections[GATEWAY_REQ_START], 1);
    CHECK_INT(status.connections[GATEWAY_READ], 2);
    CHECK_INT(status.connections[GATEWAY_OTHER], 1);
    CHECK_INT(status.connections[GATEWAY_CONNECT], 0);
}

TEST(gateway_status, every_state_has_its_letter)
{
    struct gateway_status status;
    REQUIRE(gateway_status_parse(STR(HEAD "Scoreboard: .qrQRhsWSECkx\n"), &status));
    for (unsigned state = 0; state < GATEWAY_STATE_COUNT; state++)
        CHECK_INT(status.connections[state], 1);
}

TEST(gateway_status, other_texts_are_none)
{
    static const char *const rows[] = {
        "",
        "<html></html>",
        HEAD,
        "Uptime: 17\nBusyServers: 9\nScoreboard: _\n",
        "Total Accesses: -1\nUptime: 17\nBusyServers: 9\nScoreboard: _\n",
        "Total Accesses: x\nUptime: 17\nBusyServers: 9\nScoreboard: _\n",
        "Total Accesses: 99999999999999999999\nUptime: 17\nBusyServers: 9\nScoreboard: _\n",
        "Total Accesses: 1\nUptime:\nBusyServers: 9\nScoreboard: _\n",
    };
    struct gateway_status status;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_ROW(rows[i], !gateway_status_parse(str_of(rows[i]), &status));
}
