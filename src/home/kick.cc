#include "home/kick.h"

#include <cstddef>

#include "base/log.h"
#include "home/interrupted_call.h"
#include "stub/repeat.h"

namespace tess::home {
namespace {

constexpr auto kStopTimeout = std::chrono::milliseconds(10'000);  // it may wait for a CPU

// Where the pending bits of the thread with these registers are; 0 if it is not in the stub.
uint64_t pending_word(const trace::Registers& registers, uint64_t base) {
  const uint64_t slots = base + stub::kSlotsOffset;
  if (registers.rsp < slots || registers.rsp > base + stub::kRegionSize) {
    return 0;
  }
  // rsp of an empty stack is the end of its slot, hence - 1.
  const uint64_t index = (registers.rsp - 1 - slots) / stub::kSlotSize;
  return stub::slot_address(base, static_cast<uint32_t>(index)) + offsetof(stub::Slot, pending);
}

Result<> kick_thread(const trace::Tracee& tracee, const stub::Session& session, uint32_t kick) {
  TESS_TRY_ASSIGN(trace::Registers registers, tracee.registers());
  const uint64_t base = session.region_base();
  const uint64_t pending = pending_word(registers, base);
  if (pending == 0) {
    return {};  // nothing that could park
  }
  TESS_TRY_ASSIGN(const uint32_t bits, session.memory().get<uint32_t>(pending));
  TESS_TRY(session.memory().put(pending, bits | kick));

  const stub::BlobHeader& header = stub::blob_header();
  const bool not_begun =
      registers.rip >= base + header.cp_begin && registers.rip <= base + header.cp_end;
  const bool waiting =
      (registers.rip == base + header.cp_site || registers.rip == base + header.cp_end) &&
      stopped_in_call(registers);
  log::debug("home", "event=kick tid={} rip={:#x} rax={} call={} mask={:#x} pending={}",
             tracee.tid(), registers.rip - base, static_cast<int64_t>(registers.rax),
             static_cast<int64_t>(registers.orig_rax), registers.r13, bits);
  // r13: the bits that abort this call (stub/blob/entry.S).
  if ((not_begun || waiting) && (registers.r13 & stub::kPendingKick) != 0) {
    const bool begun = waiting && undo_interrupted_call(registers).may_end;
    registers.rip = base + (begun ? header.cp_site : header.cp_abort);
    registers.rax = static_cast<uint64_t>(stub::kCutShort);  // what cp_abort changes
    registers.orig_rax = ~uint64_t{0};
    TESS_TRY(tracee.set_registers(registers));
  }
  return {};
}

Result<> unkick_thread(const trace::Tracee& tracee, const stub::Session& session) {
  TESS_TRY_ASSIGN(const trace::Registers registers, tracee.registers());
  const uint64_t pending = pending_word(registers, session.region_base());
  if (pending == 0) {
    return {};
  }
  TESS_TRY_ASSIGN(const uint32_t bits, session.memory().get<uint32_t>(pending));
  return session.memory().put(pending, bits & ~(stub::kPendingKick | stub::kPendingHold));
}

}  // namespace

Result<> kick_deputy(trace::Tracer& tracer, pid_t pid, const stub::Session& session,
                     uint32_t kick) {
  for (const pid_t tid : tracer.threads(pid)) {
    const auto kicked = tracer.with_stopped(tid, kStopTimeout, [&](const trace::Tracee& tracee) {
      return kick_thread(tracee, session, kick);
    });
    if (!kicked && kicked.error().kind() != ErrorKind::kDisconnected) {
      return fail_with(kicked.error(), "kick thread {}", tid);
    }
  }
  return tracer.traced(pid) ? Result<>()
                            : fail(ErrorKind::kDisconnected, "process {} is gone", pid);
}

Result<> unkick_deputy(trace::Tracer& tracer, pid_t pid, stub::Session& session) {
  const auto parked = session.memory().get<uint32_t>(session.control_address() +
                                                     offsetof(stub::ControlBlock, parked));
  TESS_TRY(parked);
  if (*parked != 0) {
    return {};
  }
  TESS_TRY(session.set_freeze(false));
  for (const pid_t tid : tracer.threads(pid)) {
    const auto done = tracer.with_stopped(tid, kStopTimeout, [&](const trace::Tracee& tracee) {
      return unkick_thread(tracee, session);
    });
    if (!done && done.error().kind() != ErrorKind::kDisconnected) {
      return done;
    }
  }
  return {};
}

}  // namespace tess::home
