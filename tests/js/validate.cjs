#!/usr/bin/env node
// The second opinion on messages: what ssb-validate and ssb-classic say of them.
//
// Reads one case per line on stdin and answers each with one line on stdout, in the same order:
//
//   {"raw": "<JSON text of a message value>", "state": {"id", "sequence"} | null, "hmacKey": base64 | null}
//   {"valid", "error", "fatal", "thrown", "id", "length", "canonical", "classic": {"valid", "error"}}
//
// `state` is the author's last message, null for a first message. `fatal` is ssb-validate's own mark;
// `thrown` says that it threw instead of returning an error, which its callers take as a refusal too.
// `canonical` is the text that is signed and hashed, `length` its size in UTF-16 units. A raw text that
// is no JSON is answered with {"valid": false, "parse": false, "error"}.
//
// With the option --with-cases the answer also repeats the case itself, for a file of cases that knows its answers.
//
// Everything outside printable ASCII goes out as \uXXXX: lone surrogates cannot be written in UTF-8.
'use strict'

const validate = require('ssb-validate')
const classic = require('ssb-classic/format')

function escape (json) {
  return json.replace(/[^\x20-\x7e]/g, (unit) => '\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'))
}

// Some errors quote the whole message.
function brief (error) {
  return String(error.message).split('\n', 1)[0].slice(0, 300)
}

// What ssb-db does in append(): every check, then the signature; a throw is a refusal.
function askValidate (state, hmacKey, message) {
  try {
    const error = validate.checkInvalid(state, hmacKey, message)
    if (!error) return { valid: true, error: null, fatal: false, thrown: false }
    return { valid: false, error: brief(error), fatal: Boolean(error.fatal), thrown: false }
  } catch (error) {
    return { valid: false, error: brief(error), fatal: false, thrown: true }
  }
}

function askClassic (state, hmacKey, message) {
  let verdict = { valid: false, error: 'no answer' }
  try {
    classic.validate(message, state, hmacKey, (error) => {
      verdict = error ? { valid: false, error: brief(error) } : { valid: true, error: null }
    })
  } catch (error) {
    verdict = { valid: false, error: brief(error) }
  }
  return verdict
}

const withCases = process.argv.includes('--with-cases')

function answer (line) {
  const question = JSON.parse(line)
  return withCases ? { ...question, ...judge(question) } : judge(question)
}

function judge ({ raw, state = null, hmacKey = null }) {
  let message
  try {
    message = JSON.parse(raw)
  } catch (error) {
    return { valid: false, parse: false, error: error.message }
  }
  const verdict = askValidate(state, hmacKey, message)
  const canonical = validate.encode(message)
  verdict.id = validate.id(message)
  verdict.length = canonical.length
  verdict.canonical = canonical
  verdict.classic = askClassic(state, hmacKey, message)
  return verdict
}

// Lines are cut out of the bytes by hand: readline also ends lines at U+2028.
const NEWLINE = 10
let parts = []

process.stdin.on('data', (chunk) => {
  const answers = []
  let start = 0
  for (;;) {
    const end = chunk.indexOf(NEWLINE, start)
    if (end < 0) break
    parts.push(chunk.subarray(start, end))
    const line = Buffer.concat(parts).toString('utf8')
    parts = []
    start = end + 1
    if (line.trim()) answers.push(escape(JSON.stringify(answer(line))))
  }
  if (start < chunk.length) parts.push(chunk.subarray(start))
  if (answers.length && !process.stdout.write(answers.join('\n') + '\n')) {
    process.stdin.pause()
    process.stdout.once('drain', () => process.stdin.resume())
  }
})
process.stdin.on('end', () => {
  const line = Buffer.concat(parts).toString('utf8')
  if (line.trim()) process.stdout.write(escape(JSON.stringify(answer(line))) + '\n')
})
