import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type HybridModel, loadModel, loadTokenizer } from '@zebra/runtime';
import { type AdapterChoice, matmul, openDevice, scope, tensor } from '@zebra/tensor';
import { loadDocuments, splitDocuments } from 'zebra-example-corpus';
import { LlamaCpp, SETTINGS } from './engine.js';
import { llamaGguf } from './llama-gguf.js';

const TEACHER = fileURLToPath(new URL('../../../../examples/train-teacher/teacher', import.meta.url));
const USAGE = `npm run llama-cpp -w @zebra/integration -- [--model DIR]… [--tokens N] [--engine DIR] [--json FILE] [--adapter NAME]

Writes a Llama as a GGUF file, runs it with llama.cpp on the CPU and with our runtime on the same token ids, and compares
the log-probabilities of next tokens. Exits with 1 where mean losses differ by more than 1e-3 nats.

  --model   folder of a Llama; may come several times (default: the examples' teacher)
  --tokens  how many, of validation text (default 400)
  --engine  folder where node-llama-cpp is installed (default: here)`;

const { values } = parseArgs({
  options: {
    model: { type: 'string', multiple: true },
    tokens: { type: 'string', default: '400' },
    engine: { type: 'string', default: '.' },
    json: { type: 'string' },
    adapter: { type: 'string', default: 'auto' },
    help: { type: 'boolean' },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
/** Nats that mean losses may differ by. */
const TOLERANCE = 1e-3;
const DOCUMENTS = 4;
const base = process.env.INIT_CWD ?? process.cwd();

const engine = await LlamaCpp.open(resolve(base, values.engine));
const device = await openDevice({ adapter: values.adapter as AdapterChoice });
const adapter = device.info.description || device.info.vendor;
console.log(`node-llama-cpp ${engine.version} against Zebra on ${adapter}`);
const scratch = mkdtempSync(join(tmpdir(), 'zebra-gguf-'));
const { documents } = splitDocuments(loadDocuments());
const results: object[] = [];
let failed = false;

for (const given of values.model ?? [TEACHER]) {
  const folder = resolve(base, given);
  const model = await loadModel(device, folder);
  const tokenizer = await loadTokenizer(folder);
  const { vocabularySize } = model;
  const length = Math.min(Math.ceil(Number(values.tokens) / DOCUMENTS), model.spec.maxPositions);
  // Long documents spread over the validation split; a tokenizer without a rule for it gets its BOS here.
  const texts = documents.validation.filter(({ text }) => text.length > 8 * length);
  const rows = Array.from({ length: DOCUMENTS }, (_, i) => {
    const { text } = texts[Math.floor((i * texts.length) / DOCUMENTS)]!;
    const ids = tokenizer.encode(text.slice(0, 8 * length));
    const begin = tokenizer.bosTokenId;
    return (begin !== undefined && ids[0] !== begin ? [begin, ...ids] : ids).slice(0, length);
  });
  const ours = await Promise.all(rows.map((ids) => logProbabilities(model, ids)));
  const file = join(scratch, 'model.gguf');
  writeFileSync(file, await llamaGguf(model));
  model.dispose();
  const predictions = rows.reduce((sum, ids) => sum + ids.length - 1, 0);
  console.log(`\n${given === TEACHER ? 'the teacher' : given}: ${predictions} predictions in ${rows.length} documents`);
  for (const settings of SETTINGS) {
    const theirs = await engine.logProbabilities(file, rows, vocabularySize, settings);
    const found = compare(rows, ours, theirs, vocabularySize);
    const difference = Math.abs(found.ours - found.theirs);
    // With half-precision caches it is not the same computation, and shown for what it costs.
    const passed = settings.cache !== 'F32' || difference <= TOLERANCE;
    failed ||= !passed;
    console.log(
      `  ${passed ? 'ok  ' : 'FAIL'} ${settings.name.padEnd(36)} loss ${found.ours.toFixed(6)} and ${found.theirs.toFixed(6)}, differ by ${difference.toExponential(1)}; log p of a token by at most ${found.largest.toExponential(1)}, KL ${found.divergence.toExponential(1)}, same first choice ${(100 * found.agreement).toFixed(1)}%`,
    );
    results.push({ model: given === TEACHER ? 'teacher' : given, settings, predictions, ...found, difference, passed });
  }
}
rmSync(scratch, { recursive: true });
if (values.json) {
  const file = resolve(base, values.json);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ engine: engine.version, adapter, results }, undefined, 2)}\n`);
}
device.destroy();
process.exit(failed ? 1 : 0);

/** Our log-probabilities, [tokens, vocabulary], with the softmax in float64. */
async function logProbabilities(model: HybridModel, ids: readonly number[]): Promise<Float64Array> {
  using logits = scope(() => {
    const hidden = model.forward(tensor(model.device, Int32Array.from(ids), [1, ids.length]));
    return matmul(hidden, model.headWeight, { transposeB: true });
  });
  const values = Float64Array.from((await logits.read()) as Float32Array);
  const width = model.vocabularySize;
  for (let start = 0; start < values.length; start += width) {
    const row = values.subarray(start, start + width);
    const most = row.reduce((a, b) => Math.max(a, b));
    const sum = row.reduce((total, value) => total + Math.exp(value - most), 0);
    for (let i = 0; i < width; i++) row[i]! -= most + Math.log(sum);
  }
  return values;
}

/** Mean losses, and how far the distributions are apart. */
function compare(
  documents: readonly (readonly number[])[],
  ours: readonly Float64Array[],
  theirs: readonly Float64Array[],
  width: number,
) {
  const total = { ours: 0, theirs: 0, largest: 0, divergence: 0, agreement: 0 };
  let count = 0;
  documents.forEach((ids, document) => {
    for (let position = 0; position + 1 < ids.length; position++) {
      const at = position * width + ids[position + 1]!;
      const [a, b] = [ours[document]!, theirs[document]!];
      total.ours -= a[at]!;
      total.theirs -= b[at]!;
      total.largest = Math.max(total.largest, Math.abs(a[at]! - b[at]!));
      const [rowA, rowB] = [a, b].map((values) => values.subarray(position * width, (position + 1) * width)) as [
        Float64Array,
        Float64Array,
      ];
      for (let i = 0; i < width; i++) total.divergence += Math.exp(rowA[i]!) * (rowA[i]! - rowB[i]!);
      total.agreement += rowA.indexOf(Math.max(...rowA)) === rowB.indexOf(Math.max(...rowB)) ? 1 : 0;
      count++;
    }
  });
  const { largest, ...sums } = total;
  return {
    largest,
    ours: sums.ours / count,
    theirs: sums.theirs / count,
    divergence: sums.divergence / count,
    agreement: sums.agreement / count,
  };
}
