// llama.cpp's account of an answer's time.
#include <algorithm>
#include <cmath>

#include "api/write_parts.h"

namespace headrace::api {
namespace {

double Milliseconds(double seconds) { return std::round(seconds * 1e6) / 1e3; }

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

}  // namespace

ordered_json Timings(const engine::Usage& usage) {
  const int32_t prompt = usage.prompt_tokens - usage.cached_tokens, answer = usage.answer_tokens;
  // The first token comes with the prompt's last step; decode_seconds begins there.
  const int32_t after_first = std::max(answer - 1, 0);
  const double prefill = Milliseconds(usage.prefill_seconds), decode = Milliseconds(usage.decode_seconds);
  return {{"cache_n", usage.cached_tokens},
          {"prompt_n", prompt},
          {"prompt_ms", prefill},
          {"prompt_per_token_ms", Ratio(prefill, prompt)},
          {"prompt_per_second", Ratio(1e3 * prompt, prefill)},
          {"predicted_n", answer},
          {"predicted_ms", decode},
          {"predicted_per_token_ms", Ratio(decode, after_first)},
          {"predicted_per_second", Ratio(1e3 * after_first, decode)}};
}

std::string TimingsField(const engine::Usage& usage) { return ",\"timings\":" + Dump(Timings(usage)); }

ordered_json ProgressJson(const engine::Usage& usage, int32_t processed) {
  return {{"total", usage.prompt_tokens},
          {"cache", usage.cached_tokens},
          {"processed", processed},
          {"time_ms", Milliseconds(usage.prefill_seconds)}};
}

std::string ProgressField(const engine::Usage& usage, int32_t processed) {
  return ",\"prompt_progress\":" + Dump(ProgressJson(usage, processed));
}

ordered_json StopReason(const Choice& choice) {
  return choice.stop_token >= 0 ? ordered_json(choice.stop_token) : ordered_json(choice.stop);
}

}  // namespace headrace::api
