// JSON Schemas made from the official packages' TypeScript types. Every field that is not optional there is required
// here, but for those that exemptions.json names with a reason.
import fs from "node:fs";
import { fileURLToPath } from "node:url";
import Ajv from "ajv";
import addFormats from "ajv-formats";
import { createGenerator } from "ts-json-schema-generator";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const exemptions = JSON.parse(fs.readFileSync(here("exemptions.json")));

export class Schemas {
  constructor() {
    this.generator = createGenerator({
      path: here("roots.ts"),
      tsconfig: here("tsconfig.json"),
      type: "*",
      expose: "none",
      skipTypeCheck: true,
      additionalProperties: true,
    });
    this.ajv = new Ajv.default({ strict: false, allErrors: true });
    addFormats.default(this.ajv);
    this.schemas = new Map();
    this.validators = new Map();
    this.unused = new Set(exemptions);
  }

  schema(type) {
    if (!this.schemas.has(type)) {
      const whole = this.generator.createSchema(type);
      this.exempt(whole);
      const name = whole.$ref?.replace("#/definitions/", "");
      const root = name ? whole.definitions[decodeURIComponent(name)] : whole;
      this.schemas.set(type, { root, definitions: whole.definitions });
    }
    return this.schemas.get(type);
  }

  // A type is recognised by fields that it has, as the generator writes it out wherever it is used.
  exempt(node) {
    if (!node || typeof node !== "object") return;
    for (const exemption of exemptions) {
      const { field, beside, anyValueOf } = exemption;
      if (anyValueOf) {
        if (!node.properties?.[field]?.enum?.includes(anyValueOf)) continue;
        this.unused.delete(exemption);
        node.properties[field] = { type: "string" };
        continue;
      }
      if (!Array.isArray(node.required) || !node.required.includes(field)) continue;
      if (!beside.every((name) => node.properties?.[name])) continue;
      this.unused.delete(exemption);
      node.required = node.required.filter((name) => name !== field);
    }
    Object.values(node).forEach((child) => this.exempt(child));
  }

  // Nothing when the value is valid, else what is wrong with it.
  problem(type, value) {
    const { root, definitions } = this.schema(type);
    let branch = root;
    let key = type;
    // Of a union of events, the one with the value's `type`: all others' complaints are noise.
    if (root.anyOf && value?.type !== undefined) {
      branch = root.anyOf.find((b) => b.properties?.type?.const === value.type);
      if (!branch) return `${type} has no event ${JSON.stringify(value.type)}`;
      key += ` ${value.type}`;
    }
    if (!this.validators.has(key)) this.validators.set(key, this.ajv.compile({ ...branch, definitions }));
    const validate = this.validators.get(key);
    if (validate(value)) return null;
    return validate.errors
      .filter((e) => e.keyword !== "anyOf")
      .slice(0, 4)
      .map((e) => `${e.instancePath || "(root)"} ${e.message}${e.params.allowedValue ? ` ${e.params.allowedValue}` : ""}`)
      .join("; ");
  }
}
