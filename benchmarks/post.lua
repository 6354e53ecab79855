-- wrk's script: sends the body in the file $BODY, and prints what it measured as one JSON line.
local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.method = os.getenv("METHOD") or "POST"
wrk.body = file:read("*a")
file:close()

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50_us": %d, "p90_us": %d, "p99_us": %d, '
      .. '"refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(90), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
