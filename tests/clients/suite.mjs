// What the npm package `ollama` can do with a server; prints one JSON line a check.
//     node suite.mjs URL        with `ollama` installed where node looks for packages
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const [, , url, modules] = process.argv
const require = createRequire(join(modules, 'x.js'))
const { Ollama } = require('ollama')
const { version } = JSON.parse(readFileSync(join(modules, 'node_modules/ollama/package.json')))
const client = new Ollama({ host: url })
const model = 'smollm2'
const messages = [{ role: 'user', content: 'What is the capital of France? One sentence.' }]
const options = { num_predict: 24 }

const checks = {
  'chat': async () => {
    assert.match((await client.chat({ model, messages, options })).message.content, /Paris/)
  },
  'chat, streamed': async () => {
    let text = ''
    for await (const part of await client.chat({ model, messages, options, stream: true })) {
      text += part.message.content
    }
    assert.match(text, /Paris/)
  },
  'abort in mid-stream': async () => {
    const other = new Ollama({ host: url })
    const stream = await other.generate({ model, prompt: 'Count to a million.', stream: true })
    await assert.rejects(async () => {
      for await (const _ of stream) other.abort()
    }, { name: 'AbortError' })
  },
  'generate, structured output': async () => {
    const format = {
      type: 'object', properties: { city: { type: 'string' } }, required: ['city'],
    }
    const answer = await client.generate({ model, prompt: messages[0].content, format })
    assert.equal(typeof JSON.parse(answer.response).city, 'string')
  },
  'embed, embeddings': async () => {
    assert.equal((await client.embed({ model, input: ['a', 'b'] })).embeddings.length, 2)
    assert.ok((await client.embeddings({ model, prompt: 'a' })).embedding.length)
  },
  'list, ps, show, version': async () => {
    assert.ok((await client.list()).models.length)
    assert.ok((await client.ps()).models.length)
    assert.equal((await client.show({ model })).details.family, 'llama')
    assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/)
  },
  'create, copy, delete': async () => {
    assert.equal((await client.create({ model: 'js', from: model, system: 'S' })).status, 'success')
    await client.copy({ source: 'js', destination: 'js2' })
    await client.delete({ model: 'js' })
    await client.delete({ model: 'js2' })
  },
  'push and pull say what is wrong': async () => {
    await assert.rejects(client.push({ model: 'nope' }))
    await assert.rejects(client.pull({ model: '127.0.0.1:9/none', insecure: true }))
  },
}

let failed = 0
for (const [feature, check] of Object.entries(checks)) {
  let result = 'yes'
  try {
    await check()
  } catch (error) {
    failed += 1
    result = `no: ${String(error).split('\n')[0]}`
  }
  console.log(JSON.stringify({ client: 'ollama (npm)', version, feature, result }))
}
process.exit(failed ? 1 : 0)
