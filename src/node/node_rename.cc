#include "node/node_rename.h"

#include <unistd.h>

#include <filesystem>

#include "base/log.h"
#include "node/identity.h"
#include "sys/files.h"

namespace tess::node {
namespace {

constexpr std::chrono::milliseconds kAnswerTimeout{30'000};

std::string mark_of(const std::string& state_dir) {
  return state_dir + "/renamed";  // holds the new name while files disagree
}

// Where a line of the first table sets `name`, without its end; npos: nowhere.
std::pair<size_t, size_t> name_line(const std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const size_t word = text.find_first_not_of(" \t", at);
    if (word < end && text[word] == '[') {
      break;
    }
    if (word < end && text.compare(word, 4, "name") == 0) {
      const size_t sign = text.find_first_not_of(" \t", word + 4);
      if (sign < end && text[sign] == '=') {
        return {at, end};
      }
    }
    at = end + 1;
  }
  return {std::string::npos, 0};
}

}  // namespace

Result<std::string> with_name(const std::string& config, const std::string& name) {
  TESS_TRY(check_node_name(name));
  const auto [begin, end] = name_line(config);
  if (begin == std::string::npos) {
    return fail(ErrorKind::kNotPossible, "the configuration has no line 'name = …'");
  }
  return config.substr(0, begin) + "name = \"" + name + "\"" + config.substr(end);
}

NodeRename::NodeRename(Options options, Cluster& cluster, Admission& admission,
                       CertificateRenewal& renewal, std::function<void()> restart)
    : options_(std::move(options)),
      cluster_(cluster),
      admission_(admission),
      renewal_(renewal),
      restart_(std::move(restart)) {}

void NodeRename::rename(const std::string& node, const std::string& name, const Done& done) {
  if (const auto allowed = admission_.allow_rename(node, name); !allowed) {
    done(allowed);
    return;
  }
  if (node == options_.node_name) {
    take(name, done);
    return;
  }
  wire::ClusterMessage ask;
  ask.mutable_rename()->set_name(name);
  cluster_.ask(node, std::move(ask), kAnswerTimeout,
               [done](const Result<wire::ClusterMessage>& answer) {
                 if (!answer) {
                   done(tl::unexpected(answer.error()));
                 } else if (!answer->done().ok()) {
                   done(fail(ErrorKind::kNotPossible, "{}", answer->done().message()));
                 } else {
                   done({});
                 }
               });
}

bool NodeRename::answer(const wire::ClusterMessage& message, const std::string& asker,
                        const Reply& reply) {
  if (!message.has_rename()) {
    return false;
  }
  // Whoever asks, only the holder of the CA's key can make the certificate.
  log::info("node", "event=rename name={} asked_by={}", message.rename().name(), asker);
  take(message.rename().name(), [reply](const Result<>& taken) {
    wire::ClusterMessage answer;
    answer.mutable_done()->set_ok(taken.has_value());
    answer.mutable_done()->set_message(taken ? "" : taken.error().message());
    reply(answer);
  });
  return true;
}

void NodeRename::take(const std::string& name, const Done& done) {
  renewal_.fetch(name, [this, name, done](const Result<std::string>& certificate) {
    const Result<> written =
        certificate ? write(name, *certificate) : Result<>(tl::unexpected(certificate.error()));
    done(written);
    if (written) {
      restart_();
    }
  });
}

Result<> NodeRename::write(const std::string& name, const std::string& certificate) const {
  TESS_TRY_ASSIGN(const std::string text, sys::read_file(options_.config));
  TESS_TRY_ASSIGN(const std::string renamed, with_name(text, name));
  TESS_TRY(sys::replace_file(mark_of(options_.state_dir), name + "\n"));
  TESS_TRY(sys::replace_file(options_.state_dir + "/node.crt", certificate));
  TESS_TRY(sys::replace_file(options_.config, renamed));
  if (::unlink(mark_of(options_.state_dir).c_str()) != 0) {
    return fail_errno("remove {}", mark_of(options_.state_dir));
  }
  log::info("node", "event=renamed from={} to={}", options_.node_name, name);
  return {};
}

Result<> NodeRename::finish(const std::string& state_dir, const std::string& config) {
  std::error_code error;
  if (!std::filesystem::exists(mark_of(state_dir), error)) {
    return {};
  }
  TESS_TRY_ASSIGN(const net::TlsContext context, net::TlsContext::load(state_dir));
  TESS_TRY_ASSIGN(const std::string text, sys::read_file(config));
  TESS_TRY_ASSIGN(const std::string renamed, with_name(text, context.node_name()));
  TESS_TRY(sys::replace_file(config, renamed));
  if (::unlink(mark_of(state_dir).c_str()) != 0) {
    return fail_errno("remove {}", mark_of(state_dir));
  }
  return {};
}

}  // namespace tess::node
