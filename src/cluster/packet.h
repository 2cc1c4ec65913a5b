// What one datagram says, once opened (docs/formats/datagram.md has it byte by byte): a head and
// sections. The writer refuses what does not fit; the reader bounds everything, skips sections it
// does not know, and drops the whole packet (kBadInput) when one that it knows makes no sense.
// Plain values, nothing is trusted here beyond its form.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cluster/address.h"
#include "cluster/bytes.h"
#include "cluster/load.h"
#include "cluster/node_id.h"

namespace tess::cluster {

inline constexpr size_t kDatagramMax = 1400;
inline constexpr size_t kNameMax = 63;
// A node outbids others' statements about it by one; nobody gets here by that.
inline constexpr uint32_t kIncarnationMost = 0x7fffffff;
inline constexpr unsigned kRangeBits = 5;  // a range of keys has 2^5 children
inline constexpr unsigned kRangeChildren = 1 << kRangeBits;

enum class Kind : uint8_t {
  kPing = 1,      // answer with kAck and the same nonce
  kAck = 2,       // to a ping, or passed on by a relay
  kIndirect = 3,  // ping `target` for me
  kNack = 4,      // I pinged it, and it was silent
  kJoin = 5,      // here I am, who are you?
  kWelcome = 6,   // answer to kJoin
  kBeacon = 7,    // to everyone on this network
  kNews = 8,      // only for its sections
  kSync = 9,      // only for its sections
};

inline constexpr size_t kKindEnd = 10;
const char* to_text(Kind kind);

// The part of a LoadRecord that changes rarely; travels with a profile.
struct MachineFacts {
  uint32_t speed = kReferenceSpeed;
  uint16_t cores = 1;
  uint16_t threads = 1;
  uint64_t memory_bytes = 0;  // whole MiB
  uint64_t swap_bytes = 0;    // whole MiB
  uint64_t cpu_features = 0;
  uint16_t reserved_permille = 0;
  uint32_t link_mbit = 0;  // 0: not known, or not told

  bool operator==(const MachineFacts&) const = default;
};

// What a node says about itself under one incarnation; only the node itself changes it.
struct Profile {
  NodeId id;
  uint64_t session = 0;  // drawn at random at each start; packets for the node are sealed for it
  Address address;
  std::string name;
  MachineFacts facts;
  uint8_t version = 1;  // of the datagram format, the newest it reads

  bool operator==(const Profile&) const = default;
};

struct AliveRecord {
  uint32_t incarnation = 1;
  Profile profile;
};

struct Verdict {
  uint64_t key = 0;
  uint32_t incarnation = 0;
  MemberState state = MemberState::kSuspect;  // never kAlive
  uint64_t from = 0;                          // who says so
};

// The part of a LoadRecord that changes all the time, as coarse as it travels.
struct LoadNews {
  uint64_t short_key = 0;  // the first five bytes of the id
  uint16_t version = 0;
  Duration age{0};
  float runnable = 0;
  float cpu_pressure = 0;
  float memory_pressure = 0;
  uint32_t memory_free_mib = 0;
  uint32_t swap_used_mib = 0;
  uint16_t guests = 0;
  uint8_t incoming = 0;
  bool owner_active = false;
  bool draining = false;
  bool accepting = true;
  uint8_t distress = 0;  // its local health score: how late it runs itself
};

// All keys that begin with the `depth` * kRangeBits bits of `prefix`.
struct Range {
  uint8_t depth = 0;  // 0: all keys
  uint32_t prefix = 0;

  bool operator==(const Range&) const = default;
  bool contains(uint64_t key) const {
    return depth == 0 || key >> (64 - depth * kRangeBits) == prefix;
  }
};
inline constexpr uint8_t kRangeDepthMax = 6;

struct RangeHashes {
  Range range;
  std::vector<uint32_t> children;  // kRangeChildren of them
};

struct SyncEntry {
  uint64_t key = 0;
  uint32_t incarnation = 0;
  MemberState state = MemberState::kAlive;
};

struct RangeEntries {
  Range range;
  bool complete = false;  // everything that the sender knows in the range
  std::vector<SyncEntry> entries;
};

struct Packet {
  Kind kind = Kind::kPing;
  uint8_t health = 0;
  uint64_t sender = 0;
  uint32_t nonce = 0;
  uint32_t digest = 0;  // of the sender's live members
  uint64_t target = 0;  // of kIndirect; 0 without
  std::optional<Address> observed;
  std::optional<uint32_t> sender_link;  // nominal Mbit/s
  std::vector<AliveRecord> alive;
  std::vector<Verdict> verdicts;
  std::vector<LoadNews> loads;
  std::vector<RangeHashes> hashes;
  std::vector<RangeEntries> entries;
  std::vector<uint64_t> wanted;       // send me the records of these
  std::optional<uint64_t> pull_from;  // send me the records from this key on
  std::optional<uint64_t> pulled_to;  // that was everything below this key; 0: to the end

  void clear();
};

// Builds the plaintext of one packet. add_* return false, and add nothing, if it does not fit.
class PacketWriter {
 public:
  // `room` bounds the plaintext.
  PacketWriter(std::span<uint8_t> room, Kind kind, uint8_t health, uint64_t sender, uint32_t nonce,
               uint32_t digest);

  bool add_target(uint64_t key);
  bool add_observed(const Address& address);
  // Of the sender, if added before any record of a member.
  bool add_link(uint32_t mbit);
  bool add_alive(const AliveRecord& record) {
    return add_alive(record.incarnation, record.profile);
  }
  bool add_alive(uint32_t incarnation, const Profile& profile);
  bool add_verdict(const Verdict& verdict);
  bool add_load(const LoadNews& load);
  bool add_hashes(const RangeHashes& hashes);
  bool add_entries(const RangeEntries& entries);
  bool add_wanted(uint64_t key);
  bool add_pull(uint64_t from_key);
  bool add_pulled(uint64_t to_key);

  Bytes plaintext() const { return out_.written(); }
  size_t size() const { return out_.size(); }
  size_t room() const { return out_.room(); }

 private:
  bool begin(uint8_t type, size_t body);

  ByteWriter out_;
  size_t loads_at_ =
      0;  // of the size of the section of loads that was written last; 0: another came after
  size_t loads_size_ = 0;
};

inline constexpr size_t kHeadSize = 18;
inline constexpr size_t kLoadWire = 23;

// Into `out`, which is cleared first and keeps its memory.
Result<> read_packet(Bytes plaintext, Packet& out);

}  // namespace tess::cluster
