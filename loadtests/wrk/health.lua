-- The readiness probe, as fast as answers come: the server without its model.
--
--   wrk -t 2 -c 32 -d 30 -s loadtests/wrk/health.lua http://127.0.0.1:8000
package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path
local settings = require("settings")

wrk.path = "/health/ready"

done = settings.done
