// Converts a Llama or Qwen checkpoint into a hybrid of MLA and Mamba2 layers.
//   node --conditions=@zebra/source --import tsx examples/convert-model/main.ts MODEL --out FOLDER --text FILE
import { ZebraError } from '@zebra/tensor';
import { SafetensorsError } from '@zebra/tensor/safetensors';
import { Progress } from 'zebra-example-convert/progress';
import { convertModel } from './src/convert-model.js';
import { type ConvertOptions, readOptions, USAGE } from './src/options.js';

const progress = new Progress(process.stderr);
try {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) console.log(USAGE);
  else await run(options);
} catch (error) {
  progress.clear();
  // The library's own errors say what is wrong and what to do; a stack would only bury that.
  if (!ZebraError.is(error) && !SafetensorsError.is(error)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

async function run(options: ConvertOptions): Promise<void> {
  // The first Ctrl-C ends the training with a checkpoint, a second one at once.
  const interrupt = new AbortController();
  const how = options.checkpointEvery > 0 ? 'go on with --resume' : 'nothing was kept, as --checkpoint-every is 0';
  process.once('SIGINT', () => interrupt.abort(new ZebraError('program', `interrupted: ${how}`)));
  const write = (line: string) => {
    progress.clear();
    console.log(line);
  };
  await convertModel(options, write, { show: (state) => progress.show(state), signal: interrupt.signal });
  progress.clear();
}
