// Adapters as named things: added for a model that they fit, listed beside it, moved, removed.
#include <gguf.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "model/adapter_file.h"
#include "model/model.h"
#include "registry/registry.h"
#include "testing.h"
#include "tiny_model.h"

namespace headrace::registry {
namespace {

// A catalog with a tiny llama of two layers, "tiny".
class AdaptersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // What was never tried is tried by a program that finds nothing wrong.
    setenv("HEADRACE_PROGRAM", "/bin/true", 1);
    setenv("HEADRACE_CACHE", (folder_.path() + "/cache").c_str(), 1);
    testing::WriteTinyModel(File("tiny"), {});
    ASSERT_VALUE(catalog_, table::Catalog::Init(folder_.path() + "/catalog", {.threads = 1}));
    ASSERT_OK(registry().Add(File("tiny"), "tiny").status());
  }
  void TearDown() override {
    unsetenv("HEADRACE_PROGRAM");
    unsetenv("HEADRACE_CACHE");
  }
  std::string File(const std::string& name) const { return folder_.path() + "/" + name + ".gguf"; }
  Registry registry() const { return Registry(catalog_); }
  std::string Adapter(const std::string& name, uint64_t seed) const {
    testing::WriteTinyAdapter(File(name), seed);
    return File(name);
  }
  // As "name name…" of the list.
  std::string Names() const {
    const auto entries = registry().List();
    EXPECT_OK(entries.status());
    std::string text;
    for (const Entry& entry : *entries) text += (text.empty() ? "" : " ") + entry.name;
    return text;
  }
  // What is said of an adapter of these tensors: (name, rows, columns).
  struct Shape {
    const char* name;
    int64_t rows, columns;
  };
  std::string Refusal(const std::vector<Shape>& shapes, const std::string& architecture = "llama") {
    std::vector<std::vector<float>> values;
    std::vector<model::AdapterTensor> tensors;
    for (const Shape& one : shapes) values.emplace_back(static_cast<size_t>(one.rows * one.columns), 0.5F);
    for (size_t i = 0; i < shapes.size(); ++i)
      tensors.push_back({shapes[i].name, shapes[i].rows, shapes[i].columns, values[i].data()});
    EXPECT_OK(model::WriteAdapter(File("other"), {.architecture = architecture, .name = "other", .alpha = 1},
                                  tensors));
    const auto added = registry().AddAdapter(File("other"), "tiny", "other");
    return added.ok() ? "" : added.status().ToString();
  }

  testing::TempFolder folder_;
  std::shared_ptr<table::Catalog> catalog_;
};

TEST_F(AdaptersTest, AreListedBesideTheirModel) {
  AddOptions options;
  options.who = "ann";
  options.why = "first";
  ASSERT_VALUE(const Entry added, registry().AddAdapter(Adapter("a", 1), "tiny", "team", options));
  EXPECT_EQ(added.name, "tiny:team");
  EXPECT_EQ(added.adapter_of, "tiny");
  ASSERT_VALUE(const Entry base, registry().Get("tiny"));
  ASSERT_TRUE(added.adapter);
  EXPECT_EQ(added.adapter->base, "tiny");
  EXPECT_EQ(added.adapter->base_sha256, base.sha256);
  EXPECT_EQ(added.adapter->rank, 4);
  EXPECT_EQ(added.adapter->alpha, 4.0);
  EXPECT_EQ(added.facts.parameters, 4 * (64 + 64) + 4 * (64 + 128));
  EXPECT_FALSE(base.adapter || !base.adapter_of.empty());

  // Other models whose names begin alike, and sort between by their bytes.
  ASSERT_OK(registry().Add(File("tiny"), "tiny-2").status());
  ASSERT_OK(registry().Add(File("tiny"), "tin").status());
  ASSERT_OK(registry().AddAdapter(Adapter("b", 2), "tiny-2", "team").status());
  ASSERT_OK(registry().AddAdapter(Adapter("b", 2), "tiny", "b").status());
  EXPECT_EQ(Names(), "tin tiny tiny:b tiny:team tiny-2 tiny-2:team");
  ASSERT_VALUE(const auto of, registry().AdaptersOf("tiny"));
  ASSERT_EQ(of.size(), 2U);
  EXPECT_EQ(of[0].name + " " + of[1].name, "tiny:b tiny:team");
  EXPECT_EQ(of[0].adapter->base, "tiny-2") << "the file was added to that one first";
  EXPECT_EQ(of[0].adapter_of, "tiny");
  ASSERT_VALUE(const auto none, registry().AdaptersOf("tin"));
  EXPECT_TRUE(none.empty());
}

TEST_F(AdaptersTest, MoveAndGoBack) {
  ASSERT_VALUE(const Entry first, registry().AddAdapter(Adapter("a", 1), "tiny", "team"));
  ASSERT_VALUE(const Entry again, registry().AddAdapter(File("a"), "tiny", "team"));
  EXPECT_EQ(again.revision, first.revision);
  ASSERT_VALUE(const Entry second, registry().AddAdapter(Adapter("b", 2), "tiny", "team"));
  EXPECT_NE(second.sha256, first.sha256);
  EXPECT_EQ(second.revision, first.revision + 1);
  ASSERT_VALUE(const Entry back, registry().Rollback("tiny:team", 0, "ann", "it was worse"));
  EXPECT_EQ(back.sha256, first.sha256);
  EXPECT_EQ(back.adapter_of, "tiny");
  ASSERT_VALUE(const auto history, registry().History("tiny:team"));
  EXPECT_EQ(history.size(), 3U);
  EXPECT_EQ(history[0].why, "it was worse");
}

TEST_F(AdaptersTest, KeepTheirModel) {
  ASSERT_VALUE(const Entry added, registry().AddAdapter(Adapter("a", 1), "tiny", "team"));
  const Status refused = registry().Remove("tiny", true, "ann");
  EXPECT_TRUE(refused.Is(Code::kInvalid));
  EXPECT_NE(refused.ToString().find("tiny:team"), std::string::npos) << refused.ToString();
  EXPECT_EQ(Names(), "tiny tiny:team");

  ASSERT_OK(catalog_->Collect({.grace_us = 0}, {}, [](const table::CollectReport&) {}));
  ASSERT_VALUE(const std::string file, registry().LocalFile(added));
  ASSERT_VALUE(const std::string kept, ReadFile(file));
  ASSERT_VALUE(const std::string was, ReadFile(File("a")));
  EXPECT_TRUE(kept == was);

  ASSERT_OK(registry().Remove("tiny:team", true, "ann"));
  EXPECT_FALSE(std::filesystem::exists(file));
  ASSERT_OK(registry().Remove("tiny", true, "ann"));
  EXPECT_EQ(Names(), "");
}

TEST_F(AdaptersTest, ThatDoNotFitAreRefused) {
  EXPECT_EQ(Refusal({{"blk.0.attn_q.weight.lora_a", 2, 64}, {"blk.0.attn_q.weight.lora_b", 64, 2}}), "");
  const auto holds = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  holds(Refusal({{"blk.0.attn_q.weight.lora_a", 2, 64}, {"blk.0.attn_q.weight.lora_b", 64, 2}}, "gemma3"),
        "for the architecture gemma3, and the model is of llama");
  holds(Refusal({{"blk.7.attn_q.weight.lora_a", 2, 64}, {"blk.7.attn_q.weight.lora_b", 64, 2}}),
        "blk.7.attn_q.weight, which the model has not");
  holds(Refusal({{"blk.0.attn_q.weight.lora_a", 2, 96}, {"blk.0.attn_q.weight.lora_b", 64, 2}}),
        "as (64, 96), and the model's is (64, 64)");
  holds(Refusal({{"blk.0.ffn_up.weight.lora_a", 2, 64}, {"blk.0.ffn_up.weight.lora_b", 64, 2}}),
        "as (64, 64), and the model's is (128, 64)");
  holds(Refusal({{"blk.0.attn_q.weight.lora_a", 2, 64}, {"blk.0.attn_q.weight.lora_b", 64, 3}}),
        "do not fit each other: (2, 64) and (64, 3)");
  holds(Refusal({{"blk.0.attn_q.weight.lora_a", 2, 64}}), "one half is missing");
  holds(Refusal({{"blk.0.attn_q.weight", 64, 64}}), "is not a tensor of a LoRA adapter");
  holds(Refusal({}), "changes no weights");
  EXPECT_EQ(Names(), "tiny tiny:other");
  // llama.cpp agrees with what is taken and what is not.
  ASSERT_VALUE(const auto loaded, model::Model::Load(File("tiny")));
  ASSERT_OK(loaded->LoadAdapter(Adapter("fits", 3)).status());
  EXPECT_OK(model::CheckAdapter(File("fits"), File("tiny")).status());
  testing::WriteTinyModel(File("one"), {.layers = 1});
  EXPECT_FALSE(model::CheckAdapter(File("fits"), File("one")).ok());
  ASSERT_VALUE(const auto other, model::Model::Load(File("one")));
  EXPECT_FALSE(other->LoadAdapter(File("fits")).ok());
}

TEST_F(AdaptersTest, AndModelsAreToldApart) {
  const auto refused = [&](const Result<Entry>& added, const std::string& part) {
    ASSERT_FALSE(added.ok());
    EXPECT_NE(added.status().ToString().find(part), std::string::npos) << added.status().ToString();
  };
  refused(registry().Add(File("tiny"), "tiny:2"), "choose a name without ':'");
  refused(registry().AddAdapter(File("tiny"), "tiny", "two"), "is not an adapter");
  refused(registry().AddAdapter(Adapter("a", 1), "nobody", "team"), "there is no model 'nobody'");
  refused(registry().AddAdapter(File("a"), "tiny", "a:b"), "no adapter's name");
  refused(registry().AddAdapter(File("a"), "tiny", ""), "no adapter's name");
  refused(registry().Add(File("a"), "a"), "is an adapter of a model, and no model");
  ASSERT_OK(registry().AddAdapter(File("a"), "tiny", "team").status());
  refused(registry().AddAdapter(File("a"), "tiny:team", "b"), "is an adapter itself");

  ASSERT_VALUE(const ModelFiles files, FindModelFiles("tiny:team", catalog_));
  EXPECT_EQ(files.entry.name, "tiny");
  EXPECT_FALSE(files.adapter.empty());
  EXPECT_NE(files.adapter, files.path);
  const auto model = FindModelFile("tiny:team", catalog_);
  EXPECT_TRUE(model.status().Is(Code::kInvalid)) << model.status().ToString();
}

// The model's name moves to another one, which they do not fit.
TEST_F(AdaptersTest, OfAModelThatBecameAnother) {
  ASSERT_OK(registry().AddAdapter(Adapter("a", 1), "tiny", "team").status());
  testing::WriteTinyModel(File("one"), {.layers = 1});
  ASSERT_OK(registry().Add(File("one"), "tiny").status());
  const auto files = FindModelFiles("tiny:team", catalog_);
  ASSERT_FALSE(files.ok());
  EXPECT_NE(files.status().ToString().find("'tiny:team' does not fit 'tiny' as it is now"), std::string::npos)
      << files.status().ToString();
}

// Keys of a type that makes llama.cpp abort are refused before it sees them.
TEST_F(AdaptersTest, WithKeysOfWrongTypesAreRefused) {
  gguf_context* file = gguf_init_empty();
  gguf_set_val_str(file, "general.type", "adapter");
  gguf_set_val_str(file, "general.architecture", "llama");
  gguf_set_val_str(file, "adapter.type", "lora");
  gguf_set_val_u32(file, "adapter.lora.alpha", 4);
  gguf_write_to_file(file, File("typed").c_str(), false);
  const auto alpha = registry().AddAdapter(File("typed"), "tiny", "typed");
  EXPECT_NE(alpha.status().ToString().find("adapter.lora.alpha is not a float32"), std::string::npos)
      << alpha.status().ToString();
  gguf_set_val_f32(file, "adapter.lora.alpha", 4);
  gguf_set_val_u32(file, "adapter.type", 4);
  gguf_write_to_file(file, File("typed").c_str(), false);
  const auto type = registry().AddAdapter(File("typed"), "tiny", "typed");
  EXPECT_NE(type.status().ToString().find("only LoRA is"), std::string::npos) << type.status().ToString();
  gguf_free(file);
  ASSERT_VALUE(const std::string whole, ReadFile(Adapter("a", 1)));
  ASSERT_OK(ReplaceFile(File("short"), whole.substr(0, whole.size() / 2), false));
  EXPECT_TRUE(registry().AddAdapter(File("short"), "tiny", "short").status().Is(Code::kCorrupt));
}

}  // namespace
}  // namespace headrace::registry
