-- For wrk: GETs over `count` URLs as Chrome with hls.js sends them. Arguments: path with a %d in it, count, and the
-- milliseconds each connection waits before its next request (0: none).
local requests, at, wait_ms = {}, 0, 0

function init(args)
  local path, count = args[1], tonumber(args[2])
  wait_ms = tonumber(args[3]) or 0
  wrk.headers["Host"] = "video.example"
  wrk.headers["Connection"] = "keep-alive"
  wrk.headers["sec-ch-ua-platform"] = '"Windows"'
  wrk.headers["User-Agent"] = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
  wrk.headers["sec-ch-ua"] = '"Google Chrome";v="141", "Not?A_Brand";v="8", "Chromium";v="141"'
  wrk.headers["sec-ch-ua-mobile"] = "?0"
  wrk.headers["Accept"] = "*/*"
  wrk.headers["Origin"] = "https://player.example"
  wrk.headers["Sec-Fetch-Site"] = "cross-site"
  wrk.headers["Sec-Fetch-Mode"] = "cors"
  wrk.headers["Sec-Fetch-Dest"] = "empty"
  wrk.headers["Referer"] = "https://player.example/"
  wrk.headers["Accept-Encoding"] = "gzip, deflate, br, zstd"
  wrk.headers["Accept-Language"] = "en-GB,en;q=0.9,de;q=0.8"
  for i = 1, count do
    requests[i] = wrk.format("GET", string.format(path, i - 1))
  end
  at = math.random(count)
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function delay()
  return wait_ms
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "bytes": %d, "duration_us": %d, "errors": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.bytes, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
