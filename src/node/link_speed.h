// LinkSpeed: how fast the link is by which this node speaks to the others, as its network interface
// says (/sys/class/net/*/speed; bridges and bonds say it, too). Asked again now and then, as a
// cable may be negotiated anew. Loop thread only.
#pragma once

#include <cstdint>
#include <string>

#include "cluster/time.h"

namespace tess::node {

// The content of a `speed` file, Mbit/s; 0: not known ("-1", or what no link can have).
uint32_t parse_link_speed(const std::string& text);
struct Interface {
  std::string name;     // empty: none
  unsigned index = 0;   // in this network namespace
  std::string station;  // its link-level address as /sys has it, "02:00:0a:4d:00:01"
};
// Of this interface; 0: it does not say. `classes`: the folder of all interfaces; it may be that of
// another network namespace, whose interface of the same name is not taken for this one.
uint32_t read_link_speed(const Interface& interface, const std::string& classes = "/sys/class/net");
// The interface that has this numeric address.
Interface interface_with(const std::string& address);
// The address that this machine uses for packets to a numeric one; empty: there is no way.
std::string address_towards(const std::string& address);

class LinkSpeed {
 public:
  // Mbit/s as read last; 0: not known.
  uint32_t mbit() const { return mbit_; }
  // Whether it is time to read it.
  bool due(cluster::Time now) const;
  // `own`: this node's address as the others know it; `peer`: some other node's, or empty, by which
  // the way is found if `own` is not an interface's (a translated one). Both as
  // cluster::MemberView has them.
  uint32_t read(cluster::Time now, const std::string& own, const std::string& peer);

 private:
  cluster::Time read_at_{};
  uint32_t mbit_ = 0;
};

}  // namespace tess::node
