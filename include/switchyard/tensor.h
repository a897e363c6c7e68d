#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "switchyard/dtype.h"

namespace switchyard {

/// Extents of a row-major array, outermost first; at most 6 of them. Counts elements, also for
/// packed 4-bit types (whose last extent is even).
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  /// Throws InvalidArgument for more than 6 extents, a negative one, or a product beyond 2^62.
  Shape(std::initializer_list<std::int64_t> extents);
  explicit Shape(std::span<const std::int64_t> extents);

  int rank() const noexcept { return rank_; }
  std::int64_t operator[](int axis) const noexcept {
    return extents_[static_cast<std::size_t>(axis)];
  }
  /// Product of the extents; 1 for rank 0.
  std::int64_t elements() const noexcept;
  const std::int64_t* begin() const noexcept { return extents_.data(); }
  const std::int64_t* end() const noexcept { return extents_.data() + rank_; }

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

/// "[16, 7168]"
std::string to_string(const Shape& shape);

/// Bytes of a contiguous array.
std::int64_t size_bytes(DType dtype, const Shape& shape) noexcept;

/// A contiguous row-major host array that somebody else owns and keeps alive. No data = absent.
struct ConstTensorView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  explicit operator bool() const noexcept { return data != nullptr; }
  std::int64_t bytes() const noexcept { return size_bytes(dtype, shape); }
  template <class T>
  const T* as() const noexcept {
    return static_cast<const T*>(data);
  }
};

/// The same, writable.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  explicit operator bool() const noexcept { return data != nullptr; }
  operator ConstTensorView() const noexcept { return {data, dtype, shape}; }
  std::int64_t bytes() const noexcept { return size_bytes(dtype, shape); }
  template <class T>
  T* as() const noexcept {
    return static_cast<T*>(data);
  }
};

/// A host array that owns its memory: 64-byte aligned, uninitialised unless made by `zeros`.
/// Movable; copies are explicit. A default-constructed Tensor is absent.
class Tensor {
 public:
  Tensor() = default;
  /// Throws InvalidArgument if a packed type has an odd last extent, DeviceError if memory is
  /// short.
  Tensor(DType dtype, Shape shape);
  static Tensor zeros(DType dtype, Shape shape);
  static Tensor copy_of(ConstTensorView view);
  Tensor clone() const { return copy_of(view()); }

  explicit operator bool() const noexcept { return data_ != nullptr; }
  DType dtype() const noexcept { return dtype_; }
  const Shape& shape() const noexcept { return shape_; }
  std::int64_t bytes() const noexcept { return data_ ? size_bytes(dtype_, shape_) : 0; }
  void* data() noexcept { return data_.get(); }
  const void* data() const noexcept { return data_.get(); }
  template <class T>
  T* as() noexcept {
    return static_cast<T*>(data());
  }
  template <class T>
  const T* as() const noexcept {
    return static_cast<const T*>(data());
  }
  TensorView view() noexcept { return {data(), dtype_, shape_}; }
  ConstTensorView view() const noexcept { return {data(), dtype_, shape_}; }

 private:
  struct Free {
    void operator()(std::byte* data) const noexcept;
  };
  DType dtype_ = DType::f32;
  Shape shape_;
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace switchyard
