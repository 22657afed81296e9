// What server.cjs and db2.cjs share: the configuration they are started with, and the commands they obey.
// README.md in this folder describes both.
'use strict'

const fs = require('fs')
const net = require('net')
const path = require('path')
const pull = require('pull-stream')
const ssbKeys = require('ssb-keys')
const caps = require('ssb-caps')

// Standard output belongs to the protocol; whatever a library wants to say goes to stderr.
console.log = console.info = console.debug = console.error

const SCOPES = ['device', 'local', 'private', 'public']

function freePort (host) {
  return new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject)
    server.listen(0, host, () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

async function readConfig () {
  const options = JSON.parse(process.argv[2] ?? process.env.PEER_CONFIG ?? '{}')
  if (!options.path) throw new Error('the configuration must give the path of the home')
  fs.mkdirSync(options.path, { recursive: true })
  const host = options.host ?? '127.0.0.1'
  const port = options.port || (await freePort(host))
  const incoming = [{ scope: SCOPES, transform: 'shs', host, port }]
  const config = {
    path: options.path,
    keys: options.keys ?? ssbKeys.loadOrCreateSync(path.join(options.path, 'secret')),
    caps: { ...caps, ...options.caps },
    host,
    port,
    connections: { incoming: { net: incoming }, outgoing: { net: [{ transform: 'shs' }] } },
    friends: { hops: options.hops ?? 2 },
    timers: { connection: 0, reconnect: 5e3, ping: 300e3, handshake: 5e3, inactivity: 600e3, ...options.timers },
    logging: { level: 'error' },
    master: options.master ?? []
  }
  return { config, options }
}

function readMessages (file) {
  const values = []
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    if (!line.trim()) continue
    const record = JSON.parse(line)
    values.push(record.value && record.key ? record.value : record)
  }
  return values
}

// Calls fn(item, callback) for all items of a slice at once, slice after slice; never rejects.
async function inSlices (items, size, fn) {
  const results = []
  for (let start = 0; start < items.length; start += size) {
    const slice = items.slice(start, start + size)
    results.push(...(await Promise.all(slice.map((item) => new Promise((resolve) => {
      try {
        fn(item, (error, answer) => resolve({ item, error, answer }))
      } catch (error) {
        resolve({ item, error })
      }
    })))))
  }
  return results
}

function refusal ({ item, error }) {
  return { feed: item.author, sequence: item.sequence, detail: String(error.message ?? error).split('\n', 1)[0].slice(0, 300) }
}

// A method of an object, or of a remote peer, as a promise.
function call (target, name, ...args) {
  return new Promise((resolve, reject) => {
    const names = name.split('.')
    const last = names.pop()
    const owner = names.reduce((value, part) => value?.[part], target)
    if (typeof owner?.[last] !== 'function') return reject(new Error(`no method ${name}`))
    owner[last](...args, (error, answer) => (error ? reject(toError(error)) : resolve(answer)))
  })
}

function collect (source) {
  return new Promise((resolve, reject) => {
    pull(source, pull.collect((error, items) => (error && error !== true ? reject(toError(error)) : resolve(items))))
  })
}

function toError (error) {
  return error instanceof Error ? error : new Error(error?.message ?? String(error))
}

// The commands that are the same for both programs. `own` has those that are not: publish, importMessages, clock,
// history, request.
function commands (sbot, own) {
  const connected = new Map()
  sbot.on('rpc:connect', (rpc, isClient) => {
    connected.set(rpc.id, rpc)
    rpc.once('closed', () => { if (connected.get(rpc.id) === rpc) connected.delete(rpc.id) })
  })
  const contact = (feed, change) => own.publish({ type: 'contact', contact: feed, ...change })

  return {
    publish: ({ content, recps }) => own.publish(recps ? { ...content, recps } : content),
    follow: ({ feed }) => contact(feed, { following: true }),
    unfollow: ({ feed }) => contact(feed, { following: false }),
    block: ({ feed }) => contact(feed, { following: false, blocking: true }),
    unblock: ({ feed }) => contact(feed, { blocking: false }),
    hops: () => call(sbot, 'friends.hops', {}),

    import: ({ file }) => own.importMessages(readMessages(file)),
    clock: () => own.clock(),
    messages: async ({ feed, file, from = 1 }) => {
      const messages = await own.history(feed, from)
      messages.sort((a, b) => a.value.sequence - b.value.sequence)
      fs.writeFileSync(file, messages.map((message) => JSON.stringify(message) + '\n').join(''))
      return messages.length
    },

    request: ({ feed, replicate = true }) => own.request(feed, replicate),
    connect: async ({ address }) => (await call(sbot, 'connect', address)).id,
    disconnect: async ({ peer }) => {
      const rpcs = [...connected.values()].filter((rpc) => !peer || rpc.id === peer)
      await Promise.all(rpcs.map((rpc) => new Promise((resolve) => rpc.close(true, resolve))))
      return rpcs.length
    },
    peers: () => [...connected.keys()],

    add_blob: ({ file }) => new Promise((resolve, reject) => {
      const done = (error, id) => (error ? reject(toError(error)) : resolve(id))
      pull(pull.once(fs.readFileSync(file)), sbot.blobs.add(done))
    }),
    has_blob: ({ blob }) => call(sbot, 'blobs.has', blob),
    get_blob: async ({ blob, file }) => {
      const bytes = Buffer.concat(await collect(sbot.blobs.get(blob)))
      fs.writeFileSync(file, bytes)
      return bytes.length
    },
    want_blob: ({ blob, wait = false }) => {
      const wanted = call(sbot, 'blobs.want', blob)
      if (wait) return wanted
      wanted.catch(() => {})
      return true
    },
    push_blob: ({ blob }) => call(sbot, 'blobs.push', blob),

    // A call to a connected peer. Binary chunks of a source come back as {"base64"}.
    remote: async ({ peer, method, args = [], type = 'async' }) => {
      const rpc = connected.get(peer)
      if (!rpc) throw new Error(`not connected to ${peer}`)
      if (type === 'async') return call(rpc, method, ...args)
      const source = method.split('.').reduce((value, part) => value?.[part], rpc)
      if (typeof source !== 'function') throw new Error(`no method ${method}`)
      const items = await collect(source(...args))
      return items.map((item) => (Buffer.isBuffer(item) ? { base64: item.toString('base64') } : item))
    }
  }
}

function write (object) {
  const json = JSON.stringify(object).replace(/[\x7f-\uffff]/g, (unit) => '\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'))
  try {
    fs.writeSync(1, json + '\n')
  } catch (error) {
    if (error.code === 'EPIPE') process.exit(1) // nobody listens any more
    throw error
  }
}

// Obeys one command after another until stdin ends or `close` is called.
function obey (sbot, table) {
  let closing = false
  const close = (id) => {
    if (closing) return
    closing = true
    const leave = () => {
      if (id !== undefined) write({ id, ok: true })
      process.exit(0)
    }
    setTimeout(leave, 5000).unref()
    sbot.close(true, leave)
  }

  async function answer (line) {
    let id = null
    try {
      const { id: given, do: name, ...parameters } = JSON.parse(line)
      id = given
      if (name === 'close') return close(id)
      if (!Object.hasOwn(table, name)) throw new Error(`no command ${name}`)
      write({ id, ok: (await table[name](parameters)) ?? null })
    } catch (error) {
      write({ id, error: toError(error).message })
    }
  }

  let rest = ''
  process.stdin.setEncoding('utf8')
  process.stdin.on('data', (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()
    for (const line of lines) if (line.trim()) answer(line)
  })
  process.stdin.on('end', () => close())
  process.on('SIGTERM', () => close())
  write({ ready: true, address: sbot.getAddress('device'), id: sbot.id })
}

function run (start) {
  start().catch((error) => {
    write({ ready: false, error: toError(error).stack })
    process.exit(1)
  })
}

module.exports = { call, collect, commands, inSlices, obey, readConfig, refusal, run }
