#!/usr/bin/env node
// Makes tests/data/js/cases.ndjson.zst: messages at the edges of what ssb-validate takes, properly signed unless the
// signature is the point, so that each is refused for one reason only. Prints them as input for validate.cjs:
//
//   node make-cases.cjs | node validate.cjs --with-cases | zstd -19 > ../data/js/cases.ndjson.zst
'use strict'

const crypto = require('crypto')
const ssbKeys = require('ssb-keys')
const validate = require('ssb-validate')

const keys = ssbKeys.generate('ed25519', crypto.createHash('sha256').update('sneaker edge cases').digest())
const other = ssbKeys.generate('ed25519', crypto.createHash('sha256').update('sneaker edge cases, other').digest())
const HMAC = Buffer.alloc(32, 7).toString('base64')
const STATE = { id: '%' + Buffer.alloc(32, 1).toString('base64') + '.sha256', sequence: 1 }
const POST = { type: 'post', text: 'x' }

const escape = (json) => json.replace(/[^\x20-\x7e]/g, (unit) => '\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'))
const emit = (name, raw, state = null, hmacKey = null) => console.log(escape(JSON.stringify({ name, raw, state, hmacKey })))

function fields (change = {}, state = null) {
  const start = state ? { previous: state.id, sequence: state.sequence + 1 } : { previous: null, sequence: 1 }
  return { ...start, author: keys.id, timestamp: 1600000000000, hash: 'sha256', content: POST, ...change }
}

// Signs the canonical text of whatever is given; by: null leaves the signature to the case.
function signed (value, hmacKey = null) {
  return ssbKeys.signObj(keys, hmacKey, value)
}

const first = (name, change) => emit(`first: ${name}`, JSON.stringify(signed(fields(change))))
const later = (name, change, state = STATE) => emit(`later: ${name}`, JSON.stringify(signed(fields(change, state))), state)
const content = (name, value) => first(`content ${name}`, { content: value })

// Signs what JSON.parse makes of the text, then puts the signature into the text itself.
function text (name, raw, state = null) {
  const { signature } = signed(JSON.parse(raw))
  emit(`text: ${name}`, raw.replace(/\}\s*$/, `,"signature":"${signature}"}`), state)
}
const A = JSON.stringify(keys.id)
const rawFirst = (change = {}) => {
  const parts = { previous: 'null', sequence: '1', author: A, timestamp: '1600000000000', hash: '"sha256"', content: '{"type":"post"}', ...change }
  return '{' + Object.entries(parts).map(([key, value]) => `"${key}":${value}`).join(',') + '}'
}

// What is no message at all.
for (const raw of ['null', 'true', '5', '-0', '1e400', '"text"', '""', '[]', '{}', '[null]', '{"author":null}', `{"author":${A}}`]) emit(`shape ${raw.slice(0, 20)}`, raw)
for (const raw of ['', ' ', '{', 'nul', '{"a":1,}', '[1,]', "{'a':1}", '01', '1.', '.5', '+1', 'NaN', 'Infinity', '-', '"\n"', '"\t"', '"\\x"', '"\\u12"', '{"a":1}{', '\ufeff{}', '\u00a0{}', '\u2028{}', '"\u2028"', '"\u007f"', '\v1', '/**/1', '1e', '0x10', '--1', '1_000', '[1 2]', '{"a" 1}', '{a:1}', '"\\ud800"', '"\ud800"', ' \t\r\n1 \t\r\n']) emit(`json ${JSON.stringify(raw)}`, raw)

// The state and what must follow it.
first('plain')
later('plain')
first('previous is a message id', { previous: STATE.id })
first('sequence 2', { sequence: 2 })
first('sequence 0', { sequence: 0 })
first('sequence "1"', { sequence: '1' })
first('sequence [1]', { sequence: [1] })
first('sequence true', { sequence: true })
first('sequence null', { sequence: null })
for (const [name, previous] of [['null', null], ['another', '%' + Buffer.alloc(32, 2).toString('base64') + '.sha256'], ['empty', ''], ['in a list', [STATE.id]], ['in lists', [[STATE.id]]], ['in a list of two', [STATE.id, STATE.id]], ['an object', { id: STATE.id }], ['with a blank', STATE.id + ' '], ['false', false], ['zero', 0]]) later(`previous ${name}`, { previous })
for (const sequence of [1, 3, 0, -1, 2.5, '2', [2], [[2]], '0x2', ' 2 ', true, null, 4294967298, { valueOf: 2 }]) later(`sequence ${JSON.stringify(sequence)}`, { sequence })
for (const sequence of [2147483646, 2147483647, 2147483648, 4294967295, 4294967296, 9007199254740991, 9007199254740992, 1e21]) later(`state sequence ${sequence}`, {}, { id: STATE.id, sequence })
later('state id is no id', {}, { id: 'anything', sequence: 1 })
later('state sequence 0', {}, { id: STATE.id, sequence: 0 })
later('state sequence -1', {}, { id: STATE.id, sequence: -1 })
later('state id null', {}, { id: null, sequence: 0 })
later('state id null, sequence 4', {}, { id: null, sequence: 4 })
emit('state null, later message', JSON.stringify(signed(fields({}, STATE))), null)
emit('state given, first message', JSON.stringify(signed(fields())), STATE)
emit('state of another author', JSON.stringify(ssbKeys.signObj(other, fields({ author: other.id }, STATE))), STATE)

// Timestamps: checked on the first message only.
for (const timestamp of [0, -1, 1.5, 1e21, -1e300, '1600000000000', '', null, true, false, [], [1], {}, { a: {} }]) {
  first(`timestamp ${JSON.stringify(timestamp)}`, { timestamp })
  later(`timestamp ${JSON.stringify(timestamp)}`, { timestamp })
}
for (const number of ['1e400', '-1e400', '-0', '1E3', '1.0', '1e-400', '100e-2', '16e11', '9007199254740993', '1600000000000.0000001']) text(`timestamp ${number}`, rawFirst({ timestamp: number }))
for (const number of ['1.0', '1e0', '0.1e1', '10e-1', '1.00000000000000001', '-1', '-0']) text(`sequence ${number}`, rawFirst({ sequence: number }))

// Fields and their order.
const value = signed(fields())
const entries = Object.entries(value)
for (const [key] of entries) emit(`without ${key}`, JSON.stringify(Object.fromEntries(entries.filter(([name]) => name !== key))))
for (let i = 0; i + 1 < entries.length; i++) {
  const order = entries.slice(0, -1)
  if (i + 1 < order.length) {
    [order[i], order[i + 1]] = [order[i + 1], order[i]]
    emit(`swapped ${order[i + 1][0]} and ${order[i][0]}`, JSON.stringify(signed(Object.fromEntries(order))))
  }
}
emit('signature first', JSON.stringify({ signature: value.signature, ...value }))
emit('extra field', JSON.stringify(signed(fields({ extra: 1 }))))
emit('extra field after the signature', JSON.stringify({ ...value, extra: 1 }))
emit('integer-like extra field', JSON.stringify(signed(fields({ 0: 1 }))))
emit('__proto__ field', JSON.stringify(value).replace('{', '{"__proto__":null,'))
emit('__proto__ for content', JSON.stringify(value).replace('"content"', '"__proto__"'))
text('duplicate field', rawFirst().replace('{', '{"previous":1,'))
text('duplicate field moves nothing', '{"previous":null,"sequence":5,"author":' + A + ',"sequence":1,"timestamp":1,"hash":"sha256","content":{"type":"post"}}')
text('duplicate field out of order', '{"previous":null,"content":1,' + rawFirst().slice(1).replace('"previous":null,', ''))
text('escaped field names', rawFirst().replace('"previous"', '"\\u0070revious"'))
text('white space', rawFirst().replace(/,/g, ' ,\n\t ').replace(/:/g, '\r\n: '))
for (const hash of ['sha512', 'SHA256', 'sha256 ', '', null, ['sha256']]) first(`hash ${JSON.stringify(hash)}`, { hash })

// Authors. A wrong one cannot sign; the signature is of the usual key.
const b64 = keys.public.slice(0, 44)
for (const [name, author] of [['without @', keys.public], ['sha256', `@${b64}.sha256`], ['another curve', `@${b64}.k256`], ['no dot', `@${b64}xed25519`], ['line break for a dot', `@${b64}\ned25519`], ['U+2028 for a dot', `@${b64}\u2028ed25519`], ['no suffix', `@${b64}`], ['suffix goes on', keys.id + 'x'], ['line break after', keys.id + '\n'], ['blank before', ' ' + keys.id], ['not canonical', '@' + b64.slice(0, 42) + 'BCDF'[0] + '=.ed25519'], ['no padding', '@' + b64.slice(0, 43) + '.ed25519'], ['base64url', '@' + '-_'.repeat(21) + 'A=.ed25519'], ['31 bytes', '@' + Buffer.alloc(31).toString('base64') + '.ed25519'], ['33 bytes', '@' + Buffer.alloc(33).toString('base64') + '.ed25519'], ['all zero', '@' + Buffer.alloc(32).toString('base64') + '.ed25519'], ['low order', '@' + Buffer.from('01' + '00'.repeat(31), 'hex').toString('base64') + '.ed25519'], ['not on the curve', '@' + Buffer.from('02' + '00'.repeat(31), 'hex').toString('base64') + '.ed25519'], ['not reduced', '@' + Buffer.from('ee' + 'ff'.repeat(30) + '7f', 'hex').toString('base64') + '.ed25519'], ['in a list', [keys.id]], ['null', null], ['empty', ''], ['other', other.id]]) first(`author ${name}`, { author })

// Signatures.
const good = value.signature.slice(0, 88)
const raw64 = Buffer.from(good, 'base64')
const L = Buffer.from('edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010', 'hex')
const plusL = Buffer.from(raw64)
for (let i = 0, carry = 0; i < 32; i++) {
  carry += raw64[32 + i] + L[i]
  plusL[32 + i] = carry & 255
  carry >>= 8
}
const signature = (name, changed) => emit(`signature ${name}`, JSON.stringify({ ...value, signature: changed }))
signature('S not reduced', plusL.toString('base64') + '.sig.ed25519')
signature('all zero', Buffer.alloc(64).toString('base64') + '.sig.ed25519')
signature('63 bytes', raw64.subarray(0, 63).toString('base64') + '.sig.ed25519')
signature('65 bytes', Buffer.concat([raw64, Buffer.alloc(1)]).toString('base64') + '.sig.ed25519')
signature('66 bytes', Buffer.concat([raw64, Buffer.alloc(2)]).toString('base64') + '.sig.ed25519')
signature('one bit off', good.replace(/^./, (c) => (c === 'A' ? 'B' : 'A')) + '.sig.ed25519')
signature('not canonical', good.slice(0, 85) + String.fromCharCode(good.charCodeAt(85) + 1) + '==.sig.ed25519')
signature('no padding', good.slice(0, 86) + '.sig.ed25519')
signature('no suffix', good)
signature('only .ed25519', good + '.ed25519')
signature('.sig.sha256', good + '.sig.sha256')
signature('xsigxed25519', good + 'xsigxed25519')
signature('.sigxed25519', good + '.sigxed25519')
signature('suffix goes on', good + '.sig.ed25519x')
signature('suffix goes on past a blank', good + '.sig.ed25519 x')
signature('line break after', good + '.sig.ed25519\n')
signature('base64url', good.replace(/[+/]/g, (c) => (c === '+' ? '-' : '_')).replace(/^./, '-') + '.sig.ed25519')
signature('of another key', ssbKeys.signObj(other, fields()).signature)
signature('of the compact text', ssbKeys.sign(keys, JSON.stringify(fields())))
for (const changed of [null, 1, true, '', {}, [], [value.signature]]) signature(JSON.stringify(changed).slice(0, 12), changed)

// HMAC keys.
const withHmac = signed(fields(), HMAC)
emit('hmac right', JSON.stringify(withHmac), null, HMAC)
emit('hmac missing', JSON.stringify(withHmac), null, null)
emit('hmac not wanted', JSON.stringify(value), null, HMAC)
for (const key of ['', 'short', HMAC.slice(0, -1), HMAC + ' ', HMAC.slice(0, 42) + 'd=', HMAC.replace(/=/, '.x'), Buffer.alloc(33).toString('base64'), '=', 0, 5, true, false, {}, [], [7]]) emit(`hmac ${JSON.stringify(key)}`, JSON.stringify(withHmac), null, key)

// Contents.
for (const [name, given] of [['null', null], ['zero', 0], ['one', 1], ['true', true], ['empty text', ''], ['plain text', 'hello'], ['list', []], ['list of post', [POST]], ['empty object', {}]]) content(name, given)
for (const type of ['ab', 'abc', 'x'.repeat(52), 'x'.repeat(53), '', ' '.repeat(3), '🦀'.repeat(26), '🦀'.repeat(26) + 'x', 'a🦀', '🦀', 'é\u0301', '語語語', '\ud800\ud800\ud800', null, 5, 12345, true, ['abc'], { length: 5 }]) content(`type ${JSON.stringify(type).slice(0, 30)}`, { type })
content('type at the end', { text: 'x', type: 'post' })
content('without type', { text: 'x' })
for (const string of ['.box', 'AAAA.box', 'AAA=.box', 'AA==.box', 'AAB=.box', 'AB==.box', 'AAA.box', 'AA.box', 'A.box', 'AAAAA.box', 'A===.box', '====.box', 'AAAA=.box', 'AAA=AAAA.box', 'AA A.box', 'AAAA .box', ' AAAA.box', 'AAAA.box ', 'AAAA.box\n', 'AAAA.box\r', 'AAAA.box\u2028', 'AAAA.box\u2029', 'AAAA.box\u0085', 'AAAA.box\nx', 'AAAA.box\u0000', '\nAAAA.box', 'AAAA\n.box', 'AAAA.boxes and more', 'AAAA.box.box', 'AAAA.bo', 'AAAA.Box', 'AAAAxbox', 'AAAA.box2', 'AAAA.box🚀', 'AAAA.box\ud800', 'AA-_.box', 'ÀAAA.box', 'not base64!.box', 'not base64!.box2', 'x.box?a=1', 'x'.repeat(53), 'box']) content(JSON.stringify(string), string)

// The size, in UTF-16 units of the whole text.
const roomFor = (given) => 8192 - validate.encode(signed(fields({ content: given('') }))).length
for (const [name, unit] of [['letters', 'x'], ['umlauts', 'ü'], ['rockets', '🚀'], ['line breaks', '\n'], ['control characters', '\u0001'], ['lone surrogates', '\ud800'], ['quotes', '"'], ['slashes', '/'], ['U+2028', '\u2028']]) {
  const post = (filler) => ({ type: 'post', text: filler })
  const width = JSON.stringify(unit).length - 2
  for (const over of [-1, 0, 1]) {
    const room = roomFor(post) + over
    content(`${name}, ${8192 + over} units`, post(unit.repeat(Math.floor(room / width)) + 'y'.repeat(room % width)))
  }
}
const boxRoom = roomFor((filler) => filler + '.box')
for (const over of [-4, 0, 4]) content(`box, ${8192 - (boxRoom % 4) + over} units`, 'A'.repeat(boxRoom - (boxRoom % 4) + over) + '.box')
for (const over of [0, 1]) content(`box with a tail, ${8192 + over} units`, 'AAAA.box' + 'z'.repeat(boxRoom - 4 + over))
content('deep', JSON.parse('{"type":"deep","a":' + '['.repeat(60) + ']'.repeat(60) + '}'))

// What JSON.parse and JSON.stringify do to contents.
for (const [name, raw] of [
  ['numbers', '{"type":"post","n":[0,-0,1.0,1e21,1E-7,-0.5,1e400,-1e400,9007199254740993,0.1e-6,123456789012345678901234567890,5e-324,2e-324,4.35,1e0]}'],
  ['keys', '{"b":1,"type":"post","2":2,"1":1,"01":0,"-1":0,"4294967294":1,"4294967295":2,"4294967296":3,"1e3":4,"0":{"9":1,"a":2,"8":3}}'],
  ['duplicate keys', '{"type":"abc","x":1,"type":"post","1":1,"x":2,"1":2}'],
  ['duplicate types, the last too short', '{"type":"post","type":"x"}'],
  ['__proto__', '{"type":"post","__proto__":{"a":1},"b":{"__proto__":5,"c":{"__proto__":null}}}'],
  ['__proto__ with a type', '{"__proto__":{"type":"post"}}'],
  ['constructor', '{"type":"post","constructor":1,"toString":null,"hasOwnProperty":{},"toJSON":"x"}'],
  ['escapes', '{"type":"post","text":"\\u0041\\/\\u002f\\u00e9\\ud83d\\ude00\\ud800\\udc00\\ud800x\\udc00\\u0000\\u001f\\u007f\\u2028\\b\\f\\n\\r\\t\\"\\\\"}'],
  ['surrogates in keys', '{"type":"post","\\ud800":1,"\\udc00\\ud800":2,"\\ud83d\\ude00":3}'],
  ['empties', '{"type":"post","a":{},"b":[],"c":[{}],"d":[[]],"e":{"f":{}},"":""}']
]) text(`content ${name}`, rawFirst({ content: raw }))
