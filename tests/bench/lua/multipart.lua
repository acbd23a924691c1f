-- POST of one file as multipart/form-data. First script argument: its size in bytes.
function init(args)
    local size = tonumber(args[1])
    local boundary = "----------------------------c0ffe2c0ffe2"
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "multipart/form-data; boundary=" .. boundary
    wrk.body = "--" .. boundary .. "\r\n"
        .. "Content-Disposition: form-data; name=\"file\"; filename=\"note.bin\"\r\n"
        .. "Content-Type: application/octet-stream\r\n\r\n"
        .. string.rep("coffer-bench-16b", math.ceil(size / 16)):sub(1, size) .. "\r\n"
        .. "--" .. boundary .. "--\r\n"
    request = (function(text) return function() return text end end)(wrk.format())
end

dofile(debug.getinfo(1, "S").source:sub(2):gsub("[^/]*$", "") .. "report.lua")
