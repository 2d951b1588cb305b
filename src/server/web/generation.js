// One answer in the making: reads the stream into its message, measures it, and says how it ended. It goes on when
// another conversation is shown.

import {RequestFailure, streamChat} from './client.js';
import {requestBody} from './conversation.js';

const completeJson = (source) => {
  try {
    JSON.parse(source);
    return true;
  } catch {
    return false;
  }
};

export class Generation {
  // `changed` is called after every piece, `ended` once.
  constructor(conversation, node, model, {changed, ended}) {
    Object.assign(this, {conversation, node, model, changed, ended});
    this.controller = new AbortController();
    this.started = performance.now();
    this.pieces = 0;
    node.timing = {first: 0, thinking: 0, total: 0};
    node.model = model;
  }

  stop() {
    this.controller.abort();
  }

  elapsed() {
    return performance.now() - this.started;
  }

  // Pieces are nearly tokens; the exact rate comes with the usage at the end.
  liveRate() {
    const writing = this.elapsed() - this.node.timing.first;
    return this.pieces > 1 && writing > 200 ? ((this.pieces - 1) * 1000) / writing : 0;
  }

  async run() {
    const {node} = this;
    try {
      const body = requestBody(this.conversation, node.parent, this.model);
      for await (const chunk of streamChat(body, this.controller.signal)) {
        this.take(chunk);
        this.changed(this);
      }
    } catch (error) {
      this.fail(error);
    }
    node.timing.total = this.elapsed();
    if (node.finish !== 'tool_calls') node.tool_calls = node.tool_calls?.filter((call) => completeJson(call.arguments));
    this.conversation.updated = Date.now();
    this.ended(this);
  }

  take(chunk) {
    const {node} = this;
    if (chunk.usage) {
      node.usage = {prompt: chunk.usage.prompt_tokens, cached: chunk.usage.prompt_tokens_details?.cached_tokens ?? 0,
                    completion: chunk.usage.completion_tokens,
                    reasoning: chunk.usage.completion_tokens_details?.reasoning_tokens ?? 0};
    }
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const {content, reasoning_content: reasoning, tool_calls: calls} = choice.delta ?? {};
    if (content || reasoning || calls) {
      this.pieces++;
      if (!node.timing.first) node.timing.first = this.elapsed();
    }
    if (reasoning) node.reasoning = (node.reasoning ?? '') + reasoning;
    if (content) node.content += content;
    if (node.reasoning && (content || calls) && !node.timing.thinking) {
      node.timing.thinking = this.elapsed() - node.timing.first;
    }
    for (const call of calls ?? []) this.takeCall(call);
    if (choice.finish_reason) node.finish = choice.finish_reason;
  }

  takeCall({index, id, function: part}) {
    this.node.tool_calls ??= [];
    const call = (this.node.tool_calls[index] ??= {id: '', name: '', arguments: ''});
    if (id) call.id = id;
    if (part?.name) call.name = part.name;
    call.arguments += part?.arguments ?? '';
  }

  fail(error) {
    if (error.name === 'AbortError') {
      this.node.finish = 'stopped';
      return;
    }
    const {status = 0, code = '', retryAfter = 0, promptTokens, contextTokens} = error;
    this.node.finish = 'failed';
    this.node.error = {message: error.message, status, code, retryAfter, promptTokens, contextTokens};
    if (!(error instanceof RequestFailure)) this.node.error.message = `The request could not be made: ${error.message}`;
  }
}
