#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/random.h"
#include "tune/tuner.h"

namespace switchyard::tune {

/// A sampler whose times are a function's.
class FakeSampler : public Sampler {
 public:
  using Time = std::function<double(const Trial&)>;
  explicit FakeSampler(Time time) : time_(std::move(time)) {}
  double sample_us(const Trial& trial) override {
    trials.push_back(trial);
    return time_(trial);
  }
  std::vector<Trial> trials;

 private:
  Time time_;
};

inline std::string key_at(int tokens) {
  return "moe t" + std::to_string(tokens) + " h2048 i768 e128 k8 swiglu topk_softmax bf16";
}

inline Place here() {
  return {.device = "NVIDIA H200, sm_90",
          .kernels = "abc",
          .versions = {{"driver", "580"}, {"nvrtc", "13.0"}}};
}

inline Costs flat(double us) {
  return {Cost{us, 1}, Cost{us, 1}, Cost{us, 1}};
}

inline Row row_at(int tokens, std::string config, double us) {
  return {
      .place = here(), .problem = key_at(tokens), .config = std::move(config), .costs = flat(us)};
}

}  // namespace switchyard::tune
