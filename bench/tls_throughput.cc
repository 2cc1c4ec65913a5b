// Throughput of one TlsStream over loopback, beside plain TCP with the same reads and writes, so
// that the cost of TLS is a ratio.
//   tls_throughput [GIB]
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <vector>

#include "net/certificate.h"
#include "net/tls_stream.h"
#include "wire/byte_stream.h"

namespace {

using namespace tess;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

template <typename T>
T need(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message().c_str());
    std::exit(1);
  }
  return std::move(*result);
}

net::TlsContext make_context() {
  std::string dir = "/tmp/tess-bench-XXXXXX";
  if (::mkdtemp(dir.data()) == nullptr) {
    std::exit(1);
  }
  const auto ca = need(net::make_ca("bench"));
  const auto node = need(net::issue_certificate(ca, "n1"));
  std::ofstream(dir + "/ca.crt") << ca.certificate_pem;
  std::ofstream(dir + "/node.crt") << node.certificate_pem;
  std::ofstream(dir + "/node.key") << node.key_pem;
  auto context = need(net::TlsContext::load(dir));
  std::filesystem::remove_all(dir);
  return context;
}

// GB/s from the first byte written to the last byte read.
double measure(wire::ByteStream& from, wire::ByteStream& to, size_t total, size_t piece) {
  const auto start = Clock::now();
  auto writer = std::async(std::launch::async, [&] {
    const std::vector<std::byte> data(piece, std::byte{42});
    for (size_t done = 0; done < total; done += piece) {
      if (!from.write_all(data, 10s)) {
        std::exit(1);
      }
    }
  });
  std::vector<std::byte> into(piece);
  for (size_t done = 0; done < total; done += piece) {
    if (!to.read_exact(into, 10s)) {
      std::exit(1);
    }
  }
  writer.get();
  return static_cast<double>(total) / std::chrono::duration<double>(Clock::now() - start).count() /
         1e9;
}

}  // namespace

int main(int argc, char** argv) {
  const size_t total =
      static_cast<size_t>(argc > 1 ? std::atof(argv[1]) * (1 << 30) : 2.0 * (1 << 30));
  const auto context = make_context();
  const auto listener = need(net::listen_tcp("127.0.0.1", 0));
  const uint16_t port = need(net::local_endpoint(listener)).port;
  auto accepted = std::async(std::launch::async, [&] {
    return need(net::TlsStream::accept(context, need(net::accept_tcp(listener, 5s)), 5s));
  });
  const auto client = need(net::TlsStream::connect(context, "127.0.0.1", port, 5s));
  const auto server = accepted.get();
  wire::FdStream plain_client(need(net::connect_tcp("127.0.0.1", port, 5s)));
  wire::FdStream plain_server(need(net::accept_tcp(listener, 5s)));
  for (const size_t piece : {size_t{16} << 10, size_t{256} << 10, size_t{1} << 20}) {
    const double tcp = measure(plain_client, plain_server, total, piece);
    const double tls = measure(*client, *server, total, piece);
    std::printf("piece %7zu: tcp %.2f GB/s, tls %.2f GB/s, ratio %.2f\n", piece, tcp, tls,
                tls / tcp);
  }
  return 0;
}
