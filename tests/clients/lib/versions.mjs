import fs from "node:fs";

export function packageVersion(name, folder = new URL("../", import.meta.url)) {
  return JSON.parse(fs.readFileSync(new URL(`node_modules/${name}/package.json`, folder))).version;
}
