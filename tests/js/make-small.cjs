#!/usr/bin/env node
// Makes tests/data/fixtures: a small log with everything in it that real logs have and that is easy to
// get wrong. Prints the log as NDJSON; the secrets and the summary go to files in the folder given.
//
//   node make-small.cjs ../data/fixtures | zstd -19 -o ../data/fixtures/small.ndjson.zst
//
// Two parts: 1,000 messages of 16 authors by ssb-fixtures, and five further feeds made here with
// ssb-keys and ssb-validate. Two runs give the same bytes.
'use strict'

const SEED = 'sneaker-small'

const { execFileSync } = require('child_process')
const crypto = require('crypto')
const fs = require('fs')
const os = require('os')
const path = require('path')
const deterministic = require('./lib/deterministic.cjs')

deterministic.install(`${SEED} extra`)
const ssbKeys = require('ssb-keys')
const classic = require('ssb-classic/format')
const validate = require('ssb-validate')

const MAX_UNITS = 8192

const log = []
const state = validate.initial()
let received

// Takes a finished message into the log if ssb-validate does; everything passes through here.
function append (value) {
  const key = validate.id(value)
  validate.appendKVT(state, null, { key, value, timestamp: received() })
  log.push(state.queue.pop())
  return { key, value }
}

class Author {
  constructor (name) {
    this.name = name
    this.keys = ssbKeys.generate('ed25519', crypto.createHash('sha256').update(`${SEED} ${name}`).digest())
    this.id = this.keys.id
  }

  static of (name, keys) {
    return Object.assign(Object.create(Author.prototype), { name, keys, id: keys.id })
  }

  publish (content) {
    return append(validate.create(state.feeds[this.id], this.keys, null, content, received()))
  }

  // For what create() does not make but append() takes.
  sign ({ content, timestamp = received(), authorFirst = false }) {
    const last = state.feeds[this.id]
    const previous = last ? last.id : null
    const sequence = last ? last.sequence + 1 : 1
    const start = authorFirst ? { previous, author: this.id, sequence } : { previous, sequence, author: this.id }
    return append(ssbKeys.signObj(this.keys, { ...start, timestamp, hash: 'sha256', content }))
  }

  // JSON.parse makes what an object literal cannot: own __proto__ keys.
  signText (contentText, options) {
    return this.sign({ content: JSON.parse(contentText), ...options })
  }

  post (text, more) {
    return this.publish({ type: 'post', text, ...more })
  }

  contact (author, change) {
    return this.publish({ type: 'contact', contact: author.id, ...change })
  }

  private (text, authors) {
    const recps = authors.map((author) => author.id)
    return this.publish(ssbKeys.box({ type: 'post', text, recps }, recps))
  }

  // A post whose message is exactly so many UTF-16 units long, signature included.
  postOfSize (units, filler) {
    const content = (text) => ({ type: 'post', text })
    const length = (text) => {
      const value = validate.create(state.feeds[this.id], this.keys, null, content(text), 1438787025000)
      return validate.encode(value).length
    }
    const room = units - length('')
    const width = length(filler) - length('')
    const text = filler.repeat(Math.floor(room / width)) + 'x'.repeat(room % width)
    const { value } = this.post(text)
    if (validate.encode(value).length !== units) throw new Error(`made ${validate.encode(value).length}, not ${units}`)
  }
}

function base () {
  const secrets = fs.mkdtempSync(path.join(os.tmpdir(), 'sneaker-small-'))
  const args = ['make-log.cjs', '--messages', '1000', '--authors', '16', '--seed', SEED, '--secrets', secrets]
  const text = execFileSync(process.execPath, args, { cwd: __dirname, maxBuffer: 1 << 28, encoding: 'utf8' })
  const records = text.trimEnd().split('\n').map((line) => JSON.parse(line))
  received = () => records[0].timestamp
  for (const record of records) {
    validate.appendKVT(state, null, record)
    log.push(state.queue.pop())
  }
  received = deterministic.clock(`${SEED} clock`, Math.ceil(records.at(-1).timestamp))
  const load = (name) => JSON.parse(fs.readFileSync(path.join(secrets, name), 'utf8'))
  const authors = ['secret', 'secret-1', 'secret-2', 'secret-3'].map((name, i) => Author.of(`author-${i}`, load(name)))
  fs.rmSync(secrets, { recursive: true })
  return authors
}

function blobId (text) {
  return '&' + crypto.createHash('sha256').update(text).digest('base64') + '.sha256'
}

function main (folder) {
  const fixtureAuthors = base()
  const byFixtures = log.length
  const main = fixtureAuthors[0]
  const [alice, bob, carol, dave, erin] = ['alice', 'bob', 'carol', 'dave', 'erin'].map((name) => new Author(name))

  // People, and who follows whom. Erin ends up blocked by alice, and unfollowed by the main author.
  for (const [author, name] of [[alice, 'alice'], [bob, 'Bób Ñandú'], [carol, '陳卡羅'], [dave, 'd🦀ve'], [erin, 'erin']]) {
    author.publish({ type: 'about', about: author.id, name })
    main.contact(author, { following: true })
    author.contact(main, { following: true })
  }
  alice.publish({
    type: 'about',
    about: alice.id,
    name: 'alice',
    description: 'tests things\n\tin "quotes" \\ and / slashes',
    image: { link: blobId('alice.png'), size: 7, type: 'image/png', width: 16, height: 16 }
  })
  bob.publish({ type: 'about', about: alice.id, name: 'my friend alice', image: blobId('alice.png') })
  alice.contact(bob, { following: true })
  alice.contact(carol, { following: true, blocking: false })
  alice.contact(erin, { following: true })
  alice.contact(erin, { following: false, blocking: true })
  bob.contact(erin, { blocking: true })
  bob.contact(erin, { blocking: false })
  bob.contact(dave, { following: true })
  main.contact(erin, { following: false })

  // Alice writes what people write.
  const root = alice.post('Grüße aus Zürich: äöüß éèê ñ ÿ ×÷')
  const reply = bob.post('こんにちは世界。 你好，世界。 안녕하세요. Привет, мир! مرحبا', { root: root.key, branch: root.key })
  alice.post('emoji 👋🏽 🇨🇭 👨‍👩‍👧‍👦 🏴‍☠️ and other astral text: 𝔰𝔫𝔢𝔞𝔨𝔢𝔯 𐍈 𠜎', { root: root.key, branch: [root.key, reply.key] })
  bob.publish({ type: 'vote', channel: undefined, vote: { link: root.key, value: 1, expression: '💚' } })
  alice.post('line\u2028separator, paragraph\u2029separator, nul\u0000, bell\u0007, escape\u001b[31m, delete\u007f, next line\u0085')
  alice.post('combining: e\u0301 is not \u00e9; bidi: \u202eevil\u202c; zero\u200bwidth; bom \ufeff; noncharacter \uffff')
  alice.post('a photo: ![boat](' + blobId('boat.jpg') + ')', {
    mentions: [
      { link: blobId('boat.jpg'), name: 'boat.jpg', type: 'image/jpeg', size: 68 },
      { link: bob.id, name: 'bob' },
      { link: root.key },
      { link: blobId('sealed.bin') + '?unbox=' + Buffer.alloc(32, 5).toString('base64') + '.boxs', name: 'sealed.bin' }
    ]
  })
  alice.postOfSize(MAX_UNITS, 'All work and no play makes Jack a dull boy.\n')
  alice.postOfSize(MAX_UNITS - 1, '🚀')
  alice.postOfSize(MAX_UNITS, '語')
  alice.postOfSize(MAX_UNITS - 7, '"\\')
  alice.private('for bob alone', [alice, bob])
  alice.private('for those whose secrets are here: 🤫', [alice, bob, carol, main])
  alice.private('for seven', [alice, bob, carol, dave, ...fixtureAuthors.slice(0, 3)])
  alice.private('to myself', [alice])
  alice.private('not for the sender: ' + 'long '.repeat(900), [bob])
  bob.private('pssst', [alice, bob])
  fixtureAuthors[1].private('from a stranger', [alice, fixtureAuthors[1]])
  alice.publish(ssbKeys.box({ type: 'contact', contact: dave.id, following: true, recps: [alice.id] }, [alice.id]))

  // Bob writes with a program from before 2016: the author stands before the sequence.
  for (let i = 0; i < 20; i++) bob.sign({ content: { type: 'post', text: `an old program, ${i}` }, authorFirst: true })
  bob.post('a new program again')
  bob.sign({ content: ssbKeys.box({ type: 'post', text: 'old and private', recps: [alice.id] }, [alice.id]), authorFirst: true })

  // Carol writes numbers, odd keys and odd shapes.
  const numbers = [
    0, -0, 1, -1, 1.5, -0.5, 0.1, 0.1 + 0.2, 1e21, -1e21, 1e20, 123456789012345680000, 1e-6, 1e-7, 1.5e-7, 1.5e300,
    5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2147483647, 2147483648, -2147483649, 4294967295, 4294967296,
    9007199254740991, 9007199254740992, 9007199254740994, 12345678901234567890, 100, 1e2, 4.35, 1 / 3, Math.PI
  ]
  carol.publish({ type: 'numbers', numbers })
  carol.publish({ type: 'numbers', each: Object.fromEntries(numbers.map((number) => [String(number), number])) })
  for (const number of [1.5, 1e21, 1e-7, -0.5, 2 ** 53 + 2, 2 ** 63]) carol.publish({ type: 'number', number })
  carol.sign({ content: { type: 'post', text: 'half a millisecond' }, timestamp: received() + 0.5 })
  carol.sign({ content: { type: 'post', text: 'monotonic' }, timestamp: received() + 1 / 1001 })
  carol.sign({ content: { type: 'post', text: 'the clock was wrong' }, timestamp: 0 })
  carol.sign({ content: { type: 'post', text: 'very wrong' }, timestamp: -1e21 })
  carol.signText('{"z":1,"10":"ten","9":"nine","01":"one","-1":"minus","4294967294":"index","4294967295":"no index","1.0":"","type":"keys","a":{"2":2,"b":0,"1":1,"0":0}}')
  carol.publish({ type: 'keys', '': 'empty key', ' ': 'blank', 'ключ': 'Cyrillic', '🔑': 'astral', '"\\\n': 'escapes', constructor: 1, toString: 2, hasOwnProperty: 3, length: 4 })
  carol.publish({ type: 'nested', deep: JSON.parse('['.repeat(40) + ']'.repeat(40)), lists: [[], [[]], [1, [2, [3, []]]], ['']] })
  carol.publish({ type: 'values', nothing: null, yes: true, no: false, empty: '', list: [true, false, '', 0] })
  carol.publish({ type: 'x'.repeat(52), text: 'the longest type' })
  carol.publish({ type: 'abc', text: 'the shortest type' })
  carol.publish({ type: '🦀'.repeat(26), text: '52 units, 26 characters, 104 bytes' })
  carol.publish({ type: 'post', text: 'looks like its own framing\n{"key":"%x"}\n', key: '%x', value: { signature: 'none' } })

  // Dave writes what ssb-validate takes and others do not: not all of it survives every program. A null in a list and
  // a box shorter than its header stop the indexes of ssb-server for good.
  dave.publish({ type: 'values', list: [null, true, [null]] })
  dave.publish({ type: 'empties', object: {}, list: [], nested: { object: {}, list: [{}, [], { a: {} }] } })
  dave.post('lone surrogates: high \ud83d, low \ude00, swapped \ude00\ud83d, after astral 😀\ud800')
  dave.publish({ type: 'surrogate keys', '\ud800': '\udfff', text: 'e\ud800e' })
  dave.signText('{"type":"proto","__proto__":{"polluted":true},"after":{"__proto__":null}}')
  dave.sign({ content: 'AAAA.box9' })
  dave.sign({ content: '.box' })
  dave.sign({ content: 'AA==.boxes are nice 📦' })
  dave.sign({ content: crypto.createHash('sha512').update(SEED).digest('base64') + '.box2' })
  dave.sign({ content: { type: 'post', text: 'a time in words' }, timestamp: '2015-08-05' })
  dave.sign({ content: { type: 'post', text: 'no time' }, timestamp: null })
  dave.sign({ content: { type: 'post', text: 'a box for the time' }, timestamp: { now: [] } })
  dave.post('a plain end')

  // Erin is blocked by alice, and still writes.
  for (let i = 0; i < 30; i++) erin.post(`can anybody read this? ${i} `.repeat(1 + (i % 4)))

  writeOut(folder, byFixtures, { main, alice, bob, carol, dave, erin, ...Object.fromEntries(fixtureAuthors.slice(1).map((a) => [a.name, a])) })
}

function writeOut (folder, byFixtures, people) {
  const secrets = {}
  for (const [name, { keys }] of Object.entries(people)) secrets[name] = keys
  const names = new Map(Object.entries(people).map(([name, author]) => [author.id, name]))
  const feeds = {}
  for (const [index, { key, value }] of log.entries()) {
    const name = names.get(value.author) ?? null
    const feed = (feeds[value.author] ??= { name, sequence: 0, key: null, by_ssb_fixtures: 0, ssb_classic: true })
    const last = feed.sequence ? { id: feed.key, sequence: feed.sequence } : null
    classic.validate(value, last, null, (error) => { if (error) feed.ssb_classic = false })
    feed.sequence = value.sequence
    feed.key = key
    if (index < byFixtures) feed.by_ssb_fixtures = value.sequence
  }
  const refused = Object.values(feeds).filter((feed) => !feed.ssb_classic).map((feed) => feed.name)
  if (refused.join() !== 'dave') throw new Error(`ssb-classic refuses a message of ${refused}, not of dave alone`)
  const version = (name) => require(`${name}/package.json`).version
  const packages = ['ssb-fixtures', 'ssb-db', 'ssb-validate', 'ssb-keys', 'ssb-classic', 'private-box', 'sodium-native']
  const lines = log.map((record) => JSON.stringify(record) + '\n').join('')
  const summary = {
    messages: log.length,
    private_messages: log.filter(({ value }) => typeof value.content === 'string').length,
    ndjson_sha256: crypto.createHash('sha256').update(lines).digest('hex'),
    feeds,
    made_with: { node: process.versions.node, ...Object.fromEntries(packages.map((name) => [name, version(name)])) }
  }
  fs.writeFileSync(path.join(folder, 'small-secrets.json'), JSON.stringify(secrets, null, 2) + '\n')
  fs.writeFileSync(path.join(folder, 'small-summary.json'), JSON.stringify(summary, null, 2) + '\n')
  fs.writeFileSync(1, lines)
}

main(process.argv[2] ?? '.')
