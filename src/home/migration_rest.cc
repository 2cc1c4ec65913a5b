// How a process comes to rest for a migration, and how it leaves its rest.
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>

#include "home/injector.h"
#include "home/kick.h"
#include "home/migration.h"
#include "migrate/sharing.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kHoldTimeout(10'000);
constexpr milliseconds kParkTimeout(15'000);
constexpr milliseconds kKickInterval(200);
constexpr wire::Timeout kAnswerTimeout(30'000);

// Something that happens once, on the main thread, and is waited for here.
class Signal {
 public:
  void raise() {
    const std::lock_guard lock(mutex_);
    raised_ = true;
    changed_.notify_all();
  }
  bool wait_for(milliseconds timeout) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [this] { return raised_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool raised_ = false;
};

}  // namespace

Result<> Migration::freeze_native() {
  const pid_t pid = process_->pid;
  SleepClock sleeps = SleepClock::look_before_hold(pid);
  const Result<> put_in = services_.on_main([&]() -> Result<> {
    trace::Tracer& tracer = services_.tracer();
    TESS_TRY(tracer.seize(pid, process_->stays_seized));
    tracer.override_stops(pid);
    Result<> result = tracer.hold(pid, kHoldTimeout);
    if (result) {
      sleeps.confirm_after_hold(pid);
      result = tracer.follow_children(pid);
    }
    if (result) {
      const MemoryRoom room(pid);
      auto injected = put_stub_in(tracer, pid, services_.job(), sleeps);
      if (injected) {
        process_->placement = injected->placement;
        process_->inner_pid = innermost_id(pid, pid);
        auto memory = stub::RemoteMemory::open(pid);
        if (memory) {
          process_->session = std::make_shared<stub::Session>(
              std::move(injected->mailbox), std::move(*memory), injected->placement.region_base);
          injected_ = true;
          return {};
        }
        // The mailbox closes with `injected`: the stub restores the process by itself.
        return tl::unexpected(std::move(memory.error()));
      }
      result = tl::unexpected(std::move(injected.error()));
    }
    (void)(process_->stays_seized ? tracer.release(pid) : tracer.detach(pid));
    return result;
  });
  TESS_TRY(put_in);
  TESS_TRY_ASSIGN(const stub::MailboxNote note, process_->session->wait_note(kParkTimeout));
  if (note.kind != stub::Note::kAllParked) {
    return fail(ErrorKind::kFailed, "the stub said {} instead of resting",
                static_cast<uint32_t>(note.kind));
  }
  parked_ = true;
  return {};
}

Result<> Migration::freeze_deputy() {
  TESS_TRY_ASSIGN(const bool body_told, settle_earlier_release());
  TESS_TRY(wait_until_born());
  // Both sides get their freeze word before either is waited for: each may need the other to come
  // to rest.
  const auto parked = std::make_shared<Signal>();
  TESS_TRY(services_.on_main([&]() -> Result<> {
    process_->on_parked = [parked] { parked->raise(); };
    return process_->session->set_freeze(true);
  }));
  if (!body_told) {
    TESS_TRY(tell(*source_, [](wire::LinkMessage& message) { message.mutable_freeze(); }));
  }
  const auto deadline = std::chrono::steady_clock::now() + kParkTimeout;
  bool frozen = false;
  while (!parked_ || !frozen) {
    if (!parked_) {
      const Result<> kicked = services_.on_main([&]() -> Result<> {
        if (process_->session == nullptr) {
          return fail(ErrorKind::kDisconnected, "process {} is gone", process_->pid);
        }
        return kick_deputy(services_.tracer(), process_->pid, *process_->session);
      });
      TESS_TRY(kicked);
      parked_ = parked->wait_for(kKickInterval);
    }
    if (!frozen) {
      const Result<> answer = demand(*source_, "freeze the body", wire::LinkMessage::kFrozen,
                                     parked_ ? kAnswerTimeout : wire::Timeout(0), nullptr);
      frozen = answer.has_value();
      // Refused at once, or given up after a while; in both cases the body will not come to rest
      // for us.
      if (!answer && (parked_ || answer.error().kind() != ErrorKind::kRetry)) {
        return answer;
      }
    }
    if (!parked_ && std::chrono::steady_clock::now() > deadline) {
      return fail(ErrorKind::kRetry, "not all threads of process {} came to rest in time",
                  process_->pid);
    }
  }
  return {};
}

// A child that has just been made starts with its parent's control block and clears it first. A
// freeze word written before that would be lost, and its threads would wait for each other for
// ever.
Result<> Migration::wait_until_born() {
  constexpr milliseconds kLook(1);
  const auto deadline = std::chrono::steady_clock::now() + kParkTimeout;
  while (true) {
    int32_t pid = 0;
    TESS_TRY(services_.on_main([&]() -> Result<> {
      if (process_->session == nullptr) {
        return fail(ErrorKind::kDisconnected, "process {} is gone", process_->pid);
      }
      if (process_->executed_meanwhile) {
        return fail(ErrorKind::kDisconnected, "process {} executes another program", process_->pid);
      }
      const uint64_t control = process_->session->control_address();
      TESS_TRY_ASSIGN(pid, process_->session->memory().get<int32_t>(
                               control + offsetof(stub::ControlBlock, pid)));
      return {};
    }));
    if (pid == process_->inner_pid) {
      return {};
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return fail(ErrorKind::kRetry, "process {} does not begin", process_->pid);
    }
    std::this_thread::sleep_for(kLook);  // it has a few instructions to go
  }
}

// Out of rest. A process that a signal has stopped meanwhile stays where it is until it is
// continued: no instruction of the application's may run before that.
Result<> Migration::let_go(stub::Phase phase) {
  bool stopped = false;
  TESS_TRY(services_.on_main([&]() -> Result<> {
    stopped = services_.tracer().resume_stops(process_->pid);
    process_->release_unanswered = stopped;
    return {};
  }));
  is_stopped_ = is_stopped_ || stopped;  // this may be the second attempt
  return stopped ? process_->session->release_when_it_runs(phase)
                 : process_->session->release(phase);
}

// The stop, or its end, may have been seen before the host was known (main thread).
void Migration::tell_of_stop() {
  if (services_.tracer().stopped(process_->pid)) {
    services_.signal_body(*process_, SIGSTOP);
  } else if (body_began_stopped_ && !is_stopped_) {
    services_.signal_body(*process_, SIGCONT);
  }
}

// A process that was let go while stopped, and is to rest again while still stopped: it has to
// leave the first rest before it can be asked for the second. The body gets its freeze word before
// that: what it may have asked for since it was let go is answered now, and it must not go on then.
// Whether it has got it.
Result<bool> Migration::settle_earlier_release() {
  const auto released = std::make_shared<Signal>();
  bool wait = false;
  TESS_TRY(services_.on_main([&]() -> Result<> {
    services_.tracer().override_stops(process_->pid);
    wait = process_->release_unanswered;
    return {};
  }));
  if (!wait) {
    return false;
  }
  TESS_TRY(tell(*source_, [](wire::LinkMessage& message) { message.mutable_freeze(); }));
  TESS_TRY(services_.on_main([&]() -> Result<> {
    wait = process_->release_unanswered;
    if (!wait) {
      return {};
    }
    process_->on_released = [released] { released->raise(); };
    return kick_deputy(services_.tracer(), process_->pid, *process_->session,
                       stub::kPendingKick | stub::kPendingHold);
  }));
  if (wait && !released->wait_for(kParkTimeout)) {
    return fail(ErrorKind::kRetry, "process {} did not leave its last rest in time", process_->pid);
  }
  return true;
}

// All threads are parked: into native life, and every trace of the stub removed. The process ends
// up held, before the next instruction of its own or, where that is a wait, in it.
Result<> Migration::leave_stub() {
  const pid_t pid = process_->pid;
  TESS_TRY(services_.on_main(
      [&] { return catch_leavers(services_.tracer(), pid, process_->placement); }));
  TESS_TRY_ASSIGN(const Actions actions,
                  process_->session->memory().get<Actions>(process_->session->control_address() +
                                                           offsetof(stub::ControlBlock, actions)));
  TESS_TRY(process_->session->release(stub::kPhaseNative));
  parked_ = false;
  const auto deadline = std::chrono::steady_clock::now() + kParkTimeout;
  while (true) {
    bool out = false;
    TESS_TRY(services_.on_main([&]() -> Result<> {
      if (!services_.tracer().traced(pid)) {
        return fail(ErrorKind::kDisconnected, "process {} has ended", pid);
      }
      out = services_.tracer().all_held(pid);
      return out ? take_stub_out(services_.tracer(), pid, process_->placement) : Result<>();
    }));
    if (out) {
      return services_.on_main([&] { return enter_waits(services_.tracer(), pid, actions); });
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return fail(ErrorKind::kRetry, "process {} did not leave the stub in time", pid);
    }
    std::this_thread::yield();  // a few system calls away from done
  }
}

}  // namespace tess::home
