#include "jit/cache.h"

#include <algorithm>

#include "base/check.h"
#include "base/env.h"
#include "base/log.h"
#include "base/thread_pool.h"

namespace switchyard::jit {

CacheOptions cache_options_from_env() {
  const std::string mode = env("SWITCHYARD_JIT");
  require(mode.empty() || mode == "on" || mode == "off",
          "[jit] SWITCHYARD_JIT: expected on or off, got {}.", mode);
  const std::filesystem::path root = cache_directory();
  CacheOptions options;
  options.directory = root.empty() ? root : root / "kernels";
  options.compile = mode == "off" ? Compile::off : Compile::on;
  options.log = log_info;
  return options;
}

Digest cache_key(const Digest& closure, const Program& program) {
  const std::string text = to_string(closure);
  std::vector<std::string_view> parts = {text, program.file, program.instance, program.arch};
  parts.insert(parts.end(), program.options.begin(), program.options.end());
  return digest(parts);
}

Cache::Cache(CacheOptions options)
    : options_([&] {
        if (!options.log) options.log = [](std::string_view) {};
        return std::move(options);
      }()),
      store_(options_.directory, options_.log) {}

std::shared_ptr<const Closure> Cache::closure(const std::string& file) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = closures_.find(file); known != closures_.end()) return known->second;
  }
  auto fresh = std::make_shared<const Closure>(options_.sources.closure(file));
  const std::lock_guard lock(mutex_);
  return closures_.emplace(file, std::move(fresh)).first->second;
}

void Cache::count(int CacheStats::*source) {
  const std::lock_guard lock(mutex_);
  ++(stats_.*source);
}

CacheStats Cache::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

std::shared_ptr<const Binary> Cache::get(const Program& program) {
  const std::shared_ptr<const Closure> files = closure(program.file);
  const Digest key = cache_key(files->digest, program);
  const std::shared_ptr<Slot> slot = [&] {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Slot>& found = slots_[to_string(key)];
    if (!found) found = std::make_shared<Slot>();
    return found;
  }();
  const std::lock_guard lock(slot->mutex);
  if (slot->binary)
    count(&CacheStats::memory);
  else
    slot->binary = load_or_compile(key, program, *files);
  return slot->binary;
}

std::shared_ptr<const Binary> Cache::load_or_compile(const Digest& key, const Program& program,
                                                     const Closure& closure) {
  const Compiler& compiler = options_.compiler;
  const bool may_compile = options_.compile == Compile::on;
  // What cannot be compiled here is taken from whichever compiler made it.
  const std::string wanted = may_compile ? compiler.version() : std::string();
  if (std::optional<Binary> stored = store_.read(key, program, wanted)) {
    count(&CacheStats::disk);
    return std::make_shared<const Binary>(std::move(*stored));
  }
  if (!may_compile)
    throw Unsupported(fmt::format(
        "[jit] {} for {} is not in the kernel cache {} and SWITCHYARD_JIT is off. Bring a cache "
        "that was filled elsewhere (SWITCHYARD_CACHE_DIR), or set SWITCHYARD_JIT=on.",
        program.instance, program.arch, store_.root().string()));
  Binary binary = compiler.compile(program, closure);
  count(&CacheStats::compiled);
  store_.write(key, program, binary);
  return std::make_shared<const Binary>(std::move(binary));
}

std::vector<std::shared_ptr<const Binary>> Cache::get(std::span<const Program> programs,
                                                      int threads) {
  std::vector<std::shared_ptr<const Binary>> binaries(programs.size());
  ThreadPool pool(std::max(1, std::min(threads, static_cast<int>(programs.size()))));
  pool.parallel_for(static_cast<std::int64_t>(programs.size()), [&](std::int64_t i, int) {
    const auto at = static_cast<std::size_t>(i);
    binaries[at] = get(programs[at]);
  });
  return binaries;
}

}  // namespace switchyard::jit
