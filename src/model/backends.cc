#include "model/backends.h"

#include <dlfcn.h>
#include <ggml-backend.h>
#include <llama.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <optional>

#include "base/cache_folder.h"

namespace headrace::model {
namespace {

constexpr std::string_view kCpuPrefix = "libggml-cpu";
constexpr std::string_view kSuffix = ".so";
// In the order in which ggml itself prefers them.
constexpr std::array<std::string_view, 5> kAccelerators = {"cuda", "hip", "sycl", "vulkan", "opencl"};

std::string DlError() {
  const char* text = dlerror();
  return text == nullptr ? "unknown error" : text;
}

// The folder of libggml's CPU variants: they lie beside it, or, in a Python wheel, in the package's folder
// (auditwheel puts libraries that are linked into headrace.libs beside the package).
Result<std::filesystem::path> Folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&ggml_backend_load), &info) == 0 || info.dli_fname == nullptr)
    return Status::Unsupported("where libggml was loaded from is not known");
  std::error_code error;
  const auto path = std::filesystem::canonical(info.dli_fname, error);
  if (error) return Status::Unsupported(std::string(info.dli_fname) + ": " + error.message());
  const std::filesystem::path beside = path.parent_path();
  const std::filesystem::path package = beside.parent_path() / "headrace" / "backends";
  return beside.filename() == "headrace.libs" && std::filesystem::is_directory(package, error) ? package
                                                                                               : beside;
}

// A backend without a score runs on every machine that its file runs on.
int Score(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return 0;
  const auto score = reinterpret_cast<int (*)()>(dlsym(library, "ggml_backend_score"));
  const int result = score == nullptr ? 1 : score();
  dlclose(library);
  return result;
}

std::vector<CpuVariant> CpuVariants(const std::filesystem::path& folder) {
  std::vector<CpuVariant> result;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string file = entry.path().filename().string();
    if (!file.starts_with(kCpuPrefix) || !file.ends_with(kSuffix)) continue;
    const std::string name = file.substr(kCpuPrefix.size(), file.size() - kCpuPrefix.size() - kSuffix.size());
    result.push_back(
        {name.empty() ? "native" : name.substr(1), Score(entry.path().string()), entry.path().string()});
  }
  std::sort(result.begin(), result.end(), [](const CpuVariant& a, const CpuVariant& b) {
    return a.score != b.score ? a.score > b.score : a.name < b.name;
  });
  return result;
}

std::string Names(const std::vector<CpuVariant>& variants) {
  std::string result;
  for (const CpuVariant& one : variants)
    if (one.score > 0) result += (result.empty() ? "" : ", ") + one.name;
  return result.empty() ? "none" : result;
}

// Where accelerators' backends may lie: beside libggml, and in the folders of HEADRACE_BACKENDS (separated by
// colons) or, where that is not set, in every folder of ~/.cache/headrace/backends.
std::vector<std::filesystem::path> Folders(const std::filesystem::path& beside) {
  std::vector<std::filesystem::path> result = {beside};
  if (const char* named = std::getenv("HEADRACE_BACKENDS"); named != nullptr) {
    for (std::string_view left = named; !left.empty();) {
      const size_t colon = std::min(left.find(':'), left.size());
      if (colon > 0) result.emplace_back(left.substr(0, colon));
      left.remove_prefix(std::min(colon + 1, left.size()));
    }
    return result;
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(CacheFolder("backends"), error))
    result.push_back(entry.path());
  return result;
}

void LoadAccelerator(const std::filesystem::path& file, Backends* into) {
  const std::string name = file.filename().string();
  // Opened here first: ggml does not say why a library cannot be opened.
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    into->problems.push_back(name + ": " + DlError());
    return;
  }
  const ggml_backend_reg_t loaded = ggml_backend_load(file.c_str());
  dlclose(library);
  if (loaded == nullptr) {
    into->problems.push_back(name + ": it is no backend of ggml " + ggml_version());
  } else if (ggml_backend_reg_dev_count(loaded) == 0) {
    into->problems.push_back(name + ": it finds no device");
  }
}

void LoadAccelerators(const std::filesystem::path& beside, Backends* into) {
  const auto folders = Folders(beside);
  for (const std::string_view name : kAccelerators) {
    const std::string file = "libggml-" + std::string(name) + std::string(kSuffix);
    const auto found = std::find_if(folders.begin(), folders.end(), [&](const auto& folder) {
      std::error_code error;
      return std::filesystem::exists(folder / file, error);
    });
    if (found != folders.end()) LoadAccelerator(*found / file, into);
  }
}

std::string_view KindName(enum ggml_backend_dev_type type) {
  switch (type) {
    case GGML_BACKEND_DEVICE_TYPE_CPU:
      return "cpu";
    case GGML_BACKEND_DEVICE_TYPE_GPU:
      return "gpu";
    case GGML_BACKEND_DEVICE_TYPE_IGPU:
      return "integrated gpu";
    default:
      return "accelerator";
  }
}

std::vector<Device> Devices() {
  std::vector<Device> result;
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    ggml_backend_dev_props facts{};
    ggml_backend_dev_get_props(ggml_backend_dev_get(i), &facts);
    result.push_back({facts.name == nullptr ? "" : facts.name,
                      facts.description == nullptr ? "" : facts.description,
                      std::string(KindName(facts.type)), static_cast<int64_t>(facts.memory_free),
                      static_cast<int64_t>(facts.memory_total)});
  }
  std::stable_partition(result.begin(), result.end(), [](const Device& one) { return one.kind != "cpu"; });
  return result;
}

Result<Backends> Load() {
  const std::string_view version = llama_version();
  // "0.5.0-dev" where the library was not built from a tag.
  if (version.substr(0, version.find('-')) != HEADRACE_LLAMA_VERSION)
    return Status::Unsupported(
        std::string("this program was built with the headers of llama.cpp " HEADRACE_LLAMA_VERSION
                    " and runs with the library of ") +
        llama_version() + ": build it again");
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);  // it tells each file that it loads
  HEADRACE_ASSIGN(const std::filesystem::path folder, Folder());
  const char* wanted = std::getenv("HEADRACE_CPU");
  HEADRACE_ASSIGN(const CpuVariant cpu, ChooseCpu(CpuVariants(folder), wanted == nullptr ? "" : wanted));
  Backends result;
  result.cpu = cpu.name;
  // Accelerators first, as ggml's own order of devices has it.
  LoadAccelerators(folder, &result);
  if (ggml_backend_load(cpu.path.c_str()) == nullptr)
    return Status::Unsupported(cpu.path + " does not load as a backend of ggml " + ggml_version());
  result.devices = Devices();
  return result;
}

}  // namespace

Result<CpuVariant> ChooseCpu(const std::vector<CpuVariant>& variants, std::string_view wanted) {
  if (variants.empty())
    return Status::NotFound("there is no libggml-cpu beside libggml: ./dev setup engine puts it there");
  const CpuVariant* best = nullptr;
  for (const CpuVariant& one : variants) {
    if (!wanted.empty() && one.name != wanted) continue;
    if (best == nullptr || one.score > best->score) best = &one;
  }
  if (best != nullptr && best->score > 0) return *best;
  const std::string can = "; it can run: " + Names(variants);
  if (wanted.empty()) return Status::Invalid("this machine's CPU can run no variant of ggml" + can);
  return Status::Invalid("HEADRACE_CPU: " +
                         (best == nullptr
                              ? "there is no variant '" + std::string(wanted) + "' on this machine"
                              : "this machine's CPU cannot run '" + std::string(wanted) + "'") +
                         can);
}

Result<Backends> LoadBackends() {
  static std::mutex mutex;
  static std::optional<Result<Backends>> loaded;
  const std::lock_guard lock(mutex);
  if (!loaded) loaded = Load();
  return *loaded;
}

}  // namespace headrace::model
