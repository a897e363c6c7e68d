#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "cuda/context.h"

namespace switchyard::cuda {

/// Device memory, 256-byte aligned, freed with the object. Not initialised.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// Throws DeviceError, saying how much is free, if there is not enough memory.
  DeviceBuffer(Context context, std::size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    DeviceBuffer(std::move(other)).swap(*this);
    return *this;
  }

  std::byte* data() const noexcept { return data_; }
  template <class T>
  T* as() const noexcept {
    return reinterpret_cast<T*>(data_);
  }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(context_, other.context_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  std::optional<Context> context_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Page-locked host memory: copies between it and a device do not make the caller wait.
class PinnedBuffer {
 public:
  /// Throws DeviceError if the system does not give that much.
  PinnedBuffer(Context context, std::size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  Context context_;
  std::byte* data_ = nullptr;
  std::size_t bytes_;
};

/// Enqueue a copy or a fill. Host memory must live until the stream has passed the copy; pageable
/// host memory makes the call wait.
void copy_to_device(void* device, const void* host, std::size_t bytes, CUstream stream);
void copy_to_host(void* host, const void* device, std::size_t bytes, CUstream stream);
void copy_on_device(void* to, const void* from, std::size_t bytes, CUstream stream);
void fill(void* device, unsigned char value, std::size_t bytes, CUstream stream);

}  // namespace switchyard::cuda
