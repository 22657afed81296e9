// Reads the records of a flumelog-offset file (32-bit offsets, as every ssb-db writes them):
// u32 length, the JSON text, u32 length again, u32 position of the next record.
'use strict'

const fs = require('fs')

function * records (filename) {
  const fd = fs.openSync(filename, 'r')
  try {
    const head = Buffer.alloc(4)
    let position = 0
    while (fs.readSync(fd, head, 0, 4, position) === 4) {
      const length = head.readUInt32BE(0)
      const body = Buffer.alloc(length + 8)
      if (fs.readSync(fd, body, 0, body.length, position + 4) < body.length) return
      position += 4 + body.length
      if (body.readUInt32BE(length) !== length || body.readUInt32BE(length + 4) !== position) {
        throw new Error(`not a flumelog with 32-bit offsets, at byte ${position}`)
      }
      if (body[0] !== 0) yield body.toString('utf8', 0, length)
    }
  } finally {
    fs.closeSync(fd)
  }
}

module.exports = { records }
