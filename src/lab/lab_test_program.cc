// What the lab's tests run inside nodes, where there is no other program. Without a word it stands
// in for tessd: listens on the control socket, serves TCP on the configured address, stops in order
// on SIGTERM. With a word it does one small thing and says what it found.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "sys/files.h"
#include "sys/signals.h"
#include "sys/unix_socket.h"

namespace {

using namespace tess;

int complain(const Error& error) {
  std::fprintf(stderr, "%s\n", error.message().c_str());
  return 1;
}

sockaddr_in address_of(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  ::inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  return address;
}

// Swallows what comes on one connection, then answers with its size.
void serve(sys::Fd connection) {
  std::array<char, 1 << 16> buffer{};
  uint64_t total = 0;
  ssize_t n = 0;
  while ((n = ::read(connection.get(), buffer.data(), buffer.size())) > 0) {
    total += static_cast<uint64_t>(n);
  }
  (void)sys::write_all(connection, std::as_bytes(std::span(&total, 1)));
}

int be_tessd() {
  auto signals = sys::SignalFd::block({SIGTERM});
  const auto config = sys::read_file("/etc/tessera/tessera.toml");
  if (!signals || !config) {
    return 1;
  }
  const size_t begin = config->find("listen = \"") + 10;
  const std::string host = config->substr(begin, config->find(':', begin) - begin);
  const sys::Fd tcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = address_of(host, 7117);
  if (::bind(tcp.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(tcp.get(), 16) != 0) {
    std::perror("listen");
    return 1;
  }
  const auto control = sys::listen_unix("/run/tessera/control.sock");
  if (!control) {
    return complain(control.error());
  }
  std::printf("ready\n");
  std::fflush(stdout);
  pollfd fds[] = {
      {signals->fd().get(), POLLIN, 0}, {tcp.get(), POLLIN, 0}, {control->get(), POLLIN, 0}};
  while (true) {
    ::poll(fds, 3, -1);
    if (fds[0].revents != 0) {
      (void)signals->next();
      std::printf("stopped in order\n");
      return 0;
    }
    if (fds[1].revents != 0) {
      std::thread(serve, sys::Fd(::accept4(tcp.get(), nullptr, nullptr, SOCK_CLOEXEC))).detach();
    }
    if (fds[2].revents != 0) {
      sys::Fd(::accept4(control->get(), nullptr, nullptr, SOCK_CLOEXEC)).reset();
    }
  }
}

// Sends so many bytes, waits for the count to come back; prints megabits a second.
int send_bytes(const std::string& host, uint64_t count) {
  const sys::Fd tcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = address_of(host, 7117);
  if (::connect(tcp.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    std::perror("connect");
    return 1;
  }
  const auto start = std::chrono::steady_clock::now();
  const std::string block(1 << 16, 'x');
  for (uint64_t sent = 0; sent < count; sent += block.size()) {
    if (const auto written = sys::write_all(tcp, std::as_bytes(std::span(block))); !written) {
      return complain(written.error());
    }
  }
  ::shutdown(tcp.get(), SHUT_WR);
  uint64_t received = 0;
  if (const auto read = sys::read_all(tcp, std::as_writable_bytes(std::span(&received, 1)));
      !read || received < count) {
    return 1;
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  std::printf("%.1f\n", static_cast<double>(received) * 8 / 1e6 / taken.count());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string word = argc > 1 ? argv[1] : "";
  if (word.empty()) {
    return be_tessd();
  }
  if (word == "send" && argc == 4) {
    return send_bytes(argv[2], std::strtoull(argv[3], nullptr, 10));
  }
  if (word == "read" && argc == 3) {
    const auto text = sys::read_file(argv[2]);
    return text ? (std::fputs(text->c_str(), stdout), 0) : complain(text.error());
  }
  if (word == "exists" && argc == 3) {
    return ::access(argv[2], F_OK) == 0 ? 0 : 1;
  }
  if (word == "die" && argc == 3) {
    ::raise(std::atoi(argv[2]));
  }
  if (word == "pid" && argc == 2) {
    std::printf("%d %d\n", ::getpid(), ::getppid());
    return 0;
  }
  // Per cent of one CPU that we got in so many milliseconds, or in more until we have got some.
  if (word == "spin" && argc == 3) {
    const auto begin = std::chrono::steady_clock::now();
    std::chrono::duration<double, std::milli> taken{};
    double used = 0;
    do {
      timespec cpu{};
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
      used = static_cast<double>(cpu.tv_sec) * 1e3 + static_cast<double>(cpu.tv_nsec) / 1e6;
      taken = std::chrono::steady_clock::now() - begin;
    } while (taken.count() < std::atoi(argv[2]) || used < 50);
    std::printf("%.0f\n", used * 100 / taken.count());
    return 0;
  }
  std::fprintf(stderr, "what?\n");
  return 2;
}
