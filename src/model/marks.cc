#include "model/marks.h"

#include <llama.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/utf8.h"
#include "model/model.h"

namespace headrace::model {
namespace {

constexpr uint32_t kFirstMark = 0xFDD0, kLastMark = 0xFDEF;

// As a template's `tojson` may write it.
std::string Escaped(const std::string& mark) {
  const auto byte = [&](size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(mark[i])); };
  char text[8];
  std::snprintf(text, sizeof text, "\\u%04x",
                (byte(0) & 15U) << 12U | (byte(1) & 63U) << 6U | (byte(2) & 63U));
  return text;
}

void ReplaceAll(std::string* text, const std::string& what, const std::string& by) {
  for (size_t at = 0; (at = text->find(what, at)) != std::string::npos; at += by.size())
    text->replace(at, what.size(), by);
}

}  // namespace

ControlNames::ControlNames(const Model& model) : first_(256) {
  const llama_vocab* vocabulary = llama_model_get_vocab(model.handle());
  for (int32_t token = 0; token < model.facts().vocabulary; ++token) {
    const unsigned attributes = static_cast<unsigned>(llama_vocab_get_attr(vocabulary, token));
    if ((attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) == 0) continue;
    const char* name = llama_vocab_get_text(vocabulary, token);
    if (name == nullptr || *name == '\0') continue;
    names_.emplace(name);
    first_[static_cast<unsigned char>(*name)] = true;
  }
  for (const std::string& name : names_)
    if (std::find(lengths_.begin(), lengths_.end(), name.size()) == lengths_.end())
      lengths_.push_back(name.size());
  std::sort(lengths_.rbegin(), lengths_.rend());
}

size_t ControlNames::At(std::string_view text, size_t at) const {
  if (!first_[static_cast<unsigned char>(text[at])]) return 0;
  for (const size_t length : lengths_)
    if (at + length <= text.size() && names_.contains(std::string(text.substr(at, length)))) return length;
  return 0;
}

Marks Marks::For(const std::vector<const std::string*>& texts) {
  Marks marks;
  std::array<std::string*, 3> wanted = {&marks.open_, &marks.close_, &marks.tail_};
  size_t found = 0;
  for (uint32_t code = kFirstMark; code <= kLastMark && found < wanted.size(); ++code) {
    std::string mark;
    AppendUtf8(code, &mark);
    const bool used = std::any_of(texts.begin(), texts.end(), [&](const std::string* text) {
      return text->find(mark) != std::string::npos || text->find(Escaped(mark)) != std::string::npos;
    });
    if (!used) *wanted[found++] = std::move(mark);
  }
  return marks;
}

std::string Marks::Guard(const ControlNames& names, const std::string& text, bool thinking) const {
  if (close_.empty()) return text;  // a text of all thirty-two noncharacters
  std::string out;
  size_t copied = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t length = names.At(text, at);
    const std::string_view name = std::string_view(text).substr(at, length);
    if (length == 0 || (thinking && (name == "<think>" || name == "</think>"))) {
      at += std::max<size_t>(length, 1);
      continue;
    }
    out.append(text, copied, at - copied).append(open_).append(name).append(close_);
    at += length;
    copied = at;
  }
  return copied == 0 ? text : out.append(text, copied);
}

bool Marks::CutAtTail(std::string* prompt) const {
  if (tail_.empty()) return false;
  size_t at = prompt->rfind(tail_);
  if (at == std::string::npos) at = prompt->rfind(Escaped(tail_));
  if (at == std::string::npos) return false;
  prompt->resize(at);
  return true;
}

std::vector<PromptPart> Marks::Parts(std::string_view prompt) const {
  if (close_.empty()) return {{std::string(prompt)}};
  std::string text(prompt);
  ReplaceAll(&text, Escaped(open_), open_);
  ReplaceAll(&text, Escaped(close_), close_);
  std::vector<PromptPart> parts(1);
  for (size_t at = 0; at < text.size();) {
    const bool opens = parts.back().parse;
    const size_t next = std::min(text.find(opens ? open_ : close_, at), text.size());
    parts.back().text.append(text, at, next - at);
    at = next + open_.size();
    if (next < text.size()) parts.push_back({"", !opens});
  }
  std::erase_if(parts, [](const PromptPart& part) { return part.text.empty(); });
  return parts;
}

}  // namespace headrace::model
