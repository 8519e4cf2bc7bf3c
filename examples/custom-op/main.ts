// Adds an operation to the library from outside of it, checks it, and trains a classifier through it.
//   node --conditions=@zebra/source --import tsx examples/custom-op/main.ts [steps]
import { openDevice } from '@zebra/tensor';
import { checkSquaredReluGate } from './src/check.js';
import { Classifier } from './src/classifier.js';
import { trainClassifier } from './src/train.js';

const steps = Number(process.argv[2] ?? 200);
const device = await openDevice();
console.log(`on ${device.info.description || device.info.vendor}`);
console.log(`${await checkSquaredReluGate(device)} shapes agree with the reference, gradients too\n`);
{
  using classifier = new Classifier(device);
  console.log(`before: ${percent(await classifier.accuracy())} of fresh points right`);
  const begun = performance.now();
  for await (const { step, loss, gradientNorm } of trainClassifier(classifier, steps)) {
    if (step === 1 || step % 50 === 0) {
      console.log(`step ${String(step).padStart(3)}  loss ${loss.toFixed(4)}  gradient ${gradientNorm.toFixed(3)}`);
    }
  }
  const milliseconds = (performance.now() - begun) / steps;
  console.log(`after: ${percent(await classifier.accuracy())} right; ${milliseconds.toFixed(1)} ms a step`);
}
device.destroy();

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
