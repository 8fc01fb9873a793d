// The JavaScript clients: prints what they got as one JSON line.
import OpenAI from "openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import { z } from "zod";

const [, , baseURL, apiKey] = process.argv;
const prompt = "The capital of France is";
const weather = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 }, unit: { enum: ["C", "F"] } },
  required: ["city", "unit"],
  additionalProperties: false,
};

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const text = (await client.completions.create({ model: "gemma", prompt, max_tokens: 6, temperature: 0 })).choices[0].text;
let streamed = "";
for await (const piece of await client.completions.create({ model: "gemma", prompt, max_tokens: 6, temperature: 0, stream: true }))
  streamed += piece.choices[0].text;
const called = await client.chat.completions.create({
  model: "gemma", messages: [{ role: "user", content: "Weather in Paris?" }], max_tokens: 120, tool_choice: "required",
  parallel_tool_calls: false, tools: [{ type: "function", function: { name: "get_weather", parameters: weather } }], seed: 1,
});
const call = JSON.parse(called.choices[0].message.tool_calls[0].function.arguments);
try {
  await client.chat.completions.create({ model: "nobody", messages: [{ role: "user", content: "x" }] });
  throw new Error("a model that is not there answered");
} catch (error) {
  if (!(error instanceof OpenAI.NotFoundError)) throw error;
}

const provider = createOpenAICompatible({ name: "headrace", baseURL, apiKey, supportsStructuredOutputs: true });
const model = provider("gemma");
const said = await generateText({ model, prompt: "Hello!", maxOutputTokens: 8, temperature: 0, maxRetries: 0 });
let spoken = "";
for await (const piece of streamText({ model, prompt: "Hello!", maxOutputTokens: 8, temperature: 0, maxRetries: 0 }).textStream)
  spoken += piece;
const made = await generateObject({
  model, prompt: "Ada, 36", maxOutputTokens: 200, seed: 1, maxRetries: 0,
  schema: z.object({ name: z.string().max(20), age: z.number().int().min(0).max(150) }),
});
const tooled = await generateText({
  model, prompt: "Weather in Paris?", maxOutputTokens: 120, maxRetries: 0, toolChoice: { type: "tool", toolName: "get_weather" },
  tools: { get_weather: tool({ description: "weather", inputSchema: jsonSchema(weather) }) },
});
const vector = await embed({ model: provider.textEmbeddingModel("minilm"), value: "a", maxRetries: 0 });
console.log(JSON.stringify({
  openai: { text, streamed, call },
  ai: { text: said.text, streamed: spoken, object: made.object, tool: tooled.toolCalls[0].toolName, embedding: vector.embedding.length },
}));
