// HomeAgent: CPU time and memory of children, which home's kernel does not count where they are
// used on hosts. A parent hears of them before the child can be reaped.
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <string>

#include "home/home_agent.h"
#include "sys/proc_status.h"

namespace tess::home {
namespace {

using Child = ReapedChildren::Child;

pid_t parent_of(pid_t pid) {
  const auto status = sys::ProcStatus::read(pid);
  return status ? status->pid_field("PPid") : 0;
}

// The table in the control block of the parent's deputy: into a free place, or over the oldest.
void tell_deputy(const stub::Session& parent, const Child& child) {
  const stub::RemoteMemory& memory = parent.memory();
  const uint64_t control = parent.control_address();
  const uint64_t table = control + offsetof(stub::ControlBlock, ended);
  const auto next = memory.get<uint32_t>(control + offsetof(stub::ControlBlock, ended_next));
  if (!next) {
    return;
  }
  uint32_t index = *next % stub::kEndedMax;
  for (uint32_t i = 0; i < stub::kEndedMax; ++i) {
    const uint32_t at = (*next + i) % stub::kEndedMax;
    const auto entry = memory.get<Child>(table + sizeof(Child) * at);
    if (entry && entry->pid == 0) {
      index = at;
      break;
    }
  }
  (void)memory.put(table + sizeof(Child) * index, child);
  (void)memory.put(control + offsetof(stub::ControlBlock, ended_next), index + 1);
}

}  // namespace

bool HomeAgent::tell_parent(const Managed& process, const Child& child) {
  const pid_t pid = parent_of(process.pid);
  Managed* const parent = find(pid);
  if (parent == nullptr) {
    return false;
  }
  if (parent->session != nullptr) {
    tell_deputy(*parent->session, child);
    return true;
  }
  const bool waits_for_none = (trace::signal_masks(pid).ignored >> (SIGCHLD - 1) & 1) != 0;
  if (!tracer_.traced(pid) || parent->busy || waits_for_none) {
    return false;
  }
  parent->reaped_children.expect(child);
  tracer_.watch_calls(pid, [this, pid](const trace::Registers& registers) {
    Managed* const waiting = find(pid);
    return waiting == nullptr || waiting->reaped_children.call_ended(pid, registers);
  });
  return true;
}

void HomeAgent::settle_children_time(Managed& process, const stub::MailboxNote& note) {
  const auto system_ns = static_cast<int64_t>(note.id);
  tell_ending(process,
              {process.inner_pid, note.value, note.result + process.cpu_uncounted_ns, system_ns});
  stub::ChannelAnswer answer{};
  (void)process.session->answer_channel(answer, {});
}

// One that has come home ends like any other. One that is away tells it itself, if it is worth it;
// if a signal ends it, the host's last word is what there is.
void HomeAgent::ending(pid_t pid, int wait_status) {
  constexpr int64_t kWorthTellingNs = 1'000'000;
  Managed* const process = find(pid);
  if (process == nullptr) {
    return;
  }
  note_ending_body(*process);
  if (process->ending_told ||
      (process->state == Managed::State::kDeputy && !WIFSIGNALED(wait_status))) {
    return;
  }
  const int64_t used_ns = process->cpu_uncounted_ns + static_cast<int64_t>(process->cpu_host_ns);
  if (used_ns >= kWorthTellingNs) {
    tell_ending(*process, {process->inner_pid, 0, used_ns, 0});
  }
}

void HomeAgent::tell_ending(Managed& process, const Child& child) {
  constexpr double kWorthTelling = 0.01;  // seconds
  process.ending_told = true;
  const bool told = tell_parent(process, child);
  const double used = static_cast<double>(child.user_ns + child.system_ns) / 1e9;
  if (used >= kWorthTelling) {
    tessd_->log(
        process.pid,
        fmt::format("process {} has used {:.2f} s of CPU time on other nodes{}", process.pid, used,
                    told ? "" : ", of which its parent at home sees nothing"));
  }
}

}  // namespace tess::home
