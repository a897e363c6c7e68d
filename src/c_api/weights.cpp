// MoeWeights, tensor by tensor, under the names of their fields.

#include <cstring>
#include <string_view>

#include "c_api/handles.h"
#include "c_api/status.h"
#include "c_api/tensors.h"

namespace switchyard::c_api {
namespace {

struct MatrixField {
  std::string_view name;
  Tensor ExpertMatrix::*tensor;
};
constexpr MatrixField kMatrixFields[] = {
    {"elements", &ExpertMatrix::elements},
    {"scales", &ExpertMatrix::scales},
    {"zeros", &ExpertMatrix::zeros},
    {"global_scale", &ExpertMatrix::global_scale},
    {"group_of_column", &ExpertMatrix::group_of_column},
    {"bias", &ExpertMatrix::bias},
    {"input_factor", &ExpertMatrix::input_factor},
    {"input_scale", &ExpertMatrix::input_scale},
};

struct LayerTensor {
  std::string_view name;
  Tensor MoeWeights::*tensor;
};
constexpr LayerTensor kLayerTensors[] = {
    {"router", &MoeWeights::router},
    {"router_bias", &MoeWeights::router_bias},
    {"correction_bias", &MoeWeights::correction_bias},
    {"hash_table", &MoeWeights::hash_table},
    {"shared_gate", &MoeWeights::shared_gate},
    {"latent_down", &MoeWeights::latent_down},
    {"latent_norm", &MoeWeights::latent_norm},
    {"latent_up", &MoeWeights::latent_up},
};

struct MatrixName {
  std::string_view name;
  ExpertWeights MoeWeights::*owner;
  ExpertMatrix ExpertWeights::*matrix;
};
constexpr MatrixName kMatrices[] = {
    {"experts.gate_up", &MoeWeights::experts, &ExpertWeights::gate_up},
    {"experts.down", &MoeWeights::experts, &ExpertWeights::down},
    {"shared.gate_up", &MoeWeights::shared, &ExpertWeights::gate_up},
    {"shared.down", &MoeWeights::shared, &ExpertWeights::down},
};

ExpertMatrix* find_matrix(MoeWeights& weights, std::string_view name) {
  for (const MatrixName& known : kMatrices)
    if (known.name == name) return &(weights.*known.owner.*known.matrix);
  return nullptr;
}

ExpertMatrix& matrix_named(MoeWeights& weights, std::string_view name) {
  ExpertMatrix* const matrix = find_matrix(weights, name);
  require(matrix != nullptr,
          "[weights] matrix: expected experts.gate_up, experts.down, shared.gate_up or "
          "shared.down, got '{}'.",
          name);
  return *matrix;
}

/// A tensor and the matrix that it is part of, if any.
struct Found {
  Tensor* tensor = nullptr;
  ExpertMatrix* matrix = nullptr;
};

Found find(MoeWeights& weights, std::string_view name) {
  for (const LayerTensor& known : kLayerTensors)
    if (known.name == name) return {.tensor = &(weights.*known.tensor)};
  const std::size_t dot = name.rfind('.');
  ExpertMatrix* const matrix =
      dot == std::string_view::npos ? nullptr : find_matrix(weights, name.substr(0, dot));
  if (matrix != nullptr)
    for (const MatrixField& known : kMatrixFields)
      if (known.name == name.substr(dot + 1))
        return {.tensor = &(matrix->*known.tensor), .matrix = matrix};
  throw InvalidArgument(fmt::format(
      "[weights] name: expected a tensor of MoeWeights (\"router\", \"experts.gate_up.scales\", "
      "...), got '{}'.",
      name));
}

/// What bytes stand for; nothing for tensors that are never 4 or 8 bits wide.
std::optional<DType> type_of_bytes(const Found& found) {
  if (found.matrix == nullptr) return std::nullopt;
  if (found.tensor == &found.matrix->elements) return found.matrix->format.element;
  if (found.tensor == &found.matrix->scales) return found.matrix->format.scale;
  return std::nullopt;
}

Tensor clone(const Tensor& tensor) {
  return tensor ? tensor.clone() : Tensor();
}

ExpertMatrix clone(const ExpertMatrix& from) {
  ExpertMatrix to;
  to.format = from.format;
  for (const MatrixField& field : kMatrixFields) to.*field.tensor = clone(from.*field.tensor);
  return to;
}

MoeWeights clone(const MoeWeights& from) {
  MoeWeights to;
  for (const LayerTensor& tensor : kLayerTensors) to.*tensor.tensor = clone(from.*tensor.tensor);
  for (const MatrixName& m : kMatrices) to.*m.owner.*m.matrix = clone(from.*m.owner.*m.matrix);
  return to;
}

}  // namespace

const ExpertMatrix& matrix_named(const MoeWeights& weights, std::string_view name) {
  return matrix_named(const_cast<MoeWeights&>(weights), name);
}

}  // namespace switchyard::c_api

using namespace switchyard;
using namespace switchyard::c_api;

extern "C" {

int switchyard_weights_create(SwitchyardWeights** weights) {
  return guarded([&] { given(weights, "weights") = new SwitchyardWeights(); });
}

void switchyard_weights_destroy(SwitchyardWeights* weights) {
  delete weights;
}

int switchyard_weights_clone(const SwitchyardWeights* weights, SwitchyardWeights** copy) {
  return guarded([&] {
    SwitchyardWeights*& result = given(copy, "clone");
    MoeWeights made = clone(given(weights, "weights").weights);
    result = new SwitchyardWeights{.weights = std::move(made)};
  });
}

int switchyard_weights_set_format(SwitchyardWeights* weights, const char* matrix,
                                  const char* format) {
  return guarded([&] {
    matrix_named(given(weights, "weights").weights, &given(matrix, "matrix")).format =
        weight_format(&given(format, "format"));
  });
}

int switchyard_weights_format(const SwitchyardWeights* weights, const char* matrix, char** format) {
  return guarded([&] {
    const MoeWeights& all = given(weights, "weights").weights;
    given(format, "format") =
        text_of(to_string(matrix_named(all, &given(matrix, "matrix")).format));
  });
}

int switchyard_weights_set(SwitchyardWeights* weights, const char* name,
                           const SwitchyardTensor* tensor) {
  return guarded([&] {
    const Found found = find(given(weights, "weights").weights, &given(name, "name"));
    const TensorView view =
        view_of(&given(tensor, name), "weights", name, {}, type_of_bytes(found));
    require(view.data != nullptr, "[weights] {}: expected an array with elements, got {}.", name,
            to_string(view.shape));
    if (found.matrix != nullptr && found.tensor == &found.matrix->scales)
      found.matrix->format.scale = view.dtype;
    *found.tensor = Tensor::copy_of(view);
  });
}

int switchyard_weights_get(const SwitchyardWeights* weights, const char* name,
                           SwitchyardTensor* view) {
  return guarded([&] {
    const SwitchyardWeights& all = given(weights, "weights");
    const Found found = find(const_cast<MoeWeights&>(all.weights), &given(name, "name"));
    given(view, "view") = as_c(*found.tensor, all.viewed_shape);
  });
}

int switchyard_weights_quantize(SwitchyardWeights* weights, const char* matrix,
                                const SwitchyardTensor* values, const char* format, int parts) {
  return guarded([&] {
    ExpertMatrix& to = matrix_named(given(weights, "weights").weights, &given(matrix, "matrix"));
    const TensorView view = view_of(&given(values, matrix), "weights", matrix);
    const WeightFormat as = weight_format(&given(format, "format"));
    ExpertMatrix made = quantize(view, as, as.global_scale ? parts : 1);
    made.bias = std::move(to.bias);
    to = std::move(made);
  });
}

int switchyard_weights_dequantize(const SwitchyardWeights* weights, const char* matrix,
                                  const SwitchyardTensor* out) {
  return guarded([&] {
    const ExpertMatrix& from =
        matrix_named(given(weights, "weights").weights, &given(matrix, "matrix"));
    check(from, matrix);
    const TensorView to = view_of(&given(out, "out"), "dequantize", "out");
    require(to.shape == from.elements.shape(), "[dequantize] out: expected {}, got {}.",
            to_string(from.elements.shape()), to_string(to.shape));
    const Tensor made = dequantize(from, to.dtype);
    std::memcpy(to.data, made.data(), static_cast<std::size_t>(made.bytes()));
  });
}
}
