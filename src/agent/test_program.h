// For tests: a program whose standard output is a pipe of ours; killed and reaped at the end.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace tess::agent {

using Argv = std::vector<std::string>;

class Program {
 public:
  explicit Program(const Argv& argv) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      return;
    }
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(ends[1], 1);
      ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
      ::closefrom(3);
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
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(output_);
  }
  pid_t pid() const { return pid_; }
  bool read_bytes(size_t n) {
    char piece[4096];
    while (text_.size() < n) {
      const ssize_t got = ::read(output_, piece, std::min(sizeof(piece), n - text_.size()));
      if (got <= 0) {
        return false;
      }
      text_.append(piece, static_cast<size_t>(got));
    }
    return true;
  }
  const std::string& text() const { return text_; }
  std::string read_all() {
    (void)read_bytes(SIZE_MAX);
    return text_;
  }
  int wait() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string text_;
};

}  // namespace tess::agent
