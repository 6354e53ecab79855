-- One row a request, as fast as answers come (a closed loop):
--
--   wrk -t 2 -c 32 -d 30 -s loadtests/wrk/predict.lua http://127.0.0.1:8000 -- row.json [MODEL]
package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path
local settings = require("settings")

function init(arguments)
  settings.post("predict", arguments, function(row) return row end)
end

done = settings.done
