// Asks for one completion with the official SDK, and prints what came of it as JSON.
// Arguments: base URL, API key, how often it may try again, the request as JSON.
import OpenAI from "openai";

const [baseURL, apiKey, maxRetries, json] = process.argv.slice(2);
const request = JSON.parse(json);
const tries = []; // the status of each
const client = new OpenAI({
  baseURL,
  apiKey,
  maxRetries: Number(maxRetries),
  fetch: async (url, options) => {
    const response = await fetch(url, options);
    tries.push(response.status);
    return response;
  },
});

async function textOf(answer) {
  if (!request.stream) return answer.choices[0].message.content;
  let text = "";
  for await (const event of answer) text += event.choices[0]?.delta.content ?? "";
  return text;
}

let outcome;
try {
  const { data, response } = await client.chat.completions.create(request).withResponse();
  outcome = { text: await textOf(data), headers: Object.fromEntries(response.headers) };
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  const { status, code, type, message } = error;
  outcome = { error: error.constructor.name, status, code, type, message };
}
console.log(JSON.stringify({ ...outcome, tries }));
