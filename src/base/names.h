#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "switchyard/config.h"

namespace switchyard {

/// An enumerator and the word that problem lines, JSON and error texts use for it.
template <class E>
struct Named {
  E value;
  std::string_view name;
};

std::span<const Named<RoutingMethod>> routing_methods() noexcept;
std::span<const Named<ActivationKind>> activation_kinds() noexcept;
std::span<const Named<ActivationFormat>> activation_formats() noexcept;

template <class E>
std::optional<E> value_named(std::span<const Named<E>> table, std::string_view name) noexcept {
  for (const Named<E>& entry : table)
    if (entry.name == name) return entry.value;
  return std::nullopt;
}

template <class E>
std::string_view name_of(std::span<const Named<E>> table, E value) noexcept {
  for (const Named<E>& entry : table)
    if (entry.value == value) return entry.name;
  return "?";
}

}  // namespace switchyard
