#include "moe/gpu_layer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "cuda/driver.h"
#include "moe/semantics.h"
#include "ops/repack/fp4.cuh"
#include "ops/repack/upload.h"

namespace switchyard::moe {
namespace {

std::span<const std::uint8_t> scale_bytes(const ExpertMatrix& m) {
  return {m.scales.as<std::uint8_t>(), static_cast<std::size_t>(m.scales.bytes())};
}

std::span<const std::byte> bytes_of(const Tensor& t) {
  return {t.as<std::byte>(), static_cast<std::size_t>(t.bytes())};
}

/// By how many powers of two MXFP4 scales are too large for bf16 (device/fp4.cuh). Weights below
/// 2^(shift - 119) become subnormals of bf16, which lose bits when they are multiplied.
int scale_shift(const ExpertMatrix& routed, const ExpertMatrix& shared) {
  int largest = 254 - device::kMxfp4Bias;
  const int fits = largest;
  for (const ExpertMatrix* m : {&routed, &shared})
    if (*m) largest = std::max<int>(largest, *std::ranges::max_element(scale_bytes(*m)));
  return largest - fits;
}

/// Which side of a matrix is I wide.
enum class Split { rows, columns };

/// Uploads one expert after the other.
class Uploader {
 public:
  Uploader(const cuda::Context& context, jit::Loader& loader, const GpuShape& shape)
      : context_(context), stream_(context), loader_(loader), shape_(shape) {}

  cuda::DeviceBuffer bytes(const void* data, std::size_t size) {
    cuda::DeviceBuffer buffer(context_, size);
    if (size == 0) return buffer;
    cuda::copy_to_device(buffer.data(), data, size, stream_.get());
    stream_.synchronize();
    return buffer;
  }
  cuda::DeviceBuffer tensor(const Tensor& t) {
    return bytes(t.data(), static_cast<std::size_t>(t.bytes()));
  }

  /// The experts of `routed`, then the parts of `shared`, in tiles.
  cuda::DeviceBuffer tiles(const ExpertMatrix& routed, const ExpertMatrix& shared,
                           const repack::Matrix& one, Split split) {
    const auto size = static_cast<std::size_t>(repack::tile_count(one)) *
                      static_cast<std::size_t>(device::tile_bytes(shape_.weights));
    cuda::DeviceBuffer buffer(context_, size * static_cast<std::size_t>(shape_.lists()));
    const int shift = shape_.weights == Weights::mxfp4 ? scale_shift(routed, shared) : 0;
    pack(one, shape_.locals, bytes_of(routed.elements), bytes_of(routed.scales), shift,
         buffer.data());
    for (int part = 0; part < shape_.shared; ++part)
      pack(one, 1, shared_part(shared, shared.elements, one, split, part),
           shared_part(shared, shared.scales, one, split, part), shift,
           buffer.data() + size * static_cast<std::size_t>(shape_.locals + part));
    return buffer;
  }

  cuda::DeviceBuffer values(const std::vector<float>& v) { return bytes(v.data(), v.size() * 4); }

  /// [lists, 2]: what the products of a packed matrix's parts are multiplied by.
  cuda::DeviceBuffer factors(const ExpertMatrix& routed, const ExpertMatrix& shared) {
    if (shape_.weights == Weights::half) return {};
    const auto lists = static_cast<std::size_t>(shape_.lists());
    if (shape_.weights == Weights::mxfp4)
      return values(std::vector<float>(
          2 * lists, std::ldexp(device::kFp4Factor, scale_shift(routed, shared))));
    std::vector<float> all;
    for (std::size_t list = 0; list < lists; ++list) {
      const bool is_shared = list >= static_cast<std::size_t>(shape_.locals);
      const Tensor& scale = (is_shared ? shared : routed).global_scale;
      const auto parts = static_cast<std::size_t>(scale.shape()[1]);
      const float* of = scale.as<float>() + (is_shared ? 0 : list * parts);
      for (const float factor : {of[0], of[parts - 1]}) all.push_back(factor * device::kFp4Factor);
    }
    return values(all);
  }

  /// RowNorm of every list's `tiles`.
  cuda::DeviceBuffer norms(const cuda::DeviceBuffer& tiles, const repack::Matrix& one,
                           const cuda::DeviceBuffer& factors,
                           const std::vector<float>& largest_bias) {
    std::vector<float> empty;
    for (const float bias : largest_bias) empty.insert(empty.end(), {0, bias});
    cuda::DeviceBuffer buffer = values(empty);
    repack::enqueue_norms(
        {context_, stream_, loader_}, one, shape_.lists(),
        {.half = shape_.half, .weights = shape_.weights, .factors = factors.as<float>()},
        tiles.data(), buffer.as<float>());
    stream_.synchronize();
    return buffer;
  }

  /// [lists, width]: biases of the experts, then of the parts of the shared one.
  std::vector<float> biases(const ExpertMatrix& routed, const ExpertMatrix& shared, int width,
                            Split split) {
    const auto count = static_cast<std::size_t>(width);
    std::vector<float> all(count * static_cast<std::size_t>(shape_.lists()));
    if (routed.bias)
      std::copy_n(routed.bias.as<float>(), count * static_cast<std::size_t>(shape_.locals),
                  all.data());
    for (int part = 0; shared.bias && part < shape_.shared; ++part) {
      float* to = all.data() + count * static_cast<std::size_t>(shape_.locals + part);
      const float* from = shared.bias.as<float>();
      if (split == Split::columns) {  // the sum gets it once
        if (part == 0) std::copy_n(from, count, to);
        continue;
      }
      for (int i = 0; i < width; ++i) {
        const std::int64_t row = shared_row(i, part);
        to[i] = row < 0 ? 0 : from[row];
      }
    }
    return all;
  }

 private:
  void pack(const repack::Matrix& one, int experts, std::span<const std::byte> elements,
            std::span<const std::byte> scales, int shift, std::byte* tiles) {
    const repack::Gpu gpu{context_, stream_, loader_};
    if (shape_.weights == Weights::half)
      repack::upload(gpu, one, experts, elements, tiles);
    else
      repack::upload_fp4(
          gpu, one, experts,
          {.weights = shape_.weights, .codes = elements, .scales = scales, .shift = shift}, tiles);
  }

  /// Row `i` of a part's gate_up, as a row of the whole shared expert; -1 beyond it.
  std::int64_t shared_row(int i, int part) const {
    const int own = shape_.config.intermediate, whole = shape_.config.shared_intermediate;
    const int row = part * own + i % own;
    return row < whole ? std::int64_t{i / own} * whole + row : -1;
  }

  /// A part of the shared expert as one more expert: rows of gate_up, columns of down, whose blocks
  /// of scales are whole. `t` is m's elements or scales.
  std::vector<std::byte> shared_part(const ExpertMatrix& m, const Tensor& t,
                                     const repack::Matrix& one, Split split, int part) const {
    if (!t) return {};
    const std::int64_t row_bytes = t.bytes() / m.out();
    const auto bytes = [&](std::int64_t columns) { return row_bytes * columns / m.in(); };
    const auto width = static_cast<std::size_t>(bytes(one.in));
    std::vector<std::byte> rows(static_cast<std::size_t>(one.out) * width);
    const std::int64_t column = split == Split::columns ? std::int64_t{part} * one.in : 0;
    const std::int64_t count = bytes(std::min<std::int64_t>(m.in() - column, one.in));
    for (int r = 0; r < one.out; ++r) {
      const std::int64_t row = split == Split::columns ? r : shared_row(r, part);
      if (row >= 0)
        std::copy_n(t.as<std::byte>() + row * row_bytes + bytes(column), count,
                    rows.data() + static_cast<std::size_t>(r) * width);
    }
    return rows;
  }

  const cuda::Context& context_;
  cuda::Stream stream_;
  jit::Loader& loader_;
  const GpuShape& shape_;
};

}  // namespace

GpuLayer::GpuLayer(const MoeConfig& config, const MoeWeights& weights, int ordinal)
    : context_(cuda::Context::open(ordinal)) {
  if (const auto reason = gpu_declines(config, weights, shape_))
    throw Unsupported(
        fmt::format("[moe] device cuda:{}: {}. Run the layer on the CPU.", ordinal, *reason));
  const cuda::Current current(context_);
  loader_ = std::make_unique<jit::Loader>(
      context_, std::make_shared<jit::Cache>(jit::cache_options_from_env()));

  Uploader upload(context_, *loader_, shape_);
  const ExpertWeights &e = weights.experts, &s = weights.shared;
  const auto outputs = static_cast<int>(e.gate_up.out());
  gate_up = upload.tiles(
      e.gate_up, s.gate_up,
      {.out = outputs,
       .in = config.hidden,
       .order = config.activation.gated() ? repack::RowOrder::gate_up : repack::RowOrder::plain},
      Split::rows);
  const repack::Matrix down_matrix{
      .out = config.hidden, .in = config.intermediate, .order = repack::RowOrder::plain};
  down = upload.tiles(e.down, s.down, down_matrix, Split::columns);
  std::vector<float> largest_bias(static_cast<std::size_t>(shape_.lists()));
  if (shape_.bias) {
    gate_up_bias = upload.values(upload.biases(e.gate_up, s.gate_up, outputs, Split::rows));
    const std::vector<float> bias = upload.biases(e.down, s.down, config.hidden, Split::columns);
    down_bias = upload.values(bias);
    for (std::size_t i = 0; i < bias.size(); ++i) {
      float& largest = largest_bias[i / static_cast<std::size_t>(config.hidden)];
      largest = std::max(largest, std::abs(bias[i]));
    }
  }
  gate_up_factors = upload.factors(e.gate_up, s.gate_up);
  down_factors = upload.factors(e.down, s.down);
  down_norms = upload.norms(down, down_matrix, down_factors, largest_bias);
  if (shape_.dense) {
    input_scale1 = *static_input_scale(ActivationFormat::nvfp4, e.gate_up);
    input_scale2 = *static_input_scale(ActivationFormat::nvfp4, e.down);
    const std::int64_t scales = e.down.global_scale.shape().elements();
    fused_factor = *std::max_element(e.down.global_scale.as<float>(),
                                     e.down.global_scale.as<float>() + scales);
    fused_alpha = upload.values({fused_factor * input_scale2});
  }
  correction = upload.tensor(weights.correction_bias);
  hash_table = upload.tensor(weights.hash_table);
  if (weights.hash_table) vocabulary = static_cast<int>(weights.hash_table.shape()[0]);
  shared_gate = upload.tensor(weights.shared_gate);
  expert_map = upload.bytes(config.expert_map.data(), config.expert_map.size() * sizeof(int));
}

void GpuLayer::repeat_experts(int locals) {
  const cuda::Current current(context_);
  const cuda::Stream stream(context_);
  const auto given = static_cast<std::size_t>(shape_.locals),
             lists = static_cast<std::size_t>(shape_.lists()),
             all = static_cast<std::size_t>(locals) + static_cast<std::size_t>(shape_.shared);
  for (cuda::DeviceBuffer* buffer :
       {&gate_up, &down, &gate_up_bias, &down_bias, &gate_up_factors, &down_factors, &down_norms}) {
    const std::size_t one = buffer->bytes() / lists;
    if (one == 0) continue;
    cuda::DeviceBuffer more(context_, all * one);
    for (std::size_t list = 0; list < all; ++list) {
      const bool is_shared = list >= static_cast<std::size_t>(locals);
      const std::size_t from = is_shared ? list - (all - lists) : list % given;
      cuda::copy_on_device(more.data() + list * one, buffer->data() + from * one, one,
                           stream.get());
    }
    stream.synchronize();
    *buffer = std::move(more);
  }
  shape_.locals = locals;
}

GpuLayer::~GpuLayer() {
  try {
    const cuda::Current current(context_);
    cuda::driver().cuCtxSynchronize();  // nobody promises that freeing and unloading wait
  } catch (const Error&) {              // the driver is shutting down
  }
}

}  // namespace switchyard::moe
