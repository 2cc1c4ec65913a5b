// Executing one request at home.
#pragma once

#include "stub/blob/core.h"
#include "stub/proc_text.h"

namespace tess::stub {

// One request while it is executed.
struct Call {
  static constexpr uint32_t kSegments = 256;
  static constexpr uint32_t kFixups = 320;
  Request request;
  Segment segments[kSegments];
  Fixup fixups[kFixups];
  uint8_t* data[kSegments];
  uint8_t* arena;
  uint64_t arena_size;  // 0: the slot's own
  int64_t result;
  uint32_t flags;  // kReply*
  int64_t deadline_ns;
  ProcPath proc;  // with kReplyProc
};

// Held by whoever looks at or changes what the application believes of its handlers, so that this
// and what the kernel has are changed as one. All signals are blocked meanwhile: no handler of ours
// waits for its own thread. A child of vfork has a table of its own, and could end with the lock.
class ActionsGuard {
 public:
  explicit ActionsGuard(Slot* slot)
      : word_(priv(slot).vfork_child == 0 ? &control_of(slot).actions_lock : nullptr) {
    if (word_ != nullptr) {
      lock(word_);
    }
  }
  ~ActionsGuard() {
    if (word_ != nullptr) {
      unlock(word_);
    }
  }
  ActionsGuard(const ActionsGuard&) = delete;
  ActionsGuard& operator=(const ActionsGuard&) = delete;

 private:
  uint32_t* word_;
};

// Receives, executes and answers one request. False: the channel is lost.
bool serve_request(Slot* slot);
// The call itself; its result, kRestart or kKicked in call.result.
void run_kernel_call(Slot* slot, Call& call);
// Installs our handler for a caught signal, or the default or ignore as it is.
long set_deputy_handler(int signal, const SignalAction& action);
// kOpClone: a real child or thread with a deputy in `slot` args[1]. Returns its tid or -errno.
long deputy_clone(Slot* slot, const uint64_t args[6], int32_t* pidfd);

// ---- descriptors of ours (deputy_descriptors.cc) ----
// Is this descriptor the stub's own?
bool is_ours(const Slot* slot, int32_t fd);
// False: the call has its result; it is about descriptors of ours, which are not there for the
// application, or has to be made at home (kReplyHome) since they are in its way.
bool guard_descriptors(Slot* slot, Call& call);
// A call that has failed for want of numbers is to be made at home if ours take some.
void note_crowding(Slot* slot, Call& call);
// A call that looks at or sets limits, or an exec, which keeps them: it does not find the limit of
// descriptors that another thread has raised for one of ours.
void run_under_own_limit(Slot* slot, Call& call);

// ---- signals, threads, limits (deputy_ops.cc) ----
// rt_sigaction: the action that the application asks for, and the one it had.
void set_action(Slot* slot, Call& call);
// kOpSetMask: 0, or kRestart if a signal came first: its handler runs on top of the one to be left.
int64_t leave_handler(Slot* slot, uint64_t mask);
// kOpFault.
void raise_fault(Slot* slot, Call& call);
// kOpMayLock.
int64_t may_lock(uint64_t limit);
// Asks the agent what it answers without a descriptor: the answer's result, or EAGAIN.
int64_t ask_for_word(Slot* slot, const MailboxNote& question);
// 1: the memory of this process of the job is on a host, 0: it is not; is_away: or the errno that
// forbids looking at it.
int64_t ask_away(Slot* slot, int64_t pid);
// kOpGoHome: 0 if the agent brings this process home, and that one (0: none).
int64_t go_home(Slot* slot, uint32_t number, int64_t pid);
int64_t is_away(Slot* slot, int64_t pid);
// kOpWriteRoom.
int64_t write_room(int fd, uint64_t message_flags);
// kOpTitle. One that does not fit is none of ours: nothing is done.
void take_title(const Call& call);
// Does tkill or its like name a thread that has ended, but that the agent has not reaped yet?
bool is_ended_thread(const Slot* slot, const Request& r);

// ---- CPU time of children (deputy_children.cc) ----
void tell_ending(Slot* slot, int64_t user_ns, int64_t system_ns, uint64_t maxrss_kb);
void correct_wait(Slot* slot, Call& call);
void correct_children(Slot* slot, Call& call);

// ---- /proc (deputy_proc.cc) ----
// After an open that succeeded: a file of /proc whose truth is with the body is told to it.
void classify_opened(Slot* slot, Call& call);
// After getdents: the stub's descriptors and threads that have ended are not there.
void hide_entries(Slot* slot, Call& call);
// kOpProcText.
void take_proc_text(Slot* slot, Call& call);
// kOpPidOf.
long pid_of_pidfd(int fd);
// State letter of a thread of ours; 0 if it is gone.
char thread_state(uint64_t tid);
// A read or write of /proc/self/mem or pagemap, which the body has to do, or a read of a text from
// its start, which it has to make anew. False: another file.
bool divert_proc_file(Slot* slot, Call& call);
// Is the opened file of /proc one that the body has to be told of? Fills in call.proc.
bool classify_opened_file(Slot* slot, Call& call);
// Does this call change nothing of what a text says that has just been made for a read to come?
bool keeps_text_fresh(uint32_t op);
// fstat and its like: an open text is described as the file that it stands for.
void describe_file(Slot* slot, Call& call);

}  // namespace tess::stub
