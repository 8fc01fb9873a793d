#include "serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <functional>
#include <map>
#include <mutex>

namespace headrace::serve {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using Labels = std::map<std::string, std::string>;

const Histogram::BucketBoundaries kSeconds = {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60};
const Histogram::BucketBoundaries kBetween = {0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1,
                                              0.15,  0.2,  0.3,  0.5,  1,    2,     5};

class OneRequest final : public RequestMetrics {
 public:
  Histogram *first = nullptr, *between = nullptr, *queue = nullptr;
  Counter *prompt = nullptr, *cached = nullptr, *answer = nullptr;
  std::function<Counter&(int)> ended;
  void FirstToken(double seconds) override { first->Observe(seconds); }
  void NextToken(double seconds) override { between->Observe(seconds); }
  void End(int status, const engine::Usage& usage) override {
    queue->Observe(usage.queue_seconds);
    prompt->Increment(usage.prompt_tokens);
    cached->Increment(usage.cached_tokens);
    answer->Increment(usage.answer_tokens);
    ended(status).Increment();
  }
};

class PrometheusMetrics final : public Metrics {
 public:
  std::shared_ptr<RequestMetrics> Request(const std::string& model, const std::string& endpoint,
                                          const std::string& group) override {
    const Labels labels = {{"model", model}, {"key_class", group}};
    auto one = std::make_shared<OneRequest>();
    one->first = &first_.Add(labels, kSeconds);
    one->between = &between_.Add(labels, kBetween);
    one->queue = &queue_.Add(labels, kSeconds);
    one->prompt = &prompt_.Add(labels);
    one->cached = &cached_.Add(labels);
    one->answer = &answer_.Add(labels);
    one->ended = [this, labels, endpoint](int status) -> Counter& {
      Labels all = labels;
      all["endpoint"] = endpoint;
      all["status"] = std::to_string(status);
      return requests_.Add(all);
    };
    return one;
  }

  void Answered(const std::string& endpoint, int status) override {
    requests_
        .Add({{"model", ""}, {"key_class", ""}, {"endpoint", endpoint}, {"status", std::to_string(status)}})
        .Increment();
  }

  std::string Text(const std::vector<ModelLoad>& models, const http::HttpStats& http,
                   const RecorderStats& recorder, int64_t swaps, int64_t clock_jumps) override {
    const std::lock_guard lock(mutex_);  // counters from elsewhere are moved on by what is new
    for (const ModelLoad& model : models) {
      const Labels labels = {{"model", model.name}};
      const auto set = [&](Family<Gauge>& family, int64_t value) {
        family.Add(labels).Set(static_cast<double>(value));
      };
      set(ready_, model.ready ? 1 : 0);
      set(waiting_for_load_, model.waiting);
      Move(&loads_.Add(labels), model.loads);
      Move(&sleeps_.Add(labels), model.sleeps);
      if (!model.stats && seen_.count(&steps_.Add(labels)) == 0) continue;        // it never ran
      const engine::CoreStats stats = model.stats.value_or(engine::CoreStats());  // asleep: nothing runs
      set(running_, stats.running);
      set(waiting_, stats.waiting);
      set(cells_, stats.cells);
      set(cells_used_, stats.cells_used);
      set(host_, stats.host_bytes);
      if (model.stats) Move(&steps_.Add(labels), stats.steps, model.loads);
      if (model.stats) Move(&evictions_.Add(labels), stats.evictions, model.loads);
      if (model.stats) Move(&preemptions_.Add(labels), stats.preemptions, model.loads);
      decode_.Add(labels).Set(stats.decode_seconds);
      sample_.Add(labels).Set(stats.sample_seconds);
      step_seconds_.Add(labels).Set(stats.step_seconds);
    }
    connections_.Add({}).Set(static_cast<double>(http.connections));
    Move(&accepted_.Add({}), http.accepted);
    Move(&hung_up_.Add({}), http.gone);
    Move(&malformed_.Add({}), http.malformed);
    Move(&too_slow_.Add({}), http.too_slow);
    Move(&records_.Add({}), recorder.written);
    Move(&dropped_.Add({}), recorder.dropped);
    degraded_.Add({}).Set(recorder.trouble.empty() ? 0 : 1);
    Move(&swaps_.Add({}), swaps);
    Move(&clock_jumps_.Add({}), clock_jumps);
    return prometheus::TextSerializer().Serialize(registry_.Collect());
  }

 private:
  // What counts from 0 again (a model was loaded anew) goes on where it was. `life`: how often it began; a
  // smaller count tells it too, but a model may sleep, be loaded and count as far as before between two
  // calls.
  void Move(Counter* counter, int64_t to, int64_t life = 0) {
    Seen& seen = seen_[counter];
    const bool anew = life != seen.life || to < seen.count;
    counter->Increment(static_cast<double>(anew ? to : to - seen.count));
    seen = {life, to};
  }
  Family<Counter>& MakeCounter(const char* name, const char* help) {
    return BuildCounter().Name(name).Help(help).Register(registry_);
  }
  Family<Gauge>& MakeGauge(const char* name, const char* help) {
    return BuildGauge().Name(name).Help(help).Register(registry_);
  }
  Family<Histogram>& MakeHistogram(const char* name, const char* help) {
    return BuildHistogram().Name(name).Help(help).Register(registry_);
  }

  std::mutex mutex_;
  struct Seen {
    int64_t life = 0;
    int64_t count = 0;
  };
  std::map<Counter*, Seen> seen_;  // what each that counts elsewhere was when it was last told
  prometheus::Registry registry_;
  Family<Counter>& requests_ = MakeCounter("headrace_requests_total", "Requests that ended, by HTTP status.");
  Family<Histogram>& first_ =
      MakeHistogram("headrace_time_to_first_token_seconds", "From a request's arrival to its first token.");
  Family<Histogram>& between_ =
      MakeHistogram("headrace_inter_token_seconds", "Between two tokens of one answer, as they are sent.");
  Family<Histogram>& queue_ =
      MakeHistogram("headrace_queue_seconds", "From a request's arrival to its first step.");
  Family<Counter>& prompt_ = MakeCounter("headrace_prompt_tokens_total", "Tokens of prompts.");
  Family<Counter>& cached_ =
      MakeCounter("headrace_cached_tokens_total", "Tokens of prompts that were taken from the prefix cache.");
  Family<Counter>& answer_ = MakeCounter("headrace_answer_tokens_total", "Tokens of answers.");
  Family<Gauge>& ready_ = MakeGauge("headrace_model_ready", "1 while the model is loaded.");
  Family<Gauge>& waiting_for_load_ =
      MakeGauge("headrace_load_waiting_requests", "Requests that wait for their model to be loaded.");
  Family<Counter>& loads_ = MakeCounter("headrace_model_loads_total", "Times that a model was loaded.");
  Family<Counter>& sleeps_ =
      MakeCounter("headrace_model_sleeps_total", "Times that a model was put to sleep.");
  Family<Gauge>& running_ = MakeGauge("headrace_running_requests", "Requests that compute now.");
  Family<Gauge>& waiting_ = MakeGauge("headrace_waiting_requests", "Requests that wait for a place.");
  Family<Gauge>& cells_ = MakeGauge("headrace_kv_cells", "Tokens that the cache holds at most.");
  Family<Gauge>& cells_used_ = MakeGauge("headrace_kv_cells_used", "Tokens in the cache.");
  Family<Gauge>& host_ = MakeGauge("headrace_host_cache_bytes", "Evicted prefixes and preempted requests.");
  Family<Gauge>& decode_ =
      MakeGauge("headrace_decode_seconds", "Time of the compute thread inside the model.");
  Family<Gauge>& sample_ = MakeGauge("headrace_sampling_seconds", "Time of the compute thread in sampling.");
  Family<Gauge>& step_seconds_ = MakeGauge("headrace_step_seconds", "Time of the compute thread in steps.");
  Family<Counter>& steps_ = MakeCounter("headrace_steps_total", "Steps of the model.");
  Family<Counter>& evictions_ = MakeCounter("headrace_evictions_total", "Prefixes that left the cache.");
  Family<Counter>& preemptions_ = MakeCounter("headrace_preemptions_total", "Requests that gave way.");
  Family<Gauge>& connections_ = MakeGauge("headrace_http_connections", "Open connections.");
  Family<Counter>& accepted_ = MakeCounter("headrace_http_accepted_total", "Connections that were accepted.");
  Family<Counter>& hung_up_ =
      MakeCounter("headrace_http_hang_ups_total", "Answers whose peer went before their end.");
  Family<Counter>& malformed_ = MakeCounter("headrace_http_malformed_total", "What came and was not HTTP.");
  Family<Counter>& too_slow_ =
      MakeCounter("headrace_http_too_slow_total", "Peers that sent or read too slowly.");
  Family<Counter>& records_ = MakeCounter("headrace_trace_records_total", "Records written to the spool.");
  Family<Counter>& dropped_ =
      MakeCounter("headrace_trace_dropped_total", "Records that could not be written.");
  Family<Gauge>& degraded_ =
      MakeGauge("headrace_trace_degraded", "1 while traces cannot be written or committed.");
  Family<Counter>& swaps_ =
      MakeCounter("headrace_model_swaps_total", "Models that were replaced while serving.");
  Family<Counter>& clock_jumps_ = MakeCounter("headrace_clock_jumps_total",
                                              "Times that the machine's clock jumped by more than a second.");
};

}  // namespace

std::unique_ptr<Metrics> Metrics::Make() { return std::make_unique<PrometheusMetrics>(); }

}  // namespace headrace::serve
