// Generates text from a checkpoint folder.
//   node --conditions=@zebra/source --import tsx examples/generate/main.ts [FOLDER] --prompt "Call me"
import { loadModel, loadTokenizer, readModelSpec } from '@zebra/runtime';
import { openDevice, ZebraError } from '@zebra/tensor';
import { SafetensorsError } from '@zebra/tensor/safetensors';
import { type Continuation, continueText, promptIds } from './src/continue.js';
import { loadOptions } from './src/load.js';
import { type CommandOptions, readOptions, USAGE } from './src/options.js';

try {
  const options = readOptions(process.argv.slice(2));
  if (options.help) console.log(USAGE);
  else await run(options);
} catch (error) {
  // The library's own errors say what is wrong and what to do; a stack would only bury that. Broken weight files come
  // with an error of their own.
  if (!ZebraError.is(error) && !SafetensorsError.is(error)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

async function run({ folder, prompt, chat, adapter, dtype, ...sampling }: CommandOptions): Promise<void> {
  // What is quick comes first: a wrong folder is found out before a device is opened and weights are read.
  const spec = await readModelSpec(folder);
  const { config, layers } = spec;
  const tokenizer = await loadTokenizer(folder);
  const ids = promptIds(tokenizer, prompt, chat);

  const device = await openDevice({ adapter });
  try {
    const begun = performance.now();
    const tokens = ids.length + sampling.maxNewTokens;
    using model = await loadModel(device, folder, loadOptions(spec, device.info, { dtype, tokens }));
    const seconds = (performance.now() - begun) / 1000;
    console.log(
      `${layers.length} layers (${kinds(layers)}), hidden ${config.hiddenSize}, ${dtype}, loaded in ${seconds.toFixed(1)} s on ${device.info.description || device.info.vendor}\n`,
    );

    // Ctrl-C ends the text, and the numbers are printed all the same.
    const interrupt = new AbortController();
    process.once('SIGINT', () => interrupt.abort());
    // The prompt is shown with the first token, when nothing can be wrong with the options any more.
    let opening = chat ? `> ${prompt}\n` : prompt;
    const write = (text: string) => {
      process.stdout.write(opening + text);
      opening = '';
    };
    report(await continueText(model, tokenizer, ids, { ...sampling, signal: interrupt.signal, write }));
  } finally {
    device.destroy();
  }
}

function kinds(layers: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const kind of layers) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts].map(([kind, count]) => `${count} ${kind}`).join(', ');
}

function report({ promptTokens, newTokens, finish, firstTokenSeconds, tokensPerSecond }: Continuation): void {
  const why = { stop: 'end of text', length: 'length reached', aborted: 'interrupted' }[finish];
  const rate = tokensPerSecond === undefined ? '' : `, then ${tokensPerSecond.toFixed(1)} tokens/s`;
  console.log(
    `\n\n${promptTokens} + ${newTokens} tokens, ${why}; the first after ${firstTokenSeconds.toFixed(2)} s${rate}`,
  );
}
