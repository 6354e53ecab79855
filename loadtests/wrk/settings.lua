-- What the wrk scripts share: bodies from a row in a file, and a failure when requests failed.
local settings = {}

-- What stands after `--` on wrk's command line: the file of a row, and its model, or "".
function settings.post(call, arguments, body_of)
  local path = assert(arguments[1], "name the file of a row: wrk ... URL -- row.json [MODEL]")
  local file = assert(io.open(path, "rb"))
  local model = arguments[2] or ""
  wrk.method = "POST"
  wrk.path = (model == "" and "/" or "/models/" .. model .. "/") .. call
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = body_of(file:read("*a"))
  file:close()
end

-- wrk itself ends with 0 whatever the answers were.
function settings.done(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  local answered = summary.requests - errors.status
  io.write(string.format(
    "answered %d, refused %d, broken %d, p50 %.3f ms, p99 %.3f ms\n",
    answered, errors.status, broken,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
  if answered < 1 or errors.status + broken > 0 then
    io.write("FAILED: not every request was answered\n")
    io.flush()
    os.exit(1)
  end
end

return settings
