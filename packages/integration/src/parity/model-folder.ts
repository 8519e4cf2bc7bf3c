import { loadModel, loadTokenizer } from '@zebra/runtime';
import { crossEntropy, type Device, scope, tensor } from '@zebra/tensor';
import type { ParityRow } from './row.js';

/** The sentence that stories260k, a Llama trained on TinyStories, is known by, and its loss in nats a token. */
const KNOWN_TEXT = 'Lily went to the park with her mom. She saw a big dog and she was happy.';
const KNOWN_NATS = 1.25104;

/** Loads a model by name and holds its next-token loss on the known sentence (or reports it on another text). */
export async function checkModelFolder(device: Device, folder: string, text = KNOWN_TEXT): Promise<ParityRow> {
  const tokenizer = await loadTokenizer(folder);
  const ids = tokenizer.encode(text);
  const model = await loadModel(device, folder);
  const shape = [1, ids.length - 1];
  using loss = scope(() => {
    const hidden = model.forward(tensor(device, Int32Array.from(ids.slice(0, -1)), shape));
    return crossEntropy({
      hidden,
      head: model.headWeight,
      targets: tensor(device, Int32Array.from(ids.slice(1)), shape),
    });
  });
  const nats = await loss.item();
  model.dispose();
  const known = text === KNOWN_TEXT;
  const error = known ? Math.abs(nats - KNOWN_NATS) / KNOWN_NATS : 0;
  return {
    case: folder.split('/').filter(Boolean).pop() ?? folder,
    check: `${nats.toFixed(5)} nats a token over ${ids.length - 1} predictions`,
    error,
    tolerance: 1e-4,
    passed: Number.isFinite(nats) && error <= 1e-4,
  };
}
