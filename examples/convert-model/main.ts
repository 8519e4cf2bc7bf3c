// Converts a Llama or Qwen checkpoint into a hybrid of MLA and Mamba2 layers.
//   node --conditions=@zebra/source --import tsx examples/convert-model/main.ts MODEL --out FOLDER --text FILE
import { ZebraError } from '@zebra/tensor';
import { SafetensorsError } from '@zebra/tensor/safetensors';
import { convertModel } from './src/convert-model.js';
import { readOptions, USAGE } from './src/options.js';

try {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) console.log(USAGE);
  else await convertModel(options, (line) => console.log(line));
} catch (error) {
  // The library's own errors say what is wrong and what to do; a stack would only bury that.
  if (!ZebraError.is(error) && !SafetensorsError.is(error)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
