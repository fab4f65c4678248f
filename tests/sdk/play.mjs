// Plays scenarios with the JavaScript SDK: takes {options, scenarios} as JSON on standard input, prints an object that
// has, for each scenario's name, all that came back in order and what was thrown at the end.
import { readFileSync } from "node:fs";
import { GoogleGenAI } from "@google/genai";

const { options, scenarios } = JSON.parse(readFileSync(0, "utf8"));
const ai = new GoogleGenAI(options);

async function* calls({ method, arguments: given }) {
  if (given.messages) {
    const chat = ai.chats.create({ model: given.model });
    for (const message of given.messages) yield* pieces(await chat[method]({ message }));
  } else {
    yield* pieces(await ai.models[method](given));
  }
}

async function* pieces(came) {
  if (came[Symbol.asyncIterator]) yield* came;
  else yield came;
}

async function play(scenario) {
  const seen = [];
  try {
    for await (const piece of calls(scenario)) seen.push({ type: piece.constructor.name, ...piece });
  } catch (error) {
    const { name, status, message, cause } = error;
    seen.push({ raised: error.constructor.name, name, status, message, cause: cause?.message });
  }
  return seen;
}

const results = {};
for (const scenario of scenarios) results[scenario.name] = await play(scenario);
process.stdout.write(JSON.stringify(results, (name, value) => (name === "responseInternal" ? undefined : value)));
