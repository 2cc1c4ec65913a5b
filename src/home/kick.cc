#include "home/kick.h"

#include <cstddef>

#include "base/log.h"
#include "home/interrupted_call.h"

namespace tess::home {
namespace {

constexpr auto kStopTimeout = std::chrono::milliseconds(2'000);

Result<> kick_thread(const trace::Tracee& tracee, const stub::Session& session) {
  TESS_TRY_ASSIGN(trace::Registers registers, tracee.registers());
  const uint64_t base = session.region_base();
  const uint64_t slots = base + stub::kSlotsOffset;
  if (registers.rsp < slots || registers.rsp > base + stub::kRegionSize) {
    return {};  // not in the stub: nothing that could park
  }
  // rsp of an empty stack is the end of its slot, hence - 1.
  const uint64_t index = (registers.rsp - 1 - slots) / stub::kSlotSize;
  const uint64_t pending =
      stub::slot_address(base, static_cast<uint32_t>(index)) + offsetof(stub::Slot, pending);
  TESS_TRY_ASSIGN(const uint32_t bits, session.memory().get<uint32_t>(pending));
  TESS_TRY(session.memory().put(pending, bits | stub::kPendingKick));

  const stub::BlobHeader& header = stub::blob_header();
  const bool not_begun =
      registers.rip >= base + header.cp_begin && registers.rip <= base + header.cp_end;
  const bool waiting =
      (registers.rip == base + header.cp_site || registers.rip == base + header.cp_end) &&
      stopped_in_call(registers);
  // r13: the bits that abort this call (stub/blob/entry.S).
  if ((not_begun || waiting) && (registers.r13 & stub::kPendingKick) != 0) {
    registers.rip = base + header.cp_abort;
    registers.orig_rax = ~uint64_t{0};
    TESS_TRY(tracee.set_registers(registers));
  }
  return {};
}

}  // namespace

Result<> kick_deputy(trace::Tracer& tracer, pid_t pid, const stub::Session& session) {
  for (const pid_t tid : tracer.threads(pid)) {
    const auto kicked = tracer.with_stopped(tid, kStopTimeout, [&](const trace::Tracee& tracee) {
      return kick_thread(tracee, session);
    });
    if (!kicked && kicked.error().kind() != ErrorKind::kDisconnected) {
      return fail_with(kicked.error(), "kick thread {}", tid);
    }
  }
  return tracer.traced(pid) ? Result<>()
                            : fail(ErrorKind::kDisconnected, "process {} is gone", pid);
}

}  // namespace tess::home
