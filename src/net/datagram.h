// DatagramSocket: UDP for the cluster's gossip. Non-blocking; every datagram comes with how long it
// waited in this machine's queue (SO_TIMESTAMPNS). Multicast is a wish: a machine without it works
// with known addresses only. Loop-agnostic: watch fd() (and beacon_fd(), if there is one) and call
// receive().
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"
#include "net/tcp.h"
#include "sys/fd.h"

namespace tess::net {

struct DatagramAddress {
  std::array<uint8_t, 16> ip{};  // IPv4 as ::ffff:a.b.c.d
  uint16_t port = 0;
};

class DatagramSocket {
 public:
  using Received = std::function<void(std::span<const uint8_t>, const DatagramAddress& from,
                                      std::chrono::microseconds queued)>;

  // `at` is numeric, with a port that is not 0.
  static Result<DatagramSocket> open(const Endpoint& at);
  // Hears and sends the beacons of this network. IPv4 only.
  Result<> join_beacons();

  // All that has come, at most `most` from each socket.
  void receive(const Received& received, size_t most = 512);
  // A datagram that cannot be sent is lost, as any may be; false if so.
  bool send(std::span<const uint8_t> bytes, const DatagramAddress& to);
  bool send_beacon(std::span<const uint8_t> bytes);

  int fd() const { return socket_.get(); }
  int beacon_fd() const { return beacons_.get(); }  // -1 before join_beacons

 private:
  DatagramSocket(sys::Fd socket, Endpoint at, bool v6)
      : socket_(std::move(socket)), at_(std::move(at)), v6_(v6) {}

  sys::Fd socket_;
  sys::Fd beacons_;
  Endpoint at_;
  bool v6_ = false;
};

}  // namespace tess::net
