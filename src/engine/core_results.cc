// Core: what a step's rows say. Tokens are sampled, drafts verified, pieces delivered.
#include <algorithm>

#include "engine/core.h"

namespace headrace::engine {

void Core::TakeResults(const Plan& plan, double now) {
  const double before = clock_();
  const std::vector<Draw> draws = DrawTogether(plan);
  auto drawn = draws.begin();
  for (const Part& part : plan) {
    Job& job = *part.job;
    job.last_row = now;
    (job.committed > 0 ? stats_.decode_rows : stats_.prefill_rows) += part.rows;
    ScorePrompt(part);
    job.computed += part.rows;
    if (job.request.progress && job.committed == 0) job.out.processed = job.computed;
    if (!part.samples) continue;
    Sample(part, before, part.draft.empty() && drawn != draws.end() ? &*drawn++ : nullptr);
    if (!part.draft.empty()) VerifyDraft(part);
  }
  stats_.sample_seconds += clock_() - before;
}

// The tokens of rows without drafts, by several threads, in the order of their parts; none where one thread
// draws.
std::vector<Draw> Core::DrawTogether(const Plan& plan) {
  std::vector<Draw> draws;
  if (options_.draw_threads <= 1) return draws;
  for (const Part& part : plan)
    if (part.samples && part.draft.empty()) draws.push_back(DrawOf(*part.job, part.last_row()));
  drawer_.Together(draws);
  return draws;
}

Draw Core::DrawOf(Job& job, int row) {
  job.history.said = job.tokens;
  job.history.begin = job.request.prompt.size();
  return {decoder_->Logits(row), &job.request.sampling, &job.history, job.matcher.get(), job.sampled};
}

// The answer's next tokens: one, or one for each drafted token while they agree.
void Core::Sample(const Part& part, double now, const Draw* drawn) {
  Job& job = *part.job;
  if (job.first_token == 0) {
    job.first_token = now;
    job.usage.prefill_seconds = now - job.started;
  }
  if (job.request.max_tokens == 0) {  // only its prompt was asked about
    job.out.finish = Finish::kLength;
    return;
  }
  for (size_t i = 0; i <= part.draft.size(); ++i) {
    const bool known = drawn != nullptr && i == 0;
    const Draw draw = known ? *drawn : DrawOf(job, part.last_row() + static_cast<int>(i));
    const Token token = known ? draw.token : drawer_.One(draw);
    ++job.sampled;
    if (token < 0) {
      job.out.error =
          Status::Invalid("no token may follow: the grammar, logit_bias or the model's numbers leave none");
      return;
    }
    if (!TakeToken(job, token, draw.logits, false)) return;
    if (i < part.draft.size() && part.draft[i] != token) return;
  }
  if (job.matcher) TakeForced(job);
}

// Sampled tokens that agree with the draft are in the cache already; the rest of the draft is cut off.
void Core::VerifyDraft(const Part& part) {
  Job& job = *part.job;
  const auto drafted = static_cast<int32_t>(part.draft.size());
  const int32_t accepted =
      CommonLength(std::span(job.tokens).subspan(static_cast<size_t>(job.computed)), part.draft);
  job.computed += accepted;
  cache_.Truncate(job.path, job.computed);
  job.lookup.Verified(drafted, accepted);
  job.usage.drafted_tokens += drafted;
  job.usage.accepted_tokens += accepted;
  stats_.drafted += drafted;
  stats_.accepted += accepted;
}

// Log-probabilities of the prompt's tokens that these rows foretell. Before they count as computed.
void Core::ScorePrompt(const Part& part) {
  Job& job = *part.job;
  if (job.request.prompt_logprobs < 0) return;
  for (int32_t i = 0; i < part.rows; ++i) {
    const int32_t position = job.computed + i;
    if (!job.WantsScore(position)) continue;
    TokenOut out{job.tokens[static_cast<size_t>(position) + 1], 0, {}};
    out.logprob = Sampler::LogProbability(decoder_->Logits(part.first_row + i), out.token,
                                          job.request.prompt_logprobs, &out.top)
                      .logprob;
    job.out.prompt.push_back(std::move(out));
    job.scored = position + 1;
  }
}

// Adds a token to the answer. False where the answer ends with it.
bool Core::TakeToken(Job& job, Token token, std::span<const float> logits, bool forced) {
  const bool end = vocabulary_->IsEnd(token);
  if (job.matcher && !job.matcher->Accept(token)) {
    job.out.error = Status::Invalid("a token was chosen that its grammar refuses");
    return false;
  }
  if (end && !job.request.ignore_end) {
    job.out.finish = Finish::kEnd;
    return false;
  }
  const std::vector<Token>& stops = job.request.stop_tokens;
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
    job.out.finish = Finish::kStop;
    job.out.stop_token = token;
    return false;
  }
  job.tokens.push_back(token);
  ++job.committed;
  job.history.Said(token);
  TokenOut out{token, 0, {}};
  if (job.request.top_logprobs >= 0 && !logits.empty())
    out.logprob = Sampler::LogProbability(logits, token, job.request.top_logprobs, &out.top).logprob;
  job.out.tokens.push_back(std::move(out));
  if (forced) {
    ++job.usage.forced_tokens;
    ++stats_.forced;
  }
  if (job.committed <= job.request.sampling.min_tokens) {
    job.out.text += job.text.AddPlain(vocabulary_->Piece(token));
  } else {
    job.out.text += job.text.Add(vocabulary_->Piece(token), !job.matcher || job.matcher->may_end());
  }
  if (job.text.stopped()) {
    job.out.finish = Finish::kStop;
    return false;
  }
  if (job.text.turn_ended() || (job.matcher && job.matcher->done())) {
    job.out.finish = Finish::kEnd;
    return false;
  }
  if (job.committed >= job.limit || static_cast<int32_t>(job.tokens.size()) >= facts_.context) {
    job.out.finish = Finish::kLength;
    return false;
  }
  return true;
}

// What the grammar leaves no choice about is taken without asking the model; the last of its tokens is left
// to the model, which may join it with what follows.
void Core::TakeForced(Job& job) {
  if (options_.deterministic || !options_.jump) return;
  const std::string text = job.matcher->Forced();
  if (text.size() < 2) return;
  const std::vector<Token> tokens = vocabulary_->Tokenize(text);
  std::string back;
  for (const Token token : tokens) back += vocabulary_->Piece(token);
  if (back != text) return;  // a tokenizer that changes texts: the model writes this itself
  for (size_t i = 0; i + 1 < tokens.size() && i < static_cast<size_t>(options_.machine.most_forced) - 1; ++i)
    if (!TakeToken(job, tokens[i], {}, true)) return;
}

Usage Core::UsageNow(const Job& job) const {
  Usage usage = job.usage;
  usage.answer_tokens = job.committed;
  const double now = clock_();
  if (job.first_token == 0) usage.prefill_seconds = now - job.started;
  if (job.first_token > 0) usage.decode_seconds = now - job.first_token;
  return usage;
}

// Hands out what the step gave, and ends what has ended.
void Core::Deliver() {
  std::vector<std::shared_ptr<Job>> ended;
  for (const auto& [id, job] : running_) {
    if (job->out.finish != Finish::kNone || !job->out.error.ok()) {
      ended.push_back(job);
    } else if (!job->out.tokens.empty() || !job->out.prompt.empty() || job->out.processed >= 0) {
      Delta delta = std::move(job->out);
      job->out = {};
      if (job->request.report) delta.usage = UsageNow(*job);
      if (job->sink) job->sink(std::move(delta));
    }
  }
  for (const auto& job : ended) {
    const Status error = job->out.error;
    const engine::Finish how = error.ok() ? job->out.finish : Finish::kError;
    Finish(job, how, error);
  }
}

}  // namespace headrace::engine
