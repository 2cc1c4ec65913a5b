#include "lab/foreground.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

namespace tess::lab {
namespace {

// Blocks a signal for a moment: tcsetpgrp from a background group would otherwise stop us.
class BlockSignal {
 public:
  explicit BlockSignal(int number) {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, number);
    ::pthread_sigmask(SIG_BLOCK, &set, &old_);
  }
  ~BlockSignal() { ::pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  BlockSignal(const BlockSignal&) = delete;
  BlockSignal& operator=(const BlockSignal&) = delete;

 private:
  sigset_t old_;
};

}  // namespace

Result<Foreground> Foreground::prepare() {
  sigset_t old_mask;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &old_mask);
  TESS_TRY_ASSIGN(sys::SignalFd signals,
                  sys::SignalFd::block({SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2,
                                        SIGALRM, SIGTSTP}));
  sys::Fd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC));
  const bool ours = terminal.valid() && ::tcgetpgrp(terminal.get()) == ::getpgrp();
  // In a pipeline only the one that reads the terminal gets it at once; another gets it when it
  // first asks (on_stop).
  const bool hand_over = ours && ::isatty(STDIN_FILENO) == 1;
  return Foreground(std::move(terminal), hand_over, std::move(signals), old_mask);
}

void Foreground::enter_child() const {
  ::setpgid(0, 0);
  if (hand_over_) {
    const BlockSignal block(SIGTTOU);
    ::tcsetpgrp(terminal_.get(), ::getpgrp());
  }
  ::pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

bool Foreground::we_have_terminal() const {
  return terminal_.valid() && ::tcgetpgrp(terminal_.get()) == ::getpgrp();
}

void Foreground::give_terminal(pid_t group) const {
  const BlockSignal block(SIGTTOU);
  ::tcsetpgrp(terminal_.get(), group);
}

void Foreground::take_terminal_back() {
  if (hand_over_) {
    give_terminal(::getpgrp());
    hand_over_ = false;
  }
}

void Foreground::pass_on(const sys::Process& child, const sys::ReceivedSignal& signal) const {
  if (signal.code > 0) {
    // From the kernel, that is the terminal, while the child is not its foreground group: meant for
    // all of us.
    ::kill(-child.pid(), signal.number);
  } else {
    (void)child.signal(signal.number);
  }
}

void Foreground::on_stop(const sys::Process& child, int signal) {
  const bool wants_terminal = signal == SIGTTIN || signal == SIGTTOU;
  if (wants_terminal && we_have_terminal()) {
    hand_over_ = true;
    give_terminal(child.pid());
    ::kill(-child.pid(), SIGCONT);
    return;
  }
  if (!terminal_.valid() || (signal == SIGSTOP && !hand_over_)) {
    return;  // no shell to tell: whoever stopped it will let it go on
  }
  take_terminal_back();
  // Stop as the child did, with all of our group, so that the shell takes over. Comes back with
  // SIGCONT.
  const int how = signal == SIGSTOP ? SIGTSTP : signal;
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, how);
  ::kill(0, how);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  if (how == SIGTSTP) {
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  }
  if (we_have_terminal()) {
    hand_over_ = true;
    give_terminal(child.pid());
  }
  ::kill(-child.pid(), SIGCONT);
}

Result<sys::ExitStatus> Foreground::attend(sys::Process child) {
  ::setpgid(child.pid(), child.pid());  // both sides do it: neither may rely on being first
  while (true) {
    (void)sys::wait_readable(signals_.fd(), -1);  // as long as the command takes
    while (const auto received = signals_.next().value_or(std::nullopt)) {
      if (received->number != SIGCHLD) {
        pass_on(child, *received);
      }
    }
    while (true) {
      TESS_TRY_ASSIGN(const auto change, child.poll_change());
      if (!change) {
        break;
      }
      if (change->kind == sys::ExitStatus::kStopped) {
        on_stop(child, change->value);
      } else if (change->kind != sys::ExitStatus::kContinued) {
        take_terminal_back();
        return *change;
      }
    }
  }
}

}  // namespace tess::lab
