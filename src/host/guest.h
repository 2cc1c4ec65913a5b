// One body on this host and the thread that serves it: restores it, hands it channels, parks it,
// sends its image away, lets it go on, ends it. The session with its stub belongs to that thread
// alone; others only post messages. States: restoring, parked (ready or frozen), running. Whatever
// ends a guest, its process is dead by then.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/fault.h"
#include "base/result.h"
#include "host/channel_pool.h"
#include "host/file_content.h"
#include "host/home_link.h"
#include "host/sandbox.h"
#include "host/shared_memory.h"
#include "net/tls_stream.h"
#include "stub/session.h"

namespace tess::wire {
class AgentUp;
class LinkMessage;
class ProcessImage;
}  // namespace tess::wire

namespace tess::host {

class Guest;

// What all guests of an agent share. Outlives them.
struct GuestServices {
  Sandbox& sandbox;
  FileContent& content;
  SharedMemory& shared;
  ChannelPool& channels;
  HomeLink& link;
  const net::TlsContext& tls;
  Faults& faults;
  uint64_t job;
  bool force_vdso_patch;
  // Called on a guest's thread.
  std::function<void(std::shared_ptr<Guest>)> born;  // a body has made a child
  std::function<void(Guest*)> ended;                 // last thing a guest does
  std::function<void(const wire::AgentUp&)> tell_tessd;
};

class Guest : public std::enable_shared_from_this<Guest> {
 public:
  explicit Guest(const GuestServices& services);
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  // Exactly one of these. A child is known by the inode of the socket that it got as its mailbox
  // until adopt() tells its process.
  void start_restore(std::unique_ptr<net::TlsStream> stream, uint64_t operation,
                     bool nothing_cached);
  void start_child(sys::Fd mailbox, uint64_t mailbox_inode, uint64_t region_base,
                   std::shared_ptr<const wire::ProcessImage> parent_image);

  // Any thread.
  // False: it answers nothing any more.
  [[nodiscard]] bool post(std::shared_ptr<const wire::LinkMessage> message);
  void adopt(int32_t pid, Sandbox::BodyProcess process);
  void exited(int wait_status);
  void stop();                          // ends the body without a word to home
  int32_t pid() const { return pid_; }  // 0 while unknown
  pid_t outer_pid() const { return outer_pid_; }
  uint64_t mailbox_inode() const { return mailbox_inode_; }  // 0: not waiting for adoption
  uint64_t operation() const { return operation_; }          // that brings it, while restoring

 private:
  enum class State { kRestoring, kParked, kRunning };
  using Clock = std::chrono::steady_clock;

  void run_restore(bool nothing_cached);
  void run_child();
  bool adopted_at_its_end();
  void serve();
  void serve_once();
  bool take_inbox();  // false: stop
  void finish();

  void handle(const wire::LinkMessage& message);
  Result<> assign(const wire::LinkMessage& message);
  Result<> place_channel(int32_t tid, uint64_t channel_id);
  Result<> commit(const wire::LinkMessage& message);
  Result<> ask_for_signals();
  Result<> freeze(const wire::LinkMessage& message);
  Result<> send_image(const wire::LinkMessage& message);
  Result<> thaw(const wire::LinkMessage& message);
  Result<> signal(const wire::LinkMessage& message);
  void discard(const wire::LinkMessage& message);

  void read_notes();
  void on_note(const stub::MailboxNote& note);
  void on_all_parked();
  void wait_for_leavers() const;
  void give_channel(const stub::MailboxNote& note);
  void give_proc_file(const stub::MailboxNote& note);
  void give_shared(const stub::MailboxNote& note);
  void tell_shared_size(const stub::MailboxNote& note);
  void kick_all();
  void abandon_freeze();
  void answer(uint64_t operation, const std::function<void(wire::LinkMessage&)>& fill);
  void answer(uint64_t operation, int32_t as, const std::function<void(wire::LinkMessage&)>& fill);
  Result<> release(stub::Phase phase);
  Result<> send_signal(int number);
  std::chrono::milliseconds patience() const;

  const GuestServices& services_;
  std::thread thread_;
  sys::Fd wake_;  // eventfd

  std::mutex mutex_;  // guards the inbox: what others have for this thread
  std::deque<std::shared_ptr<const wire::LinkMessage>> inbox_;
  bool finished_ = false;  // nobody reads the inbox any more
  std::optional<std::pair<int32_t, Sandbox::BodyProcess>> adopted_;
  std::optional<int> wait_status_;
  bool stop_ = false;
  std::shared_ptr<net::TlsStream> stream_;  // shut down by stop() to end a restore

  std::atomic<int32_t> pid_{0};
  std::atomic<pid_t> outer_pid_{-1};
  std::atomic<uint64_t> mailbox_inode_{0};
  std::atomic<uint64_t> operation_{0};

  // The guest's thread only.
  State state_ = State::kRestoring;
  Sandbox::BodyProcess process_;
  std::unique_ptr<stub::Session> session_;
  sys::Fd child_mailbox_;
  uint64_t child_region_ = 0;
  std::shared_ptr<const wire::ProcessImage>
      image_;  // static facts; threads and vmas as of the last move
  bool mailbox_open_ = false;
  bool process_gone_ = false;
  Clock::time_point gone_since_{};
  uint64_t discard_ = 0;     // operation of a discard to be answered when the process is gone
  bool quiet_exit_ = false;  // home knows
  bool done_ = false;
  bool stopped_ = false;   // by a SIGSTOP from home
  uint64_t freezing_ = 0;  // operation of the freeze in progress
  bool thaw_when_parked_ = false;
  Clock::time_point freeze_deadline_{}, next_kick_{};
};

}  // namespace tess::host
