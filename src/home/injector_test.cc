// Real programs are put into the stub and taken out again, many times, while they work: what they
// print must be what they print when left alone, and nothing may stay behind in them.
#include "home/injector.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>
#include <string>

#include "home/image_builder.h"
#include "stub/session.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kTimeout(60'000);

struct Heard : trace::TraceListener {
  int status = -1;
  void forked(pid_t, pid_t, pid_t) override {}
  bool executed(pid_t) override { return false; }
  void group_stopped(pid_t, int) override {}
  void group_continued(pid_t) override {}
  void exited(pid_t, int wait_status) override { status = wait_status; }
};

// A program whose output goes to a pipe of ours.
class Program {
 public:
  explicit Program(const std::vector<std::string>& argv) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      return;
    }
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      sigset_t none;
      sigemptyset(&none);
      ::sigprocmask(SIG_SETMASK, &none, nullptr);
      ::dup2(ends[1], 1);
      std::vector<char*> pointers;
      for (const std::string& argument : argv) {
        pointers.push_back(const_cast<char*>(argument.c_str()));
      }
      pointers.push_back(nullptr);
      ::execvp(pointers[0], pointers.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    output_ = ends[0];
  }
  ~Program() {
    ::kill(pid_, SIGKILL);
    ::close(output_);
  }
  pid_t pid() const { return pid_; }
  // Waits until it has printed this much.
  bool read_bytes(size_t n) {
    char piece[4096];
    while (text_.size() < n) {
      const ssize_t got = ::read(output_, piece, sizeof(piece));
      if (got <= 0) {
        return false;
      }
      text_.append(piece, static_cast<size_t>(got));
    }
    return true;
  }
  std::string read_all() {
    (void)read_bytes(SIZE_MAX);
    return text_;
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string text_;
};

std::string maps_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/maps");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

size_t count_fds(pid_t pid) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) {
    ++count;
  }
  return count;
}

class InjectorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto hub = trace::WaitHub::create();
    ASSERT_TRUE(hub);
    hub_ = std::make_unique<trace::WaitHub>(std::move(*hub));
    tracer_ = std::make_unique<trace::Tracer>(*hub_, heard_);
  }

  // In and out once. False: the program has ended meanwhile.
  ::testing::AssertionResult round(pid_t pid, bool build = false) {
    const auto gone = [](const Error& error) {
      return error.kind() == ErrorKind::kDisconnected
                 ? ::testing::AssertionSuccess()
                 : ::testing::AssertionFailure() << error.message();
    };
    if (const auto seized = tracer_->seize(pid, false); !seized) {
      return gone(seized.error());
    }
    SleepClock sleeps = SleepClock::look_before_hold(pid);
    if (const auto held = tracer_->hold(pid, kTimeout); !held) {
      return gone(held.error());
    }
    sleeps.confirm_after_hold(pid);
    auto injected = put_stub_in(*tracer_, pid, 1, sleeps);
    if (!injected) {
      return gone(injected.error());
    }
    auto memory = stub::RemoteMemory::open(pid);
    if (!memory) {
      return ::testing::AssertionFailure() << memory.error().message();
    }
    stub::Session session(std::move(injected->mailbox), std::move(*memory),
                          injected->placement.region_base);
    const auto note = session.wait_note(kTimeout);
    if (!note || note->kind != stub::Note::kAllParked) {
      return ::testing::AssertionFailure() << "not parked";
    }
    tracer_->handle_events();
    if (build) {
      wire::ProcessImage image;
      if (const auto built = build_image(pid, session, "", {}, image); !built) {
        return ::testing::AssertionFailure() << built.error().message();
      }
      image_threads_ = image.threads_size();
    }
    if (const auto caught = catch_leavers(*tracer_, pid, injected->placement); !caught) {
      return gone(caught.error());
    }
    // Its answer would be waited for here, where the thread's stops have to be handled.
    if (const auto released = session.release_when_it_runs(stub::kPhaseNative); !released) {
      return ::testing::AssertionFailure() << released.error().message();
    }
    const auto deadline = trace::after(kTimeout);
    while (tracer_->traced(pid) && !tracer_->all_held(pid)) {
      if (std::chrono::steady_clock::now() > deadline) {
        return ::testing::AssertionFailure() << "it does not leave the stub";
      }
      tracer_->handle_events();
    }
    const Result<> out = take_stub_out(*tracer_, pid, injected->placement);
    if (!out) {
      return gone(out.error());
    }
    if (const auto detached = tracer_->detach(pid); !detached) {
      return gone(detached.error());
    }
    return ::testing::AssertionSuccess();
  }

  void finish(Program& program, int expected_status) {
    // Only what is traced may be handed to the tracer: it drops the end of a process that it does
    // not know.
    while (heard_.status == -1 && tracer_->traced(program.pid())) {
      pollfd something{hub_->fd(), POLLIN, 0};
      ASSERT_GT(::poll(&something, 1, 60'000), 0) << "the program does not end";
      tracer_->handle_events();
    }
    if (heard_.status != -1) {  // ended while it was traced
      ASSERT_TRUE(WIFEXITED(heard_.status)) << heard_.status;
      EXPECT_EQ(WEXITSTATUS(std::exchange(heard_.status, -1)), expected_status);
      return;
    }
    // Not traced any more, but still our child: the hub reaps it.
    const auto event = hub_->wait_for(program.pid(), trace::after(std::chrono::seconds(60)));
    ASSERT_TRUE(event) << event.error().message();
    ASSERT_TRUE(WIFEXITED(event->status())) << event->status();
    EXPECT_EQ(WEXITSTATUS(event->status()), expected_status);
  }

  // Runs the program alone, then with `rounds` round trips from the moment it has printed `lead`
  // bytes.
  void compare(const std::vector<std::string>& argv, int rounds, size_t lead) {
    std::string expected;
    {
      Program alone(argv);
      expected = alone.read_all();
      finish(alone, 0);
    }
    Program program(argv);
    ASSERT_TRUE(program.read_bytes(lead));
    for (int i = 0; i < rounds; ++i) {
      ASSERT_TRUE(round(program.pid())) << "round " << i;
    }
    EXPECT_EQ(program.read_all(), expected);
    finish(program, 0);
  }

  Heard heard_;
  std::unique_ptr<trace::WaitHub> hub_;
  std::unique_ptr<trace::Tracer> tracer_;
  int image_threads_ = 0;
};

TEST_F(InjectorTest, NothingStaysBehind) {
  Program program({"sleep", "100"});
  // exec has happened when the program's name is there.
  std::string comm;
  while (comm != "sleep") {
    std::ifstream("/proc/" + std::to_string(program.pid()) + "/comm") >> comm;
  }
  std::string call;  // of the sleep itself, all set up
  while (call != "230" && call != "35") {
    std::ifstream("/proc/" + std::to_string(program.pid()) + "/syscall") >> call;
  }
  const size_t fds = count_fds(program.pid());
  const std::string maps = maps_of(program.pid());
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(round(program.pid(), i == 0));
  }
  EXPECT_EQ(maps_of(program.pid()), maps);
  EXPECT_EQ(count_fds(program.pid()), fds);
  EXPECT_EQ(image_threads_, 1);
}

TEST_F(InjectorTest, AShellLoop) {
  compare({"bash", "-c",
           "echo start; for i in {1..30000}; do s=$((s+i*i)); done; echo $s; "
           "for i in 1 2 3; do /bin/echo child $i; done"},
          30, 6);
}

TEST_F(InjectorTest, PythonWithFloatsAndExceptions) {
  compare({"python3", "-c",
           "import math,sys\nprint('start',flush=True)\nx=0.0\nfor i in range(600000):\n"
           "  x+=math.sin(i)*math.sqrt(i)\n  if i%1000==0:\n    try:\n      1/0\n"
           "    except ZeroDivisionError: x+=1\nprint(repr(x))"},
          40, 6);
}

TEST_F(InjectorTest, PythonThreads) {
  compare({"python3", "-c",
           "import threading,queue\nprint('start',flush=True)\nq=queue.Queue()\nr=queue.Queue()\n"
           "def work():\n  while True:\n    i=q.get()\n    if i is None: return\n"
           "    r.put(sum(range(i)))\nts=[threading.Thread(target=work) for _ in range(6)]\n"
           "[t.start() for t in ts]\n[q.put(i) for i in range(4000)]\n[q.put(None) for _ in ts]\n"
           "[t.join() for t in ts]\nprint(sum(r.get() for _ in range(4000)))"},
          40, 6);
}

TEST_F(InjectorTest, ASleepKeepsItsEnd) {
  const auto start = std::chrono::steady_clock::now();
  Program program({"sleep", "1"});
  std::string comm;
  while (comm != "sleep") {
    std::ifstream("/proc/" + std::to_string(program.pid()) + "/comm") >> comm;
  }
  ASSERT_TRUE(round(program.pid()));
  finish(program, 0);
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(1000));
}

TEST_F(InjectorTest, AnAgentThatVanishesLeavesTheProcessRunning) {
  // It lives until it is told that the agent is gone.
  std::string gone = ::testing::TempDir() + "tess-gone-XXXXXX";
  ASSERT_NE(::mkdtemp(gone.data()), nullptr);
  Program program({"bash", "-c",
                   "echo start; for i in {1..20000}; do s=$((s+i)); done; "
                   "until [ ! -e \"$1\" ]; do :; done; echo $s",
                   "bash", gone});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(tracer_->seize(program.pid(), false));
  ASSERT_TRUE(tracer_->hold(program.pid(), kTimeout));
  {
    auto injected = put_stub_in(*tracer_, program.pid(), 1, SleepClock());
    ASSERT_TRUE(injected) << injected.error().message();
    auto memory = stub::RemoteMemory::open(program.pid());
    ASSERT_TRUE(memory);
    stub::Session session(std::move(injected->mailbox), std::move(*memory),
                          injected->placement.region_base);
    const auto note = session.wait_note(kTimeout);
    ASSERT_TRUE(note);
    EXPECT_EQ(note->kind, stub::Note::kAllParked);
  }
  std::filesystem::remove(gone);
  auto said = std::async(std::launch::async, [&program] { return program.read_all(); });
  while (said.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready) {
    tracer_->handle_events();  // it ends when its end has been seen
  }
  EXPECT_EQ(said.get(), "start\n200010000\n");
}

}  // namespace
}  // namespace tess::home
