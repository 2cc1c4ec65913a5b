// Requests to the deputy: the application's, as the marshaller planned them, and the stub's own.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

constexpr uint64_t padded(uint64_t n) {
  return (n + 7) & ~uint64_t{7};
}

bool write_channel(void* slot, const void* from, size_t n) {
  send_bytes(static_cast<Slot*>(slot), from, n);
  return true;
}
bool write_channel_app(void* slot, uint64_t from, size_t n) {
  send_bytes_from_app(static_cast<Slot*>(slot), from, n);
  return true;
}
bool read_channel(void* slot, void* to, size_t n) {
  return receive_bytes(static_cast<Slot*>(slot), to, n);
}
bool read_channel_app(void* context, uint64_t to, size_t n, size_t* copied) {
  Slot* slot = static_cast<Slot*>(context);
  uint8_t part[4096];
  *copied = 0;
  bool good = true;
  while (n > 0) {
    const size_t size = n < sizeof(part) ? n : sizeof(part);
    if (!receive_bytes(slot, part, size)) {
      return false;
    }
    if (good) {
      const size_t missing = tess_copy((void*)to, part, size);
      *copied += size - missing;
      good = missing == 0;
    }
    to += size;
    n -= size;
  }
  return true;
}

bool skip(Slot* slot, uint64_t n) {
  uint8_t dropped[64];
  while (n > 0) {
    const uint64_t size = n < sizeof(dropped) ? n : sizeof(dropped);
    if (!receive_bytes(slot, dropped, size)) {
      return false;
    }
    n -= size;
  }
  return true;
}

}  // namespace

bool receive_reply(Slot* slot, Reply* reply) {
  return receive_bytes(slot, reply, sizeof(*reply)) && reply->sequence == slot->sequence;
}

void receive_signals(Slot* slot, const Reply& reply) {
  constexpr uint32_t kMax = sizeof(QueuedSignals) / sizeof(SignalRecord);
  uint32_t& have = received_signals(slot);
  for (uint32_t i = 0; i < reply.signal_count; ++i) {
    SignalRecord record;
    if (!receive_bytes(slot, &record, sizeof(record))) {
      body_gone(slot);
    }
    if (have < kMax) {
      priv(slot).queued.records[have++] = record;
    }
  }
}

void put_own_request(Slot* slot, uint32_t op, const uint64_t args[6], const OwnSegment* segments,
                     uint32_t count, uint32_t fd_mask) {
  Request request{};
  request.sequence = slot->sequence;
  request.op = op;
  request.fd_mask = fd_mask;
  memcpy(request.args, args, sizeof(request.args));
  request.segment_count = count;
  request.payload_size = count * sizeof(Segment);
  for (uint32_t i = 0; i < count; ++i) {
    request.payload_size += padded(segments[i].in_size);
  }
  send_bytes(slot, &request, sizeof(request));
  for (uint32_t i = 0; i < count; ++i) {
    Segment segment{};
    segment.in_size = segments[i].in_size;
    segment.out_size = segments[i].out_size;
    segment.arg = segments[i].arg;
    segment.trim = segments[i].trim;
    segment.trim_unit = 1;
    send_bytes(slot, &segment, sizeof(segment));
  }
  const uint64_t zeros = 0;
  for (uint32_t i = 0; i < count; ++i) {
    send_bytes(slot, segments[i].in, segments[i].in_size);
    send_bytes(slot, &zeros, padded(segments[i].in_size) - segments[i].in_size);
  }
}

void send_own_request(Slot* slot, uint32_t op, const uint64_t args[6], const OwnSegment* segments,
                      uint32_t count, uint32_t fd_mask) {
  ++slot->sequence;
  put_own_request(slot, op, args, segments, count, fd_mask);
  send_flush(slot);
}

int64_t own_request(Slot* slot, uint32_t op, const uint64_t args[6], const OwnSegment* segments,
                    uint32_t count, uint32_t fd_mask) {
  send_own_request(slot, op, args, segments, count, fd_mask);
  Reply reply;
  if (!receive_reply(slot, &reply)) {
    body_gone(slot);
  }
  for (uint32_t i = 0; i < count; ++i) {
    if (segments[i].out_size == 0) {
      continue;
    }
    uint32_t header[2];
    if (!receive_bytes(slot, header, sizeof(header))) {
      body_gone(slot);
    }
    const uint32_t n = header[0] < segments[i].out_size ? header[0] : segments[i].out_size;
    if (!receive_bytes(slot, segments[i].out, n) || !skip(slot, padded(header[0]) - n)) {
      body_gone(slot);
    }
  }
  receive_signals(slot, reply);
  return reply.result;
}

Answer carried_call(Trap& trap, const syscalls::SyscallInfo& info) {
  const auto done = (int64_t)trap.done;
  Answer made = carried_part(trap, info, {trap.done, kTransferMax}, 0);
  if (made.outcome == Outcome::kResult && done != 0) {
    made.result = done + (made.result > 0 ? made.result : 0);  // an error is for the next call
  }
  return made;
}

Answer carried_part(Trap& trap, const syscalls::SyscallInfo& info, const Part& part,
                    uint32_t flags) {
  Slot* slot = trap.slot;
  Plan& plan = *reinterpret_cast<Plan*>((uint8_t*)slot + kSlotArenaOffset);
  const int64_t planned = plan_part(plan, info, trap.args, part);
  if (planned <= kPlanAtHome) {
    return at_home_only(trap, planned - kPlanAtHome);
  }
  if (planned < 0) {
    return answer(planned);
  }
  tell_title(slot);
  plan.request.sequence = ++slot->sequence;
  plan.request.flags = flags;
  if (trap.repeat) {
    plan.request.flags |= kRequestRepeat;
    plan.request.deadline_ns = trap.deadline_ns;
  }
  const RequestWriter writer{slot, write_channel, write_channel_app};
  write_request(plan, writer);
  send_flush(slot);
  Reply reply;
  if (!receive_reply(slot, &reply)) {
    body_gone(slot);
  }
  const ReplyReader reader{slot, read_channel, read_channel_app};
  int64_t result = reply.result;
  if (!finish_call(plan, &result, reader)) {
    body_gone(slot);
  }
  receive_signals(slot, reply);
  if (result == kRestart) {
    if (trap.repeat) {  // it had begun before: the handler that comes ends it
      remember_repeat(trap, trap.deadline_ns, true);
    }
    return again();
  }
  if (result == kKicked) {
    remember_repeat(trap, reply.deadline_ns, trap.repeat || (reply.flags & kReplyBegun) != 0);
    if ((reply.flags & kReplyTimed) != 0) {
      slot->thread.repeat_ends = 1;
    }
    return again();
  }
  if ((reply.flags & kReplyHome) != 0) {
    return homeward_call(trap, result);
  }
  if ((reply.flags & kReplyCut) != 0 && received_signals(slot) == 0) {
    trap.done = part.skip + (uint64_t)result;
    remember_repeat(trap, 0, true);
    return again();
  }
  trap.reply = reply;
  if ((reply.flags & kReplyProc) != 0 &&
      (info.special == syscalls::Special::kNone || info.special == syscalls::Special::kWrite)) {
    return proc_file_call(trap);
  }
  return answer(result);
}

}  // namespace tess::stub
