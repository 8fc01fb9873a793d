#include "serve/tokens.h"

#include "base/utf8.h"
#include "serve/chat_prompt.h"
#include "serve/json_body.h"
#include "serve/refusal.h"
#include "serve/with_model.h"

namespace headrace::serve {
namespace {

using nlohmann::ordered_json;

// The model that the call names, loaded: a language model first, where it names none.
void WithNamed(const std::shared_ptr<Ticket>& ticket, const std::string& name,
               std::function<void(Chosen)> go) {
  const Services& services = ticket->services();
  const Named named = services.models->FindAny(name);
  if (!named.backend) return (void)ticket->Refuse(NoSuchModel(services, name));
  WithModel(ticket, named, 0, std::move(go));
}

std::optional<api::Fault> TokensOf(const Served& served, const api::TokenizeCall& call,
                                   std::vector<model::Token>* tokens) {
  if (!call.messages.empty()) {
    ChatCall made;
    if (auto fault = MakeChatPrompt(served, call.messages, call.tools, call.render, "messages", &made))
      return fault;
    *tokens = made.prompt.prompt.keys();
    return std::nullopt;
  }
  if (auto fault = CannotFit(served, call.text.size(), call.text_at)) return fault;
  auto cut = served.session->Text(call.text, call.special, call.parse);
  if (!cut.ok()) return api::Fault::From(cut.status());
  *tokens = cut->keys();
  return std::nullopt;
}

// A text where it is one, else bytes.
ordered_json PieceJson(std::string_view piece) {
  if (CleanUtf8(piece) == piece) return std::string(piece);
  ordered_json bytes = ordered_json::array();
  for (const char c : piece) bytes.push_back(static_cast<int>(static_cast<unsigned char>(c)));
  return bytes;
}

std::string TokensBody(const Served& served, const api::TokenizeCall& call,
                       const std::vector<model::Token>& tokens) {
  ordered_json body = {
      {"count", tokens.size()}, {"max_model_len", served.session->context()}, {"tokens", tokens}};
  if (call.with_pieces) {
    body["tokens"] = ordered_json::array();
    for (const model::Token token : tokens)
      body["tokens"].push_back({{"id", token}, {"piece", PieceJson(served.model().Piece(token))}});
  }
  if (call.pieces) {
    body["token_strs"] = ordered_json::array();
    for (const model::Token token : tokens) body["token_strs"].push_back(served.model().Piece(token));
  }
  return Dump(body);
}

}  // namespace

void Tokenize(const std::shared_ptr<Ticket>& ticket) {
  const auto call = std::make_shared<api::TokenizeCall>();
  call->render = ticket->services().defaults.render;
  if (const auto fault = api::ParseTokenize(ticket->request().body, false, call.get()))
    return (void)ticket->Refuse(*fault);
  WithNamed(ticket, call->model, [ticket, call](const Chosen& chosen) {
    std::vector<model::Token> tokens;
    if (const auto fault = TokensOf(*chosen.served, *call, &tokens)) return (void)ticket->Refuse(*fault);
    ticket->Answer(TokensBody(*chosen.served, *call, tokens));
  });
}

void Detokenize(const std::shared_ptr<Ticket>& ticket) {
  const auto call = std::make_shared<api::TokenizeCall>();
  if (const auto fault = api::ParseTokenize(ticket->request().body, true, call.get()))
    return (void)ticket->Refuse(*fault);
  WithNamed(ticket, call->model, [ticket, call](const Chosen& chosen) {
    if (const auto fault = NotTokens(*chosen.served, call->tokens, std::string("tokens")))
      return (void)ticket->Refuse(*fault);
    const std::string text = chosen.served->model().Detokenize(call->tokens);
    ticket->Answer(Dump({{"prompt", text}, {"content", text}}));
  });
}

std::string TokenizerInfo(const Services& services) {
  ordered_json list = ordered_json::array();
  ordered_json body = {{"object", "list"}};
  for (const auto& served : services.models->loaded()) {
    const model::Model& model = served->model();
    if (list.empty()) {  // as vLLM tells it: of the first model
      body["bos_token"] = model.Name(model.bos());
      body["eos_token"] = model.Name(model.eos());
      body["chat_template"] =
          served->session->chat() ? ordered_json(served->session->chat()->source()) : ordered_json();
    }
    char hash[24];
    std::snprintf(hash, sizeof hash, "%016llx", static_cast<unsigned long long>(model.TokenizerHash()));
    list.push_back(
        {{"model", served->name},
         {"vocabulary", model.facts().vocabulary},
         {"bos", model.bos()},
         {"eos", model.eos()},
         {"ends", model.EndTokens()},
         {"hash", hash},
         {"chat_template",
          served->session->chat() ? ordered_json(served->session->chat()->source()) : ordered_json()},
         {"chat_template_hash",
          served->session->chat() ? ordered_json(served->session->chat()->hash()) : ordered_json()}});
  }
  body["data"] = std::move(list);
  return Dump(body);
}

}  // namespace headrace::serve
