#include "node/config.h"

#include <algorithm>
#include <optional>
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "node/identity.h"
#include "sys/files.h"

namespace tess::node {
namespace {

// Reads the entries of one table and tells of those nobody asked for.
class TableReader {
 public:
  TableReader(const toml::table& table, const std::string& path) : table_(table), path_(path) {}

  template <typename T>
  Result<std::optional<T>> get(const char* key, const char* what) {
    known_.push_back(key);
    const toml::node* node = table_.get(key);
    if (node == nullptr) {
      return std::nullopt;
    }
    const std::optional<T> value = node->value_exact<T>();
    if (!value) {
      return bad(*node, fmt::format("{} must be {}", key, what));
    }
    return value;
  }

  const toml::array* array(const char* key) {
    known_.push_back(key);
    const toml::node* node = table_.get(key);
    return node != nullptr ? node->as_array() : nullptr;
  }

  Result<> check_unknown() const {
    for (const auto& [key, node] : table_) {
      if (std::find(known_.begin(), known_.end(), key.str()) == known_.end()) {
        return bad(node, fmt::format("unknown key '{}'", key.str()));
      }
    }
    return {};
  }

  tl::unexpected<Error> bad(const toml::node& node, const std::string& what) const {
    return fail(ErrorKind::kBadInput, "{}:{}: {}", path_, node.source().begin.line, what);
  }

  // A node's `address = "1.2.3.4:7117"` or the `listen` of this one.
  Result<std::optional<net::Endpoint>> endpoint(const char* key,
                                                uint16_t default_port = kDefaultPort) {
    TESS_TRY_ASSIGN(const auto text, get<std::string>(key, "a text \"ADDRESS:PORT\""));
    if (!text) {
      return std::nullopt;
    }
    auto parsed = net::Endpoint::parse(*text, default_port);
    if (!parsed) {
      return bad(*table_.get(key), parsed.error().message());
    }
    return std::move(*parsed);
  }

  Result<std::string> node_name() {
    TESS_TRY_ASSIGN(const auto name, get<std::string>("name", "a text"));
    if (!name) {
      return bad(table_, "name is missing");
    }
    if (const auto checked = check_node_name(*name); !checked) {
      return bad(*table_.get("name"), checked.error().message());
    }
    return *name;
  }

 private:
  const toml::table& table_;
  const std::string& path_;
  std::vector<std::string_view> known_;
};

Result<NodeEntry> read_node(const toml::table& table, const std::string& path) {
  TableReader reader(table, path);
  NodeEntry entry;
  TESS_TRY_ASSIGN(entry.name, reader.node_name());
  TESS_TRY_ASSIGN(const auto endpoint, reader.endpoint("address"));
  if (!endpoint) {
    return reader.bad(table, fmt::format("node '{}' has no address", entry.name));
  }
  entry.endpoint = *endpoint;
  TESS_TRY(reader.check_unknown());
  return entry;
}

// Who the machine belongs to, and what is kept for him.
Result<> read_owner(TableReader& reader, const toml::table& table, Config& config) {
  TESS_TRY_ASSIGN(const auto owner, reader.get<std::string>("owner", "a text"));
  if (owner) {
    const auto kind = owner_kind_of(*owner);
    if (!kind) {
      return reader.bad(*table.get("owner"), "owner is \"off\", \"console\" or \"logins\"");
    }
    config.owner = *kind;
  }
  TESS_TRY_ASSIGN(const auto idle, reader.get<int64_t>("owner_idle", "a number of seconds"));
  if (idle && (*idle < 1 || *idle > 86400)) {
    return reader.bad(*table.get("owner_idle"), "owner_idle is from 1 to 86400 seconds");
  }
  config.owner_rule.idle = std::chrono::seconds(idle.value_or(300));
  TESS_TRY_ASSIGN(const auto load, reader.get<double>("owner_load", "a number with a point"));
  if (load && !(*load >= 0 && *load <= 65535)) {
    return reader.bad(*table.get("owner_load"), "owner_load is a number of threads");
  }
  config.owner_rule.load = load.value_or(0);
  TESS_TRY_ASSIGN(const auto reserve, reader.get<double>("reserve", "a number with a point"));
  if (reserve && !(*reserve >= 0 && *reserve < 1)) {
    return reader.bad(*table.get("reserve"), "reserve is a share from 0.0 to below 1.0");
  }
  config.reserve = reserve.value_or(0);
  return {};
}

}  // namespace

Result<Config> parse_config(std::string_view text, const std::string& path) {
  const toml::parse_result parsed = toml::parse(text, path);
  if (!parsed) {
    return fail(ErrorKind::kBadInput, "{}:{}: {}", path, parsed.error().source().begin.line,
                parsed.error().description());
  }
  const toml::table& table = parsed.table();
  TableReader reader(table, path);
  Config config;
  TESS_TRY_ASSIGN(config.name, reader.node_name());
  TESS_TRY_ASSIGN(const auto listen, reader.endpoint("listen"));
  if (listen) {
    config.listen = *listen;
  }
  TESS_TRY_ASSIGN(const auto trusted, reader.get<bool>("trusted_network", "true or false"));
  config.trusted_network = trusted.value_or(false);
  TESS_TRY_ASSIGN(const auto beacons, reader.get<bool>("beacons", "true or false"));
  config.beacons = beacons.value_or(true);
  TESS_TRY_ASSIGN(const auto balance, reader.get<bool>("balance", "true or false"));
  config.balance = balance.value_or(true);
  TESS_TRY_ASSIGN(config.metrics, reader.endpoint("metrics", kMetricsPort));
  TESS_TRY(read_owner(reader, table, config));
  if (const toml::array* nodes = reader.array("node")) {
    for (const toml::node& node : *nodes) {
      if (!node.is_table()) {
        return reader.bad(node, "each node is a table: [[node]]");
      }
      TESS_TRY_ASSIGN(NodeEntry entry, read_node(*node.as_table(), path));
      const bool twice = std::any_of(config.nodes.begin(), config.nodes.end(),
                                     [&](const auto& other) { return other.name == entry.name; });
      if (twice) {
        return reader.bad(node, fmt::format("node '{}' is listed twice", entry.name));
      }
      // The same list may be copied to all nodes: this one skips itself.
      if (entry.name != config.name) {
        config.nodes.push_back(std::move(entry));
      }
    }
  } else if (table.contains("node")) {
    return reader.bad(*table.get("node"), "nodes are written as [[node]]");
  }
  TESS_TRY(reader.check_unknown());
  return config;
}

Result<Config> load_config(const std::string& path) {
  auto text = sys::read_file(path);
  if (!text) {
    return fail_with(std::move(text.error()), "read the configuration (`tess init` makes one)");
  }
  return parse_config(*text, path);
}

}  // namespace tess::node
