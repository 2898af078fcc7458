// SPDX-License-Identifier: Apache-2.0
// What the reference SDK's client gets from an MCP server: lists it and makes calls.
// Input, as JSON on standard input: {command, args, env, cwd} or {url, headers}, and calls: [{name, arguments}].
// Output, as JSON: {tools, prompts, resources, resourceTemplates}, each whole as on the wire, sdkTools as listTools()
// gives them, and results: [{result} | {error: {code, message, data}}].
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.RAMET_MCP_DIR + "/package.json");
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = await load("@modelcontextprotocol/sdk/client/stdio.js");
const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
const { z } = await load("zod");

const input = JSON.parse(readFileSync(0, "utf8"));
const transport = input.url
  ? new StreamableHTTPClientTransport(new URL(input.url), { requestInit: { headers: input.headers ?? {} } })
  : new StdioClientTransport({ command: input.command, args: input.args, env: input.env, cwd: input.cwd, stderr: "ignore" });
const client = new Client({ name: "reference", version: "0" }, { capabilities: {} });
await client.connect(transport);

const output = { serverInfo: client.getServerVersion(), instructions: client.getInstructions() };
const offers = client.getServerCapabilities() ?? {};
const lists = [["tools", "tools/list", "tools"], ["prompts", "prompts/list", "prompts"],
  ["resources", "resources/list", "resources"], ["resources", "resources/templates/list", "resourceTemplates"]];
for (const [capability, method, key] of lists) {
  output[key] = [];
  for (let cursor = undefined, more = offers[capability] !== undefined; more;) {
    let page;
    try {
      page = await client.request({ method, params: cursor === undefined ? {} : { cursor } }, z.any());
    } catch (error) {
      if (error.code === -32601) break;
      throw error;
    }
    output[key].push(...page[key]);
    cursor = page.nextCursor;
    more = cursor !== undefined;
  }
}
output.sdkTools = offers.tools ? (await client.listTools()).tools : [];
output.results = [];
for (const call of input.calls ?? []) {
  try {
    output.results.push({ result: await client.request({ method: "tools/call", params: call }, z.any()) });
  } catch (error) {
    output.results.push({ error: { code: error.code, message: error.message, data: error.data } });
  }
}
await client.close();
process.stdout.write(JSON.stringify(output), () => process.exit(0));
