#!/usr/bin/env node
// ssb-server 16, with the plugins that `ssb-server start` uses. See README.md.
'use strict'

const { createRequire } = require('module')
const { call, collect, commands, inSlices, obey, readConfig, refusal, run } = require('./lib/peer.cjs')

// ssb-server brings older versions of some packages than db2.cjs uses: look where it looks.
const plugin = createRequire(require.resolve('ssb-server'))

run(async () => {
  const { config, options } = await readConfig()
  Object.assign(config, {
    gossip: { autoPopulate: false, pub: false, seed: false, friends: false, global: false, local: Boolean(options.lan) },
    replicate: { legacy: options.legacy ?? true }
  })

  const stack = require('ssb-server').createSsbServer()
    .use(plugin('ssb-private1'))
    .use(plugin('ssb-unix-socket'))
    .use(plugin('ssb-no-auth'))
    .use(plugin('ssb-master'))
    .use(plugin('ssb-gossip'))
    .use(plugin('ssb-replicate'))
    .use(plugin('ssb-friends'))
    .use(plugin('ssb-blobs'))
    .use(plugin('ssb-invite'))
    .use(plugin('ssb-logging'))
    .use(plugin('ssb-ooo'))
  if (options.ebt ?? true) stack.use(plugin('ssb-ebt'))
  if (options.lan) stack.use(plugin('ssb-local'))
  const sbot = stack(plugin('ssb-config/defaults')('ssb', config))

  const table = commands(sbot, {
    publish: (content) => call(sbot, 'publish', content),
    importMessages: async (values) => {
      const results = await inSlices(values, 1000, (value, done) => sbot.add(value, done))
      const refused = results.filter(({ error }) => error)
      return { added: results.length - refused.length, refused: refused.map(refusal) }
    },
    clock: () => call(sbot, 'getVectorClock'),
    history: (feed, from) => collect(sbot.createHistoryStream({ id: feed, seq: from })),
    request: (feed, replicate) => {
      sbot.replicate.request(feed, replicate)
      return true
    }
  })
  obey(sbot, table)
})
