// JSON Schema's compiler, and the patterns in it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "schema/automaton.h"
#include "schema/json_schema.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto grammar = headrace::schema::SchemaGrammar(text);
  if (grammar.ok() && grammar->empty()) abort();
  const auto regex = headrace::schema::ParseRegex(text);
  if (!regex.ok()) return 0;
  const auto automaton = headrace::schema::Automaton::OfPattern(*regex);
  if (!automaton.ok()) return 0;
  // A text matches a pattern or its complement, and what matches both is nothing.
  const auto rest = automaton->Complement();
  if (automaton->Accepts("ab1") == rest.Accepts("ab1")) abort();
  const auto both = automaton->Intersect(rest);
  if (both.ok() && !both->empty()) abort();
  return 0;
}
