// SPDX-License-Identifier: Apache-2.0
// An MCP server on the reference SDK that serves revision 2026-07-28 and, with "legacy" as an argument, nothing else
// but the sessions of 2025. Over stdio, or with "http" on a free port of 127.0.0.1, which it prints.
// Every HTTP request must have the header "Authorization: Bearer $STATELESS_TOKEN".
// Tools: echo, fail, region (whose argument travels as a header too), grow, which adds a tool and announces it.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import http from "node:http";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.RAMET_MCP_DIR + "/package.json");
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { McpServer, createMcpHandler, fromJsonSchema, WebStandardStreamableHTTPServerTransport } = await load("@modelcontextprotocol/server");
const { serveStdio, StdioServerTransport } = await load("@modelcontextprotocol/server/stdio");

const [mode, legacy] = [process.argv.includes("http") ? "http" : "stdio", process.argv.includes("legacy")];
const text = (value) => ({ content: [{ type: "text", text: value }] });
const servers = new Set();
let grown = 0, handler;

function build() {
  const server = new McpServer({ name: "stateless", version: "1" }, { instructions: "Be brief.", capabilities: { tools: { listChanged: true } } });
  const schema = (properties) => fromJsonSchema({ type: "object", properties, required: Object.keys(properties) });
  server.registerTool("echo", { description: "Says it again", inputSchema: schema({ text: { type: "string" } }) },
    async (args) => text(args.text));
  server.registerTool("fail", { description: "Fails" }, async () => { throw new Error("it failed"); });
  server.registerTool("region", { description: "Where",
    inputSchema: schema({ region: { type: "string", "x-mcp-header": "Region" } }) }, async (args) => text(args.region));
  server.registerTool("grow", { description: "Adds a tool" }, async () => {
    grown++;
    handler?.notify.toolsChanged();
    for (const one of servers) {
      add(one, grown - 1);
      if (one.isConnected()) one.sendToolListChanged();
    }
    return text(String(grown));
  });
  for (let i = 0; i < grown; i++) add(server, i);
  servers.add(server);
  return server;
}

function add(server, i) {
  try {
    server.registerTool(`grown-${i}`, { description: "A later one" }, async () => text(""));
  } catch {} // it has it already
}

if (mode === "stdio" && legacy) {
  await build().connect(new StdioServerTransport());
} else if (mode === "stdio") {
  serveStdio(build, { legacy: "reject" });
} else {
  handler = legacy ? undefined : createMcpHandler(() => { const s = build(); servers.delete(s); return s; }, { legacy: "reject" });
  const sessions = new Map();
  const serveLegacy = async (request) => {
    const id = request.headers.get("mcp-session-id");
    if (id) return sessions.get(id)?.handleRequest(request) ?? new Response("no such session", { status: 404 });
    const transport = new WebStandardStreamableHTTPServerTransport({ sessionIdGenerator: randomUUID,
      onsessioninitialized: (session) => { sessions.set(session, transport); } });
    await build().connect(transport);
    return transport.handleRequest(request);
  };
  const listener = http.createServer(async (incoming, outgoing) => {
    const chunks = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const request = new Request(`http://127.0.0.1${incoming.url}`, { method: incoming.method, headers: incoming.headers,
      body: chunks.length ? Buffer.concat(chunks) : undefined });
    if (incoming.url === "/forget") sessions.clear();
    const answer = incoming.headers.authorization !== `Bearer ${process.env.STATELESS_TOKEN}`
      ? new Response("who are you?", { status: 401 })
      : legacy ? await serveLegacy(request) : await handler.fetch(request);
    outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
    if (answer.body) for await (const chunk of answer.body) outgoing.write(chunk);
    outgoing.end();
  });
  listener.listen(0, "127.0.0.1", () => console.log(listener.address().port));
  process.stdin.on("end", () => process.exit(0)).resume();
}
