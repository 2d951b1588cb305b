// The types whose JSON Schemas answers are checked with.
import type OpenAI from "openai";
import type Anthropic from "@anthropic-ai/sdk";

export type ChatCompletion = OpenAI.Chat.Completions.ChatCompletion;
export type ChatCompletionChunk = OpenAI.Chat.Completions.ChatCompletionChunk;
export type Completion = OpenAI.Completions.Completion;
// In a stream finish_reason is null until the choice ends, as in the API itself; the types have one type for both.
type CompletionChoice = OpenAI.Completions.CompletionChoice;
type OpenChoice = Omit<CompletionChoice, "finish_reason"> & { finish_reason: CompletionChoice["finish_reason"] | null };
export type CompletionChunk = Omit<OpenAI.Completions.Completion, "choices"> & { choices: OpenChoice[] };
export type Model = OpenAI.Models.Model;
export type OpenaiError = { error: OpenAI.ErrorObject };
export type ResponseObject = OpenAI.Responses.Response;
export type ResponseStreamEvent = OpenAI.Responses.ResponseStreamEvent;
export type Message = Anthropic.Messages.Message;
export type RawMessageStreamEvent = Anthropic.Messages.RawMessageStreamEvent;
export type MessageTokensCount = Anthropic.Messages.MessageTokensCount;
export type AnthropicError = Anthropic.ErrorResponse;
export type ModelInfo = Anthropic.Models.ModelInfo;
