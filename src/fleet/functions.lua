#!lua name=unlisted_1
-- What a fleet's nodes call, one bucket at a time: GCRA with the server's clock. Moments are microseconds, which a double
-- holds exactly until the year 2255; whatever is rounded is rounded against the caller.
--
-- All keys of a call lie in one slot: what belongs to a scope has its identity as hash tag, and the slot's mark says that the
-- slot was not emptied since the fleet was made, whose it is, which version of the quotas was used in it last, and how many
-- changes were made in it, so that a server that forgot some is found out.

local LARGEST = 1048576 -- numbers of one lease at most, so that products of it stay exact
local EPSILON = 1e-6    -- of a number: quotients of exact products must not fall below the whole number that they are
local CHANGES = 100000  -- entries that the stream of changes keeps, about

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Is this the fleet's, and are the node's quotas not older than those used here? An error that the node knows, or nil.
local function refusal(key, fleet, version)
  local found = redis.call('HMGET', key, 'fleet', 'version')
  if not found[1] then
    return redis.error_reply('EMPTIED no mark of a fleet')
  end
  if found[1] ~= fleet then
    return redis.error_reply('FOREIGN ' .. found[1])
  end
  local newest = tonumber(found[2])
  if not newest then
    return redis.error_reply('DAMAGED a mark')
  end
  if newest > version then
    return redis.error_reply('OLDER ' .. found[2])
  end
  if newest < version then
    redis.call('HSET', key, 'version', string.format('%d', version))
  end
  return nil
end

-- A bucket: until when everything is paid back, the interval of a number then, and the exhaustion that it counts already.
local function read(key)
  local found = redis.call('GET', key)
  if not found then
    return nil
  end
  local tat, interval, exhausted = string.match(found, '^(%d+) ([%d.]+) (%d+)$')
  interval = tonumber(interval)
  if not interval or interval <= 0 then
    return nil, redis.error_reply('DAMAGED a bucket')
  end
  return { tat = tonumber(tat), interval = interval, exhausted = tonumber(exhausted) }
end

-- What is owed now, in microseconds of this interval: a bucket of another interval keeps its debt in numbers. After an
-- exhaustion everybody owes a whole burst as of that moment, until something else was decided about the bucket.
local function owed(bucket, now, quota)
  local debt = 0
  if bucket and bucket.tat > now then
    debt = bucket.tat - now
    if bucket.interval ~= quota.interval then
      debt = math.ceil(debt / bucket.interval * quota.interval)
    end
  end
  if quota.exhausted > 0 and (not bucket or bucket.exhausted < quota.exhausted) then
    debt = math.max(debt, quota.exhausted + math.ceil(quota.burst * quota.interval) - now)
  end
  return debt
end

local function write(key, now, debt, quota)
  local last = math.max(now + debt, quota.exhausted + math.ceil(quota.burst * quota.interval))
  if last <= now then
    redis.call('DEL', key)
    return
  end
  redis.call('SET', key, string.format('%.0f %.6f %.0f', now + debt, quota.interval, quota.exhausted))
  -- A bucket that owes nothing is as good as none.
  redis.call('PEXPIREAT', key, string.format('%.0f', math.ceil(last / 1000) + 1))
end

local function quota_of(burst, interval, exhausted)
  return { burst = tonumber(burst), interval = tonumber(interval), exhausted = tonumber(exhausted) }
end

local function room_of(debt, quota)
  return math.max(0, math.floor(quota.burst - debt / quota.interval + EPSILON))
end

-- KEYS: bucket, mark, then a caller's novelty by generation. ARGV: fleet, version, burst, interval_us, exhausted_us, wanted,
-- ahead, most bytes of novelty, then how much of each generation the node has. Wanted numbers are leased, or as many as there
-- are, and up to so many ahead, of a quarter of what is left. Returns: leased, room left, debt_us, now_us, changes in the slot,
-- and for each generation its length and what the node has not.
local function lease(keys, args)
  local version = tonumber(args[2])
  local refused = refusal(keys[2], args[1], version)
  if refused then
    return refused
  end
  local quota = quota_of(args[3], args[4], args[5])
  local wanted, ahead, most = tonumber(args[6]), tonumber(args[7]), tonumber(args[8])
  local bucket, damaged = read(keys[1])
  if damaged then
    return damaged
  end
  local now = now_us()
  local debt = owed(bucket, now, quota)
  local room = room_of(debt, quota)
  local leased = math.min(wanted, room, LARGEST)
  leased = leased + math.min(ahead, math.floor((room - leased) / 4), LARGEST)
  local changes
  if leased > 0 then
    debt = debt + math.ceil(leased * quota.interval)
    write(keys[1], now, debt, quota)
    changes = redis.call('HINCRBY', keys[2], 'changes', 1)
  else
    changes = tonumber(redis.call('HGET', keys[2], 'changes') or 0)
  end
  local answer = { leased, room - leased, debt, now, changes }
  for i = 3, #keys do
    local from = tonumber(args[6 + i])
    local length = redis.call('STRLEN', keys[i])
    local bytes = ''
    if length > from and most > 0 then
      bytes = redis.call('GETRANGE', keys[i], from, math.min(length, from + most) - 1)
      most = most - #bytes
    end
    answer[#answer + 1] = length
    answer[#answer + 1] = bytes
  end
  return answer
end

-- KEYS: bucket, mark. ARGV: fleet, version, burst, interval_us, exhausted_us, numbers. What a node did not spend of its leases,
-- sent once and never again, since a call whose answer was lost may have been carried out; or what an operator forgives.
local function give_back(keys, args)
  local refused = refusal(keys[2], args[1], tonumber(args[2]))
  if refused then
    return refused
  end
  local bucket, damaged = read(keys[1])
  if damaged then
    return damaged
  end
  local quota = quota_of(args[3], args[4], args[5])
  local now = now_us()
  local debt = owed(bucket, now, quota) - math.floor(tonumber(args[6]) * quota.interval)
  write(keys[1], now, math.max(0, debt), quota)
  return redis.call('HINCRBY', keys[2], 'changes', 1)
end

-- KEYS: novelty, mark. ARGV: fleet, version, expire_s, bytes. Fingerprints of numbers whose charge is durable.
local function remember(keys, args)
  local refused = refusal(keys[2], args[1], tonumber(args[2]))
  if refused then
    return refused
  end
  local length = redis.call('APPEND', keys[1], args[4])
  redis.call('EXPIRE', keys[1], args[3], 'NX')
  return length
end

-- KEYS: mark, then a caller's novelty. ARGV: fleet, version. Removes it.
local function forget(keys, args)
  local refused = refusal(keys[1], args[1], tonumber(args[2]))
  if refused then
    return refused
  end
  for i = 2, #keys do
    redis.call('DEL', keys[i])
  end
  return #keys - 1
end

-- KEYS: control, standings, changes. ARGV: fleet, version, scope's identity, row, or nothing: it is ordinary again. What an
-- operator decided about one scope, and word of it to every node. A row begins with the server's time. Returns 1 if there
-- was a row.
local function decide(keys, args)
  local refused = refusal(keys[1], args[1], tonumber(args[2]))
  if refused then
    return refused
  end
  local row = ''
  local existed = redis.call('HEXISTS', keys[2], args[3])
  if args[4] ~= '' then
    row = string.format('%.0f ', now_us()) .. args[4]
    redis.call('HSET', keys[2], args[3], row)
  else
    redis.call('HDEL', keys[2], args[3])
  end
  redis.call('XADD', keys[3], 'MAXLEN', '~', CHANGES, '*', 'kind', 'standing', 'id', args[3], 'row', row)
  return existed
end

-- KEYS: control, changes. ARGV: fleet, kind, id. Word of something that every node has to do.
local function tell(keys, args)
  local found = redis.call('HGET', keys[1], 'fleet')
  if found ~= args[1] then
    return redis.error_reply(found and 'FOREIGN ' .. found or 'EMPTIED no mark of a fleet')
  end
  redis.call('XADD', keys[2], 'MAXLEN', '~', CHANGES, '*', 'kind', args[2], 'id', args[3])
  return 1
end

-- KEYS: control, changes. ARGV: fleet, version before, quotas, 1 if everything that could be asked is taken. Returns the new
-- version.
local function set_quotas(keys, args)
  local found = redis.call('HMGET', keys[1], 'fleet', 'version', 'exhausted')
  if found[1] ~= args[1] then
    return redis.error_reply(found[1] and 'FOREIGN ' .. found[1] or 'EMPTIED no mark of a fleet')
  end
  if tonumber(found[2]) ~= tonumber(args[2]) then
    return redis.error_reply('OLDER ' .. found[2])
  end
  local version = tonumber(found[2]) + 1
  local exhausted = tonumber(found[3])
  if args[4] == '1' then
    exhausted = now_us()
  end
  local text = string.format('%d', version)
  redis.call('HSET', keys[1], 'version', text, 'quotas', args[3], 'exhausted', string.format('%.0f', exhausted))
  redis.call('XADD', keys[2], 'MAXLEN', '~', CHANGES, '*', 'kind', 'quotas', 'id', text)
  return version
end

-- KEYS: control. ARGV: fleet, name, version before, bytes. A small record of the fleet: replaced by whoever knows the version
-- that it has. Returns the new version.
local function set_record(keys, args)
  local found = redis.call('HMGET', keys[1], 'fleet', 'record:' .. args[2] .. ':version')
  if found[1] ~= args[1] then
    return redis.error_reply(found[1] and 'FOREIGN ' .. found[1] or 'EMPTIED no mark of a fleet')
  end
  local version = tonumber(found[2] or 0)
  if version ~= tonumber(args[3]) then
    return redis.error_reply('CHANGED ' .. string.format('%d', version))
  end
  local text = string.format('%d', version + 1)
  redis.call('HSET', keys[1], 'record:' .. args[2] .. ':version', text, 'record:' .. args[2], args[4])
  return version + 1
end

redis.register_function('unlisted_1_lease', lease)
redis.register_function('unlisted_1_give_back', give_back)
redis.register_function('unlisted_1_remember', remember)
redis.register_function('unlisted_1_forget', forget)
redis.register_function('unlisted_1_decide', decide)
redis.register_function('unlisted_1_tell', tell)
redis.register_function('unlisted_1_set_quotas', set_quotas)
redis.register_function('unlisted_1_set_record', set_record)
