// What the scripted model says, and the prompts that make it say so.
export const prompts = {
  hello: "Please say hello.",
  weather: "What is the weather in Rome?",
  remember: "Remember the number 47.",
  recall: "Which number was it?",
  endless: "Count for ever.",
};
export const answers = {
  hello: "Hello from the script.",
  weather: "It is sunny in Rome.",
  remember: "I shall remember 47.",
  recall: "It was 47.",
};
export const toolName = "get_weather";
export const toolSchema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const toolResult = "sunny, 21 degrees";

export function dsmlCall(name, parameters) {
  const lines = Object.entries(parameters).map(
    ([key, value]) =>
      `<｜DSML｜parameter name="${key}" string="${typeof value === "string"}">` +
      `${typeof value === "string" ? value : JSON.stringify(value)}</｜DSML｜parameter>`,
  );
  return ["\n\n<｜DSML｜tool_calls>", `<｜DSML｜invoke name="${name}">`, ...lines, "</｜DSML｜invoke>", "</｜DSML｜tool_calls>"].join("\n");
}

export const rules = [
  { when: { user: prompts.hello }, think: "They want a greeting.", text: answers.hello },
  {
    when: { user: prompts.weather, offers: toolName },
    think: "The tool knows.",
    text: "I shall look." + dsmlCall(toolName, { city: "Rome" }),
  },
  { when: { tool: toolResult }, think: "Sunny it is.", text: answers.weather },
  { when: { user: prompts.remember }, think: "Easy.", text: answers.remember },
  { when: { user: prompts.recall }, think: "47.", text: answers.recall },
  { when: { user: prompts.endless }, think: "A long way.", text: "one two three four five six seven ", repeat: 500 },
];

// As long as agents' instructions are in their way: long enough to be remembered by itself.
export const instructions = "Answer in one short sentence, as the script says, and think before. ".repeat(20);

// More tokens than the context of the scripted server has.
export const tooLong = "All work and no play makes this prompt a long one. ".repeat(2000);
