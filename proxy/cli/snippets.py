"""What to paste: curl, Python and JavaScript against a base URL, with nothing else changed."""

from __future__ import annotations

from collections.abc import Iterator


def lines(base_url: str, key: str, model: str) -> Iterator[str]:
    """Base URL, key, and one snippet a language, as printed."""
    yield f"Base URL: {base_url}"
    yield f"Key:      {key}   (shown this once)"
    for title, text in snippets(base_url, key, model).items():
        yield f"\n--- {title} ---"
        yield text


def snippets(base_url: str, key: str, model: str) -> dict[str, str]:
    """The snippets by title. Each saves a picture as cat.jpg, cat-py.jpg or cat-js.jpg."""
    curl = f"""\
curl -s {base_url}/v1beta/models/{model}:generateContent \\
  -H 'x-goog-api-key: {key}' -H 'Content-Type: application/json' \\
  -d '{{"contents":[{{"parts":[{{"text":"a cat"}}]}}],"generationConfig":{{"responseModalities":["TEXT","IMAGE"]}}}}' \\
  | python3 -c 'import base64,json,sys; parts=json.load(sys.stdin)["candidates"][0]["content"]["parts"]; \\
open("cat.jpg","wb").write(base64.b64decode(next(p["inlineData"]["data"] for p in parts if "inlineData" in p)))'"""
    python = f"""\
# pip install google-genai
from google import genai

client = genai.Client(api_key="{key}", http_options={{"base_url": "{base_url}"}})
answer = client.models.generate_content(
    model="{model}", contents="a cat", config={{"response_modalities": ["TEXT", "IMAGE"]}}
)
picture = next(part.inline_data.data for part in answer.parts if part.inline_data)
open("cat-py.jpg", "wb").write(picture)"""
    javascript = f"""\
// npm install @google/genai; save as cat.mjs; node cat.mjs
import {{ writeFileSync }} from "node:fs";
import {{ GoogleGenAI }} from "@google/genai";

const ai = new GoogleGenAI({{ apiKey: "{key}", httpOptions: {{ baseUrl: "{base_url}" }} }});
const answer = await ai.models.generateContent({{
  model: "{model}", contents: "a cat", config: {{ responseModalities: ["TEXT", "IMAGE"] }},
}});
const part = answer.candidates[0].content.parts.find((part) => part.inlineData);
writeFileSync("cat-js.jpg", Buffer.from(part.inlineData.data, "base64"));"""
    return {"curl": curl, "Python": python, "JavaScript": javascript}
