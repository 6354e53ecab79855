-- Many rows a request, as fast as answers come (a closed loop):
--
--   wrk -t 2 -c 8 -d 30 -s loadtests/wrk/batch_predict.lua URL -- row.json [MODEL [ROWS]]
package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path
local settings = require("settings")

function init(arguments)
  local count = assert(tonumber(arguments[3] or "100"), "ROWS must be a number")
  settings.post("batch_predict", arguments, function(row)
    return '{"instances": [' .. string.rep(row, count, ",") .. "]}"
  end)
end

done = settings.done
