#include "cluster/packet.h"

#include <cmath>

namespace tess::cluster {
namespace {

enum Section : uint8_t {
  kTarget = 1,
  kObserved = 2,
  kAlive = 3,
  kVerdict = 4,
  kLoads = 5,
  kHashes = 6,
  kEntries = 7,
  kWanted = 8,
  kPull = 9,
  kPulled = 10,
  kLink = 11,
};

constexpr size_t kEntryWire = 13;
constexpr size_t kLinkWire = 4;
constexpr size_t kEntriesPerSection = (255 - 6) / kEntryWire;
constexpr uint64_t kMiB = 1 << 20;
constexpr Duration kAgeUnit = std::chrono::milliseconds(10);

uint8_t to_byte(float share) {
  return static_cast<uint8_t>(std::lround(std::clamp(share, 0.0f, 1.0f) * 255));
}

uint32_t mib(uint64_t bytes, uint64_t most) {
  return static_cast<uint32_t>(std::min(bytes / kMiB, most));
}

bool known_state(uint8_t state) {
  return state <= static_cast<uint8_t>(MemberState::kLeft);
}

bool valid(const Range& range) {
  return range.depth <= kRangeDepthMax && range.prefix >> (range.depth * kRangeBits) == 0;
}

void read_alive(ByteReader& in, Packet& out) {
  AliveRecord record;
  Profile& p = record.profile;
  record.incarnation = in.u32();
  const Bytes id = in.bytes(p.id.bytes.size());
  std::copy(id.begin(), id.end(), p.id.bytes.begin());
  p.session = in.u64();
  p.address = read_address(in);
  p.facts.speed = in.u32();
  p.facts.cores = in.u16();
  p.facts.threads = in.u16();
  p.facts.memory_bytes = in.u32() * kMiB;
  p.facts.swap_bytes = in.u32() * kMiB;
  p.facts.cpu_features = in.u64();
  p.facts.reserved_permille = in.u16();
  p.version = in.u8();
  const size_t name_size = in.u8();
  const Bytes name = in.bytes(name_size);
  // A name is printed everywhere: only what check_node_name would take.
  const bool printable =
      std::all_of(name.begin(), name.end(), [](uint8_t c) { return c > 32 && c < 127; });
  if (p.id.key() == 0 || p.session == 0 || record.incarnation == 0 ||
      record.incarnation > kIncarnationMost || p.facts.speed == 0 || p.facts.cores == 0 ||
      p.facts.threads < p.facts.cores || p.facts.reserved_permille > 1000 || name_size > kNameMax ||
      !printable) {
    in.fail();
    return;
  }
  p.name.assign(name.begin(), name.end());
  out.alive.push_back(std::move(record));
}

void read_verdict(ByteReader& in, Packet& out) {
  Verdict verdict;
  verdict.key = in.u64();
  verdict.incarnation = in.u32();
  const uint8_t state = in.u8();
  if (!known_state(state) || state == 0 || verdict.incarnation > kIncarnationMost) {
    in.fail();
    return;
  }
  verdict.state = static_cast<MemberState>(state);
  if (verdict.state == MemberState::kSuspect) {
    verdict.from = in.u64();
  }
  out.verdicts.push_back(verdict);
}

LoadNews read_load(ByteReader& in) {
  LoadNews load;
  load.short_key = in.u40();
  load.version = in.u16();
  load.age = in.u16() * kAgeUnit;
  load.runnable = static_cast<float>(in.u16()) / 32.0f;
  load.cpu_pressure = static_cast<float>(in.u8()) / 255.0f;
  load.memory_pressure = static_cast<float>(in.u8()) / 255.0f;
  load.memory_free_mib = in.u24();
  load.swap_used_mib = in.u24();
  load.guests = in.u16();
  load.incoming = in.u8();
  const uint8_t flags = in.u8();
  load.owner_active = (flags & 1) != 0;
  load.draining = (flags & 2) != 0;
  load.accepting = (flags & 4) != 0;
  load.distress = flags >> 4;
  return load;
}

void read_loads(ByteReader& in, Packet& out) {
  if (in.left() % kLoadWire != 0) {
    in.fail();
  }
  while (in.left() > 0) {
    out.loads.push_back(read_load(in));
  }
}

void read_hashes(ByteReader& in, Packet& out) {
  RangeHashes hashes;
  hashes.range.depth = in.u8();
  hashes.range.prefix = in.u32();
  if (!valid(hashes.range) || hashes.range.depth >= kRangeDepthMax) {
    in.fail();
    return;
  }
  hashes.children.resize(kRangeChildren);
  for (uint32_t& hash : hashes.children) {
    hash = in.u32();
  }
  out.hashes.push_back(std::move(hashes));
}

void read_entries(ByteReader& in, Packet& out) {
  Range range;
  range.depth = in.u8();
  range.prefix = in.u32();
  const bool last = in.u8() != 0;
  if (!valid(range) || in.left() % kEntryWire != 0) {
    in.fail();
    return;
  }
  if (out.entries.empty() || !(out.entries.back().range == range)) {
    out.entries.push_back({range, false, {}});
  }
  RangeEntries& into = out.entries.back();
  while (in.left() > 0) {
    SyncEntry entry;
    entry.key = in.u64();
    entry.incarnation = in.u32();
    const uint8_t state = in.u8();
    if (!known_state(state) || !range.contains(entry.key) || entry.incarnation > kIncarnationMost) {
      in.fail();
      return;
    }
    entry.state = static_cast<MemberState>(state);
    into.entries.push_back(entry);
  }
  into.complete = last;
}

void read_section(uint8_t type, ByteReader& in, Packet& out) {
  switch (type) {
    case kTarget:
      out.target = in.u64();
      return;
    case kObserved:
      out.observed = read_address(in);
      return;
    case kAlive:
      return read_alive(in, out);
    case kVerdict:
      return read_verdict(in, out);
    case kLoads:
      return read_loads(in, out);
    case kHashes:
      return read_hashes(in, out);
    case kEntries:
      return read_entries(in, out);
    case kWanted:
      out.wanted.push_back(in.u64());
      return;
    case kPull:
      out.pull_from = in.u64();
      return;
    case kPulled:
      out.pulled_to = in.u64();
      return;
    case kLink:
      if (out.alive.empty()) {
        out.sender_link = in.u32();
      } else {
        out.alive.back().profile.facts.link_mbit = in.u32();
      }
      return;
    default:
      in.bytes(in.left());  // of a newer minor version
      return;
  }
}

}  // namespace

const char* to_text(Kind kind) {
  static constexpr const char* kText[kKindEnd] = {"none", "ping",    "ack",    "indirect", "nack",
                                                  "join", "welcome", "beacon", "news",     "sync"};
  return kText[static_cast<size_t>(kind)];
}

void Packet::clear() {
  target = 0;
  observed.reset();
  sender_link.reset();
  alive.clear();
  verdicts.clear();
  loads.clear();
  hashes.clear();
  entries.clear();
  wanted.clear();
  pull_from.reset();
  pulled_to.reset();
}

PacketWriter::PacketWriter(std::span<uint8_t> room, Kind kind, uint8_t health, uint64_t sender,
                           uint32_t nonce, uint32_t digest)
    : out_(room) {
  out_.u8(static_cast<uint8_t>(kind));
  out_.u8(health);
  out_.u64(sender);
  out_.u32(nonce);
  out_.u32(digest);
}

bool PacketWriter::begin(uint8_t type, size_t body) {
  loads_at_ = 0;
  TESS_CHECK(body <= 255, "a section of {} bytes", body);
  if (out_.room() < 2 + body) {
    return false;
  }
  out_.u8(type);
  out_.u8(static_cast<uint8_t>(body));
  return true;
}

bool PacketWriter::add_target(uint64_t key) {
  if (!begin(kTarget, 8)) {
    return false;
  }
  out_.u64(key);
  return true;
}

bool PacketWriter::add_observed(const Address& address) {
  if (!begin(kObserved, address.is_v4() ? 7 : 19)) {
    return false;
  }
  write_address(out_, address);
  return true;
}

bool PacketWriter::add_link(uint32_t mbit) {
  if (!begin(kLink, kLinkWire)) {
    return false;
  }
  out_.u32(mbit);
  return true;
}

bool PacketWriter::add_alive(uint32_t incarnation, const Profile& p) {
  TESS_CHECK(p.name.size() <= kNameMax, "a name of {} bytes", p.name.size());
  const size_t body = 4 + 16 + 8 + (p.address.is_v4() ? 7 : 19) + 26 + 2 + p.name.size();
  const bool has_link = p.facts.link_mbit != 0;
  if (out_.room() < 2 + body + (has_link ? 2 + kLinkWire : 0) || !begin(kAlive, body)) {
    return false;
  }
  out_.u32(incarnation);
  out_.bytes(p.id.bytes);
  out_.u64(p.session);
  write_address(out_, p.address);
  out_.u32(p.facts.speed);
  out_.u16(p.facts.cores);
  out_.u16(p.facts.threads);
  out_.u32(mib(p.facts.memory_bytes, UINT32_MAX));
  out_.u32(mib(p.facts.swap_bytes, UINT32_MAX));
  out_.u64(p.facts.cpu_features);
  out_.u16(p.facts.reserved_permille);
  out_.u8(p.version);
  out_.u8(static_cast<uint8_t>(p.name.size()));
  for (const char c : p.name) {
    out_.u8(static_cast<uint8_t>(c));
  }
  return !has_link || add_link(p.facts.link_mbit);
}

bool PacketWriter::add_verdict(const Verdict& verdict) {
  const bool suspect = verdict.state == MemberState::kSuspect;
  if (!begin(kVerdict, suspect ? 21 : 13)) {
    return false;
  }
  out_.u64(verdict.key);
  out_.u32(verdict.incarnation);
  out_.u8(static_cast<uint8_t>(verdict.state));
  if (suspect) {
    out_.u64(verdict.from);
  }
  return true;
}

bool PacketWriter::add_load(const LoadNews& load) {
  if (loads_at_ != 0 && loads_size_ + kLoadWire <= 255) {
    if (out_.room() < kLoadWire) {
      return false;
    }
    loads_size_ += kLoadWire;
    out_.overwrite_u8(loads_at_, static_cast<uint8_t>(loads_size_));
  } else {
    if (!begin(kLoads, kLoadWire)) {
      return false;
    }
    loads_at_ = out_.size() - 1;
    loads_size_ = kLoadWire;
  }
  out_.u40(load.short_key);
  out_.u16(load.version);
  out_.u16(static_cast<uint16_t>(std::min<int64_t>(load.age / kAgeUnit, UINT16_MAX)));
  out_.u16(static_cast<uint16_t>(std::lround(std::clamp(load.runnable, 0.0f, 2047.0f) * 32)));
  out_.u8(to_byte(load.cpu_pressure));
  out_.u8(to_byte(load.memory_pressure));
  out_.u24(std::min(load.memory_free_mib, 0xffffffu));
  out_.u24(std::min(load.swap_used_mib, 0xffffffu));
  out_.u16(load.guests);
  out_.u8(load.incoming);
  out_.u8(static_cast<uint8_t>((load.owner_active ? 1 : 0) | (load.draining ? 2 : 0) |
                               (load.accepting ? 4 : 0) | std::min<int>(load.distress, 15) << 4));
  return true;
}

bool PacketWriter::add_hashes(const RangeHashes& hashes) {
  TESS_CHECK(hashes.children.size() == kRangeChildren, "{} hashes", hashes.children.size());
  if (!begin(kHashes, 5 + 4 * kRangeChildren)) {
    return false;
  }
  out_.u8(hashes.range.depth);
  out_.u32(hashes.range.prefix);
  for (const uint32_t hash : hashes.children) {
    out_.u32(hash);
  }
  return true;
}

bool PacketWriter::add_entries(const RangeEntries& list) {
  const size_t count = list.entries.size();
  const size_t sections =
      std::max<size_t>(1, (count + kEntriesPerSection - 1) / kEntriesPerSection);
  if (out_.room() < sections * 8 + count * kEntryWire) {
    return false;
  }
  for (size_t s = 0; s < sections; ++s) {
    const size_t from = s * kEntriesPerSection;
    const size_t to = std::min(count, from + kEntriesPerSection);
    begin(kEntries, 6 + (to - from) * kEntryWire);
    out_.u8(list.range.depth);
    out_.u32(list.range.prefix);
    out_.u8(list.complete && s + 1 == sections ? 1 : 0);
    for (size_t i = from; i < to; ++i) {
      out_.u64(list.entries[i].key);
      out_.u32(list.entries[i].incarnation);
      out_.u8(static_cast<uint8_t>(list.entries[i].state));
    }
  }
  return true;
}

bool PacketWriter::add_wanted(uint64_t key) {
  if (!begin(kWanted, 8)) {
    return false;
  }
  out_.u64(key);
  return true;
}

bool PacketWriter::add_pull(uint64_t from_key) {
  if (!begin(kPull, 8)) {
    return false;
  }
  out_.u64(from_key);
  return true;
}

bool PacketWriter::add_pulled(uint64_t to_key) {
  if (!begin(kPulled, 8)) {
    return false;
  }
  out_.u64(to_key);
  return true;
}

Result<> read_packet(Bytes plaintext, Packet& out) {
  out.clear();
  ByteReader in(plaintext);
  const uint8_t kind = in.u8();
  out.health = in.u8();
  out.sender = in.u64();
  out.nonce = in.u32();
  out.digest = in.u32();
  if (in.failed()) {
    return fail(ErrorKind::kBadInput, "a packet of {} bytes has no head", plaintext.size());
  }
  if (kind < static_cast<uint8_t>(Kind::kPing) || kind > static_cast<uint8_t>(Kind::kSync)) {
    return fail(ErrorKind::kBadInput, "a packet of the unknown kind {}", kind);
  }
  out.kind = static_cast<Kind>(kind);
  while (in.left() > 0) {
    const uint8_t type = in.u8();
    const uint8_t size = in.u8();
    ByteReader body(in.bytes(size));
    if (in.failed()) {
      return fail(ErrorKind::kBadInput, "section {} is cut off", type);
    }
    read_section(type, body, out);
    if (body.failed() || body.left() != 0) {
      return fail(ErrorKind::kBadInput, "section {} of {} bytes makes no sense", type, size);
    }
  }
  return {};
}

}  // namespace tess::cluster
