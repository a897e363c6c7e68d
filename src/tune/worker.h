#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "tune/sampler.h"

namespace switchyard::tune {

/// Times runs in a process of its own, so that a config can hang, crash, or leave a device behind
/// that serves nobody, and costs one process. Linux only; one thread at a time.
class Worker : public Sampler {
 public:
  /// `command` starts a program that calls serve(); it runs when the first sample is asked for.
  /// A run that takes longer than `limit`, with what it prepares, is ended.
  Worker(std::vector<std::string> command, std::chrono::milliseconds limit);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() override;

  /// Throws InvalidArgument with the process's own text if the config does not run, DeviceError if
  /// it took too long, or if it ended the process or was refused by the device twice: the second
  /// time in a fresh process, where no other config holds memory.
  double sample_us(const Trial& trial) override;

 private:
  struct Reply;

  void start();
  int end() noexcept;  ///< of the process: its status as waitpid gives it
  Reply ask(const Trial& trial);

  const std::vector<std::string> command_;
  const std::chrono::milliseconds limit_;
  pid_t process_ = -1;
  int socket_ = -1;
  int samples_ = 0;  ///< that this process has given
};

/// The other side: answers until the socket on descriptor 0 is closed. After a DeviceError, or
/// without memory, the Worker ends this process: what followed in it could not be trusted.
void serve(Sampler& sampler);

}  // namespace switchyard::tune
