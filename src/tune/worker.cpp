#include "tune/worker.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/check.h"
#include "tune/cost.h"

extern char** environ;

namespace switchyard::tune {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kLongestMessage = 1 << 14;
constexpr std::size_t kLongestReason = 1 << 11;  // JSON may take six bytes for one

/// One message is one packet. False if nobody reads.
bool send(int socket, const json& message) {
  // A driver's text may be cut in the middle of a character.
  const std::string text = message.dump(-1, ' ', false, json::error_handler_t::replace);
  ssize_t sent = 0;
  do {
    sent = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

/// Empty if the other side is gone.
std::optional<json> receive(int socket) {
  std::array<char, kLongestMessage> text;
  ssize_t got = 0;
  do {
    got = ::recv(socket, text.data(), text.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return std::nullopt;
  return json::parse(text.data(), text.data() + got);
}

/// Whether there is something to receive before `end`.
bool wait_until(int socket, Clock::time_point end) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    pollfd poll{.fd = socket, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&poll, 1, static_cast<int>(std::max<long long>(left.count(), 0)));
    if (ready > 0) return true;
    if (left.count() <= 0) return false;
  }
}

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) return fmt::format("by signal {}", WTERMSIG(status));
  return fmt::format("with status {}", WEXITSTATUS(status));
}

/// posix_spawn with `socket` as descriptor 0, in a process group of its own: a Ctrl-C is for us.
pid_t spawn(const std::vector<std::string>& command, int socket) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&files, socket, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t process = -1;
  const int error =
      ::posix_spawnp(&process, arguments[0], &files, &attributes, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0)
    throw DeviceError(
        fmt::format("[tune] {} cannot be started: {}.", command[0], std::strerror(error)));
  return process;
}

}  // namespace

struct Worker::Reply {
  double us = 0;
  std::string failure;    ///< or empty
  bool is_spent = false;  ///< the process ends, or has ended
};

Worker::Worker(std::vector<std::string> command, std::chrono::milliseconds limit)
    : command_(std::move(command)), limit_(limit) {
  SWITCHYARD_ASSERT(!command_.empty());
}

Worker::~Worker() {
  end();
}

void Worker::start() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    throw DeviceError(fmt::format("[tune] socketpair failed: {}.", std::strerror(errno)));
  try {
    process_ = spawn(command_, pair[1]);
  } catch (...) {
    ::close(pair[0]);
    ::close(pair[1]);
    throw;
  }
  ::close(pair[1]);
  socket_ = pair[0];
  samples_ = 0;
}

int Worker::end() noexcept {
  if (process_ < 0) return 0;
  ::close(std::exchange(socket_, -1));
  ::kill(process_, SIGKILL);
  int status = 0;
  while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
  }
  process_ = -1;
  return status;
}

Worker::Reply Worker::ask(const Trial& trial) {
  const json question = {
      {"problem", trial.problem}, {"config", trial.config}, {"load", trial.load}};
  if (process_ < 0) start();
  if (send(socket_, question) && !wait_until(socket_, Clock::now() + limit_)) {
    end();
    throw DeviceError(fmt::format("it took longer than {} ms", limit_.count()));
  }
  const std::optional<json> answer = receive(socket_);
  if (!answer)
    return {.us = 0, .failure = "its process ended " + how_it_ended(end()), .is_spent = true};
  Reply reply{.us = answer->value("us", 0.0),
              .failure = answer->value("failure", ""),
              .is_spent = answer->value("spent", false)};
  if (reply.is_spent) end();
  return reply;
}

double Worker::sample_us(const Trial& trial) {
  const bool was_fresh = samples_ == 0 || process_ < 0;
  Reply reply = ask(trial);
  // Not its fault, perhaps: others' memory, or an error that another config left.
  if (reply.is_spent && !was_fresh) reply = ask(trial);
  if (reply.is_spent) throw DeviceError(reply.failure);
  if (!reply.failure.empty()) throw InvalidArgument(reply.failure);
  ++samples_;
  return reply.us;
}

void serve(Sampler& sampler) {
  while (const std::optional<json> question = receive(0)) {
    Trial trial{.problem = question->at("problem"), .config = question->at("config"), .load = {}};
    for (const std::string_view load : kLoads)
      if (question->at("load") == load) trial.load = load;
    json answer;
    try {
      answer["us"] = sampler.sample_us(trial);
    } catch (const std::exception& error) {
      const bool spent = dynamic_cast<const DeviceError*>(&error) != nullptr ||
                         dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
      answer = {{"failure", std::string(error.what()).substr(0, kLongestReason)}, {"spent", spent}};
    }
    if (!send(0, answer)) return;
  }
}

}  // namespace switchyard::tune
