import { z } from 'zod';
import type { TransformerConfig } from '../config/index.js';
import { Problems } from '../config/problems.js';
import { nonNegative, readFields, readObject, tokenIds } from '../config/schema.js';
import type { GenerateTextOptions } from '../generate/index.js';
import { readJson } from './load-model.js';

/** How a model's publisher means it to be sampled: options to spread into those of `streamText` and `generateText`. */
export type GenerationDefaults = Pick<GenerateTextOptions, 'stopTokenIds' | 'temperature' | 'topK' | 'topP'>;

const FILE = 'generation_config.json';
const count = z.int('a non-negative integer').min(0, 'a non-negative integer');
const probability = z
  .number('a number above 0 and at most 1')
  .gt(0, 'a number above 0 and at most 1')
  .max(1, 'a number above 0 and at most 1');
const schema = z.looseObject({
  eos_token_id: tokenIds,
  do_sample: z.boolean('true or false').nullish(),
  temperature: nonNegative.nullish(),
  top_k: count.nullish(),
  top_p: probability.nullish(),
});

/**
 * Reads `generation_config.json`. A text ends with any of its `eos_token_id`, else with any of `config.json`'s; nothing
 * is said where neither names one. Temperature, `topK` and `topP` are there where it asks for sampling.
 *
 * @throws ZebraError `format` for values of the wrong kind and ids outside the vocabulary
 */
export async function readGenerationDefaults(folder: string, config: TransformerConfig): Promise<GenerationDefaults> {
  const json = await readJson(folder, FILE);
  const keys = json === undefined ? undefined : readFields(FILE, schema, readObject(FILE, json));
  const ends = keys?.eos_token_id.length ? keys.eos_token_id : config.eosTokenIds;
  if (ends.some((id) => id >= config.vocabularySize)) {
    const problems = new Problems(FILE);
    problems.expected('eos_token_id', `ids below vocab_size (${config.vocabularySize})`, ends);
    problems.throwIfAny();
  }
  return {
    ...(ends.length > 0 && { stopTokenIds: ends }),
    ...(keys?.do_sample && {
      temperature: keys.temperature ?? 1,
      // What the transformers library takes where the file says nothing; 0 switches it off.
      ...(keys.top_k !== 0 && { topK: keys.top_k ?? 50 }),
      ...(typeof keys.top_p === 'number' && { topP: keys.top_p }),
    }),
  };
}
