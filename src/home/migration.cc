#include "home/migration.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include "base/log.h"
#include "home/image_builder.h"
#include "home/kick.h"
#include "home/tracing_program.h"
#include "home/vfork_wait.h"
#include "home/wake_up.h"
#include "migrate/eligibility.h"
#include "sys/clock.h"
#include "sys/proc_status.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

using migrate::Kind;
using migrate::Step;
using std::chrono::milliseconds;

constexpr wire::Timeout kAnswerTimeout(30'000);

std::string joined(const std::vector<std::string>& reasons) {
  std::string text;
  for (const std::string& reason : reasons) {
    text += (text.empty() ? "" : "; ") + reason;
  }
  return text;
}

// Resident and swapped, roughly what a host will have to hold.
uint64_t memory_of(pid_t pid) {
  const auto status = sys::ProcStatus::read(pid);
  return status ? status->bytes("VmRSS") + status->bytes("VmSwap") : 0;
}

// The host's last word on what it has used may be seconds old; the image says it to the nanosecond.
void count_cpu_time(Managed& process, uint64_t process_cpu_ns) {
  clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
  if (::clock_getcpuclockid(process.pid, &clock) == 0) {
    const auto elsewhere_ns =
        std::max<int64_t>(static_cast<int64_t>(process_cpu_ns) - sys::clock_ns(clock), 0);
    process.cpu_uncounted_ns += elsewhere_ns;
    process.cpu_host_ns = std::max(process.cpu_host_ns, static_cast<uint64_t>(elsewhere_ns));
  }
}

}  // namespace

Kind kind_of(const Managed& process, const std::string& node) {
  if (node.empty()) {
    return Kind::kBack;
  }
  return process.state == Managed::State::kNative ? Kind::kOut : Kind::kHop;
}

Migration::Migration(MainServices& services, std::shared_ptr<Managed> process, std::string node)
    : services_(services),
      process_(std::move(process)),
      node_(std::move(node)),
      kind_(kind_of(*process_, node_)),
      operation_(services.new_operation()),
      from_(process_->where()),
      source_(process_->host) {}

migrate::JournalEntry Migration::journal_entry(std::string state) const {
  return {.operation = operation_,
          .pid = process_->pid,
          .kind = std::string(migrate::name(kind_)),
          .state = std::move(state),
          .from = from_.empty() ? "home" : from_,
          .to = node_.empty() ? "home" : node_};
}

// The decision has been made: there is no way back, so what failed is tried once more. A process
// that can be neither here nor there is ended, with a word about it, rather than left at rest for
// ever.
Result<> Migration::insist_on_switch(Result<> first) {
  log::warn("home", "event=switch_failed pid={} reason=\"{}\"", process_->pid,
            first.error().message());
  Result<> second = perform_step(Step::kSwitch, {});
  if (!second && second.error().kind() != ErrorKind::kDisconnected) {
    ::kill(process_->pid, SIGKILL);
    return fail_with(second.error(), "process {} was ended because it could not go on",
                     process_->pid);
  }
  return second;
}

Result<> Migration::perform(Step step, const std::set<pid_t>& group) {
  froze_ = froze_ || step == Step::kFreeze;
  transferred_ = transferred_ || step == Step::kTransfer;
  const auto start = std::chrono::steady_clock::now();
  Result<> result = perform_step(step, group);
  log::debug(
      "home", "event=step pid={} operation={} step={} ms={} result=\"{}\"", process_->pid,
      operation_, migrate::name(step),
      std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start).count(),
      result ? "ok" : result.error().message());
  return result;
}

bool Migration::can_begin(Kind kind) const {
  return kind_ == kind && (kind_ == Kind::kOut) == (source_ == nullptr);
}

bool Migration::undoes(Step step) const {
  return step == Step::kDropTarget ? transferred_ : froze_;
}

void Migration::forget() {
  for (HostLink* const link : {source_.get(), target_.get()}) {
    if (link != nullptr) {
      link->forget(operation_);
    }
  }
}

Result<> Migration::perform_step(Step step, const std::set<pid_t>& group) {
  switch (step) {
    case Step::kReserve:
      return reserve(group);
    case Step::kFreeze:
      return freeze();
    case Step::kTransfer:
      return transfer();
    case Step::kConnect:
      return connect();
    case Step::kRunTarget:
      return run_target();
    case Step::kJournal:
      return {};
    case Step::kSwitch:
      return switch_over();
    case Step::kDropSource:
      return drop_source();
    case Step::kDropTarget:
      return drop_target();
    case Step::kThawSource:
      return thaw_source();
    case Step::kReleaseHome:
      return release_home();
  }
  return {};
}

// ---- messages ----

Result<> Migration::tell(HostLink& link, const std::function<void(wire::LinkMessage&)>& fill) {
  wire::LinkMessage message;
  message.set_operation(operation_);
  message.set_pid(process_->inner_pid);
  fill(message);
  return link.send_expecting(message);
}

// Sends and waits for an answer of that kind; others of this operation that come first are late
// answers to earlier messages.
Result<> Migration::demand(HostLink& link, const char* what, int answer_case, wire::Timeout timeout,
                           const std::function<void(wire::LinkMessage&)>& fill) {
  if (fill) {
    TESS_TRY(tell(link, fill));
  }
  while (true) {
    auto answer = link.wait(operation_, timeout);
    if (!answer) {
      return fail_with(answer.error(), "{}", what);
    }
    if (static_cast<int>((*answer)->body_case()) == answer_case) {
      return {};
    }
  }
}

// ---- forward ----

Result<> Migration::reserve(const std::set<pid_t>& group) {
  if (kind_ == Kind::kOut) {
    migrate::EligibilityOptions options{
        .own_tracer = ::getpid(), .ignore_clone_sharers = true, .moves_along = [&](pid_t sharer) {
          return group.contains(sharer) || services_.may_join(*process_, sharer);
        }};
    auto reasons = migrate::check_eligibility(process_->pid, options);
    if (reasons.empty() && !wait_out_vfork(process_->pid)) {
      options.ignore_clone_sharers = false;
      reasons = migrate::check_eligibility(process_->pid, options);
    }
    if (!reasons.empty()) {
      return fail(ErrorKind::kNotPossible, "{}", joined(reasons));
    }
  }
  if (kind_ == Kind::kHop) {
    TESS_TRY(check_descriptor_room(process_->pid, process_->placement));
  }
  TESS_TRY_ASSIGN(target_, services_.link_to(
                               node_, std::max(memory_of(process_->pid), process_->memory_bytes)));
  if (target_ == source_) {
    return fail(ErrorKind::kNotPossible, "process {} is on {} already", process_->pid, node_);
  }
  return {};
}

// The child in vfork may wait for what only the main thread can give it, while that waits for this
// process.
Result<> Migration::freeze() {
  if (!wait_out_vfork(process_->pid)) {
    return fail(ErrorKind::kRetry,
                "process {} is in the middle of vfork with another process; try again",
                process_->pid);
  }
  return kind_ == Kind::kOut ? freeze_native() : freeze_deputy();
}

Result<> Migration::connect() {
  TESS_TRY_ASSIGN(const auto slots, process_->session->slots());
  wire::LinkMessage assign;
  assign.set_operation(operation_);
  assign.set_pid(process_->inner_pid);
  for (const auto& slot : slots) {
    if (slot.state != stub::kSlotParked) {
      continue;
    }
    TESS_TRY_ASSIGN(Channel channel, target_->make_reserved_channel());
    assign.mutable_assign()->add_tid(slot.tid);
    assign.mutable_assign()->add_channel(channel.id);
    channels_.push_back({slot.index, slot.tid, std::move(channel)});
  }
  return target_->send_expecting(assign);
}

Result<> Migration::run_target() {
  TESS_TRY(services_.on_main([&]() -> Result<> {
    body_began_stopped_ = services_.tracer().stop_overridden(process_->pid);
    return {};
  }));
  return demand(*target_, "let the body run", wire::LinkMessage::kRunning, kAnswerTimeout,
                [this](wire::LinkMessage& message) {
                  message.mutable_commit()->set_stopped(body_began_stopped_);
                  const ClockReading now = read_clocks();
                  message.mutable_commit()->set_home_monotonic_ns(now.monotonic_ns);
                  message.mutable_commit()->set_home_boottime_ns(now.boottime_ns);
                });
}

Result<> Migration::arrive() {
  if (!arrived_) {
    TESS_TRY(kind_ == Kind::kBack ? become_native() : belongs_to_target());
    arrived_ = true;
  }
  return {};
}

Result<> Migration::switch_over() {
  TESS_TRY(arrive());
  switch (kind_) {
    case Kind::kOut:
      return become_deputy();
    case Kind::kBack:
      return go_on_natively();
    case Kind::kHop:
      TESS_TRY(place_channels());
      TESS_TRY(let_go(stub::kPhaseContinue));
      return services_.on_main([&]() -> Result<> {
        services_.watch(*process_);
        tell_of_stop();
        return {};
      });
  }
  return {};
}

Result<> Migration::place_channels() {
  std::vector<int> ours;
  std::vector<int32_t> targets;
  const stub::RemoteMemory& memory = process_->session->memory();
  const auto slot_of = [&](const ThreadChannel& thread) {
    return stub::slot_address(process_->placement.region_base, thread.slot);
  };
  for (const ThreadChannel& thread : channels_) {
    ours.push_back(thread.channel.socket.get());
    TESS_TRY_ASSIGN(targets.emplace_back(),
                    memory.get<int32_t>(slot_of(thread) + offsetof(stub::Slot, channel_fd)));
  }
  TESS_TRY(process_->session->place_fds(ours, targets));
  for (size_t i = 0; i < channels_.size(); ++i) {
    const uint64_t address = slot_of(channels_[i]);
    TESS_TRY(memory.put(address + offsetof(stub::Slot, keys), channels_[i].channel.keys));
  }
  channels_.clear();  // our copies of the sockets close
  return {};
}

Result<> Migration::become_deputy() {
  TESS_TRY(place_channels());
  if (const auto mappings = memory::read_address_space(process_->pid); mappings) {
    const auto ranges =
        discardable(*mappings, process_->placement.region_base, arg_start_, env_end_);
    TESS_TRY(process_->session->discard_memory(ranges));
  }
  TESS_TRY(services_.on_main([&]() -> Result<> {
    services_.write_shared_table(*process_);
    return {};
  }));
  TESS_TRY(let_go(stub::kPhaseDeputy));
  return services_.on_main([&]() -> Result<> {
    services_.watch(*process_);
    tell_of_stop();
    return {};
  });
}

// Before it goes on: a child that it makes at once is one of the target, too.
Result<> Migration::belongs_to_target() {
  return services_.on_main([&]() -> Result<> {
    process_->cpu_hosts_settled_ns += std::exchange(process_->cpu_host_ns, 0);
    process_->state = Managed::State::kDeputy;
    process_->host = target_;
    process_->body_ended = false;
    process_->placed_on = node_;
    target_->keep_spares();
    return {};
  });
}

Result<> Migration::become_native() {
  TESS_TRY(leave_stub());
  room_.reset();
  return services_.on_main([&]() -> Result<> {
    count_cpu_time(*process_, process_cpu_ns_);
    process_->cpu_hosts_settled_ns += std::exchange(process_->cpu_host_ns, 0);
    process_->state = Managed::State::kNative;
    process_->session.reset();
    process_->host.reset();
    return {};
  });
}

Result<> Migration::go_on_natively() {
  return services_.on_main([&]() -> Result<> {
    (void)services_.tracer().resume_stops(process_->pid);
    process_->stays_seized = process_->stays_seized && !traces_others(process_->pid);
    return let_go_at_home(process_->stays_seized);
  });
}

// A wait that has just begun again must not be ended by detaching from it, unless another tracer
// is about to come, which would end it too (main thread).
Result<> Migration::let_go_at_home(bool keep) {
  trace::Tracer& tracer = services_.tracer();
  const pid_t pid = process_->pid;
  if (keep) {
    return tracer.release(pid);
  }
  if (process_->let_go) {
    return tracer.detach(pid);
  }
  TESS_TRY(tracer.leave_children(pid));
  return tracer.detach_after_calls(
      pid, [pid](const trace::Registers& registers) { return a_wake_ends(pid, registers); });
}

Result<> Migration::drop_source() {
  const Result<> dropped =
      demand(*source_, "drop the body that was left behind", wire::LinkMessage::kDone,
             kAnswerTimeout, [](wire::LinkMessage& message) { message.mutable_discard(); });
  // A link that is gone has taken the body with it.
  return dropped || dropped.error().kind() == ErrorKind::kDisconnected ? Result<>() : dropped;
}

// ---- undo ----

Result<> Migration::drop_target() {
  channels_.clear();
  const Result<> dropped =
      demand(*target_, "drop what the target has", wire::LinkMessage::kDone, kAnswerTimeout,
             [](wire::LinkMessage& message) { message.mutable_discard(); });
  if (!dropped && dropped.error().kind() == ErrorKind::kRetry) {
    target_->close();  // no answer: without its link the agent there kills all it has
  }
  return {};
}

Result<> Migration::thaw_source() {
  const auto thaw = [&] {
    return demand(*source_, "let the body go on", wire::LinkMessage::kDone, kAnswerTimeout,
                  [](wire::LinkMessage& message) { message.mutable_thaw(); });
  };
  Result<> thawed = thaw();
  if (!thawed && thawed.error().kind() != ErrorKind::kDisconnected) {
    thawed = thaw();
  }
  if (thawed) {
    return {};
  }
  // A body that rests for ever is worse than none: it is ended, if it has not ended by itself, and
  // its deputy says so. Others on that host go on, unless the host does not answer at all: without
  // its link it ends all it has.
  const Result<> dropped =
      demand(*source_, "end the body that does not go on", wire::LinkMessage::kDone, kAnswerTimeout,
             [](wire::LinkMessage& message) { message.mutable_discard(); });
  if (!dropped && dropped.error().kind() == ErrorKind::kRetry) {
    source_->close();
  }
  return thawed;
}

Result<> Migration::release_home() {
  room_.reset();
  if (kind_ == Kind::kOut) {
    if (!injected_) {
      return {};
    }
    const bool parked = parked_;
    const Result<> left = parked ? leave_stub() : Result<>();
    const Result<> released = services_.on_main([&]() -> Result<> {
      (void)services_.tracer().resume_stops(process_->pid);
      process_->session.reset();  // if it has not parked in time, it leaves by itself now
      return let_go_at_home(process_->stays_seized && parked && left);
    });
    return left ? released : left;
  }
  if (parked_) {
    TESS_TRY(let_go(stub::kPhaseContinue));
    return services_.on_main([&]() -> Result<> {
      services_.watch(*process_);
      return {};
    });
  }
  // A deputy rests only after its body's thread. If none of those has come to rest, the freeze is
  // simply taken back; deputies that do rest can only be released together with the others, when
  // the last one comes to rest (and the host does the same with the body).
  return services_.on_main([&]() -> Result<> {
    if (process_->session == nullptr) {
      return {};
    }
    process_->on_parked = [this_process = process_.get(), &services = services_] {
      (void)this_process->session->release(stub::kPhaseContinue);
      services.watch(*this_process);
    };
    return unkick_deputy(services_.tracer(), process_->pid, *process_->session);
  });
}

}  // namespace tess::home
