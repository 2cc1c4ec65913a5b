#include "node/metrics_server.h"

#include "node/http.h"
#include "node/metrics.h"

namespace tess::node {
namespace {

using std::chrono::milliseconds;

constexpr size_t kSessionsMost = 16;
constexpr milliseconds kRequestTimeout{5000};
constexpr const char* kPlain = "text/plain; charset=utf-8";

}  // namespace

struct MetricsServer::Session {
  explicit Session(net::Loop& loop) : timer(loop) {}
  std::shared_ptr<net::Connection> connection;
  std::string buffer;
  net::Timer timer;
};

MetricsServer::MetricsServer(net::Loop& loop, sys::Fd listener, Text text)
    : loop_(loop), listener_(std::move(listener)), text_(std::move(text)) {
  watch_ = std::make_unique<net::FdWatch>(
      loop_, listener_.get(), [this] { accept(); }, nullptr);
  watch_->want_read(true);
}

MetricsServer::~MetricsServer() {
  for (auto& [raw, session] : sessions_) {
    session->connection->close();
  }
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::listen(net::Loop& loop,
                                                             const net::Endpoint& at, Text text) {
  auto listener = net::listen_tcp(at.address, at.port);
  if (!listener) {
    return fail_with(std::move(listener.error()), "listen for metrics");
  }
  return std::unique_ptr<MetricsServer>(
      new MetricsServer(loop, std::move(*listener), std::move(text)));
}

void MetricsServer::accept() {
  auto fd = net::accept_tcp(listener_, milliseconds(0));
  if (!fd || sessions_.size() >= kSessionsMost) {
    return;  // one too many is closed at once: a scraper comes again
  }
  auto session = std::make_shared<Session>(loop_);
  const std::weak_ptr<Session> weak = session;
  session->connection = net::Connection::plain(loop_, std::move(*fd),
                                               {nullptr,
                                                [this, weak](std::span<const std::byte> bytes) {
                                                  if (const auto alive = weak.lock()) {
                                                    on_data(alive, bytes);
                                                  }
                                                },
                                                [this, weak](const Error&) {
                                                  if (const auto alive = weak.lock()) {
                                                    end(alive);
                                                  }
                                                }});
  session->timer.start(kRequestTimeout, [this, weak] {
    if (const auto alive = weak.lock()) {
      alive->connection->close();
      end(alive);
    }
  });
  sessions_[session->connection.get()] = session;
}

void MetricsServer::end(const std::shared_ptr<Session>& session) {
  session->timer.stop();
  sessions_.erase(session->connection.get());
}

std::string MetricsServer::answer(const std::string& bytes, bool& whole) const {
  HttpRequest request;
  const HttpRead read = read_http_head(bytes, request);
  whole = read != HttpRead::kIncomplete;
  if (!whole) {
    return {};
  }
  if (read == HttpRead::kBad) {
    return http_answer(400, kPlain, "this is not an HTTP request\n");
  }
  const bool head = request.method == "HEAD";
  if (!head && request.method != "GET") {
    return http_answer(405, kPlain, "only GET\n");
  }
  if (request.path != "/metrics") {
    return http_answer(404, kPlain, "the metrics are at /metrics\n", head);
  }
  return http_answer(200, kMetricsType, text_(), head);
}

void MetricsServer::on_data(const std::shared_ptr<Session>& session,
                            std::span<const std::byte> bytes) {
  session->buffer.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  bool whole = false;
  const std::string text = answer(session->buffer, whole);
  if (whole) {
    session->connection->send(text);
    session->connection->close_after_sending();
    end(session);
  }
}

}  // namespace tess::node
