-- Prints one machine-readable line at the end, with what wrk's own summary rounds away. There is
-- no response() hook on purpose: it would make wrk the slowest part. wrk counts statuses above 399.
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
        summary.bytes, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(99)))
end
