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

  // ssb-gossip wants the host of a peer, and the ssb-ref of today no longer gives it with an address from a beacon:
  // the scheduler would die of the first beacon it hears.
  sbot.gossip.add.hook(function (add, [address, source]) {
    const parts = /^net:(.+):(\d+)~shs:(.{44})$/.exec(address)
    return add.call(this, parts ? { host: parts[1], port: Number(parts[2]), key: `@${parts[3]}.ed25519` } : address, source)
  })

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
