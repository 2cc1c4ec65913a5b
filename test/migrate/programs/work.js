// A node program: event loop, timers, promises, thread-pool file work, worker threads, zlib, crypto, a child process.
const fs = require('fs'), crypto = require('crypto'), zlib = require('zlib'), util = require('util');
const {execFile} = require('child_process');
const {Worker} = require('worker_threads');
const run = util.promisify(execFile), gzip = util.promisify(zlib.gzip), gunzip = util.promisify(zlib.gunzip);

function worker(n) {
  return new Promise((resolve, reject) => {
    const w = new Worker(`const {parentPort, workerData} = require('worker_threads');
      let x = workerData; for (let i = 0; i < 300000; i++) x = (x * 1103515245 + 12345) % 2147483648;
      parentPort.postMessage(x);`, {eval: true, workerData: n});
    w.once('message', resolve);
    w.once('error', reject);
  });
}

async function round() {
  const data = Buffer.from(Array.from({length: 20000}, (_, i) => `line ${i} ${i * i % 97}`).join('\n'));
  const packed = await gzip(data);
  if (!data.equals(await gunzip(packed))) throw new Error('gzip');
  await fs.promises.writeFile('node-file', data);
  const back = await fs.promises.readFile('node-file');
  const hashes = await Promise.all([1, 2, 3, 4].map(n => util.promisify(crypto.pbkdf2)('pw' + n, 'salt', 2000, 16, 'sha256')));
  const before = process.hrtime.bigint();
  await new Promise(resolve => setTimeout(resolve, 4));
  if (process.hrtime.bigint() - before < 3000000n) throw new Error('woke early');
  const {stdout} = await run('echo', ['from a child']);
  const numbers = await Promise.all([worker(7), worker(8)]);
  return [crypto.createHash('md5').update(back).digest('hex'), ...hashes.map(h => h.toString('hex')), stdout.trim(), ...numbers].join(' ');
}

(async () => {
  const first = await round();
  console.log('ready', first);
  while (!fs.existsSync('stop')) {
    const again = await round();
    if (again !== first) throw new Error('round differs: ' + again);
  }
  console.log('node: all rounds alike');
})();
