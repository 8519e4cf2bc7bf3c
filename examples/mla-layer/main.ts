// Trains a small model with MLA layers to copy sequences, then decodes with its latent cache.
//   node --conditions=@zebra/source --import tsx examples/mla-layer/main.ts [steps]
import { openDevice, Random } from '@zebra/tensor';
import { comparePasses, copySymbols } from './src/decode.js';
import { CopyModel, MLA } from './src/model.js';
import { COPY, LENGTH, randomSymbols, SYMBOLS } from './src/task.js';
import { trainCopying } from './src/train.js';

const steps = Number(process.argv[2] ?? 80);
const device = await openDevice();
{
  using model = new CopyModel(device);
  const count = [...model.parameters.values()].reduce((total, { size }) => total + size, 0);
  console.log(`${count} parameters on ${device.info.description || device.info.vendor}`);

  const begun = performance.now();
  await trainCopying(model, {
    steps,
    onStep: (step, loss) => {
      if (step === 1 || step % 10 === 0) console.log(`step ${String(step).padStart(3)}  loss ${loss.toFixed(4)}`);
    },
  });
  console.log(
    `trained in ${((performance.now() - begun) / 1000).toFixed(1)} s; guessing would cost ${Math.log(SYMBOLS).toFixed(4)}\n`,
  );

  const random = new Random(2026);
  let right = 0;
  for (let i = 0; i < 4; i++) {
    const symbols = randomSymbols(random);
    const copied = await copySymbols(model, symbols);
    right += copied.filter((id, at) => id === symbols[at]).length;
    console.log(`${letters(symbols)} → ${letters(copied)}`);
  }
  console.log(`${right} of ${4 * LENGTH} symbols right\n`);

  const { difference, largest } = await comparePasses(model, [
    ...randomSymbols(random),
    COPY,
    ...randomSymbols(random),
  ]);
  console.log(`prefill and step by step differ by ${difference.toExponential(1)} (values up to ${largest.toFixed(1)})`);

  const cache = model.newCache(1, 2 * LENGTH);
  // Ordinary attention keeps a key and a value of every head.
  const { headCount, qkNopeHeadDim, qkRopeHeadDim, vHeadDim } = MLA;
  const full = cache.states.length * headCount * (qkNopeHeadDim + qkRopeHeadDim + vHeadDim) * 4;
  console.log(`cache: ${cache.bytesPerToken} bytes a token; attention with the same heads would take ${full}`);
  cache.dispose();
}
device.destroy();

function letters(symbols: readonly number[]): string {
  return symbols.map((id) => (id < COPY ? String.fromCharCode(97 + id) : '·')).join('');
}
