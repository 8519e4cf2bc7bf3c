/**
 * Checkpoints at full size: writes a Llama of the 8B shape (16 GB in bfloat16) and one of the 1B shape with our own
 * writer, loads them to float16 in a process of their own, and compares every element on the device, bit for bit.
 * Prints seconds, GB/s, the share of the disk's sequential speed, and the peak of resident memory.
 *
 *   node --conditions=@zebra/source --import tsx packages/bench/src/gpu/checkpoint.ts FOLDER [--small] [--only 8B]
 *
 * FOLDER needs room for the largest checkpoint. The page cache is dropped before cold reads where that is allowed (as
 * root); the script says whether it was. `--small` runs anywhere, on tiny shapes.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HybridModel, loadModel, modelSpec, modelSpecs, parseTransformerConfig, saveModel } from '@zebra/runtime';
import {
  type Device,
  defineKernel,
  empty,
  keep,
  linearMain,
  openDevice,
  type Shape,
  type Tensor,
  uploadTensors,
  zeros,
} from '@zebra/tensor';
import { openSafetensorsFolder } from '@zebra/tensor/safetensors';

const args = process.argv.slice(2);
const small = args.includes('--small');
const option = (name: string) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
const scratch = args.find(
  (arg, i) => !arg.startsWith('--') && !['--only', '--phase', '--shape'].includes(args[i - 1] ?? ''),
);
if (scratch === undefined) throw new Error('checkpoint: expected a folder with room for the checkpoints');

const LLAMA = {
  model_type: 'llama',
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  rope_theta: 500000,
  max_position_embeddings: 8192,
};
const SHAPES: Readonly<Record<string, Readonly<Record<string, unknown>>>> = small
  ? {
      tiny: {
        ...LLAMA,
        ...{ vocab_size: 5003, hidden_size: 256, intermediate_size: 512, num_hidden_layers: 3 },
        ...{ num_attention_heads: 8, num_key_value_heads: 2, tie_word_embeddings: false },
      },
    }
  : {
      '1B': {
        ...LLAMA,
        ...{ vocab_size: 128256, hidden_size: 2048, intermediate_size: 8192, num_hidden_layers: 16 },
        ...{ num_attention_heads: 32, num_key_value_heads: 8, tie_word_embeddings: true },
      },
      '8B': {
        ...LLAMA,
        ...{ vocab_size: 128256, hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32 },
        ...{ num_attention_heads: 32, num_key_value_heads: 8, tie_word_embeddings: false },
      },
    };

const GB = 1e9;
const seconds = (since: number) => (performance.now() - since) / 1000;
const log = (line: string) => process.stdout.write(`${line}\n`);

/** Bits of the bfloat16 that element `i` of tensor `seed` holds: ±(1 + m/128)·2^−e, e from 1 to 8, exact in float16. */
function bfloat16At(seed: number, i: number): number {
  let h = (Math.imul(i, 747796405) + Math.imul(seed, 2891336453)) >>> 0;
  h = Math.imul((h >>> ((h >>> 28) + 4)) ^ h, 277803737) >>> 0;
  h = ((h >>> 22) ^ h) >>> 0;
  return ((h & 1) << 15) | ((126 - ((h >>> 1) & 7)) << 7) | ((h >>> 8) & 127);
}

/** Fills a tensor with those values, or with `check` finds out whether it holds them. */
const valuesKernel = defineKernel({
  name: 'checkpoint-values',
  bindings: { x: 'write', wrong: 'write' },
  params: { count: 'u32', words: 'u32', seed: 'u32' },
  source({ constants }) {
    const half = constants.dtype === 'float16';
    const bits = half
      ? '((h & 1u) << 15u) | ((14u - ((h >> 1u) & 7u)) << 10u) | (((h >> 8u) & 127u) << 3u)'
      : '((h & 1u) << 31u) | ((126u - ((h >> 1u) & 7u)) << 23u) | (((h >> 8u) & 127u) << 16u)';
    const word = half ? 'value(2u * i) | select(0u, value(2u * i + 1u) << 16u, 2u * i + 1u < p.count)' : 'value(i)';
    return /* wgsl */ `
fn value(i: u32) -> u32 {
  var h = i * 747796405u + p.seed * 2891336453u;
  h = ((h >> ((h >> 28u) + 4u)) ^ h) * 277803737u;
  h = (h >> 22u) ^ h;
  return ${bits};
}
${linearMain('p.words', constants.check ? `  if (x[i] != (${word})) { wrong[0] = 1u; }` : `  x[i] = ${word};`)}`;
  },
});

function runValues(x: Tensor, seed: number, wrong: Tensor, check: boolean): void {
  const words = x.dtype === 'float16' ? Math.ceil(x.size / 2) : x.size;
  x.device.dispatch(valuesKernel, {
    bindings: { x: { ...x.range(), size: 4 * words, dtype: 'uint32' }, wrong: wrong.range() },
    params: { count: x.size, words, seed },
    constants: { dtype: x.dtype, check },
    groups: Math.ceil(words / x.device.workgroupOf(valuesKernel)),
  });
}

const specOf = (shape: string) => modelSpec(parseTransformerConfig(SHAPES[shape]));
const dtypeOf = (shape: Shape) => (shape.length === 2 ? 'float16' : 'float32');
const open_ = () => openDevice({ adapter: small ? 'auto' : 'hardware' });
const noFlag = (device: Device) => keep(zeros(device, [1], { dtype: 'uint32' }));

/** Samples resident memory; `peak` is the most so far. */
class MemoryProbe {
  readonly start = process.memoryUsage().rss;
  peak = this.start;
  private readonly timer = setInterval(() => this.sample(), 20);
  sample(): void {
    this.peak = Math.max(this.peak, process.memoryUsage().rss);
  }
  stop(): void {
    this.sample();
    clearInterval(this.timer);
  }
}

/** What the children tell the parent, one JSON line each. */
type Report = Record<string, number | boolean | string>;
const report = (values: Report) => log(`@${JSON.stringify(values)}`);

async function write(folder: string, shape: string): Promise<void> {
  const probe = new MemoryProbe();
  const device = await open_();
  const afterOpen = process.memoryUsage().rss;
  const spec = specOf(shape);
  const flag = noFlag(device);
  const weights = new Map(
    [...modelSpecs(spec)].map(([name, of], seed) => {
      const made = keep(empty(device, of, { dtype: dtypeOf(of) }));
      runValues(made, seed, flag, false);
      return [name, made] as const;
    }),
  );
  await device.synchronize();
  const model = new HybridModel(device, spec, weights);
  const started = performance.now();
  let bytes = 0;
  await saveModel(folder, model, spec, {
    configJson: SHAPES[shape]!,
    dtype: 'bfloat16',
    ...(small && { maxShardBytes: 2e6 }),
    onProgress: ({ bytesTotal }) => {
      bytes = bytesTotal;
    },
  });
  const time = seconds(started);
  probe.stop();
  report({ bytes, seconds: time, rss: probe.peak - probe.start, rssAfterOpen: probe.peak - afterOpen });
  model.dispose();
  device.destroy();
}

async function load(folder: string): Promise<void> {
  const probe = new MemoryProbe();
  const device = await open_();
  const afterOpen = process.memoryUsage().rss;
  for (const label of ['cold', 'warm']) {
    const started = performance.now();
    let bytes = 0;
    const model = await loadModel(device, folder, {
      dtype: 'float16',
      onProgress: ({ bytesTotal }) => {
        bytes = bytesTotal;
      },
    });
    await device.synchronize();
    const time = seconds(started);
    probe.sample();
    const rss = { rss: probe.peak - probe.start, rssAfterOpen: probe.peak - afterOpen };
    report({ label, bytes, seconds: time, ...rss, ...(await compare(device, folder, model)) });
    model.dispose();
    device.trim();
    await device.synchronize();
  }
  probe.stop();
  await transferRates(device);
  device.destroy();
}

/** Every element on the device, and some of the file's bytes on the host. */
async function compare(device: Device, folder: string, model: HybridModel): Promise<Report> {
  const names = [...modelSpecs(model.spec).keys()];
  const parameters = model.namedParameters();
  const flag = noFlag(device);
  for (const [seed, name] of names.entries()) runValues(parameters.get(name) as Tensor, seed, flag, true);
  const onDevice = (await flag.read())[0] === 0;
  // That the check can fail: the same tensor under another's seed.
  runValues(parameters.get(names[0]!) as Tensor, 1, flag, true);
  const canFail = (await flag.read())[0] === 1;
  flag.dispose();
  await using reader = await openSafetensorsFolder(folder);
  let inFile = true;
  for (const seed of [0, 3, names.length - 1]) {
    const name = names[seed]!;
    const { byteLength, dtype } = reader.info(name);
    for (const first of [0, byteLength / 4 - 16, byteLength / 2 - 32].map((at) => Math.floor(at))) {
      const bytes = await reader.readBytes(name, { begin: 2 * first, end: 2 * first + 64 });
      const view = new DataView(bytes.buffer, bytes.byteOffset, 64);
      for (let i = 0; i < 32; i++) inFile &&= view.getUint16(2 * i, true) === bfloat16At(seed, first + i);
    }
    inFile &&= dtype === 'BF16';
  }
  return { onDevice, canFail, inFile };
}

/** How fast bytes reach the device without any disk: by mapped pieces, as loading does, and by writeBuffer. */
async function transferRates(device: Device): Promise<void> {
  const bytes = small ? 2 ** 22 : 2 ** 30;
  const target = keep(empty(device, [bytes / 2], { dtype: 'float16' }));
  const source = new Uint8Array(16 * 2 ** 20).fill(1);
  const mapped = async () => {
    const read = async (into: Uint8Array) => into.set(source.subarray(0, into.length));
    await uploadTensors(device, [{ tensor: target, dtype: 'bfloat16', read }]);
  };
  const written = async () => {
    for (let at = 0; at < bytes; at += source.length) {
      const size = Math.min(source.length, bytes - at);
      device.write({ storage: target.storage, offset: at, size }, source.subarray(0, size));
    }
    await device.synchronize();
  };
  const rates: Report = { label: 'transfer' };
  for (const [label, run] of Object.entries({ mapped, written })) {
    await run();
    const started = performance.now();
    await run();
    rates[label] = bytes / GB / seconds(started);
  }
  report(rates);
  target.dispose();
}

/** Runs a phase in a process of its own, so that its memory is its own. */
async function phase(name: string, shape: string, folder: string): Promise<Report[]> {
  const self = process.argv[1] as string;
  const flags = [folder, '--phase', name, '--shape', shape, ...(small ? ['--small'] : [])];
  const child: ChildProcess = spawn(process.execPath, [...process.execArgv, self, ...flags], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout?.on('data', (text) => {
    output += text;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`checkpoint: ${name} ${shape} ended with ${code}\n${output}`);
  return output
    .split('\n')
    .filter((line) => line.startsWith('@'))
    .map((line) => JSON.parse(line.slice(1)) as Report);
}

/** Asks the system to forget what it has read of the files. */
async function dropCache(files: readonly string[]): Promise<string> {
  // A small run is for finding faults, on machines that others use too.
  if (small) return 'page cache left as it is';
  const dropped = await writeFile('/proc/sys/vm/drop_caches', '3').then(
    () => true,
    () => false,
  );
  if (dropped) return 'page cache dropped by drop_caches';
  const advised = files.map((file) => spawnSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0']).status === 0);
  return advised.every(Boolean) ? 'page cache dropped by dd iflag=nocache' : 'page cache NOT dropped';
}

/** Reads the files whole, 16 MiB at a time, `inFlight` reads at once. */
async function readSpeed(files: readonly string[], inFlight: number): Promise<number> {
  const started = performance.now();
  let bytes = 0;
  for (const path of files) {
    const file = await open(path, 'r');
    const { size } = await file.stat();
    let next = 0;
    const worker = async () => {
      const buffer = Buffer.allocUnsafeSlow(16 * 2 ** 20);
      while (next < size) {
        const at = next;
        next += buffer.length;
        bytes += (await file.read(buffer, 0, buffer.length, at)).bytesRead;
      }
    };
    await Promise.all(Array.from({ length: inFlight }, worker));
    await file.close();
  }
  return bytes / GB / seconds(started);
}

async function measure(shape: string, root: string): Promise<boolean> {
  const folder = join(root, `checkpoint-${shape}`);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  try {
    const [written] = (await phase('write', shape, folder)) as [Report];
    log(`${shape}: ${gigabytes(written.bytes)} written in ${line(written)}`);
    const files = (await readdir(folder))
      .filter((name) => name.endsWith('.safetensors'))
      .map((name) => join(folder, name));
    const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
    log(`${shape}: ${files.length} files, the largest ${gigabytes(Math.max(...sizes))}`);
    // Half of the files each way, so that the whole takes one read of the disk.
    const half = Math.ceil(files.length / 2);
    log(`${shape}: ${await dropCache(files)}`);
    const one = await readSpeed(files.slice(0, half), 1);
    const four = files.length > 1 ? await readSpeed(files.slice(half), 4) : one;
    log(`${shape}: disk ${one.toFixed(2)} GB/s one read at a time, ${four.toFixed(2)} GB/s four at once`);
    log(`${shape}: ${await dropCache(files)}`);
    const reports = await phase('load', shape, folder);
    let good = true;
    for (const each of reports) {
      if (each.label === 'transfer') {
        log(
          `${shape}: to the device without a disk: ${num(each.mapped)} GB/s mapped, ${num(each.written)} GB/s by writeBuffer`,
        );
        continue;
      }
      const speed = (each.bytes as number) / GB / (each.seconds as number);
      const share = each.label === 'cold' ? `, ${((100 * speed) / Math.max(one, four)).toFixed(0)}% of the disk` : '';
      log(`${shape}: loaded ${each.label} to float16 in ${line(each)}${share}`);
      const equal = each.onDevice === true && each.inFile === true && each.canFail === true;
      log(
        `${equal ? 'ok  ' : 'FAIL'} ${shape} ${each.label}: every element equal on the device ${each.onDevice}, in the file ${each.inFile}, check can fail ${each.canFail}`,
      );
      const fast = small || each.label !== 'cold' || speed >= 0.5 * Math.max(one, four);
      const modest = (each.rss as number) <= 1e9;
      log(
        `${fast && modest ? 'ok  ' : 'FAIL'} ${shape} ${each.label}: at least half the disk's speed, at most 1 GB above the process's start`,
      );
      good &&= equal && fast && modest;
    }
    return good;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const num = (value: unknown) => (value as number).toFixed(2);
const gigabytes = (bytes: unknown) => `${((bytes as number) / GB).toFixed(2)} GB`;

function line(of: Report): string {
  const speed = (of.bytes as number) / GB / (of.seconds as number);
  return `${num(of.seconds)} s, ${speed.toFixed(2)} GB/s, peak memory ${gigabytes(of.rss)} above the process's start (${gigabytes(of.rssAfterOpen)} above the open device)`;
}

const phaseName = option('--phase');
if (phaseName !== undefined) {
  if (phaseName === 'write') await write(scratch, option('--shape') as string);
  else await load(scratch);
  process.exit(0);
}
const started = performance.now();
log(`${(await readFile('/proc/meminfo', 'utf8').catch(() => '')).split('\n')[0] ?? ''}, node ${process.version}`);
let good = true;
for (const shape of Object.keys(SHAPES)) {
  if (option('--only') !== undefined && option('--only') !== shape) continue;
  good = (await measure(shape, scratch)) && good;
}
log(`${good ? 'ok' : 'FAIL'}, ${seconds(started).toFixed(0)} s in all`);
process.exit(good ? 0 : 1);
