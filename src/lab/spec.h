// What a lab is to be like, and what follows from it: names, addresses, configuration files. Pure
// values, no system calls.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace tess::lab {

inline constexpr int kMaxNodes = 200;
inline constexpr int kMaxSubnets = 250;
inline constexpr uint16_t kTessdPort = 7117;

struct Spec {
  std::string name = "lab";
  int node_count = 4;
  std::optional<double> cpus;            // of each node
  std::optional<uint64_t> memory_bytes;  // of each node
  std::optional<uint64_t> rate_bits;     // of each node's link, each way, bits a second
  bool balance = true;                   // processes move by themselves
  std::string tessd;                     // program started in each node
};

// Is this a lab one can make? Says what is wrong with it.
Result<> check_spec(const Spec& spec);

std::string node_name(int number);                 // 1: "n1"
std::string node_address(int subnet, int number);  // 10.77.<subnet>.<number>
// /etc/tessera/tessera.toml of one node: itself and all the others.
std::string node_config(const Spec& spec, int subnet, int number);

// "512M", "1.5G", "1048576": bytes; K, M, G, T are powers of 1024, an added B or iB is allowed.
Result<uint64_t> parse_bytes(const std::string& text);
// "100mbit", "1gbit", "2.5G", "64000": bits a second; k, m, g are powers of 1000, "bit" or "bps"
// may follow.
Result<uint64_t> parse_bits(const std::string& text);

// Token bucket for a link of this rate: as deep as 5 ms (so that bursts of the sender pass), a
// queue of 50 ms, neither absurdly small.
struct Bucket {
  uint64_t burst_bytes;
  uint64_t queue_bytes;
};
Bucket bucket_for(uint64_t rate_bits);

}  // namespace tess::lab
