#pragma once

namespace switchyard::scale {

struct Args {
  const float* in;  // [count]
  float* out;       // [count]
  int count;
  float factor;
};

struct Config {
  int threads;
  int per_thread;
  constexpr int per_block() const { return threads * per_thread; }
  friend bool operator==(const Config&, const Config&) = default;
};

}  // namespace switchyard::scale
