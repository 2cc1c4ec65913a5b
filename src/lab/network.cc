#include "lab/network.h"

#include "sys/namespaces.h"
#include "sys/process.h"

namespace tess::lab {
namespace {

constexpr const char* kSwitch = "switch";

// `ns` nullptr: here. Debian has ip and tc in /sbin, which is not in everybody's PATH.
Result<> batch(const char* tool, const std::string& lines, const sys::Fd* ns = nullptr) {
  sys::SpawnOptions options;
  options.argv = {tool, "-batch", "-"};
  if (ns != nullptr) {
    options.enter = {{ns, sys::Namespace::kNet}};
  }
  const auto done = sys::run_tool(options, lines);
  if (!done) {
    return fail_with(done.error(), "set up the lab's network");
  }
  return {};
}

std::string rate_line(const std::string& device, uint64_t rate_bits) {
  const Bucket bucket = bucket_for(rate_bits);
  return fmt::format("qdisc add dev {} root tbf rate {}bit burst {} limit {}\n", device, rate_bits,
                     bucket.burst_bytes, bucket.queue_bytes + bucket.burst_bytes);
}

}  // namespace

Result<> check_network_tools() {
  for (const char* tool : {"/sbin/ip", "/sbin/tc"}) {
    sys::SpawnOptions options;
    options.argv = {tool, "-Version"};
    if (!sys::run_tool(options)) {
      return fail(ErrorKind::kNotPossible, "{} is missing: apt-get install iproute2", tool);
    }
  }
  return {};
}

Result<> make_switch() {
  return batch("/sbin/ip", fmt::format("link set lo up\n"
                                       "link add {0} type bridge stp_state 0 forward_delay 0 "
                                       "mcast_snooping 0\n"
                                       "link set {0} up\n",
                                       kSwitch));
}

Result<> connect_nodes(const State& state) {
  std::string links;
  std::string rates;
  for (const NodeState& node : state.nodes) {
    links += fmt::format(
        "link add {0} type veth peer name eth0 netns {1}\n"
        "link set {0} master {2} up\n",
        node.name, node.init.pid, kSwitch);
    if (state.spec.rate_bits) {
      rates += rate_line(node.name, *state.spec.rate_bits);
    }
  }
  TESS_TRY(batch("/sbin/ip", links));
  if (!rates.empty()) {
    TESS_TRY(batch("/sbin/tc", rates));
  }
  for (const NodeState& node : state.nodes) {
    TESS_TRY_ASSIGN(const sys::Fd ns, sys::open_namespace(node.init.pid, sys::Namespace::kNet));
    TESS_TRY(batch(
        "/sbin/ip",
        fmt::format("link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up\n", node.address),
        &ns));
    if (state.spec.rate_bits) {
      TESS_TRY(batch("/sbin/tc", rate_line("eth0", *state.spec.rate_bits), &ns));
    }
  }
  return {};
}

}  // namespace tess::lab
