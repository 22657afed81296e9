// Makes everything that ssb-fixtures and ssb-db leave to chance depend on a seed: the nonces and
// one-time keys of private messages, and the timestamps. Must be loaded before either of them,
// because private-box keeps a reference to the functions of chloride that it finds at load time.
'use strict'

const crypto = require('crypto')

// An endless stream of bytes: AES-256-CTR over zeros, keyed with a hash of the seed.
function byteStream (seed) {
  const key = crypto.createHash('sha256').update(`sneaker fixture bytes:${seed}`).digest()
  const cipher = crypto.createCipheriv('aes-256-ctr', key, Buffer.alloc(16))
  return (length) => cipher.update(Buffer.alloc(length))
}

// Uneven steps, as people write: mostly minutes, sometimes hours, whole milliseconds.
function clock (seed, start = Date.UTC(2015, 7, 5, 15, 3, 45)) {
  const bytes = byteStream(`clock:${seed}`)
  let now = start
  return () => {
    const uniform = (bytes(4).readUInt32BE(0) + 1) / 4294967297
    now += 1 + Math.floor(-Math.log(uniform) * 60000)
    return now
  }
}

function install (seed) {
  const sodium = require('chloride')
  const bytes = byteStream(`nonces:${seed}`)
  sodium.randombytes = (buffer) => {
    bytes(buffer.length).copy(buffer)
    return buffer
  }
  sodium.crypto_box_keypair = () => sodium.crypto_box_seed_keypair(bytes(32))

  const path = require.resolve('monotonic-timestamp')
  require(path)
  require.cache[path].exports = clock(seed)
}

module.exports = { byteStream, clock, install }
