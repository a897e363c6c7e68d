#include "jit/kernel.h"

#include "base/check.h"
#include "cuda/driver.h"

namespace switchyard::jit {

using cuda::driver;

Kernel::State::State(const cuda::Context& home, std::shared_ptr<const Binary> code)
    : context(home), binary(std::move(code)) {
  const cuda::Current current(context);
  try {
    SWITCHYARD_CU(driver().cuModuleLoadDataEx(&module, binary->cubin.data(), 0, nullptr, nullptr));
  } catch (const DeviceError& error) {
    throw DeviceError(fmt::format(
        "{}: {} was compiled by NVRTC {}, {} has a driver for CUDA {}.{}. A newer driver helps if "
        "NVRTC's major version is the larger.",
        error.what(), binary->symbol, binary->compiler, context.info().name,
        cuda::driver_version() / 1000, cuda::driver_version() % 1000 / 10));
  }
}

Kernel::State::~State() {
  try {
    const cuda::Current current(context);
    driver().cuModuleUnload(module);
  } catch (const Error&) {  // the driver is shutting down and has unloaded it
  }
}

Kernel::Kernel(const cuda::Context& context, std::shared_ptr<const Binary> binary) {
  const auto state = std::make_shared<State>(context, std::move(binary));
  const cuda::Current current(context);
  SWITCHYARD_CU(
      driver().cuModuleGetFunction(&state->function, state->module, state->binary->symbol.c_str()));
  int fixed = 0;
  SWITCHYARD_CU(driver().cuFuncGetAttribute(&fixed, cuda::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
                                            state->function));
  state->smem_limit = context.info().smem_per_block - fixed;
  SWITCHYARD_CU(driver().cuFuncSetAttribute(
      state->function, cuda::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, state->smem_limit));
  state_ = state;
}

std::vector<Kernel> Loader::kernels(std::span<const Program> programs, int threads) {
  std::vector<Kernel> kernels;
  for (const std::shared_ptr<const Binary>& binary : cache_->get(programs, threads)) {
    const std::lock_guard lock(mutex_);
    Kernel& kernel = loaded_[binary];
    if (!kernel) kernel = Kernel(context_, binary);
    kernels.push_back(kernel);
  }
  return kernels;
}

}  // namespace switchyard::jit
