// Lists models with OpenAI's JavaScript SDK, gets one, and one that isn't there: takes {options, model} as JSON on
// standard input, prints what came.
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const { options, model } = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI(options);
const listed = [];
for await (const each of client.models.list()) listed.push(each);
const got = await client.models.retrieve(model);
const raised = await client.models.retrieve("gpt-image-2").catch(({ constructor, status, code }) => ({
  name: constructor.name,
  status,
  code,
}));
process.stdout.write(JSON.stringify({ listed, got, raised }));
