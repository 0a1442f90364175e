-- What is kept is given without asking, where a listing has just proved it current.
--
-- rclone lists a directory and then asks for each of its files (HEAD), which have the size, time
-- and ETag that the listing told. An object's HEAD that was answered before is therefore still
-- right if it told the same; see kept.py. The relay asks anew for what this node has changed.

local names = {}

local listed, answered = ngx.shared.listed, ngx.shared.answered
local LARGEST = 8 * 1024 * 1024
local ENTITIES = { amp = "&", lt = "<", gt = ">", quot = '"', apos = "'" }

local function decoded(text)
    return (text:gsub("%%(%x%x)", function(digits)
        return string.char(tonumber(digits, 16))
    end))
end

local function plain(text)
    return (text:gsub("&(#?x?)(%w+);", function(kind, name)
        if kind == "" then
            return ENTITIES[name]
        end
        local code = tonumber(name, kind == "#x" and 16 or 10)
        return code and code < 128 and string.char(code) or nil
    end))
end

-- "abc" in a header, &quot;abc&quot; in a listing.
local function bare(etag)
    return (etag:gsub("&quot;", ""):gsub('"', ""))
end

local function user()
    return ngx.var.http_x_taccuino_user or ""
end

-- Whether the storage is to be asked.
function names.ask()
    local uri = ngx.var.request_uri
    if ngx.req.get_method() ~= "HEAD" or ngx.var.http_x_taccuino_ask or uri:find("?", 1, true) then
        return "1"
    end
    local key = user() .. decoded(uri)
    local told = listed:get(key)
    return told and told == answered:get(key) and "0" or "1"
end

-- Take note of an object's HEAD: its ETag, and its time as a listing has it.
function names.header()
    if ngx.var.upstream_cache_status == "HIT" then
        ngx.header["Date"] = ngx.http_time(ngx.time()) -- the AWS SDK sets its clock by it
        return
    end
    local uri = ngx.var.request_uri
    if ngx.req.get_method() ~= "HEAD" or ngx.status ~= 200 or uri:find("?", 1, true) then
        return
    end
    local etag, modified = ngx.header["ETag"], ngx.header["Last-Modified"]
    local at = modified and ngx.parse_http_time(modified)
    if etag and at then
        local stamp = bare(etag) .. " " .. os.date("!%Y-%m-%dT%H:%M:%S", at)
        answered:set(user() .. decoded(uri), stamp)
    end
end

-- Take note of a listing, once it is whole.
function names.body(seconds)
    if ngx.req.get_method() ~= "GET" or ngx.status ~= 200 then
        return
    end
    local parts = ngx.ctx.parts or {}
    ngx.ctx.parts, ngx.ctx.size = parts, (ngx.ctx.size or 0) + #ngx.arg[1]
    if ngx.ctx.size > LARGEST then
        ngx.ctx.parts = {}
        return
    end
    parts[#parts + 1] = ngx.arg[1]
    if not ngx.arg[2] then
        return
    end
    local body = table.concat(parts)
    if not body:find("<ListBucketResult", 1, true) then
        return
    end
    local url = body:find("<EncodingType>url</EncodingType>", 1, true)
    local bucket = user() .. decoded(ngx.var.uri):match("^/[^/]*") .. "/"
    for item in body:gmatch("<Contents>(.-)</Contents>") do
        local key, etag = item:match("<Key>(.-)</Key>"), item:match("<ETag>(.-)</ETag>")
        local modified = item:match("<LastModified>([^.Z<]+)")
        if key and etag and modified then
            key = url and decoded(key) or plain(key)
            listed:set(bucket .. key, bare(etag) .. " " .. modified, seconds)
        end
    end
end

return names
