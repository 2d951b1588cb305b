#!/usr/bin/env python3
"""prompts.py SCRIPTED_SERVER: the whole prompt of every captured request of a client, item by item.

The requests (../shared/clients beside the repository) go to the real server; the prompt that its model gets is compared
with what reference/encoder.py makes of the same request, control tokens told apart from text that spells them. Second
turns follow an answer that is written as the capture has it; of what the first turn computed nothing may be computed
again. Ends with "N passed, N failed".
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
SHARED = HERE.parent.parent.parent / "shared"
sys.path.insert(0, str(HERE / "reference"))

from conversations import conversation  # noqa: E402
from encoder import Control, encode  # noqa: E402

UNSENT = ("host", "connection", "content-length", "transfer-encoding", "accept-encoding")
TIMEOUT_S = 60
KEPT = {"think": "I should think about it."}  # what an item_reference stands for
# Accidents of the official encoder that the server does not repeat (null as "None", arguments as an object in a parameter).
QUIRKS = ("tool_content_null", "args_object_instead_of_string")

# File, first turn, second turn, what both turns share: the answer too; the prompt alone, because the client does not send
# the reasoning back; or, because it changes the tools, which stand in front, nothing that has to be kept.
TURNS = [
    ("ai-sdk-anthropic", 1, 2, "prompt"),
    ("ai-sdk-openai-compatible", 1, 2, "answer"),
    ("ai-sdk-openai-responses", 1, 2, "answer"),
    ("claude-code", 2, 3, "answer"),
    ("codex-compaction", 1, 2, "nothing"),
    ("codex-gpt-5.5-slug", 1, 2, "answer"),
    ("codex-unknown-model", 1, 2, "answer"),
    ("sdk-openai-anthropic", 2, 3, "prompt"),
    ("sdk-openai-anthropic", 5, 6, "prompt"),
    ("sdk-openai-anthropic", 7, 8, "answer"),
]


class Server:
    def __init__(self, binary, rules):
        script = {"ctx_tokens": 65536, "report_prompts": 1, "rules": rules}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(script, file)
            file.flush()
            environment = {"DS4_LOG": "error", **os.environ}
            pipe = subprocess.PIPE
            self.process = subprocess.Popen([binary, file.name], stdin=pipe, stdout=pipe, env=environment)
            self.url = f"http://127.0.0.1:{self.report()['port']}"

    def report(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with {self.process.wait()}")
        return json.loads(line)

    def send(self, request, body):
        headers = {k: v for k, v in request.get("headers", {}).items() if k.lower() not in UNSENT}
        data = None if body is None else json.dumps(body).encode()
        sent = urllib.request.Request(self.url + request["url"], data, headers, method=request["method"])
        try:
            with urllib.request.urlopen(sent, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.stdin.close()
        self.process.wait(TIMEOUT_S)


def load(name):
    return json.loads((SHARED / "clients" / f"{name}.json").read_text())


def is_generating(request):
    return request["method"] == "POST" and not request["url"].endswith("/count_tokens")


def as_items(reported):
    return [Control(item["control"]) if isinstance(item, dict) else item for item in reported]


def compare(request, body, report):
    messages, effort = conversation(request["url"], body)
    expected = encode(messages, True, effort)
    found = as_items(report["prompt"])
    for i, (want, got) in enumerate(zip(expected + [None], found + [None])):
        if want == got:
            continue
        at = next((k for k, (a, b) in enumerate(zip(want or "", got or "")) if a != b), 0)
        start = max(at - 40, 0)
        raise AssertionError(
            f"item {i} of the prompt: expected {type(want).__name__} ...{(want or '')[start:at + 80]!r}, "
            f"found {type(got).__name__} ...{(got or '')[start:at + 80]!r}"
        )


def common_length(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


# ---- every request alone ----


def check_alone(server, request):
    status, answer = server.send(request, request["body"])
    if "item_reference" in json.dumps(request["body"]):
        # It names an item that the server which answered then had stored; the second turns below follow one of ours.
        assert status == 400 and "is stored here" in answer, f"status {status} {answer[:300]}"
        return "refused: the item is not known here"
    assert status == 200, f"status {status} {answer[:300]}"
    if is_generating(request):
        report = server.report()
        compare(request, request["body"], report)
        return f"{report['prompt_tokens']} tokens"
    if request["url"].endswith("/count_tokens"):
        generating = {**request, "url": request["url"].removesuffix("/count_tokens")}
        assert server.send(generating, {**request["body"], "max_tokens": 1})[0] == 200
        report = server.report()
        compare(request, request["body"], report)
        assert json.loads(answer) == {"input_tokens": report["prompt_tokens"]}, answer
        return f"{report['prompt_tokens']} tokens"
    return "no prompt"


# ---- second turns ----


def answer_of(messages):
    """What the model wrote, as the second turn returns it; the reasoning where the client keeps it."""
    last = [message for message in messages if message["role"] == "assistant"][-1]
    parameters = []
    [sent] = last["tool_calls"]
    for key, value in json.loads(sent["function"]["arguments"]).items():
        text = value if isinstance(value, str) else json.dumps(value)
        kind = "true" if isinstance(value, str) else "false"
        parameters.append(f'<｜DSML｜parameter name="{key}" string="{kind}">{text}</｜DSML｜parameter>')
    lines = ["<｜DSML｜tool_calls>", f'<｜DSML｜invoke name="{sent["function"]["name"]}">', *parameters]
    lines += ["</｜DSML｜invoke>", "</｜DSML｜tool_calls>"]
    return {"think": last.get("reasoning_content") or "Not sent back.", "text": "\n\n" + "\n".join(lines)}


def renamed(body, old_and_new):
    text = json.dumps(body)
    for old, new in old_and_new:
        text = text.replace(f'"{old}"', f'"{new}"')
    return json.loads(text)


def ids_in(value, pattern):
    return list(dict.fromkeys(re.findall(f'"({pattern})"', value if isinstance(value, str) else json.dumps(value))))


def follow(first_answer, body):
    """The second turn, with the ids that our server gave in place of those that the other one gave."""
    pairs = []
    for kind in ("call_(?!id)", "toolu_", "rs_"):
        old, new = ids_in(body, kind + r"\w+"), ids_in(first_answer, kind + r"\w+")
        if old:
            assert len(old) == len(new) == 1, f"{kind} ids: {old} in the capture, {new} in the answer"
            pairs.append((old[0], new[0]))
    return renamed(body, pairs)


def resolved(body, rule):
    """For the reference, which has no store: a referenced item is the reasoning that was answered."""
    items = body.get("input")
    if not isinstance(items, list):
        return body
    reasoning = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": rule["think"]}]}
    return {**body, "input": [reasoning if item.get("type") == "item_reference" else item for item in items]}


def check_turns(binary, name, first, second, shared):
    requests = load(name)
    one, two = requests[first - 1], requests[second - 1]
    rule = answer_of(conversation(two["url"], resolved(two["body"], KEPT))[0])
    with Server(binary, [{"when": {}, **rule}]) as server:
        status, answer = server.send(one, one["body"])
        assert status == 200, answer[:300]
        turn = server.report()
        compare(one, one["body"], turn)
        body = follow(answer, two["body"])
        status, answer = server.send(two, body)
        assert status == 200, answer[:300]
        report = server.report()
        compare(two, resolved(body, rule), report)
    check_reuse(turn, report, shared)
    return f"{report['cached_tokens']} of {report['prompt_tokens']} reused"


def check_reuse(first, second, shared):
    """To the last token: the closing token of a turn with calls is not computed before the next turn, and what follows
    the assistant's marker is computed again when the reasoning after it is gone."""
    known = first["prompt_ids"] + first["written_ids"]
    common = common_length(known, second["prompt_ids"])
    if shared == "answer":
        assert common == len(known), f"{common} of {len(known)} known tokens stand in the second prompt"
        wanted = first["prompt_tokens"] + first["completion_tokens"]
    elif shared == "prompt":
        assert common == first["prompt_tokens"], f"{common} tokens are the same, {first['prompt_tokens']} in the prompt"
        wanted = common - 1
    else:
        assert common < first["prompt_tokens"], f"{common} tokens are the same"
        return
    assert second["cached_tokens"] == wanted, f"{second['cached_tokens']} tokens reused, {wanted} could be"


def check_vectors():
    cases = json.loads((SHARED / "vectors/chat/encode.json").read_text())["cases"]
    n_compared = 0
    for case in cases:
        options = case["options"]
        for revision, key in (("preview", "preview"), ("0731", "r0731")):
            wanted = case["preview"] if case[key] == "same" else case[key]
            is_partial = "context" in options or not options.get("add_default_bos_token", True)
            if "error" in wanted or is_partial or case["name"] in QUIRKS:
                continue
            items = encode(
                case["messages"],
                options["thinking_mode"] == "thinking",
                options.get("reasoning_effort"),
                options.get("drop_thinking", True),
                revision,
            )
            assert "".join(map(str, items)) == wanted["prompt"], f"{case['name']}, {revision}"
            n_compared += 1
    assert n_compared > 300, n_compared
    return f"{n_compared} prompts"


def main(binary):
    if not (SHARED / "clients").is_dir():
        print("../shared/clients is not here: no captured requests to send.\n0 passed, 0 failed, 1 skipped")
        return 0
    counts = {"passed": 0, "failed": 0}

    def run(what, check, *arguments):
        try:
            outcome, note = "passed", check(*arguments)
        except Exception as error:  # noqa: BLE001: one that fails must not hide the others
            outcome, note = "failed", f"{type(error).__name__}: {error}"
        counts[outcome] += 1
        print(f"{'ok     ' if outcome == 'passed' else 'FAILED '} {what}: {note}")

    run("the reference against the format's vectors", check_vectors)
    for file in sorted((SHARED / "clients").glob("*.json")):
        for i, request in enumerate(load(file.stem)):
            # A server of its own: no answer of another request is remembered.
            with Server(binary, []) as server:
                run(f"{file.name} {i + 1}: {request['method']} {request['url']}", check_alone, server, request)
    for name, first, second, shared in TURNS:
        run(f"{name}.json {first}, then {second}", check_turns, binary, name, first, second, shared)
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
