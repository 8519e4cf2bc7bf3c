import { z } from 'zod';
import type { Problems } from './problems.js';
import { aboveOne, atLeastOne, object, positive, positiveInteger, text } from './schema.js';

/** How rotary frequencies are stretched beyond the context that a model was first trained on. */
export type RopeScaling =
  /** Every frequency divided by `factor`. */
  | { readonly type: 'linear'; readonly factor: number }
  /** Llama 3.1 and later: by wavelength. */
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    }
  /** YaRN (Peng et al., 2023), with the factor 0.1·ln(factor) + 1 on cos and sin. */
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalMaxPositionEmbeddings: number;
      readonly betaFast: number;
      readonly betaSlow: number;
    };

/** Rotary position embedding of a model's attention. */
export interface RopeConfig {
  /** Base of the frequencies. */
  readonly theta: number;
  readonly scaling: RopeScaling | null;
}

/** Keys of `config.json` that speak of rotary positions: `rope_theta` and `rope_scaling`, or `rope_parameters`. */
export const ropeFields = {
  rope_theta: aboveOne.nullish(),
  rope_scaling: object.nullish(),
  rope_parameters: object.nullish(),
  partial_rotary_factor: z.literal(1, '1 (all of a head is rotated)').nullish(),
};

interface RopeKeys {
  readonly rope_theta?: number | null | undefined;
  readonly rope_scaling?: Record<string, unknown> | null | undefined;
  readonly rope_parameters?: Record<string, unknown> | null | undefined;
  readonly max_position_embeddings: number;
}

const DEFAULT_THETA = 10_000;
const SUPPORTED = '"default", "linear", "llama3" or "yarn"';

/** Reads both spellings; contradictions between them and unsupported kinds are added to `problems`. */
export function parseRope(keys: RopeKeys, problems: Problems): RopeConfig {
  const current = unwrapLayerType(keys.rope_parameters ?? undefined, problems);
  const theta = parseTheta(keys, current, problems);
  const scalingNow = current && parseScaling('rope_parameters', current, keys, problems);
  const scalingOld = keys.rope_scaling && parseScaling('rope_scaling', keys.rope_scaling, keys, problems);
  if (scalingNow !== undefined && scalingOld && JSON.stringify(scalingNow) !== JSON.stringify(scalingOld)) {
    problems.expected('rope_scaling', 'what rope_parameters says', keys.rope_scaling);
  }
  return { theta, scaling: scalingNow ?? scalingOld ?? null };
}

function parseTheta(keys: RopeKeys, current: Record<string, unknown> | undefined, problems: Problems): number {
  const inside = field('rope_parameters', 'rope_theta', aboveOne.nullish(), current ?? {}, problems);
  if (inside && keys.rope_theta && inside !== keys.rope_theta) {
    problems.expected('rope_theta', `${inside}, as rope_parameters.rope_theta says`, keys.rope_theta);
  }
  return inside ?? keys.rope_theta ?? DEFAULT_THETA;
}

/** Newer files may hold one set of parameters for each kind of attention layer; only full attention exists here. */
function unwrapLayerType(
  parameters: Record<string, unknown> | undefined,
  problems: Problems,
): Record<string, unknown> | undefined {
  const inner = parameters?.full_attention;
  if (typeof inner !== 'object' || inner === null) return parameters;
  const others = Object.keys(parameters ?? {}).filter((key) => key !== 'full_attention');
  if (others.length > 0) problems.expected('rope_parameters', 'full_attention alone', others);
  return inner as Record<string, unknown>;
}

function parseScaling(
  key: string,
  spec: Record<string, unknown>,
  { max_position_embeddings }: RopeKeys,
  problems: Problems,
): RopeScaling | null {
  const read = <T extends z.ZodType>(name: string, schema: T) => field(key, name, schema, spec, problems);
  const type = read('rope_type', text.nullish()) ?? read('type', text.nullish());
  const factor = () => read('factor', atLeastOne) ?? 1;
  read('partial_rotary_factor', ropeFields.partial_rotary_factor);
  switch (type) {
    case 'default':
      return null;
    case 'linear':
      return { type, factor: factor() };
    case 'llama3': {
      const low = read('low_freq_factor', positive) ?? 1;
      const high = read('high_freq_factor', positive) ?? 4;
      if (low >= high) problems.expected(`${key}.low_freq_factor`, `a number below high_freq_factor (${high})`, low);
      const original = read('original_max_position_embeddings', positiveInteger) ?? max_position_embeddings;
      const factors = { lowFreqFactor: low, highFreqFactor: high };
      return { type, factor: factor(), ...factors, originalMaxPositionEmbeddings: original };
    }
    case 'yarn': {
      const absent = z.null('null: only the default factor on cos and sin is supported').optional();
      for (const name of ['attention_factor', 'mscale', 'mscale_all_dim']) read(name, absent);
      read('truncate', z.literal(true, 'true').nullish());
      return {
        type,
        factor: factor(),
        originalMaxPositionEmbeddings:
          read('original_max_position_embeddings', positiveInteger.nullish()) ?? max_position_embeddings,
        betaFast: read('beta_fast', positive.nullish()) ?? 32,
        betaSlow: read('beta_slow', positive.nullish()) ?? 1,
      };
    }
    default:
      // No type at all is no scaling, unless something is there to scale by.
      if ((type !== null && type !== undefined) || spec.factor !== undefined) {
        problems.expected(`${key}.rope_type`, SUPPORTED, type ?? undefined);
      }
      return null;
  }
}

function field<T extends z.ZodType>(
  parent: string,
  name: string,
  schema: T,
  spec: Record<string, unknown>,
  problems: Problems,
): z.output<T> | undefined {
  const result = schema.safeParse(spec[name]);
  if (result.success) return result.data;
  problems.expected(`${parent}.${name}`, result.error.issues[0]?.message ?? 'another value', spec[name]);
  return undefined;
}
