// The text is read back as Prometheus reads it: by its format, not by what we meant to write.
#include "node/metrics.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cmath>
#include <regex>
#include <sstream>

#include "node/metrics_server.h"

namespace tess::node {
namespace {

using namespace std::chrono_literals;

struct Parsed {
  std::map<std::string, std::string> types;
  std::map<std::string, std::string> helps;
  std::map<std::string, double> values;  // by name{labels}
};

// Text format 0.0.4: HELP and TYPE before a family's samples, each family in one piece.
Parsed parse(const std::string& text) {
  static const std::regex sample(
      R"re(([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (\S+)( \d+)?)re");
  Parsed parsed;
  std::istringstream lines(text);
  std::string line;
  std::string family;
  EXPECT_TRUE(text.ends_with('\n'));
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string hash;
    std::string kind;
    std::string name;
    std::smatch match;
    if (line.starts_with("# ")) {
      words >> hash >> kind >> name;
      std::string rest;
      std::getline(words >> std::ws, rest);
      auto& where = kind == "TYPE" ? parsed.types : parsed.helps;
      EXPECT_TRUE(kind == "TYPE" || kind == "HELP") << line;
      EXPECT_TRUE(where.emplace(name, rest).second) << "twice: " << line;
      family = name;
    } else if (std::regex_match(line, match, sample)) {
      EXPECT_EQ(match[1], family) << "outside of its family: " << line;
      EXPECT_TRUE(
          parsed.values.emplace(match[1].str() + match[2].str(), std::stod(match[4])).second)
          << "twice: " << line;
    } else {
      ADD_FAILURE() << "not in the format: " << line;
    }
  }
  return parsed;
}

MetricsSnapshot some_snapshot() {
  MetricsSnapshot snapshot;
  snapshot.node = "n1";
  snapshot.version = "0.1";
  snapshot.load.speed = 1500;
  snapshot.load.runnable = 2.5;
  snapshot.load.memory_bytes = uint64_t{1} << 40;
  snapshot.load.draining = true;
  snapshot.members = {{"alive", 3}, {"dead", 1}};
  snapshot.moves = {
      {{"balance", "moved"}, 7}, {{"balance", "refused"}, 0}, {{"drain", "moved"}, 2}};
  snapshot.datagrams_dropped = {{"forged", 5}};
  snapshot.datagrams_sent = {{"ping", 12}};
  snapshot.processes = {{"guest", 4}};
  snapshot.agents = {{"host", 1}};
  snapshot.load.link_mbit = 1000;
  snapshot.transfers = {{"sent", {5000000, 2.5}}, {"received", {0, 0}}};
  snapshot.peer_rates = {{"n2", 2000000}};
  snapshot.membership = {{"probes", 9}};
  return snapshot;
}

TEST(Metrics, TheTextIsInTheFormat) {
  MetricsSnapshot snapshot = some_snapshot();
  measure_self(snapshot);
  const Parsed parsed = parse(metrics_text(snapshot));
  const auto& values = parsed.values;
  EXPECT_EQ(values.at("tessera_build_info{node=\"n1\",version=\"0.1\"}"), 1);
  EXPECT_DOUBLE_EQ(values.at("tessera_node_load"), 2.5);
  EXPECT_EQ(values.at("tessera_node_memory_bytes"), std::ldexp(1, 40)) << "no digit is lost";
  EXPECT_EQ(values.at("tessera_node_draining"), 1);
  EXPECT_EQ(values.at("tessera_members{state=\"alive\"}"), 3);
  EXPECT_EQ(values.at("tessera_moves_total{reason=\"balance\",result=\"moved\"}"), 7);
  EXPECT_EQ(values.at("tessera_moves_total{reason=\"balance\",result=\"refused\"}"), 0);
  EXPECT_EQ(values.at("tessera_datagrams_dropped_total{cause=\"forged\"}"), 5);
  EXPECT_EQ(values.at("tessera_node_link_bytes_per_second"), 125e6);
  EXPECT_EQ(values.at("tessera_transfer_bytes_total{direction=\"sent\"}"), 5e6);
  EXPECT_EQ(values.at("tessera_transfer_seconds_total{direction=\"sent\"}"), 2.5);
  EXPECT_EQ(values.at("tessera_transfer_bytes_total{direction=\"received\"}"), 0);
  EXPECT_EQ(values.at("tessera_peer_bandwidth_bytes_per_second{peer=\"n2\"}"), 2e6);
  EXPECT_GT(values.at("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(values.at("process_open_fds"), 2);
  EXPECT_GT(values.at("process_start_time_seconds"), 1.6e9);
}

TEST(Metrics, NamesFollowTheConventions) {
  const Parsed parsed = parse(metrics_text(some_snapshot()));
  EXPECT_GT(parsed.types.size(), 25U);
  for (const auto& [name, type] : parsed.types) {
    EXPECT_TRUE(name.starts_with("tessera_") || name.starts_with("process_")) << name;
    EXPECT_FALSE(parsed.helps.at(name).empty()) << name;
    EXPECT_EQ(name.ends_with("_total"), type == "counter") << name << " is a " << type;
    EXPECT_FALSE(name.ends_with("_ms") || name.ends_with("_kb") || name.ends_with("_percent"));
  }
}

TEST(Metrics, OddLabelsAreEscaped) {
  MetricsSnapshot snapshot = some_snapshot();
  snapshot.version = "a\"b\\c\nd";
  const std::string text = metrics_text(snapshot);
  EXPECT_NE(text.find(R"(version="a\"b\\c\nd")"), std::string::npos) << text.substr(0, 400);
}

class MetricsServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = MetricsServer::listen(loop_, {"127.0.0.1", 0},
                                        [] { return metrics_text(some_snapshot()); });
    ASSERT_TRUE(server) << server.error().message();
    server_ = std::move(*server);
  }

  // What comes back until the server closes.
  std::string ask(const std::string& request) {
    const auto at = *server_->listening();
    const sys::Fd fd = *net::start_connect(at);
    std::string answer;
    bool sent = false;
    bool ended = false;
    net::Timer limit(loop_);
    limit.start(60s, [&] { loop_.stop(); });
    net::FdWatch watch(
        loop_, fd.get(),
        [&] {
          char piece[4096];
          const ssize_t n = ::recv(fd.get(), piece, sizeof(piece), 0);
          if (n > 0) {
            answer.append(piece, static_cast<size_t>(n));
          } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            ended = true;
            loop_.stop();
          }
        },
        [&] {
          if (!sent) {
            sent = true;
            watch_off_();
            EXPECT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL),
                      static_cast<ssize_t>(request.size()));
          }
        });
    watch_off_ = [&watch] { watch.want_write(false); };
    watch.want_read(true);
    watch.want_write(true);
    loop_.run();
    loop_.restart();
    EXPECT_TRUE(ended) << "no end: " << answer;
    return answer;
  }

  net::Loop loop_;
  std::unique_ptr<MetricsServer> server_;
  std::function<void()> watch_off_;
};

TEST_F(MetricsServerTest, AScrapeGetsTheFigures) {
  const std::string answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_NE(answer.find("version=0.0.4"), std::string::npos);
  const Parsed parsed = parse(answer.substr(answer.find("\r\n\r\n") + 4));
  EXPECT_EQ(parsed.values.at("tessera_members{state=\"dead\"}"), 1);
  EXPECT_TRUE(ask("HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
}

TEST_F(MetricsServerTest, AnythingElseIsRefusedAndItGoesOn) {
  EXPECT_TRUE(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
  EXPECT_TRUE(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
  EXPECT_TRUE(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(ask("GET /" + std::string(9000, 'x')).starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(ask("GET /metrics HTTP/1.0\n\n").starts_with("HTTP/1.1 200"));
}

TEST_F(MetricsServerTest, APortThatIsTakenIsAnError) {
  const auto second = MetricsServer::listen(loop_, *server_->listening(), [] { return ""; });
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message().find("listen for metrics"), std::string::npos);
}

}  // namespace
}  // namespace tess::node
