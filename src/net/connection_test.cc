#include "net/connection.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <csignal>

#include "net/test_certificates.h"
#include "net/test_pair.h"

namespace tess::net {
namespace {

using namespace std::chrono_literals;

// Runs the loop until `done`; a deadline ends it.
void run(Loop& loop, Timer& deadline) {
  deadline.start(60s, [&loop] {
    ADD_FAILURE() << "nothing happened for 60 s";
    loop.stop();
  });
  loop.run();
}

std::string_view text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(Connection, PlainEchoAndEndOfFile) {
  Loop loop;
  Timer deadline(loop);
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  std::shared_ptr<Connection> a;
  std::shared_ptr<Connection> b;
  std::string received;
  const std::string sent(3 << 20, 'x');
  bool closed = false;
  a = Connection::plain(loop, sys::Fd(fds[0]),
                        {[&] { a->send(sent); },
                         [&](auto bytes) {
                           received += text(bytes);
                           if (received.size() == sent.size()) {
                             a->close();
                           }
                         },
                         [&](const Error&) { ADD_FAILURE(); }});
  b = Connection::plain(loop, sys::Fd(fds[1]),
                        {nullptr, [&](auto bytes) { b->send(text(bytes)); },
                         [&](const Error& error) {
                           EXPECT_EQ(error.kind(), ErrorKind::kDisconnected);
                           closed = true;
                           loop.stop();
                         }});
  run(loop, deadline);
  EXPECT_TRUE(received == sent);
  EXPECT_TRUE(closed);
}

struct TlsServer {
  TlsServer(Loop& the_loop, const TlsContext& the_context)
      : loop(the_loop),
        context(the_context),
        listener(*listen_tcp("127.0.0.1", 0)),
        watch(
            loop, listener.get(), [this] { accept(); }, nullptr) {
    watch.want_read(true);
  }
  void accept() {
    auto fd = accept_tcp(listener, 0ms);
    ASSERT_TRUE(fd);
    connection = Connection::tls_accept(loop, context, std::move(*fd),
                                        {[this] { name = connection->peer_name(); },
                                         [this](auto bytes) { connection->send(text(bytes)); },
                                         [this](const Error& error) { end = error.message(); }});
  }
  Endpoint endpoint() const { return *local_endpoint(listener); }

  Loop& loop;
  TlsContext context;
  sys::Fd listener;
  FdWatch watch;
  std::shared_ptr<Connection> connection;
  std::string name;
  std::string end;
};

TEST(Connection, TlsEcho) {
  const TestCluster cluster;
  Loop loop;
  Timer deadline(loop);
  TlsServer server(loop, cluster.context("n2"));
  std::string received;
  const std::string sent(3 << 20, 'y');
  std::shared_ptr<Connection> client;
  client = Connection::tls_connect(loop, cluster.context("n1"), server.endpoint(),
                                   {[&] { EXPECT_EQ(client->peer_name(), "n2"); },
                                    [&](auto bytes) {
                                      received += text(bytes);
                                      if (received.size() == sent.size()) {
                                        loop.stop();
                                      }
                                    },
                                    [&](const Error& error) { ADD_FAILURE() << error.message(); }});
  client->send(sent);  // before it is open: kept
  run(loop, deadline);
  EXPECT_TRUE(received == sent);
  EXPECT_EQ(server.name, "n1");
}

TEST(Connection, ForeignClusterClosesBothWithTheReason) {
  const TestCluster ours;
  const TestCluster theirs;
  Loop loop;
  Timer deadline(loop);
  TlsServer server(loop, theirs.context("n2"));
  Error seen(ErrorKind::kFailed, "");
  auto client = Connection::tls_connect(loop, ours.context("n1"), server.endpoint(),
                                        {[&] { ADD_FAILURE(); }, [&](auto) { ADD_FAILURE(); },
                                         [&](const Error& error) { seen = error; }});
  Timer poll(loop);
  std::function<void()> check = [&] {
    if (!seen.message().empty() && !server.end.empty()) {
      loop.stop();
    } else {
      poll.start(1ms, check);
    }
  };
  check();
  run(loop, deadline);
  EXPECT_EQ(seen.kind(), ErrorKind::kNotPossible) << seen.message();
  EXPECT_NE(server.end.find("refuses"), std::string::npos) << server.end;
}

TEST(Connection, RefusedArrivesAtClosed) {
  const TestCluster cluster;
  Loop loop;
  Timer deadline(loop);
  const ClosedPort port;
  const Endpoint to{"127.0.0.1", port.number()};
  bool closed = false;
  auto client = Connection::tls_connect(loop, cluster.context("n1"), to,
                                        {nullptr, nullptr, [&](const Error& error) {
                                           closed = true;
                                           EXPECT_EQ(error.sys_errno(), ECONNREFUSED);
                                           loop.stop();
                                         }});
  run(loop, deadline);
  EXPECT_TRUE(closed);
}

TEST(Connection, CloseAfterSendingDeliversEverything) {
  Loop loop;
  Timer deadline(loop);
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  size_t received = 0;
  auto a = Connection::plain(loop, sys::Fd(fds[0]), {nullptr, nullptr, nullptr});
  auto b = Connection::plain(
      loop, sys::Fd(fds[1]),
      {nullptr, [&](auto bytes) { received += bytes.size(); }, [&](const Error&) { loop.stop(); }});
  a->send(std::string(2 << 20, 'z'));
  a->close_after_sending();
  a.reset();
  run(loop, deadline);
  EXPECT_EQ(received, size_t{2} << 20);
}

TEST(Loop, DestroyedTimersAndWatchesStaySilent) {
  Loop loop;
  Timer deadline(loop);
  int calls = 0;
  {
    Timer gone(loop);
    gone.start(0ms, [&] { ++calls; });
  }
  Timer restarted(loop);
  restarted.start(0ms, [&] { ++calls; });
  restarted.start(5ms, [&] { loop.stop(); });
  run(loop, deadline);
  EXPECT_EQ(calls, 0);
}

TEST(Loop, SignalsArrive) {
  Loop loop;
  Timer deadline(loop);
  int seen = 0;
  const SignalWatch watch(loop, {SIGUSR1}, [&](int signal) {
    seen = signal;
    loop.stop();
  });
  ::raise(SIGUSR1);
  run(loop, deadline);
  EXPECT_EQ(seen, SIGUSR1);
}

}  // namespace
}  // namespace tess::net
