#!/usr/bin/env node
// Prints a log that ssb-fixtures made, one {"key","value","timestamp"} per line in log order.
//
//   node make-log.cjs --messages 1000 --authors 20 --seed abc [--secrets DIR]
'use strict'

const fs = require('fs')
const os = require('os')
const path = require('path')
const { parseArgs } = require('util')

const { values: options } = parseArgs({
  options: {
    messages: { type: 'string', default: '1000' },
    authors: { type: 'string', default: '20' },
    seed: { type: 'string', default: 'sneaker' },
    secrets: { type: 'string' }
  }
})

require('./lib/deterministic.cjs').install(options.seed)
const { records } = require('./lib/offset-log.cjs')
const generate = require('ssb-fixtures')

function writeAll (text) {
  const bytes = Buffer.from(text, 'utf8')
  let offset = 0
  while (offset < bytes.length) {
    try {
      offset += fs.writeSync(1, bytes, offset)
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error
    }
  }
}

async function main () {
  const outputDir = fs.mkdtempSync(path.join(os.tmpdir(), 'sneaker-fixtures-'))
  const exit = () => fs.rmSync(outputDir, { recursive: true, force: true })
  process.on('exit', exit)
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

  await generate({
    outputDir,
    messages: Number(options.messages),
    authors: Number(options.authors),
    seed: options.seed,
    slim: true,
    allkeys: Boolean(options.secrets),
    report: false
  })

  let batch = []
  for (const text of records(path.join(outputDir, 'flume', 'log.offset'))) {
    batch.push(text)
    if (batch.length === 500) {
      writeAll(batch.join('\n') + '\n')
      batch = []
    }
  }
  if (batch.length) writeAll(batch.join('\n') + '\n')

  if (options.secrets) {
    fs.mkdirSync(options.secrets, { recursive: true })
    for (const name of fs.readdirSync(outputDir).filter((name) => name.startsWith('secret'))) {
      fs.copyFileSync(path.join(outputDir, name), path.join(options.secrets, name))
    }
  }
  process.exit(0)
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
