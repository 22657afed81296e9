#!/usr/bin/env node
// The ssb-db2 stack that Manyverse is built on. See README.md.
'use strict'

const SecretStack = require('secret-stack')
const { author, toCallback, where } = require('ssb-db2/operators')
const { reEncrypt } = require('ssb-db2/indexes/private')
const { call, commands, inSlices, obey, readConfig, refusal, run } = require('./lib/peer.cjs')

run(async () => {
  const { config, options } = await readConfig()
  if (config.caps.sign) throw new Error('ssb-db2 knows no HMAC key')
  Object.assign(config, {
    blobs: { sympathy: 2 },
    conn: {
      autostart: Boolean(options.lan),
      firewall: { rejectBlocked: true, rejectUnknown: Boolean(options.firewall) }
    },
    lan: { legacy: true },
    replicationScheduler: { autostart: true, partialReplication: null }
  })

  const stack = SecretStack({ caps: config.caps })
    .use(require('ssb-db2/core'))
    .use(require('ssb-classic'))
    .use(require('ssb-box'))
    .use(require('ssb-db2/compat/publish'))
    .use(require('ssb-db2/compat/ebt'))
    .use(require('ssb-db2/compat/history-stream'))
    .use(require('ssb-friends'))
  const ebt = options.ebt ?? true
  if (ebt) stack.use(require('ssb-ebt'))
  if (ebt && (options.scheduler ?? true)) stack.use(require('ssb-replication-scheduler'))
  // ssb-lan signs its packets with sbot.keys, which secret-stack 6.4.1 does not give.
  if (options.lan) stack.use({ init: (sbot) => { sbot.keys ??= config.keys } }).use(require('ssb-lan'))
  stack.use(require('ssb-conn'))
  if (options.firewall !== undefined) stack.use(require('ssb-conn-firewall'))
  const sbot = stack.use(require('ssb-blobs'))(config)

  const table = commands(sbot, {
    publish: (content) => call(sbot, 'db.publish', content),
    importMessages: async (values) => {
      // A batch is of one author, and is refused as a whole; then its messages are tried one by one.
      const feeds = new Map()
      for (const value of values) {
        if (!feeds.has(value.author)) feeds.set(value.author, [])
        feeds.get(value.author).push(value)
      }
      let added = 0
      const refused = []
      for (const feed of feeds.values()) {
        const [batch] = await inSlices([feed], 1, (messages, done) => sbot.db.addBatch(messages, done))
        if (!batch.error) {
          added += feed.length
          continue
        }
        for (const result of await inSlices(feed, 1, (value, done) => sbot.db.add(value, done))) {
          if (result.error) refused.push(refusal(result))
          else added += 1
        }
      }
      await call(sbot, 'db.onDrain', 'ebt')
      return { added, refused }
    },
    clock: () => call(sbot, 'getVectorClock'),
    history: (feed, from) => new Promise((resolve, reject) => {
      sbot.db.query(where(author(feed)), toCallback((error, found) => {
        if (error) return reject(error)
        const messages = found.map(reEncrypt).filter(({ value }) => value.sequence >= from)
        resolve(messages.map(({ key, value, timestamp }) => ({ key, value, timestamp })))
      }))
    }),
    request: (feed, replicate) => {
      sbot.ebt.request(feed, replicate)
      return true
    }
  })
  // The indexes must be ready before ssb-ebt can be asked anything.
  await call(sbot, 'db.onDrain', 'ebt')
  obey(sbot, table)
})
