import { loadModel, loadTokenizer } from '@zebra/runtime';
import { crossEntropy, type Device, scope, tensor } from '@zebra/tensor';

/** A sentence whose loss under stories260k, a Llama trained on TinyStories, is known: 1.25104 nats a token. */
const SENTENCE = 'Lily went to the park with her mom. She saw a big dog and she was happy.';

/** Next-token loss of a model on a text. */
export interface TextLoss {
  /** Mean over the predictions, in nats. */
  readonly nats: number;
  readonly predictions: number;
}

/** Loads a model and its tokenizer from a Hugging Face folder by name, and takes its loss on a text. */
export async function lossOfFolder(
  device: Device,
  folder: string,
  { text = SENTENCE, dtype = 'float32' }: { readonly text?: string; readonly dtype?: 'float32' | 'float16' } = {},
): Promise<TextLoss> {
  const tokenizer = await loadTokenizer(folder);
  const ids = tokenizer.encode(text);
  const model = await loadModel(device, folder, { dtype });
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
  return { nats, predictions: ids.length - 1 };
}
