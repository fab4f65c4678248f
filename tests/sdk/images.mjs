// Draws with OpenAI's JavaScript SDK: takes {options, picture, mask} as JSON on standard input, prints what came.
import { readFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";

const { options, picture, mask } = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI(options);
const file = (base64, name) => toFile(Buffer.from(base64, "base64"), name, { type: "image/png" });
const given = await file(picture, "picture.png");

const failed = (calling) =>
  calling.then(
    () => null,
    ({ constructor, status, code, param }) => ({ name: constructor.name, status, code, param }),
  );

const events = [];
const streamed = await client.images.generate({ prompt: "a lorry [[images=2]]", stream: true, partial_images: 1 });
for await (const { type, b64_json } of streamed) events.push({ type, b64_json });

const results = {
  generated: await client.images.generate({ prompt: "three lorries", n: 3, output_format: "jpeg" }),
  edited: await client.images.edit({ prompt: "blue", image: given }),
  merged: await client.images.edit({ prompt: "merge", image: [given, given] }),
  masked: await client.images.edit({ prompt: "a hole", image: given, mask: await file(mask, "mask.png") }),
  events,
  wrong: await failed(client.images.generate({ prompt: "a lorry", n: 11 })),
  blocked: await failed(client.images.generate({ prompt: "[[images=0]] [[finish=IMAGE_SAFETY]]" })),
  slow: await failed(client.images.generate({ prompt: "[[status=429]]" }, { maxRetries: 0 })),
};
process.stdout.write(JSON.stringify(results));
