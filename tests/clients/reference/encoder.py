"""The chat encoding of the model as a second implementation, to compare the server's prompts with.

Written from the description of the format (../shared/spec/chat.md beside the repository) alone; shares nothing with
src/chat. encode() returns a list of items: str for literal text, Control for a control token; adjacent texts are joined.
"""

import json


class Control(str):
    """A control token; equal to no text, whatever that spells."""

    def __eq__(self, other):
        return isinstance(other, Control) and str.__eq__(self, other)

    def __ne__(self, other):
        return not self == other

    __hash__ = str.__hash__


BOS = Control("<｜begin▁of▁sentence｜>")
EOS = Control("<｜end▁of▁sentence｜>")
USER = Control("<｜User｜>")
ASSISTANT = Control("<｜Assistant｜>")
THINK = Control("<think>")
THINK_END = Control("</think>")
DSML = Control("｜DSML｜")
REMINDER = Control("<｜latest_reminder｜>")
TASKS = {name: Control(f"<｜{name}｜>") for name in ("action", "query", "authority", "domain", "title", "read_url")}

ABSOLUTE_EFFORT = (
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, "
    "rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, considered alternative, "
    "and rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n"
)
BEYOND_EFFORT = (
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"
    "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose the "
    "problem into its most fundamental components, trace every causal chain to its root, and resolve the underlying cause "
    "rather than any surface symptom.\n"
    "Do not stop reasoning until you have independently verified the solution from multiple angles and are certain that no "
    "assumption remains unchecked and no error remains undiscovered.\n\n"
)
EFFORT_TEXTS = {
    "preview": {None: "", "high": "", "max": ABSOLUTE_EFFORT},
    "0731": {None: "", "low": "", "high": ABSOLUTE_EFFORT, "max": BEYOND_EFFORT},
}

# «D» stands for the DSML control token, «T» and «/T» for the think pair.
TOOLS_BLOCK = """## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<«D»tool_calls>" block like the following:

<«D»tool_calls>
<«D»invoke name="$TOOL_NAME">
<«D»parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</«D»parameter>
...
</«D»invoke>
<«D»invoke name="$TOOL_NAME2">
...
</«D»invoke>
</«D»tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by «T»), you MUST output your complete reasoning inside «T»...«/T» BEFORE any tool calls or final response.

Otherwise, output directly after «/T» with tool calls or final response.

### Available Tool Schemas

«schemas»

You MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.
"""
PLACEHOLDERS = {"D": DSML, "T": THINK, "/T": THINK_END}
FORMAT_HEAD = "## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"


def dump(value):
    return json.dumps(value, ensure_ascii=False)


def template(text, **texts):
    items = []
    for i, piece in enumerate(text.replace("»", "«").split("«")):
        items.append(piece if i % 2 == 0 else PLACEHOLDERS.get(piece) or texts[piece])
    return items


def call_items(call):
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"arguments": function["arguments"]}
    items = template('<«D»invoke name="«name»">\n', name=function["name"])
    for i, (key, value) in enumerate(arguments.items()):
        is_text = isinstance(value, str)
        items += ["\n"] if i else []
        items += template(
            '<«D»parameter name="«key»" string="«is_text»">«value»</«D»parameter>',
            key=key,
            is_text="true" if is_text else "false",
            value=value if is_text else dump(value),
        )
    return items + template("\n</«D»invoke>")


def calls_items(calls):
    items = template("\n\n<«D»tool_calls>\n")
    for i, call in enumerate(calls):
        items += (["\n"] if i else []) + call_items(call)
    return items + template("\n</«D»tool_calls>")


def result_text(content):
    if not isinstance(content, list):
        return content or ""
    texts = [part["text"] if part.get("type") == "text" else f"[Unsupported {part.get('type')}]" for part in content]
    return "\n\n".join(texts)


def merge(messages):
    """Runs of user and tool messages become one turn of blocks."""
    turns = []
    for message in messages:
        last = turns[-1] if turns else None
        if message["role"] == "tool":
            block = {"result_of": message.get("tool_call_id") or "", "text": result_text(message.get("content"))}
            if last and last["role"] == "user":
                last["blocks"].append(block)
            else:
                turns.append({"role": "user", "blocks": [block]})
        elif message["role"] == "user":
            block = {"text": message.get("content") or ""}
            if last and last["role"] == "user" and not last.get("task"):
                last["blocks"].append(block)
            else:
                turns.append({"role": "user", "blocks": [block], "task": message.get("task")})
        else:
            turns.append(dict(message))
    return turns


def sort_results(turns):
    positions = {}
    for turn in turns:
        if turn["role"] == "assistant" and turn.get("tool_calls"):
            positions = {call["id"]: i for i, call in enumerate(turn["tool_calls"]) if call.get("id")}
        elif turn["role"] == "user" and positions:
            slots = [i for i, block in enumerate(turn["blocks"]) if "result_of" in block]
            results = sorted((turn["blocks"][i] for i in slots), key=lambda block: positions.get(block["result_of"], 0))
            for slot, result in zip(slots, results):
                turn["blocks"][slot] = result


def last_user_like(turns):
    return max((i for i, turn in enumerate(turns) if turn["role"] in ("user", "developer")), default=-1)


def drop_old(turns, last):
    kept_roles = ("user", "system", "tool", "latest_reminder", "assistant")
    return [turn for i, turn in enumerate(turns) if i >= last or turn["role"] in kept_roles]


def definitions(turn):
    items = []
    if turn.get("tools"):
        schemas = "\n".join(dump(tool["function"]) for tool in turn["tools"])
        items += ["\n\n"] + template(TOOLS_BLOCK, schemas=schemas)
    if turn.get("response_format"):
        items += ["\n\n", FORMAT_HEAD, dump(turn["response_format"])]
    return items


def user_text(turn):
    texts = [f"<tool_result>{b['text']}</tool_result>" if "result_of" in b else b["text"] for b in turn["blocks"]]
    return "\n\n".join(texts)


def encode(messages, thinking, effort=None, drop_thinking=True, revision="preview"):
    turns = merge(messages)
    sort_results(turns)
    drop = drop_thinking and not any(turn.get("tools") for turn in turns)
    if thinking and drop:
        turns = drop_old(turns, last_user_like(turns))
    last = last_user_like(turns)
    items = [BOS] + ([EFFORT_TEXTS[revision][effort]] if thinking else [])
    for i, turn in enumerate(turns):
        role = turn["role"]
        if role == "system":
            items += [turn.get("content") or ""] + definitions(turn)
        elif role == "developer":
            items += [USER, turn["content"]] + definitions(turn)
        elif role == "user":
            items += [USER, user_text(turn)]
        elif role == "latest_reminder":
            items += [REMINDER, turn["content"]]
        elif role == "assistant":
            follows_task = i > 0 and turns[i - 1].get("task")
            if thinking and not follows_task and (not drop or i > last):
                items += [turn.get("reasoning_content") or "", THINK_END]
            items.append(turn.get("content") or "")
            items += calls_items(turn["tool_calls"]) if turn.get("tool_calls") else []
            items += [] if turn.get("wo_eos") else [EOS]
        else:
            raise ValueError(role)
        if i + 1 < len(turns) and turns[i + 1]["role"] not in ("assistant", "latest_reminder"):
            continue
        opener = THINK if thinking and (not drop or i >= last) else THINK_END
        task = turn.get("task")
        if task == "action":
            items += [ASSISTANT, THINK if thinking else THINK_END, TASKS[task]]
        elif task:
            items.append(TASKS[task])
        elif role in ("user", "developer"):
            items += [ASSISTANT, opener]
    return joined(items)


def joined(items):
    out = []
    for item in items:
        if isinstance(item, Control) or not out or isinstance(out[-1], Control):
            if isinstance(item, Control) or item:
                out.append(item)
        else:
            out[-1] += item
    return out
