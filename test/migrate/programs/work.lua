-- Lua: tables, strings, coroutines, closures, files, garbage collection, a pipe from a child.
local function round()
  local words, total = {}, 0
  local make = coroutine.wrap(function() for i = 1, 20000 do coroutine.yield(i * 7919 % 10007) end end)
  for i = 1, 20000 do
    local n = make()
    words[#words + 1] = string.format("%05d", n)
    total = total + n
  end
  table.sort(words)
  local text = table.concat(words, "\n")
  local f = assert(io.open("lua-file", "w")); f:write(text); f:close()
  f = assert(io.open("lua-file")); local again = f:read("a"); f:close()
  assert(again == text)
  local p = assert(io.popen("echo from a child")); local line = p:read("l"); p:close()
  collectgarbage()
  return total .. " " .. #text .. " " .. text:gsub("[13579]", "x"):sub(-11) .. " " .. line
end
local first = round()
print("ready " .. first) io.stdout:flush()
while true do
  local f = io.open("stop")
  if f then f:close() break end
  assert(round() == first)
end
print("lua: all rounds alike")
