import type { LoadModelOptions, ModelSpec } from '@zebra/runtime';
import { type DeviceInfo, ZebraError } from '@zebra/tensor';

/** Positions that are made room for where the model's own context is shorter. */
const MOST = 2 ** 17;

/**
 * How the model is loaded: in the dtype that is asked for, with room for the prompt and every new token.
 *
 * @param tokens of the prompt, and most that are added
 * @throws ZebraError `device` for float16 on an adapter without it; `argument` for a text longer than is possible
 */
export function loadOptions(
  { config, maxPositions }: Pick<ModelSpec, 'config' | 'maxPositions'>,
  info: Pick<DeviceInfo, 'float16' | 'description' | 'vendor'>,
  { dtype, tokens }: { readonly dtype: 'float32' | 'float16'; readonly tokens: number },
): LoadModelOptions {
  if (dtype === 'float16' && !info.float16) {
    throw new ZebraError(
      'device',
      `--dtype float16: ${info.description || info.vendor} lacks shader-f16. Give --dtype float32.`,
    );
  }
  const most = Math.max(MOST, config.maxPositionEmbeddings);
  if (tokens > most) {
    throw new ZebraError(
      'argument',
      `--max-new-tokens: with the prompt ${tokens} tokens, more than the ${most} there can be`,
    );
  }
  return { dtype, maxPositions: Math.max(maxPositions, Math.ceil(tokens)) };
}
