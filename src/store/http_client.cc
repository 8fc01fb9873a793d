#include "store/http_client.h"

#include <curl/curl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

namespace headrace::store {
namespace {

struct Transfer {
  HttpRequest request;
  HttpResponse response;
  std::promise<Result<HttpResponse>> promise;
  curl_slist* headers = nullptr;
  size_t sent = 0;
  char error[CURL_ERROR_SIZE] = {};

  ~Transfer() { curl_slist_free_all(headers); }
};

size_t OnBody(char* data, size_t size, size_t count, void* user) {
  auto* transfer = static_cast<Transfer*>(user);
  if (static_cast<int64_t>(transfer->response.body.size() + size * count) >
      transfer->request.max_response_bytes)
    return 0;
  transfer->response.body.append(data, size * count);
  return size * count;
}

size_t OnHeader(char* data, size_t size, size_t count, void* user) {
  auto* transfer = static_cast<Transfer*>(user);
  const std::string_view line(data, size * count);
  const size_t colon = line.find(':');
  if (line.starts_with("HTTP/")) transfer->response.headers.clear();
  if (colon != std::string_view::npos) {
    std::string name(line.substr(0, colon));
    for (char& c : name) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ')) value.remove_prefix(1);
    while (!value.empty() && (value.back() == '\r' || value.back() == '\n')) value.remove_suffix(1);
    transfer->response.headers[name] = std::string(value);
  }
  return size * count;
}

size_t OnSend(char* out, size_t size, size_t count, void* user) {
  auto* transfer = static_cast<Transfer*>(user);
  const size_t n = std::min(size * count, transfer->request.body.size() - transfer->sent);
  std::memcpy(out, transfer->request.body.data() + transfer->sent, n);
  transfer->sent += n;
  return n;
}

bool HasContentType(const HttpRequest& request) {
  return std::any_of(request.headers.begin(), request.headers.end(),
                     [](const std::string& header) { return header.starts_with("content-type:"); });
}

// The certificate authorities to trust; empty: where curl looks by itself. A curl that came in a wheel was
// built to look where Debian keeps them, and other distributions keep them elsewhere.
std::string CertificateFile() {
  if (const char* named = std::getenv("SSL_CERT_FILE"); named != nullptr && *named != '\0') return named;
  const char* own = curl_version_info(CURLVERSION_NOW)->cainfo;
  if (own != nullptr && access(own, R_OK) == 0) return "";
  for (const char* file : {"/etc/ssl/certs/ca-certificates.crt",  // Debian, Ubuntu, Arch, Alpine
                           "/etc/pki/tls/certs/ca-bundle.crt",    // Fedora, RHEL
                           "/etc/ssl/ca-bundle.pem",              // openSUSE
                           "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"})
    if (access(file, R_OK) == 0) return file;
  return "";
}

}  // namespace

struct HttpClient::Impl {
  const std::string certificates = CertificateFile();
  CURLM* multi = nullptr;
  int max_in_flight = 64;
  std::mutex mutex;
  std::deque<std::unique_ptr<Transfer>> waiting;
  bool closing = false;
  int in_flight = 0;
  std::thread thread;

  void Start(std::unique_ptr<Transfer> transfer) {
    CURL* easy = curl_easy_init();
    Transfer* raw = transfer.release();
    const HttpRequest& request = raw->request;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, raw);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, raw->error);
    curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    if (!certificates.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, certificates.c_str());
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout_seconds * 1000));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.connect_seconds * 1000));
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, OnBody);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, raw);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, OnHeader);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, raw);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    if (request.method == "HEAD") {
      curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (request.method == "PUT") {
      curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
      curl_easy_setopt(easy, CURLOPT_READFUNCTION, OnSend);
      curl_easy_setopt(easy, CURLOPT_READDATA, raw);
      curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    } else if (request.method == "POST") {
      curl_easy_setopt(easy, CURLOPT_POST, 1L);
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.data());
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    } else if (request.method != "GET") {
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    }
    raw->headers = curl_slist_append(raw->headers, "Expect:");
    if (!request.use_proxy) curl_easy_setopt(easy, CURLOPT_PROXY, "");
    // Otherwise curl sends the content type of a form.
    if (request.method == "POST" && !HasContentType(request))
      raw->headers = curl_slist_append(raw->headers, "Content-Type: application/xml");
    for (const auto& header : request.headers) raw->headers = curl_slist_append(raw->headers, header.c_str());
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, raw->headers);
    curl_multi_add_handle(multi, easy);
    ++in_flight;
  }

  void Finish(CURL* easy, CURLcode code) {
    void* raw = nullptr;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &raw);
    const std::unique_ptr<Transfer> transfer(static_cast<Transfer*>(raw));
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(multi, easy);
    curl_easy_cleanup(easy);
    --in_flight;
    if (code == CURLE_OK) {
      transfer->response.status = static_cast<int>(status);
      transfer->promise.set_value(std::move(transfer->response));
      return;
    }
    const std::string url = transfer->request.url.substr(0, transfer->request.url.find('?'));
    const std::string text = transfer->request.method + " " + url + ": " +
                             (transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(code));
    transfer->promise.set_value(code == CURLE_OPERATION_TIMEDOUT ? Status::Timeout(text)
                                                                 : Status::Unavailable(text));
  }

  void Loop() {
    for (;;) {
      {
        const std::lock_guard lock(mutex);
        while (!waiting.empty() && in_flight < max_in_flight) {
          auto next = std::move(waiting.front());
          waiting.pop_front();
          Start(std::move(next));
        }
        if (closing && in_flight == 0 && waiting.empty()) return;
      }
      int running = 0;
      curl_multi_perform(multi, &running);
      int left = 0;
      while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
        if (message->msg == CURLMSG_DONE) Finish(message->easy_handle, message->data.result);
      }
      if (running > 0 || in_flight == 0) curl_multi_poll(multi, nullptr, 0, 1000, nullptr);
    }
  }
};

HttpClient::HttpClient(int max_in_flight) : impl_(std::make_unique<Impl>()) {
  static const CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)global;
  impl_->multi = curl_multi_init();
  curl_multi_setopt(impl_->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, static_cast<long>(max_in_flight));
  impl_->max_in_flight = max_in_flight;
  impl_->thread = std::thread([impl = impl_.get()] { impl->Loop(); });
}

HttpClient::~HttpClient() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->closing = true;
  }
  curl_multi_wakeup(impl_->multi);
  impl_->thread.join();
  curl_multi_cleanup(impl_->multi);
}

std::optional<int64_t> HttpDateMicros(const std::string& text) {
  const time_t seconds = curl_getdate(text.c_str(), nullptr);
  if (seconds < 0) return std::nullopt;
  return static_cast<int64_t>(seconds) * 1'000'000;
}

std::future<Result<HttpResponse>> HttpClient::Send(HttpRequest request) {
  auto transfer = std::make_unique<Transfer>();
  transfer->request = std::move(request);
  auto future = transfer->promise.get_future();
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->waiting.push_back(std::move(transfer));
  }
  curl_multi_wakeup(impl_->multi);
  return future;
}

}  // namespace headrace::store
