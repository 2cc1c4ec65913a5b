// What deputies, bodies and hosts say by themselves, and what the home agent makes of it.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>

#include "base/log.h"
#include "home/call_state.h"
#include "home/home_agent.h"
#include "migrate/sharing.h"
#include "sys/unix_socket.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

// To the person in front of the process, if its standard error is a terminal. Never blocks.
void write_to_terminal(pid_t pid, const std::string& text) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/2";
  char target[PATH_MAX];
  const ssize_t n = ::readlink(path.c_str(), target, sizeof(target));
  const std::string name(target, n > 0 ? static_cast<size_t>(n) : 0);
  if (!name.starts_with("/dev/pts/") && !name.starts_with("/dev/tty")) {
    return;
  }
  const sys::Fd terminal(::open(path.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  if (terminal.valid()) {
    (void)!::write(terminal.get(), text.data(), text.size());
  }
}

}  // namespace

// ---- mailbox ----

void HomeAgent::read_mailbox(pid_t pid) {
  // Each note may change everything, the process's end included: look it up again each time.
  while (true) {
    Managed* const process = find(pid);
    if (process == nullptr || process->session == nullptr || process->watch == nullptr) {
      return;
    }
    stub::SharedCall shared{};
    auto note = process->session->poll_note(&shared);
    if (!note) {
      process->watch.reset();  // exec or death; ptrace tells which
      return;
    }
    if (!*note) {
      return;
    }
    handle_note(*process, **note, shared);
  }
}

// Its end may be noticed before what it said last has been read.
void HomeAgent::hear_last_words(Managed& process) {
  stub::SharedCall shared{};
  while (process.session != nullptr) {
    const auto note = process.session->poll_note(&shared);
    if (!note || !*note) {
      return;
    }
    if ((*note)->kind == stub::Note::kBodyLost) {
      handle_note(process, **note, shared);
      return;
    }
  }
}

void HomeAgent::handle_note(Managed& process, const stub::MailboxNote& note,
                            const stub::SharedCall& shared) {
  stir();
  switch (note.kind) {
    case stub::Note::kAllParked: {
      process.watch.reset();  // whoever parked it reads from now on
      if (const auto parked = std::exchange(process.on_parked, nullptr); parked) {
        parked();
      }
      break;
    }
    case stub::Note::kNeedChannel:
      answer_channel(process, note);
      break;
    case stub::Note::kEnding:
      settle_children_time(process, note);
      break;
    case stub::Note::kGoHome:
      asked_to_go_home(process, note.value, note.result);
      break;
    case stub::Note::kIsAway:
      tell_whether_away(process, note.result);
      break;
    case stub::Note::kCallState:
      tell_call_state(process, note);
      break;
    case stub::Note::kUnsupported:
      if (process.unsupported_call != note.value) {
        process.unsupported_call = note.value;
        tessd_->log(process.pid, fmt::format("process {} was refused system call {} (not available "
                                             "while away from home)",
                                             process.pid, note.value));
      }
      break;
    case stub::Note::kBodyLost:
      tell_lost(process, "its connection to the host broke");
      break;
    case stub::Note::kSharedCall:
      shared_call(process.pid, note, shared);
      break;
    case stub::Note::kAnswer:
      process.release_unanswered = false;
      if (const auto released = std::exchange(process.on_released, nullptr); released) {
        released();
      }
      break;
    case stub::Note::kExecFailed:
    case stub::Note::kNeedProc:
    case stub::Note::kNeedShared:
    case stub::Note::kSharedSize:
      break;
  }
}

void HomeAgent::tell_call_state(const Managed& process, const stub::MailboxNote& note) {
  stub::ChannelAnswer answer{};
  answer.result = -ESRCH;
  for (const auto& [pid, other] : processes_) {
    if (other->inner_pid == note.result) {
      const pid_t tid = outer_tid(pid, static_cast<int32_t>(note.id));
      answer.result = waits_in_call(pid, tid, other->placement) ? 1 : 0;
    }
  }
  if (auto sent = process.session->answer_channel(answer, {}); !sent) {
    log::warn("home", "event=answer_failed pid={} reason=\"{}\"", process.pid,
              sent.error().message());
  }
}

void HomeAgent::answer_channel(Managed& process, const stub::MailboxNote& note) {
  stub::ChannelAnswer answer{};
  answer.id = note.id;
  auto channel = process.host == nullptr
                     ? Result<Channel>(fail(ErrorKind::kDisconnected, "the process is at home"))
                     : process.host->take_channel(note.id);
  sys::Fd theirs;
  std::vector<int> fds;
  if (channel) {
    fds.push_back(channel->socket.get());
    answer.keys = channel->keys;
  }
  if (channel && note.value == 1) {
    auto pair = sys::make_socket_pair(SOCK_SEQPACKET);
    if (pair) {
      theirs = std::move(pair->second);
      fds.push_back(theirs.get());
      newborn_mailboxes_[outer_tid(process.pid, note.tid)] = std::move(pair->first);
    } else {
      channel = tl::unexpected(std::move(pair.error()));
    }
  }
  if (!channel) {
    log::warn("home", "event=no_channel pid={} id={} reason=\"{}\"", process.pid, note.id,
              channel.error().message());
    answer.result = -EAGAIN;
    fds.clear();
  }
  if (auto sent = process.session->answer_channel(answer, fds); !sent) {
    log::warn("home", "event=answer_failed pid={} reason=\"{}\"", process.pid,
              sent.error().message());
  }
}

pid_t HomeAgent::outer_tid(pid_t pid, int32_t inner_tid) const {
  if (innermost_id(pid, inner_tid) == inner_tid) {
    return inner_tid;
  }
  for (const pid_t tid : tracer_.threads(pid)) {
    if (innermost_id(pid, tid) == inner_tid) {
      return tid;
    }
  }
  return 0;
}

// ---- ptrace ----

void HomeAgent::forked(pid_t parent, pid_t thread, pid_t child) {
  stir();
  Managed* const process = find(parent);
  if (process == nullptr) {
    return;
  }
  if (process->state == Managed::State::kDeputy) {
    adopt_fork(*process, thread, child);
    return;
  }
  news_ = true;
  const std::shared_ptr<Managed> born = make_process(child);
  born->stays_seized = process->stays_seized;
  born->placed_on = process->placed_on;
  born->put_by_hand = process->put_by_hand;
  if (!process->stays_seized) {
    // Of a process that was only being looked at: none of ours.
    loop_.post([this, child] {
      (void)tracer_.detach(child);
      processes_.erase(child);
    });
  }
}

void HomeAgent::adopt_fork(Managed& parent, pid_t thread, pid_t child) {
  auto mailbox = newborn_mailboxes_.extract(thread);
  auto memory = stub::RemoteMemory::open(child);
  news_ = true;
  const std::shared_ptr<Managed> born = make_process(child);
  born->state = Managed::State::kDeputy;
  born->stays_seized = parent.stays_seized;
  born->placed_on = parent.placed_on;
  born->put_by_hand = parent.put_by_hand;
  born->placement = parent.placement;
  born->host = parent.host;
  if (mailbox.empty() || !memory) {
    log::warn("home", "event=child_without_mailbox pid={} parent={}", child, parent.pid);
    return;
  }
  born->session = std::make_shared<stub::Session>(std::move(mailbox.mapped()), std::move(*memory),
                                                  parent.placement.region_base);
  write_shared_table(*born);
  watch(*born);
}

bool HomeAgent::executed(pid_t pid) {
  stir();
  Managed* const process = find(pid);
  if (process == nullptr) {
    return false;
  }
  news_ = true;
  body_gone(*process);
  shared_.left(pid);
  if (process->busy && !finishing_) {
    process->executed_meanwhile = true;  // the migration finds out; what follows comes after it
    return !process->placed_on.empty();
  }
  if (finishing_) {
    return false;
  }
  switch (place_program(*process)) {
    case ProgramPlace::kAsked:
      return true;
    case ProgramPlace::kHome:
      process->placed_on.clear();
      break;
    case ProgramPlace::kAsBefore:
      break;
  }
  if (loads_at_home(*process)) {
    load_at_home(*process);
    return false;
  }
  if (!process->placed_on.empty()) {
    loop_.post([this, pid] {
      Managed* const fresh = find(pid);
      if (fresh == nullptr || fresh->busy) {
        return;  // ended, or somebody else moves it
      }
      if (fresh->placed_on.empty()) {  // somebody has just called it home, where it is
        go_on_at_home(*fresh);
        maybe_finish();
        return;
      }
      start_migration(processes_[pid], fresh->placed_on, [](const Result<>&) {});
    });
    return true;
  }
  if (leave_alone(*process)) {
    return true;  // until it is let go
  }
  if (!process->stays_seized) {
    loop_.post([this, pid] {
      (void)tracer_.detach(pid);
      maybe_finish();
    });
  }
  return false;
}

void HomeAgent::note_ending_body(const Managed& process) {
  if (process.state == Managed::State::kDeputy && process.host != nullptr && !process.body_ended) {
    ending_bodies_[{process.where(), process.inner_pid}] = std::chrono::steady_clock::now();
  }
}

// The process is native again: its program, or its life, is another one.
void HomeAgent::body_gone(Managed& process) {
  note_ending_body(process);
  process.watch.reset();
  if (!process.busy) {
    process.session.reset();
  }
  process.host.reset();
  process.cpu_uncounted_ns += static_cast<int64_t>(process.cpu_host_ns);
  process.cpu_hosts_settled_ns += std::exchange(process.cpu_host_ns, 0);
  process.state = Managed::State::kNative;
}

void HomeAgent::signal_body(const Managed& process, int signal) {
  if (process.host == nullptr) {
    return;  // at home; it may have executed a program meanwhile
  }
  wire::LinkMessage message;
  message.set_pid(process.inner_pid);
  message.mutable_signal()->set_signal(signal);
  (void)process.host->send(message);
}

void HomeAgent::group_stopped(pid_t pid, int) {
  if (const Managed* const process = find(pid); process != nullptr) {
    signal_body(*process, SIGSTOP);
  }
}

void HomeAgent::group_continued(pid_t pid) {
  if (const Managed* const process = find(pid); process != nullptr) {
    signal_body(*process, SIGCONT);
  }
}

void HomeAgent::exited(pid_t pid, int wait_status) {
  stir();
  const auto it = processes_.find(pid);
  if (it == processes_.end()) {
    return;
  }
  log::info("home", "event=exited pid={} status={:#x}", pid, wait_status);
  program_ended(*it->second);
  note_ending_body(*it->second);  // none of a signal's victims was seen ending
  it->second->watch.reset();
  if (!it->second->busy) {  // settle() hears them otherwise
    hear_last_words(*it->second);
  }
  processes_.erase(it);
  shared_.left(pid);
  loop_.post([this] {
    home_watch_.settle();
    tessd_->send_status();
    maybe_finish();
  });
}

// ---- hosts ----

void HomeAgent::host_said(const std::string& node, const wire::LinkMessage& message) {
  const auto of_message = [&](int32_t inner_pid) -> Managed* {
    for (const auto& [pid, process] : processes_) {
      if (process->inner_pid == inner_pid && process->where() == node) {
        return process.get();
      }
    }
    return nullptr;
  };
  if (message.body_case() != wire::LinkMessage::kUsage) {
    stir();
  }
  switch (message.body_case()) {
    case wire::LinkMessage::kUsage:
      for (const wire::ProcessUsage& usage : message.usage().process()) {
        if (Managed* const process = of_message(usage.pid()); process != nullptr) {
          process->cpu_host_ns = usage.cpu_ns();
          process->memory_bytes = usage.resident_bytes();
        }
      }
      break;
    case wire::LinkMessage::kExited: {
      ending_bodies_.erase({node, message.pid()});
      Managed* const process = of_message(message.pid());
      if (process != nullptr) {
        process->body_ended = true;
      }
      if (process != nullptr && !message.exited().reason().empty()) {
        tell_lost(*process, message.exited().reason());
      }
      break;
    }
    case wire::LinkMessage::kRecall:
      for (const auto& [pid, process] : Processes(processes_)) {
        process->placed_on = process->placed_on == node ? "" : process->placed_on;
        if (process->where() == node) {
          migrate(pid, "", [](const Result<>&) {});
        }
      }
      break;
    case wire::LinkMessage::kSharedOpen:
      shared_open(node, message);
      break;
    case wire::LinkMessage::kSharedRead:
    case wire::LinkMessage::kSharedDirty:
    case wire::LinkMessage::kSharedUpdated:
      if (const auto link = link_of(node); link != nullptr) {
        shared_.handle(link, message);
      }
      break;
    case wire::LinkMessage::kFailed:
      log::warn("home", "event=host_failed node={} pid={} reason=\"{}\"", node, message.pid(),
                message.failed().reason());
      break;
    default:
      break;
  }
}

void HomeAgent::host_lost(const std::string& node, const Error& error) {
  log::warn("home", "event=host_lost node={} reason=\"{}\"", node, error.message());
  if (const auto link = link_of(node); link != nullptr) {
    shared_.host_lost(link);
  }
  std::erase_if(ending_bodies_, [&](const auto& body) { return body.first.first == node; });
  for (const auto& [pid, process] : processes_) {
    if (process->where() == node && !process->busy) {
      tell_lost(*process, fmt::format("node {} is lost", node));
    }
  }
  home_watch_.settle();
}

void HomeAgent::tell_lost(const Managed& process, const std::string& reason) {
  const std::string text =
      fmt::format("process {} was running on {} and is lost: {}", process.pid,
                  process.where().empty() ? "another node" : process.where(), reason);
  tessd_->log(process.pid, text);
  log::warn("home", "event=body_lost pid={} node={} reason=\"{}\"", process.pid, process.where(),
            reason);
  write_to_terminal(process.pid, "\r\ntessera: " + text + "\r\n");
}

}  // namespace tess::home
