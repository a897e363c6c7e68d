#pragma once

#include <string>
#include <string_view>

namespace switchyard::tune {

/// One run to be timed. All of it is text, so that another process can do it.
struct Trial {
  std::string problem;    ///< a problem line
  std::string config;     ///< one of its candidates, as the operation spells it
  std::string_view load;  ///< one of kLoads
};

/// Times single runs. On a GPU: replays a captured graph with cold L2. Tests make times up.
class Sampler {
 public:
  virtual ~Sampler() = default;

  /// Microseconds of one run. The first call of a config prepares it (compiles, captures, warms
  /// up). Throws, with the reason, if the config does not run; DeviceError if the device may be in
  /// a state that spoils later runs (a trap, no memory left).
  virtual double sample_us(const Trial& trial) = 0;
};

}  // namespace switchyard::tune
