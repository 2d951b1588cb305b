#include "constrain/matcher_store.h"

#include <algorithm>
#include <utility>

namespace ds4 {

uint32_t MatcherStore::add_stack(GrammarState state, uint32_t below) {
  const uint64_t key = (uint64_t{state} << 32U) | below;
  const auto [found, is_new] = stack_ids_.try_emplace(key, static_cast<uint32_t>(stacks_.size()));
  if (is_new) {
    const auto depth = static_cast<uint16_t>(below == kNoStack ? 0 : stacks_[below].depth + 1);
    stacks_.push_back({state, below, depth});
    seen_.push_back(0);
  }
  return found->second;
}

bool MatcherStore::only_ends(GrammarState state) const {
  const ByteGrammar::State& s = grammar_.state(state);
  return s.is_end && s.bytes.empty() && s.calls.empty() && s.jumps.empty();
}

// Adds the readers that a stack leads to without reading.
void MatcherStore::follow(uint32_t stack) {
  work_.push_back(stack);
  while (!work_.empty()) {
    const uint32_t id = work_.back();
    work_.pop_back();
    if (std::exchange(seen_[id], round_) == round_) continue;
    const Stack top = stacks_[id];
    const ByteGrammar::State& state = grammar_.state(top.state);
    // Whoever may stand here can also get out within the depth: there is always a way on.
    if (top.depth + state.height > ByteGrammar::kMaxDepth) continue;
    if (!state.bytes.empty()) readers_.push_back(id);
    follow_edges(top);
  }
}

void MatcherStore::follow_edges(const Stack& top) {
  const ByteGrammar::State& state = grammar_.state(top.state);
  for (const GrammarState to : state.jumps) work_.push_back(add_stack(to, top.below));
  for (const ByteGrammar::CallEdge& call : state.calls) {
    if (top.depth + grammar_.state(call.back).height > ByteGrammar::kMaxDepth) continue;
    // Nothing is left to do there: the rule comes back to where this one does.
    const bool is_last = top.below != kNoStack && only_ends(call.back);
    const uint32_t below = is_last ? top.below : add_stack(call.back, top.below);
    work_.push_back(add_stack(call.rule, below));
  }
  if (!state.is_end) return;
  if (top.below == kNoStack) {
    can_end_ = true;
  } else {
    work_.push_back(top.below);
  }
}

int32_t MatcherStore::finish_config() {
  std::ranges::sort(readers_);
  int32_t id = kDead;
  if (!readers_.empty() || can_end_) {
    const auto [found, is_new] = config_ids_.try_emplace({readers_, can_end_}, static_cast<int32_t>(configs_.size()));
    id = found->second;
    if (is_new) {
      const bool is_syntax = std::ranges::any_of(
          readers_, [this](uint32_t stack) { return !grammar_.state(stacks_[stack].state).is_payload; });
      configs_.push_back({readers_, can_end_, is_syntax, nullptr});
      next_.emplace_back().fill(kUnknown);
    }
  }
  readers_.clear();
  can_end_ = false;
  return id;
}

int32_t MatcherStore::start(GrammarState state) {
  ++round_;
  follow(add_stack(state, kNoStack));
  return finish_config();
}

int32_t MatcherStore::copy(const MatcherStore& other, int32_t config) {
  const Config& from = other.configs_[static_cast<size_t>(config)];
  for (const uint32_t stack : from.stacks) {
    std::vector<GrammarState> states;
    for (uint32_t at = stack; at != kNoStack; at = other.stacks_[at].below) states.push_back(other.stacks_[at].state);
    uint32_t below = kNoStack;
    for (; !states.empty(); states.pop_back()) below = add_stack(states.back(), below);
    readers_.push_back(below);
  }
  can_end_ = from.can_end;
  return finish_config();
}

int32_t MatcherStore::next(int32_t config, uint8_t byte) {
  const auto at = static_cast<size_t>(config);
  const int32_t known = next_[at][byte];
  if (known != kUnknown) return known;
  ++round_;
  for (size_t i = 0; i < configs_[at].stacks.size(); ++i) {
    const Stack stack = stacks_[configs_[at].stacks[i]];
    for (const ByteGrammar::ByteEdge& edge : grammar_.state(stack.state).bytes) {
      if (byte >= edge.first && byte <= edge.last) follow(add_stack(edge.to, stack.below));
    }
  }
  const int32_t result = finish_config();
  next_[at][byte] = result;
  return result;
}

// The same stack in states that many others are like.
uint32_t MatcherStore::representative(uint32_t stack, size_t n_bytes) {
  if (stack == kNoStack) return stack;
  const Stack top = stacks_[stack];
  return add_stack(grammar_.representative(top.state, n_bytes), representative(top.below, n_bytes));
}

// Where the same tokens may follow as at `config`. A token may follow where it may follow one of the stacks, so each
// can be replaced alone.
int32_t MatcherStore::config_like(int32_t config, size_t n_bytes) {
  const auto at = static_cast<size_t>(config);
  for (size_t i = 0; i < configs_[at].stacks.size(); ++i) {
    readers_.push_back(representative(configs_[at].stacks[i], n_bytes));
  }
  std::ranges::sort(readers_);
  const auto rest = std::ranges::unique(readers_);
  readers_.erase(rest.begin(), rest.end());
  can_end_ = configs_[at].can_end;
  return finish_config();
}

const TokenMask& MatcherStore::mask(int32_t config, const TokenTrie& trie) {
  const auto at = static_cast<size_t>(config);
  if (configs_[at].mask == nullptr) {
    const auto like = static_cast<size_t>(config_like(config, trie.max_token_bytes()));
    if (configs_[like].mask == nullptr) {
      auto mask = std::make_shared<const TokenMask>(compute_mask(static_cast<int32_t>(like), trie));
      configs_[like].mask = std::move(mask);
      ++n_masks_;
    }
    configs_[at].mask = configs_[like].mask;
  }
  return *configs_[at].mask;
}

TokenMask MatcherStore::compute_mask(int32_t config, const TokenTrie& trie) {
  TokenMask mask(static_cast<size_t>(trie.n_vocab()));
  if (can_end(config)) mask.allow(static_cast<size_t>(trie.eos_id()));
  std::vector<int32_t> path(trie.max_token_bytes() + 1, kDead);
  path[0] = config;
  const std::span<const TokenTrie::Node> nodes = trie.nodes();
  const std::span<const int32_t> tokens = trie.tokens();
  for (size_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    const int32_t after = next(path[node.depth], node.byte);
    if (after == kDead) {
      i = node.end;
      continue;
    }
    path[node.depth + 1U] = after;
    for (size_t n = 0; n < node.n_tokens; ++n) mask.allow(static_cast<size_t>(tokens[node.first_token + n]));
    ++i;
  }
  return mask;
}

}  // namespace ds4
