#include "cli/bench/machine.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cuda/driver.h"
#include "moe/random_layer.h"
#include "switchyard/error.h"

namespace switchyard::cli::bench {
namespace {

/// The one product that is asked of cuBLAS, under its own names. Its handle and its library stay
/// open until the process ends.
class Cublas {
 public:
  explicit Cublas(cuda::CUstream stream) {
    void* library = nullptr;
    for (const char* name : kLibraries)
      if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr)
      throw Unsupported(
          fmt::format("[bench] no cuBLAS, which measures the ceiling of the tensor cores: {}. "
                      "Install the CUDA toolkit's, or put its folder into LD_LIBRARY_PATH.",
                      dlerror()));
    bind(library, create_, "cublasCreate_v2");
    bind(library, set_stream_, "cublasSetStream_v2");
    bind(library, gemm_, "cublasGemmEx");
    check(create_(&handle_), "cublasCreate");
    check(set_stream_(handle_, stream), "cublasSetStream");
  }

  /// c [n, n] = b x a^T in cuBLAS's order, both [n, n] bf16: weights x tokens, K innermost.
  void multiply(int n, const void* a, const void* b, void* c) const {
    constexpr int kNone = 0, kTransposed = 1, kBf16 = 14, kComputeF32 = 68, kDefault = -1;
    const float one = 1, zero = 0;
    check(gemm_(handle_, kTransposed, kNone, n, n, n, &one, a, kBf16, n, b, kBf16, n, &zero, c,
                kBf16, n, kComputeF32, kDefault),
          "cublasGemmEx");
  }

 private:
  static constexpr const char* kLibraries[] = {
      "libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13", "libcublas.so.12"};

  template <class Function>
  static void bind(void* library, Function*& entry, const char* name) {
    entry = reinterpret_cast<Function*>(dlsym(library, name));
    if (entry == nullptr) throw Unsupported(fmt::format("[bench] cuBLAS has no {}.", name));
  }
  static void check(int status, const char* call) {
    if (status != 0) throw DeviceError(fmt::format("{} failed: status {}", call, status));
  }

  int (*create_)(void** handle) = nullptr;
  int (*set_stream_)(void* handle, cuda::CUstream) = nullptr;
  int (*gemm_)(void* handle, int transpose_a, int transpose_b, int m, int n, int k,
               const void* alpha, const void* a, int a_type, int lda, const void* b, int b_type,
               int ldb, const void* beta, void* c, int c_type, int ldc, int compute,
               int algorithm) = nullptr;
  void* handle_ = nullptr;
};

/// The median of what `enqueue` takes, after two runs more.
template <class Enqueue>
double median_us(const Machine& machine, int samples, const Enqueue& enqueue) {
  std::vector<double> us;
  for (int i = 0; i < samples + 2; ++i) {
    const cuda::Event start(machine.context, cuda::Timing::on),
        end(machine.context, cuda::Timing::on);
    start.record(machine.stream.get());
    enqueue();
    end.record(machine.stream.get());
    const double t = cuda::elapsed_us(start, end);
    if (i >= 2) us.push_back(t);
  }
  std::nth_element(us.begin(), us.begin() + samples / 2, us.end());
  return us[static_cast<std::size_t>(samples) / 2];
}

double read_tbs(Machine& machine) {
  const jit::Launch launch = moe::read_launch(machine.context.info(), machine.loader);
  constexpr std::size_t kBytes = std::size_t{4} << 30;
  const cuda::DeviceBuffer buffer(machine.context, kBytes), sink(machine.context, 4);
  cuda::fill(buffer.data(), 0x5a, kBytes, machine.stream.get());
  const double us = median_us(machine, 10, [&] {
    moe::enqueue_read(launch, buffer.data(), kBytes, sink.data(), machine.stream.get());
  });
  return static_cast<double>(kBytes) / us * 1e-6;
}

double mma_tflops(Machine& machine) {
  const Cublas cublas(machine.stream.get());
  moe::Values values(2);
  double best = 0;
  for (const int n : {4096, 8192}) {
    const Tensor host = values.tensor({n, n}, 1);
    const auto bytes = static_cast<std::size_t>(host.bytes());
    const cuda::DeviceBuffer a(machine.context, bytes), b(machine.context, bytes),
        c(machine.context, bytes);
    for (const cuda::DeviceBuffer* to : {&a, &b})
      cuda::copy_to_device(to->data(), host.data(), bytes, machine.stream.get());
    const double us =
        median_us(machine, 20, [&] { cublas.multiply(n, a.data(), b.data(), c.data()); });
    best = std::max(best, 2.0 * n * n * n / us * 1e-6);
  }
  return best;
}

}  // namespace

Machine::Machine()
    : context(cuda::Context::open(0)),
      current(context),
      stream(context),
      loader(context, std::make_shared<jit::Cache>(jit::cache_options_from_env())),
      timer(context, loader) {}

Ceilings measure_ceilings(Machine& machine) {
  return {.read_tbs = read_tbs(machine), .mma_tflops = mma_tflops(machine)};
}

}  // namespace switchyard::cli::bench
