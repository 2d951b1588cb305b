// node matrix.mjs [--check]: writes what the runs saw (results/*.json) into the table of docs/clients.md. --check only says
// whether the table is that of the results that are there.
import fs from "node:fs";

const kScenarios = ["one prompt", "one prompt, not streamed", "tool round trip", "two turns", "context overflow", "cancellation"];
const kBegin = "<!-- matrix: tests/clients/matrix.mjs writes what follows -->";
const kEnd = "<!-- end of matrix -->";
const page = new URL("../../docs/clients.md", import.meta.url);

const results = ["sdks", "agents"].flatMap((name) => JSON.parse(fs.readFileSync(new URL(`results/${name}.json`, import.meta.url))));
const rows = new Map();
for (const { client, version, api, scenario, ok, requests } of results) {
  const key = `${client}|${version}|${api}`;
  if (!rows.has(key)) rows.set(key, { client, version, api, cells: {} });
  rows.get(key).cells[scenario] = ok ? `${requests}` : "FAILS";
}
const lines = [
  `| client | version | API | ${kScenarios.join(" | ")} |`,
  `| --- | --- | --- | ${kScenarios.map(() => "---").join(" | ")} |`,
  ...[...rows.values()].map(
    ({ client, version, api, cells }) =>
      `| ${client} | ${version} | ${api} | ${kScenarios.map((s) => cells[s] ?? "-").join(" | ")} |`,
  ),
];
const text = fs.readFileSync(page, "utf8");
const [before, rest] = text.split(kBegin);
const after = rest.split(kEnd)[1];
const made = `${before}${kBegin}\n${lines.join("\n")}\n${kEnd}${after}`;
if (process.argv[2] === "--check") {
  if (made !== text) {
    console.error("docs/clients.md differs from results/*.json: run node tests/clients/matrix.mjs");
    process.exit(1);
  }
} else {
  fs.writeFileSync(page, made);
}
