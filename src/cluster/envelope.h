// Envelope: seals the packets of one node and opens those of others. Every datagram is
// authenticated and encrypted under a key of the ring; one that is bound to the receiver's session
// cannot be opened by a later start of the same node, and a window per sending session lets each
// counter in once. So no clock is needed to know that a packet is new. Packets that are not bound
// (the sender does not know the receiver yet) can be replayed: only introductions may travel so.
// Bytes on the wire: docs/formats/datagram.md. Owned by Membership.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "cluster/bytes.h"
#include "cluster/cipher.h"

namespace tess::cluster {

// Why a datagram was not heard; each is counted.
enum class Drop : uint8_t {
  kTruncated,      // shorter than any datagram
  kTooLong,        // longer than any datagram
  kForeign,        // not ours at all
  kVersion,        // of a format this program cannot read
  kOtherCluster,   // of another cluster
  kUnknownKey,     // sealed under a key that is not in the ring
  kOtherSession,   // sealed for an earlier start of this node
  kForged,         // changed on the way, or made without the key
  kReplayed,       // came before, or too long after others
  kMalformed,      // opened, and makes no sense
  kStale,          // lay in our own queue for too long
  kUnknownSender,  // from a node that we do not know yet
  kOldSession,     // from an earlier start of its sender
  kOwn,            // our own, come back
  kCount,
};
inline constexpr size_t kDropCount = static_cast<size_t>(Drop::kCount);
const char* to_text(Drop drop);

// The keys of a cluster, the first of which seals; all of them open. To rotate without a stop:
// install the new key everywhere, then use it everywhere, then remove the old one everywhere.
class KeyRing {
 public:
  explicit KeyRing(const CipherKey& key) : keys_{key} {}

  const std::vector<CipherKey>& keys() const { return keys_; }
  // Opens with it from now on. kNotPossible when the ring is full.
  Result<> install(const CipherKey& key);
  // Seals with it from now on; it must be installed.
  Result<> use(const CipherKey& key);
  // kNotPossible for the key in use and for one that is not there.
  Result<> remove(const CipherKey& key);

  static constexpr size_t kMost = 4;

 private:
  std::vector<CipherKey> keys_;
};

// Which counters of one sending session were seen: the newest and the 63 before it.
struct ReplayWindow {
  uint64_t newest = 0;
  uint64_t seen = 0;  // bit i: newest - i

  // True once for each counter, false for those seen or too old.
  bool admit(uint64_t counter);
};

inline constexpr size_t kHeaderSize = 24;
inline constexpr uint8_t kFormatMajor = 1;
inline constexpr uint8_t kFormatMinor = 1;

class Envelope {
 public:
  struct Opened {
    uint64_t session = 0;  // of the sender
    uint64_t counter = 0;
    bool bound = false;  // sealed for our session
    Bytes plaintext;     // until the next open()
  };

  // `session` is random, not 0 and drawn anew at each start; `cluster` tells clusters apart.
  Envelope(Cipher& cipher, KeyRing ring, uint32_t cluster, uint64_t session);

  void set_keys(KeyRing ring);
  const KeyRing& keys() const { return ring_; }
  uint64_t session() const { return session_; }

  // Where the next packet's plaintext is to be written, and what seals it: `size` bytes of it, for
  // `to_session` (0: for anyone). The datagram is valid until the next call.
  std::span<uint8_t> plaintext_room();
  Bytes seal(size_t size, uint64_t to_session);

  tl::expected<Opened, Drop> open(Bytes datagram);
  // To be asked once for each bound packet whose sender was found to own `session`.
  bool admit(uint64_t session, uint64_t counter) { return windows_[session].admit(counter); }
  size_t sessions() const { return windows_.size(); }
  // Forgets the windows of sessions for which `keep` says false.
  template <typename Keep>
  void prune(Keep keep) {
    std::erase_if(windows_, [&](const auto& item) { return !keep(item.first); });
  }

 private:
  struct RingKey {
    CipherKey key;
    uint16_t id;
    CipherKey own;  // derived for our session
  };
  struct Derived {
    uint64_t session = 0;
    size_t ring_index = 0;
    CipherKey key{};
  };

  const CipherKey& key_for(size_t ring_index, uint64_t session, Derived& fresh);

  Cipher& cipher_;
  KeyRing ring_;
  std::vector<RingKey> keys_;
  uint32_t cluster_;
  uint64_t session_;
  uint64_t counter_ = 0;
  std::array<uint8_t, 1400> out_{};
  std::array<uint8_t, 1400> in_{};
  std::unordered_map<uint64_t, ReplayWindow> windows_;
  std::vector<Derived> derived_;  // direct-mapped by session: only of packets that opened
};

}  // namespace tess::cluster
