// A tokenizer on its way from the engine's module to the streams' module, which share no code: a capsule that
// holds plain functions.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

namespace headrace::python {

struct TokenizerFunctions {
  static constexpr const char* kCapsule = "headrace.tokenizer.1";

  using Give = void (*)(void* to, const int32_t* tokens, int64_t count);
  using Fail = void (*)(void* to, const char* why);

  void* self = nullptr;
  uint64_t hash = 0;
  // Calls one of `give` and `fail`, once. Any thread; needs no GIL.
  void (*tokenize)(void* self, const char* text, int64_t bytes, void* to, Give give, Fail fail) = nullptr;
  void (*free)(void* self) = nullptr;
};

}  // namespace headrace::python
