// llama_speed LIBRARY_FOLDER MODEL THREADS REPEATS DECODE_CTX GEN_TOKENS [PREFILL_TOKENS...]
//
// The speed of llama.cpp's CPU library on a GGUF file, measured as ds4-bench measures ours: the same tokens, prompts cut
// into its default batches, decoding with given tokens and an argmax after every step. Prints JSON. bench/compare.py
// builds and runs it; there are no headers to include, so the few functions are declared here. Parameter structs are
// passed by value in memory, larger than they are: the library reads the part that it knows.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/rng.h"

extern "C" {
struct OpaqueParameters {
  alignas(8) char bytes[2048];
};
struct LlamaBatch {
  int32_t n_tokens;
  int32_t* tokens;
  float* embeddings;
  int32_t* positions;
  int32_t* n_sequence_ids;
  int32_t** sequence_ids;
  int8_t* logits;
};
void ggml_backend_load_all_from_path(const char* folder);
void llama_backend_init();
void llama_log_set(void (*log)(int, const char*, void*), void* context);
OpaqueParameters llama_model_default_params();
OpaqueParameters llama_context_default_params();
void* llama_model_load_from_file(const char* path, OpaqueParameters parameters);
void* llama_init_from_model(void* model, OpaqueParameters parameters);
void* llama_get_memory(void* context);
void llama_memory_clear(void* memory, bool data);
void llama_set_n_threads(void* context, int32_t n_threads, int32_t n_batch_threads);
uint32_t llama_n_batch(const void* context);
LlamaBatch llama_batch_get_one(int32_t* tokens, int32_t n_tokens);
int llama_decode(void* context, LlamaBatch batch);
float* llama_get_logits_ith(void* context, int32_t index);
const void* llama_model_get_vocab(void* model);
int32_t llama_vocab_n_tokens(const void* vocabulary);
}

namespace {

void stay_silent(int, const char*, void*) {}

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "llama_speed: %s\n", what);
  std::exit(1);
}

class Llama {
 public:
  Llama(const char* path, int n_threads, uint32_t n_ctx) {
    model_ = llama_model_load_from_file(path, llama_model_default_params());
    if (model_ == nullptr) fail("the model does not load");
    n_vocab_ = llama_vocab_n_tokens(llama_model_get_vocab(model_));
    OpaqueParameters parameters = llama_context_default_params();
    // The first field is n_ctx.
    *reinterpret_cast<uint32_t*>(parameters.bytes) = n_ctx;
    context_ = llama_init_from_model(model_, parameters);
    if (context_ == nullptr) fail("no context");
    llama_set_n_threads(context_, n_threads, n_threads);
  }

  std::vector<int32_t> tokens(size_t n) const {
    std::vector<int32_t> ids(n);
    const uint64_t seed = ds4::fnv1a64("tokens.bench");
    for (size_t i = 0; i < n; ++i) {
      ids[i] = static_cast<int32_t>(ds4::splitmix64_mix(seed + (i + 1) * ds4::kGoldenGamma) %
                                    static_cast<uint64_t>(n_vocab_));
    }
    return ids;
  }

  void clear() { llama_memory_clear(llama_get_memory(context_), true); }

  void run(std::span<int32_t> ids) {
    while (!ids.empty()) {
      const auto piece = ids.first(std::min<size_t>(ids.size(), llama_n_batch(context_)));
      ids = ids.subspan(piece.size());
      const auto batch = llama_batch_get_one(piece.data(), static_cast<int32_t>(piece.size()));
      if (llama_decode(context_, batch) != 0) fail("llama_decode failed");
    }
    const float* logits = llama_get_logits_ith(context_, -1);
    best_ = static_cast<int32_t>(std::max_element(logits, logits + n_vocab_) - logits);
  }

 private:
  void* model_;
  void* context_;
  int32_t n_vocab_;
  volatile int32_t best_ = 0;
};

void print_rates(const std::vector<double>& rates) {
  for (size_t i = 0; i < rates.size(); ++i) std::printf("%s%.4f", i == 0 ? "[" : ", ", rates[i]);
  std::printf("]");
}

template <class Run>
std::vector<double> measure(int repeats, int32_t n_tokens, const Run& run) {
  std::vector<double> rates;
  for (int i = 0; i < repeats; ++i) rates.push_back(n_tokens / run());
  return rates;
}

double prefill(Llama& llama, int32_t n_tokens) {
  std::vector<int32_t> ids = llama.tokens(static_cast<size_t>(n_tokens));
  llama.clear();
  const double start_s = now_s();
  llama.run(ids);
  return now_s() - start_s;
}

double decode(Llama& llama, int32_t ctx_tokens, int32_t gen_tokens) {
  std::vector<int32_t> ids = llama.tokens(static_cast<size_t>(ctx_tokens + gen_tokens));
  llama.clear();
  llama.run(std::span(ids).first(static_cast<size_t>(ctx_tokens)));
  const double start_s = now_s();
  for (int32_t step = 0; step < gen_tokens; ++step) {
    llama.run(std::span(ids).subspan(static_cast<size_t>(ctx_tokens + step), 1));
  }
  return now_s() - start_s;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) fail("usage: llama_speed LIBRARY_FOLDER MODEL THREADS REPEATS DECODE_CTX GEN_TOKENS [PREFILL_TOKENS...]");
  const int n_threads = std::atoi(argv[3]);
  const int repeats = std::atoi(argv[4]);
  const int ctx_tokens = std::atoi(argv[5]);
  const int gen_tokens = std::atoi(argv[6]);
  int n_ctx = ctx_tokens + gen_tokens;
  for (int i = 7; i < argc; ++i) n_ctx = std::max(n_ctx, std::atoi(argv[i]));

  llama_log_set(stay_silent, nullptr);
  ggml_backend_load_all_from_path(argv[1]);
  llama_backend_init();
  const double start_s = now_s();
  Llama llama(argv[2], n_threads, static_cast<uint32_t>(n_ctx + 1));
  std::vector<int32_t> one = llama.tokens(1);
  llama.run(one);
  std::printf("{\"threads\": %d, \"first_token_ms\": %.3f, \"prefill\": {", n_threads, 1e3 * (now_s() - start_s));
  constexpr int32_t kWarmupTokens = 128;
  prefill(llama, std::min(kWarmupTokens, n_ctx));
  for (int i = 7; i < argc; ++i) {
    const int n_tokens = std::atoi(argv[i]);
    std::printf("%s\"%d\": ", i == 7 ? "" : ", ", n_tokens);
    print_rates(measure(repeats, n_tokens, [&] { return prefill(llama, n_tokens); }));
  }
  std::printf("}, \"decode\": ");
  print_rates(measure(repeats, gen_tokens, [&] { return decode(llama, ctx_tokens, gen_tokens); }));
  std::printf("}\n");
}
