// SPDX-License-Identifier: Apache-2.0
// The reference SDK's client against Ramet, over HTTP or stdio: forks a sandbox and runs a command in the child.
//
//     node fork.mjs MCP_DIR http URL TOKEN SANDBOX
//     node fork.mjs MCP_DIR stdio RAMET SANDBOX      (the environment is passed on)
//
// Prints one JSON object of what it saw. The SDK itself checks structured results against their schemas.
import { pathToFileURL } from 'node:url'

const [dir, how, ...args] = process.argv.slice(2)
const sdk = (file) => import(pathToFileURL(`${dir}/node_modules/@modelcontextprotocol/sdk/dist/esm/client/${file}`))
const { Client } = await sdk('index.js')

async function connect () {
  const client = new Client({ name: 'ramet-test', version: '1.0.0' })
  if (how === 'http') {
    const { StreamableHTTPClientTransport } = await sdk('streamableHttp.js')
    const headers = { Authorization: `Bearer ${args[1]}` }
    await client.connect(new StreamableHTTPClientTransport(new URL(args[0]), { requestInit: { headers } }))
  } else {
    const { StdioClientTransport } = await sdk('stdio.js')
    await client.connect(new StdioClientTransport({ command: args[0], args: ['mcp'], env: process.env }))
  }
  return client
}

const client = await connect()
const sandbox = args[args.length - 1]
const seen = { server: client.getServerVersion(), instructions: client.getInstructions() }
const { tools } = await client.listTools()
seen.tools = tools.map((tool) => tool.name)
seen.schemas = tools.every((tool) => tool.inputSchema.type === 'object' && tool.outputSchema.type === 'object' &&
  typeof tool.annotations.readOnlyHint === 'boolean' && typeof tool.annotations.destructiveHint === 'boolean')
const call = (name, input) => client.callTool({ name, arguments: input })
const fork = await call('fork', { sandbox, count: 2 })
seen.same = JSON.stringify(fork.structuredContent) === JSON.stringify(JSON.parse(fork.content[0].text))
const [first, second] = fork.structuredContent.children
seen.children = [first.name, second.name]
await call('exec', { sandbox: first.id, command: 'echo first > /root/mark; sync' })
seen.first = (await call('exec', { sandbox: first.id, argv: ['cat', '/root/mark'] })).structuredContent.stdout
seen.second = (await call('exec', { sandbox: second.id, command: 'cat /root/mark' })).structuredContent.exit_code
seen.taken = (await call('snapshot', { sandbox: first.id, tag: `mark-${how}` })).structuredContent.snapshot.durable
await call('exec', { sandbox: first.id, command: 'rm /root/mark; sync' })
await call('rollback', { sandbox: first.id, snapshot: `mark-${how}` })
seen.back = (await call('exec', { sandbox: first.id, command: 'cat /root/mark' })).structuredContent.stdout
seen.diff = (await call('diff', { from: fork.structuredContent.snapshot.id, to: `mark-${how}` })).structuredContent.images[0].image
seen.shown = (await call('show', { ref: first.id })).structuredContent.sandbox.state
seen.listed = (await call('list', {})).structuredContent.sandboxes.map((one) => one.name).includes(second.name)
seen.missing = await call('exec', { command: 'true' })
seen.wrong = await call('fork', { sandbox, count: 0 })
seen.extra = await call('fork', { sandbox, cuont: 1 })
seen.unknown = await call('no_such_tool', {}).then(() => 0, (error) => error.code)
for (const child of [first, second]) await call('remove', { sandbox: child.id })
await client.close()
console.log(JSON.stringify(seen))
