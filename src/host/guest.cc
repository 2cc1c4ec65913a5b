#include "host/guest.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "host/capture.h"
#include "host/fault_points.h"
#include "host/restore.h"
#include "memory/transfer_note.h"
#include "sys/priority.h"
#include "wire/agent.pb.h"

namespace tess::host {
namespace {

constexpr auto kExitReportTime =
    std::chrono::seconds(2);  // init tells the status of what its kernel has ended

}  // namespace

Guest::Guest(const GuestServices& services)
    : services_(services), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Guest::~Guest() {
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Guest::start_restore(std::unique_ptr<net::TlsStream> stream, uint64_t operation,
                          bool nothing_cached) {
  operation_ = operation;
  stream_ = std::move(stream);
  thread_ = sys::priority_thread([this, nothing_cached] { run_restore(nothing_cached); });
}

void Guest::start_child(sys::Fd mailbox, uint64_t mailbox_inode, uint64_t region_base,
                        std::shared_ptr<const wire::ProcessImage> parent_image) {
  child_mailbox_ = std::move(mailbox);
  mailbox_inode_ = mailbox_inode;
  child_region_ = region_base;
  image_ = std::move(parent_image);
  thread_ = sys::priority_thread([this] { run_child(); });
}

bool Guest::post(std::shared_ptr<const wire::LinkMessage> message) {
  const std::lock_guard guard(mutex_);
  if (finished_) {
    return false;
  }
  inbox_.push_back(std::move(message));
  ::eventfd_write(wake_.get(), 1);
  return true;
}

void Guest::adopt(int32_t pid, Sandbox::BodyProcess process) {
  const std::lock_guard guard(mutex_);
  mailbox_inode_ = 0;
  pid_ = pid;
  outer_pid_ = process.outer_pid;
  adopted_.emplace(pid, std::move(process));
  ::eventfd_write(wake_.get(), 1);
}

void Guest::exited(int wait_status) {
  const std::lock_guard guard(mutex_);
  wait_status_ = wait_status;
  ::eventfd_write(wake_.get(), 1);
}

void Guest::stop() {
  const std::lock_guard guard(mutex_);
  stop_ = true;
  if (stream_ != nullptr) {
    stream_->shutdown();
  }
  ::eventfd_write(wake_.get(), 1);
}

void Guest::run_restore(bool nothing_cached) {
  auto image = std::make_shared<wire::ProcessImage>();
  const RestoreServices services{services_.sandbox, services_.content, services_.shared,
                                 services_.job, services_.force_vdso_patch};
  const uint64_t operation = operation_;
  const std::string from = stream_->peer_name();
  auto restored = services_.faults.at(kBeforeRestore).and_then([&] {
    return restore(*stream_, nothing_cached, services, *image);
  });
  if (restored) {
    if (auto fault = services_.faults.at(kAfterRestore); !fault) {
      end_body(restored->process);
      restored = tl::unexpected(std::move(fault.error()));
    }
  }
  {
    const std::lock_guard guard(mutex_);
    stream_.reset();
  }
  if (!restored) {
    bool unwanted;
    {
      const std::lock_guard guard(mutex_);
      unwanted = stop_;
    }
    if (!unwanted) {
      services_.link.send_failed(operation, image->pid(), restored.error().message());
    }
    finish();
    return;
  }
  process_ = std::move(restored->process);
  session_ = std::move(restored->session);
  image_ = image;
  outer_pid_ = process_.outer_pid;
  pid_ = image->pid();
  mailbox_open_ = true;
  state_ = State::kParked;
  log::info("host", "event=restored pid={} outer={} pages={} reused={} threads={}", pid(),
            process_.outer_pid, restored->stats.page_bytes, restored->stats.reused_bytes,
            image->threads_size());
  services_.tell_tessd(memory::transfer_note(pid(), from, false, restored->stats.flow));
  answer(operation, [&](wire::LinkMessage& message) {
    message.mutable_ready()->set_bytes_received(restored->stats.page_bytes +
                                                restored->stats.file_bytes);
    message.mutable_ready()->set_bytes_reused(restored->stats.reused_bytes);
  });
  serve();
}

// Until it is adopted a child is only a mailbox: closed without a process if the fork failed.
void Guest::run_child() {
  while (true) {
    {
      const std::lock_guard guard(mutex_);
      if (stop_) {
        break;
      }
      if (adopted_) {
        process_ = std::move(adopted_->second);
        adopted_.reset();
        auto memory = stub::RemoteMemory::open(process_.outer_pid);
        if (!memory) {
          break;
        }
        session_ = std::make_unique<stub::Session>(std::move(child_mailbox_), std::move(*memory),
                                                   child_region_);
        mailbox_open_ = true;
        state_ = State::kRunning;
      }
    }
    if (session_ != nullptr) {
      // Its adoption and an order for it may have come with one wake-up, which has been taken.
      ::eventfd_write(wake_.get(), 1);
      serve();
      return;
    }
    pollfd waits[2] = {{wake_.get(), POLLIN, 0}, {child_mailbox_.get(), 0, 0}};
    ::poll(waits, 2, -1);
    eventfd_t ignored;
    ::eventfd_read(wake_.get(), &ignored);
    if ((waits[1].revents & (POLLHUP | POLLERR)) != 0) {
      break;  // no process holds its mailbox: the fork failed, or it is over already
    }
  }
  quiet_exit_ = !adopted_at_its_end();
  finish();
}

// Then home hears of the end from this guest, for it has its pid: with the status, if that comes.
bool Guest::adopted_at_its_end() {
  const auto given_up = Clock::now() + kExitReportTime;
  std::unique_lock lock(mutex_);
  if (adopted_) {
    process_ = std::move(adopted_->second);
    adopted_.reset();
  }
  while (!stop_ && process_.pidfd.valid() && !wait_status_ && Clock::now() < given_up) {
    lock.unlock();
    pollfd wait{wake_.get(), POLLIN, 0};
    ::poll(&wait, 1, static_cast<int>(std::chrono::milliseconds(kExitReportTime).count()));
    eventfd_t ignored;
    ::eventfd_read(wake_.get(), &ignored);
    lock.lock();
  }
  return !stop_ && process_.pidfd.valid();
}

void Guest::serve() {
  while (!done_) {
    serve_once();
  }
  finish();
}

std::chrono::milliseconds Guest::patience() const {
  using std::chrono::milliseconds;
  if (process_gone_) {
    return milliseconds(100);
  }
  if (freezing_ != 0) {
    const auto left = std::chrono::duration_cast<milliseconds>(next_kick_ - Clock::now());
    return std::clamp(left, milliseconds(1), milliseconds(1000));
  }
  return milliseconds(-1);
}

void Guest::serve_once() {
  pollfd waits[3] = {{wake_.get(), POLLIN, 0},
                     {mailbox_open_ ? session_->mailbox().get() : -1, POLLIN, 0},
                     {process_gone_ ? -1 : process_.pidfd.get(), POLLIN, 0}};
  ::poll(waits, 3, static_cast<int>(patience().count()));
  if (waits[1].revents != 0) {
    read_notes();
  }
  if (waits[2].revents != 0) {
    process_gone_ = true;
    gone_since_ = Clock::now();
  }
  if (waits[0].revents != 0) {
    eventfd_t ignored;
    ::eventfd_read(wake_.get(), &ignored);
  }
  if (!take_inbox()) {
    quiet_exit_ = true;
    done_ = true;
    return;
  }
  if (process_gone_) {
    const std::lock_guard guard(mutex_);
    done_ = wait_status_.has_value() || Clock::now() - gone_since_ > kExitReportTime;
    return;
  }
  if (freezing_ != 0 && Clock::now() >= next_kick_) {
    if (Clock::now() >= freeze_deadline_) {
      abandon_freeze();
    } else {
      kick_all();
    }
  }
}

bool Guest::take_inbox() {
  while (!done_) {
    std::shared_ptr<const wire::LinkMessage> message;
    {
      const std::lock_guard guard(mutex_);
      if (stop_) {
        return false;
      }
      if (inbox_.empty()) {
        return true;
      }
      message = std::move(inbox_.front());
      inbox_.pop_front();
    }
    handle(*message);
  }
  return true;
}

// Nothing of a guest is left when this returns. What still waits in the inbox gets its answer here.
void Guest::finish() {
  if (process_.pidfd.valid() && !process_gone_) {
    end_body(process_);
  }
  int status = 0;
  std::deque<std::shared_ptr<const wire::LinkMessage>> unanswered;
  {
    const std::lock_guard guard(mutex_);
    status = wait_status_.value_or(0);
    unanswered.swap(inbox_);
    finished_ = true;
  }
  if (freezing_ != 0) {
    services_.link.send_failed(freezing_, pid(), "the process has ended");
  }
  const int32_t known_as = pid_.exchange(0);  // nobody finds it under its pid any more
  if (discard_ != 0) {
    answer(discard_, known_as, [](wire::LinkMessage& reply) { reply.mutable_done(); });
  }
  for (const auto& message : unanswered) {
    if (message->has_discard()) {
      answer(message->operation(), known_as,
             [](wire::LinkMessage& reply) { reply.mutable_done(); });
    } else if (message->operation() != 0) {
      services_.link.send_failed(message->operation(), known_as, "the process has ended");
    }
  }
  if (process_.pidfd.valid() && !quiet_exit_) {
    log::info("host", "event=exited pid={} status={:#x}", known_as, status);
    answer(0, known_as,
           [&](wire::LinkMessage& message) { message.mutable_exited()->set_wait_status(status); });
  }
  services_.ended(this);
}

void Guest::answer(uint64_t operation, const std::function<void(wire::LinkMessage&)>& fill) {
  answer(operation, pid(), fill);
}

void Guest::answer(uint64_t operation, int32_t as,
                   const std::function<void(wire::LinkMessage&)>& fill) {
  wire::LinkMessage message;
  message.set_operation(operation);
  message.set_pid(as);
  fill(message);
  services_.link.send(message);
}

// ---- what the stub says ----

void Guest::read_notes() {
  while (mailbox_open_) {
    auto note = session_->poll_note();
    if (!note) {
      mailbox_open_ = false;  // the process ends, or has
      return;
    }
    if (!*note) {
      return;
    }
    on_note(**note);
  }
}

void Guest::on_note(const stub::MailboxNote& note) {
  switch (note.kind) {
    case stub::Note::kAllParked:
      on_all_parked();
      break;
    case stub::Note::kNeedChannel:
      give_channel(note);
      break;
    case stub::Note::kNeedProc:
      give_proc_file(note);
      break;
    case stub::Note::kNeedShared:
      give_shared(note);
      break;
    case stub::Note::kSharedSize:
      tell_shared_size(note);
      break;
    case stub::Note::kUnsupported:
      log::warn("host", "event=unsupported_call pid={} tid={} number={} answer={}", pid(), note.tid,
                note.value, note.result);
      break;
    default:
      log::debug("host", "event=note pid={} kind={}", pid(), static_cast<uint32_t>(note.kind));
  }
}

void Guest::on_all_parked() {
  state_ = State::kParked;
  const uint64_t operation = std::exchange(freezing_, 0);
  if (thaw_when_parked_ || operation == 0) {
    // Home has given the freeze up (or never asked): they go on.
    thaw_when_parked_ = false;
    if (release(stub::kPhaseContinue)) {
      state_ = State::kRunning;
    }
    return;
  }
  wait_for_leavers();
  answer(operation, [](wire::LinkMessage& message) { message.mutable_frozen(); });
}

// A thread that has left the process's count may still be on its way out: at its very end the
// kernel tells by memory who joins it, or waits for a lock that it holds (clear_child_tid, robust
// list). That memory is about to be taken away.
void Guest::wait_for_leavers() const {
  constexpr std::chrono::milliseconds kPause(1);  // nothing tells us of the end of a thread
  constexpr std::chrono::seconds kMost(2);
  const auto in_use = session_->memory().get<uint32_t>(session_->control_address() +
                                                       offsetof(stub::ControlBlock, in_use));
  const auto until = Clock::now() + kMost;
  while (in_use && has_more_threads(process_.outer_pid, *in_use) && Clock::now() < until) {
    std::this_thread::sleep_for(kPause);
  }
}

void Guest::kick_all() {
  next_kick_ = Clock::now() + std::chrono::milliseconds(50);
  const auto threads = threads_of(process_.outer_pid);
  if (!threads) {
    return;  // it is ending; the pidfd tells
  }
  for (const ThreadIds& thread : *threads) {
    ::syscall(SYS_tgkill, process_.outer_pid, thread.outside, SIGURG);
  }
}

}  // namespace tess::host
