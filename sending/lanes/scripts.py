"""The atomic scripts that share limits among workers; they run inside Valkey.

Time is Valkey's own, so that all machines agree. A *meter* is the hash of one limited thing (a
lane, a tenant, …). Message rates are virtual queues (GCRA, ITU-T I.371): `tat` is the moment up to
which the rate is spoken for, so nothing piles up while a meter is idle and an empty Valkey gives
no burst. Hours and days are counted in calendar windows (UTC).
"""

from __future__ import annotations

from typing import Final

# KEYS: epoch, roster. ARGV: worker, roster seconds. Answers {epoch, its age in seconds, workers…}.
# The epoch changes when Valkey was restarted or emptied: then nothing in it can be believed to be
# complete, and the meters are filled anew by what the workers remember.
EPOCH: Final = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or 'unknown'
local have = redis.call('HMGET', KEYS[1], 'run', 'born')
if have[1] ~= run then
  redis.call('HSET', KEYS[1], 'run', run, 'born', string.format('%.6f', now))
  have[2] = string.format('%.6f', now)
end
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('EXPIRE', KEYS[2], 3600)
local answer = {run .. have[2], string.format('%.6f', now - have[2])}
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do answer[#answer + 1] = name end
return answer
"""

# KEYS: meter, state, epoch. ARGV: worker, stamp, and the numbers of `Ask.numbers` in one text: each
# argument and each part of an answer costs the client as much as working with ten.
# Answers {numbers, moment of the last cut, stamp, state…}. The numbers: settling seconds,
# connections (-1: any), messages (-1: any), seconds until the next message, openings (-1: any),
# hour's window, hour's count, day's window, day's count, workers that want, now, window, factor of
# its last cut, ceiling, its step, its goal.
GRANT: Final = """
local a = {}
for number in string.gmatch(ARGV[3], '%S+') do a[#a + 1] = tonumber(number) end
local me, mine = ARGV[1], ARGV[2]
local lease, horizon, settle, turn_seconds = a[1], a[2], a[3], a[4]
local want, held, limit, ask, unspent, over = a[5], a[6], a[7], a[8], a[9], a[10]
local ps, pm, ph, pd, cpm, open, unopened = a[11], a[12], a[13], a[14], a[15], a[16], a[17]
local seen_hw, seen_hn, extra_h = a[18], a[19], a[20]
local seen_dw, seen_dn, extra_d = a[21], a[22], a[23]
local my_rate, in_use = a[24], a[25]
local hard, window, cut, grown, calm = limit, a[26], a[27], a[28], a[29]
local told, risen, rise_seconds, rises, least = a[30], a[31], a[32], a[33], a[34]
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local epoch = redis.call('HMGET', KEYS[3], 'run', 'born')
if not epoch[1] then return redis.error_reply('NOEPOCH the memory was lost') end
local id = epoch[1] .. epoch[2]
local m, workers = {}, {}
local raw = redis.call('HGETALL', KEYS[1])
for i = 1, #raw, 2 do
  if string.sub(raw[i], 1, 2) == 'w:' then workers[string.sub(raw[i], 3)] = raw[i + 1]
  else m[raw[i]] = raw[i + 1] end
end
-- Is what stands here complete? Not when all of Valkey is young, nor when this meter is new
-- although the worker had a share in it (it was evicted).
local born = tonumber(m.born) or 0
if m.ep ~= id then
  local young = now - tonumber(epoch[2]) < settle
  if m.ep or young or mine ~= '' then
    born = now
    if young then born = tonumber(epoch[2]) end
    -- Until then, and until their next question, workers send by their own parts.
    local from = math.max(now, born + settle + horizon)
    m.st, m.mt, m.ct = from, from, from
  end
end
local settling = math.max(0, born + settle - now)
local stamp = id .. '/' .. string.format('%.6f', born)
local known = mine == stamp

-- Connections: max-min fair shares of those who want, by leases.
local conns, wanting = -1, {}
local others, changed, gone, rates = 0, {}, {}, 0
for name, value in pairs(workers) do
  local given, until_, wants, rate = string.match(value, '([^|]+)|([^|]+)|([^|]+)|([^|]+)')
  if tonumber(until_) < now then gone[#gone + 1] = 'w:' .. name
  elseif name ~= me then
    others = others + tonumber(given)
    rates = rates + tonumber(rate)
    if tonumber(wants) > 0 then wanting[#wanting + 1] = {name, tonumber(wants)} end
  end
end
if want > 0 or ask > 0 then wanting[#wanting + 1] = {me, math.max(want, 1)} end
local count = math.max(1, #wanting)
local stop = redis.call('HGETALL', KEYS[2])
local shut = false
for i = 1, #stop, 2 do
  local ends = tonumber(string.match(stop[i + 1], '^[^|]+'))
  if ends > now then
    if stop[i] == 'suspend' then shut = true end
    if stop[i] == 'one' then limit = 1 end
  end
end

-- The window that adaptive concurrency has found (engine/shaping/adaptive) is the lane's:
-- one more a second at most while all is clean, cut once for a burst, whoever hears it.
local within = limit
local aw, ac, af = 0, tonumber(m.ac) or 0, tonumber(m.af) or 1
-- So is the rate's ceiling that trouble leaves (`rc`, 0 for none): what the complaining worker may
-- send after its cut, and the others' rates cut as hard. It rises by `rp` to `rg`, then it ends.
local rc, rb, rp = tonumber(m.rc) or 0, tonumber(m.rb) or 0, tonumber(m.rp) or 0
local rg, rs = tonumber(m.rg) or 0, tonumber(m.rs) or 0
if window > 0 and limit >= 0 then
  local before, step = tonumber(m.ab) or window, tonumber(m.as) or 0
  aw = tonumber(m.aw) or window
  local hard_cut = cut > 0 and cut or 0.5
  local function cut_rate(ceiling)
    rc = math.max(least, ceiling)
    rg, rs = math.max(rb * 2, rc * 2), now
    rp = (rg - rc) / rises
  end
  if cut < 1 then
    if told > 0 and (now - ac >= calm or rc == 0) then
      local all = told / hard_cut + rates
      if rc > 0 then all = math.min(all, rc) end
      rb = all
      cut_rate(all * hard_cut)
    elseif rc > 0 then
      cut_rate(math.min(rc, rb * hard_cut))
    end
    if now - ac >= calm then
      before, ac, af = aw, now, cut
      aw = aw * cut
    else
      aw, af = math.min(aw, before * cut), math.min(af, cut)
    end
    step = now
  elseif grown > 0 and now - step >= 1 then
    aw, step = aw + 1, now
  end
  if cut >= 1 and told > 0 and settling > 0 and not known then
    -- A lost memory: the parts that the workers remember add up to what was.
    rb = 0
    cut_rate(rc + told)
  elseif rc > 0 and risen > 0 and now - rs >= 0.9 * rise_seconds then
    rc, rs = rc + rp, now
    if rc >= rg then rc = 0 end
  end
  for name, value in pairs({rc = rc, rb = rb, rp = rp, rg = rg, rs = rs}) do
    changed[#changed + 1] = name; changed[#changed + 1] = string.format('%.6f', value)
  end
  aw = math.max(1, math.min(aw, hard))
  for name, value in pairs({aw = aw, ac = ac, af = af, ab = before, as = step}) do
    changed[#changed + 1] = name; changed[#changed + 1] = string.format('%.6f', value)
  end
  limit = math.min(limit, math.floor(aw))
end
if limit >= 0 then
  table.sort(wanting, function(x, y) return x[1] < y[1] end)
  local turn = math.floor(now / turn_seconds)
  for i, entry in ipairs(wanting) do entry[3] = (i + turn) % count end
  table.sort(wanting, function(x, y)
    if x[2] ~= y[2] then return x[2] < y[2] end
    return x[3] < y[3]
  end)
  local left, share = limit, 0
  for i, entry in ipairs(wanting) do
    local give = math.min(entry[2], math.floor(left / (count - i + 1)))
    left = left - give
    if entry[1] == me then share = give end
  end
  -- The window yields at once; only the limit waits for connections that may be open still.
  conns = math.max(0, math.min(share, within - others))
  if shut or settling > 0 then conns = 0 end
end
local stand = math.max(conns, held)
if want > 0 or stand > 0 then
  changed[#changed + 1] = 'w:' .. me
  changed[#changed + 1] = table.concat({stand, now + lease, want, my_rate, in_use}, '|')
else gone[#gone + 1] = 'w:' .. me end

-- Hours and days. What is paid back or was seen counts only in its own window.
local hw, dw = math.floor(now / 3600), math.floor(now / 86400)
local function window(n, w, current, seen_w, seen, extra)
  local have = 0
  if tonumber(m[w]) == current then have = tonumber(m[n]) or 0 end
  local beside = 0
  if tonumber(m[w]) == current then beside = tonumber(m[n .. 'x']) or 0 end
  if seen_w == current then
    if not known or not m[w] then have = math.max(have, seen) end
    beside = beside + extra
  end
  return have, beside
end
local hn, hx = window('hn', 'hw', hw, seen_hw, seen_hn, extra_h)
local dn, dx = window('dn', 'dw', dw, seen_dw, seen_dn, extra_d)
local paid = unspent
if not known then paid, over = 0, 0 end
if seen_hw == hw then hn = math.max(0, hn - paid - over) end
if seen_dw == dw then dn = math.max(0, dn - paid - over) end

-- Messages: the tightest of all.
local st = math.max((tonumber(m.st) or now) - (ps > 0 and paid / ps or 0), now)
local mt = math.max((tonumber(m.mt) or now) - (pm > 0 and paid / pm or 0), now)
local give, after = ask, 0
local function paced(tat, rate)
  if rate <= 0 then return end
  local room = math.floor((now + horizon - tat) * rate + 0.000001)
  room = math.min(room, math.ceil(horizon * rate / count))
  if room < 1 and tat <= now then room = 1 end
  if room < 1 then after = math.max(after, tat - now) end
  give = math.min(give, math.max(0, room))
end
paced(st, ps)
paced(mt, pm)
local function counted(limit_, used)
  if limit_ < 0 then return end
  local left = math.max(0, limit_ - used)
  give = math.min(give, math.ceil(left / count))
end
counted(ph, hn + hx)
counted(pd, dn + dx)
if shut or settling > 0 then give = 0 end
local messages = give
if ps <= 0 and pm <= 0 and ph < 0 and pd < 0 and not shut and settling == 0 then
  messages = -1
else
  if ps > 0 then st = st + give / ps end
  if pm > 0 then mt = mt + give / pm end
  hn, dn = hn + give, dn + give
end

-- Openings of connections: a quarter of the minute's at once, the rest spread over it.
local opens = -1
local ct = tonumber(m.ct) or 0
if cpm > 0 then
  local rate, burst = cpm * 0.74 / 60, math.max(1, math.floor(cpm / 4))
  ct = math.max(ct - (known and unopened or 0) / rate, now - (burst - 1) / rate)
  opens = 0
  if settling == 0 and not shut then
    opens = math.max(0, math.floor((now - ct) * rate + 0.000001) + 1)
    opens = math.min(opens, open, math.max(1, math.ceil(burst / count)))
    ct = ct + opens / rate
  end
end

changed[#changed + 1] = 'ep'; changed[#changed + 1] = id
local function put(name, value)
  changed[#changed + 1] = name; changed[#changed + 1] = string.format('%.6f', value)
end
put('born', born); put('st', st); put('mt', mt); put('ct', ct)
-- Without a limit nothing is counted: a limit that comes later starts from what workers know.
if ph >= 0 then put('hw', hw); put('hn', hn); put('hnx', hx)
elseif m.hw then gone[#gone + 1] = 'hw' end
if pd >= 0 then put('dw', dw); put('dn', dn); put('dnx', dx)
elseif m.dw then gone[#gone + 1] = 'dw' end
redis.call('HSET', KEYS[1], unpack(changed))
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
local keep = 120
if ph >= 0 then keep = math.max(keep, (hw + 1) * 3600 - now + 60) end
if pd >= 0 then keep = math.max(keep, (dw + 1) * 86400 - now + 60) end
redis.call('EXPIRE', KEYS[1], math.ceil(keep))
local answer = {
  string.format('%.6f %d %d %.6f %d %d %d %d %d %d %.6f %.6f %.6f %.6f %.6f %.6f',
    settling, conns, messages, after, opens, hw, hn + hx, dw, dn + dx, count, now,
    aw, af, rc, rp, rg),
  string.format('%.6f', ac), stamp}
for _, value in ipairs(stop) do answer[#answer + 1] = value end
return answer
"""

# KEYS: state. ARGV: field, seconds, rest. A reaction is only ever made longer.
REACT: Final = """
local t = redis.call('TIME')
local ends = t[1] + t[2] / 1000000 + tonumber(ARGV[2])
local have = redis.call('HGET', KEYS[1], ARGV[1])
if have and tonumber(string.match(have, '^[^|]+')) >= ends then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.3f', ends) .. '|' .. ARGV[3])
local left = redis.call('PTTL', KEYS[1])
redis.call('PEXPIRE', KEYS[1], math.max(left, math.ceil(tonumber(ARGV[2]) * 1000) + 1000))
return 1
"""

# KEYS: tally. ARGV: replies to count, times, seconds. Answers 1 when there were so many replies
# within the time, and counts anew from there.
COUNT: Final = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local times, within = tonumber(ARGV[2]), tonumber(ARGV[3])
for _ = 1, math.min(tonumber(ARGV[1]), times) do
  redis.call('LPUSH', KEYS[1], string.format('%.3f', now))
end
redis.call('LTRIM', KEYS[1], 0, times - 1)
redis.call('PEXPIRE', KEYS[1], math.ceil(within * 1000) + 1000)
local first = redis.call('LINDEX', KEYS[1], times - 1)
if not first or now - tonumber(first) > within then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""
