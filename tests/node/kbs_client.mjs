// A second guest's client for the KBS protocol, independent of everything in Python: Node's TLS and the package `jose`.
//
// It obeys the rules of the real client: the header of a JWE is parsed and written again (compact, `alg` first, `enc`
// second, the rest sorted, nested too) and that text, not the one received, is the additional authenticated data.
//
// arguments: URL, CA file, protocol version, kind of key, resource path. It writes `report_data <hex>` on standard
// output, reads one line of evidence (JSON) from standard input, and ends with one line of JSON: what it got.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { createInterface } from 'node:readline'
import * as jose from 'jose'

const [url, caFile, version, kind, path] = process.argv.slice(2)
const ca = readFileSync(caFile)
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
let cookie

function ask(method, where, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const sent = cookie ? { ...headers, Cookie: cookie } : headers
    const options = { method, ca, agent: false, headers: { ...sent, 'Content-Type': 'application/json' } }
    const call = request(new URL(where, url), options, (answer) => {
      const parts = []
      answer.on('data', (part) => parts.push(part))
      answer.on('end', () => {
        const set = answer.headers['set-cookie']
        if (set) cookie = set[0].split(';')[0]
        resolve({ status: answer.statusCode, body: JSON.parse(Buffer.concat(parts)) })
      })
    })
    call.on('error', reject)
    call.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

function sorted(value) {
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.keys(value).sort().map((name) => [name, sorted(value[name])]))
}

function must(answer) {
  if (answer.status === 200) return answer.body
  const { type, detail } = answer.body
  if (typeof type !== 'string' || typeof detail !== 'string') throw new Error('an error body the client cannot parse')
  console.log(JSON.stringify({ status: answer.status, detail, reasons: answer.body.reasons }))
  process.exit(0)
}

const algorithm = kind === 'RSA' ? 'RSA-OAEP-256' : 'ECDH-ES+A256KW'
const options = kind === 'RSA' ? { modulusLength: 2048 } : { crv: kind }
const pair = await jose.generateKeyPair(algorithm, { ...options, extractable: true })
const jwk = { ...(await jose.exportJWK(pair.publicKey)), alg: algorithm }

const challenge = must(await ask('POST', '/kbs/v0/auth', { version, tee: 'snp', 'extra-params': {} }))
if (!('extra-params' in challenge)) throw new Error('no extra-params in the challenge')

const runtime = { nonce: challenge.nonce, 'tee-pubkey': jwk }
const hashed = version === '0.2.0' ? runtime : { ...runtime, 'additional-evidence': '' }
const digest = createHash('sha384').update(JSON.stringify(sorted(hashed))).digest('hex')
console.log(`report_data ${digest.padEnd(128, '0')}`)
const evidence = JSON.parse((await lines.next()).value)

const body =
  version === '0.2.0'
    ? { 'tee-pubkey': jwk, 'tee-evidence': evidence }
    : {
        'init-data': null,
        'runtime-data': runtime,
        'tee-evidence': { primary_evidence: evidence, additional_evidence: '' },
      }
const { token } = must(await ask('POST', '/kbs/v0/attest', body))
const keys = jose.createLocalJWKSet(must(await ask('GET', '/.well-known/jwks.json')))
const { payload } = await jose.jwtVerify(token, keys, { issuer: 'attest', audience: 'kbs', typ: 'JWT' })

async function open(credential) {
  const jwe = must(await ask('GET', `/kbs/v0/resource/${path}`, undefined, credential))
  const { alg, enc, ...rest } = JSON.parse(Buffer.from(jwe.protected, 'base64url'))
  const again = Buffer.from(JSON.stringify({ alg, enc, ...sorted(rest) })).toString('base64url')
  const { plaintext } = await jose.flattenedDecrypt({ ...jwe, protected: again }, pair.privateKey)
  return Buffer.from(plaintext).toString('hex')
}

const byCookie = await open({})
cookie = undefined
const byToken = await open({ Authorization: `Bearer ${token}` })
console.log(JSON.stringify({ status: 200, byCookie, byToken, ear: payload.submods.cpu0['ear.status'] }))
process.exit(0)
