"""From a request's JSON to the messages of encoder.py: what docs/server_api.md says of each dialect, once more.

Only what the captured requests use; anything else raises, so that nothing is compared by accident.
"""

import json
import re

BILLING = re.compile(r"x-anthropic-billing-header: cc_version=[\w.-]+;( [a-z_]+=[\w.-]+;)*(\n|$)")
NOT_SHOWN = ("type", "defer_loading", "async", "allowed_callers", "output_schema", "execution")
HOSTED = ("web_search",)
EFFORTS = {None: None, "minimal": None, "low": None, "medium": None, "high": "high", "xhigh": "max", "max": "max"}


def joined(texts):
    return "\n\n".join(texts)


def texts_of(content, types=("text", "input_text", "output_text", "reasoning_text")):
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    for part in content:
        if part["type"] not in types:
            raise ValueError(f"a part of type {part['type']}")
    return [part["text"] for part in content]


class Messages(list):
    def add_system(self, texts):
        kept = [text for text in (BILLING.sub("", text) for text in texts)]
        kept = [text for text, sent in zip(kept, texts) if text or not sent]
        if not kept and texts:
            return
        text = joined(kept)
        if self and self[-1]["role"] == "system":
            self[-1]["content"] = joined([t for t in (self[-1]["content"], text) if t])
        else:
            self.append({"role": "user" if self else "system", "content": text})

    def assistant(self):
        if not self or self[-1]["role"] != "assistant":
            self.append({"role": "assistant", "content": "", "tool_calls": []})
        return self[-1]

    def define(self, functions):
        if functions:
            if not self or self[0]["role"] != "system":
                self.insert(0, {"role": "system", "content": ""})
            self[0]["tools"] = [{"function": function} for function in functions]


def call(identifier, name, arguments):
    return {"id": identifier, "function": {"name": name, "arguments": arguments}}


def from_chat(body):
    messages = Messages()
    for message in body["messages"]:
        role = message["role"]
        if role in ("system", "developer"):
            messages.add_system(texts_of(message["content"]))
        elif role == "user":
            messages.append({"role": role, "content": joined(texts_of(message["content"]))})
        elif role == "assistant":
            turn = messages.assistant()
            turn["content"] = joined(texts_of(message.get("content")))
            turn["reasoning_content"] = message.get("reasoning_content")
            for sent in message.get("tool_calls") or []:
                turn["tool_calls"].append(call(sent["id"], sent["function"]["name"], sent["function"]["arguments"]))
        elif role == "tool":
            text = joined(texts_of(message["content"]))
            messages.append({"role": role, "tool_call_id": message["tool_call_id"], "content": text})
        else:
            raise ValueError(role)
    if body.get("tool_choice", "auto") != "auto":
        raise ValueError(body["tool_choice"])
    messages.define([tool["function"] for tool in body.get("tools") or []])
    return messages, body.get("reasoning_effort")


def anthropic_user(messages, content):
    texts = []

    def flush():
        if texts:
            messages.append({"role": "user", "content": joined(texts)})
            texts.clear()

    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        if block["type"] == "text":
            texts.append(block["text"])
        elif block["type"] == "tool_result":
            flush()
            if block.get("is_error"):
                raise ValueError("an error result")
            text = joined(texts_of(block.get("content")))
            messages.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": text})
        else:
            raise ValueError(block["type"])
    flush()


def anthropic_assistant(messages, content):
    turn = messages.assistant()
    for block in content:
        if block["type"] == "text":
            turn["content"] += block["text"]
        elif block["type"] == "thinking":
            turn["reasoning_content"] = block["thinking"]
        elif block["type"] == "tool_use":
            turn["tool_calls"].append(call(block["id"], block["name"], json.dumps(block["input"], ensure_ascii=False)))
        else:
            raise ValueError(block["type"])


def from_messages(body):
    messages = Messages()
    if body.get("system") is not None:
        messages.add_system(texts_of(body["system"]))
    for message in body["messages"]:
        if message["role"] == "system":
            messages.add_system(texts_of(message["content"]))
        elif message["role"] == "user":
            anthropic_user(messages, message["content"])
        elif message["role"] == "assistant":
            anthropic_assistant(messages, message["content"])
        else:
            raise ValueError(message["role"])
    if body.get("tool_choice", {"type": "auto"}) != {"type": "auto"}:
        raise ValueError(body["tool_choice"])
    functions = []
    for tool in body.get("tools") or []:
        shown = {key: tool[key] for key in ("name", "description") if tool.get(key) is not None}
        functions.append({**shown, "parameters": tool["input_schema"]})
    messages.define(functions)
    return messages, (body.get("output_config") or {}).get("effort")


def custom_function(tool):
    told = "The whole input of the tool, as raw text"
    if tool.get("format", {}).get("type") == "grammar":
        told += f". It must match this {tool['format']['syntax']} grammar:\n{tool['format']['definition']}"
    parameters = {
        "type": "object",
        "properties": {"input": {"type": "string", "description": told}},
        "required": ["input"],
        "additionalProperties": False,
    }
    return {"name": tool["name"], "description": tool["description"], "parameters": parameters}


def responses_functions(tools, name_space=""):
    functions = []
    for tool in tools:
        kind = tool["type"]
        if kind == "namespace":
            functions += responses_functions(tool["tools"], tool["name"])
        elif kind == "custom":
            functions.append(custom_function(tool))
        elif kind == "function" or (kind == "tool_search" and tool["execution"] == "client"):
            # A tool_search has no name of its own; a function keeps the place of its.
            shown = {} if "name" in tool else {"name": kind}
            shown.update({key: value for key, value in tool.items() if key not in NOT_SHOWN and value is not None})
            functions.append({**shown, "name": name_space + shown["name"]})
        elif kind not in HOSTED:
            raise ValueError(kind)
    return functions


def from_responses(body):
    messages = Messages()
    items = body["input"]
    reasoning = None
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        kind = item.get("type", "message")
        if kind == "reasoning":
            reasoning = "\n".join(texts_of(item["content"]))
        elif kind == "function_call":
            turn = messages.assistant()
            if reasoning is not None:
                turn["reasoning_content"], reasoning = reasoning, None
            turn["tool_calls"].append(call(item["call_id"], item.get("namespace", "") + item["name"], item["arguments"]))
        elif kind == "function_call_output":
            text = joined(texts_of(item["output"]))
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})
        elif kind == "message" and item["role"] in ("system", "developer"):
            messages.add_system(texts_of(item["content"]))
        elif kind == "message" and item["role"] == "user":
            messages.append({"role": "user", "content": joined(texts_of(item["content"]))})
        else:
            raise ValueError(item)
    if body.get("tool_choice", "auto") != "auto" or reasoning is not None:
        raise ValueError("not used by the captured requests")
    messages.define(responses_functions(body.get("tools") or []))
    return messages, (body.get("reasoning") or {}).get("effort")


READERS = {"chat/completions": from_chat, "messages": from_messages, "responses": from_responses}


def conversation(path, body):
    """(messages, effort) of a request; the server thinks by default, and no captured request switches it off."""
    endpoint = path.split("?")[0].removeprefix("/v1/").removesuffix("/count_tokens")
    messages, effort = READERS[endpoint](body)
    return messages, EFFORTS[effort]
