import { initialiseMamba2, initialiseMla } from '@zebra/init';
import { frequenciesOf, HybridModel, type ModelSpec, modelSpecs } from '@zebra/runtime';
import { type Device, keep, Random, type Tensor } from '@zebra/tensor';

/** Options of {@link studentOf}. */
export interface StudentOptions {
  /** Which rows of a head MLA layers rotate. */
  readonly ropeRows: 'frequency-aware' | 'last';
  /** Of gates, steps, convolutions and decays, which attention cannot supply to Mamba2. */
  readonly seed: number;
  /** Called after each layer. */
  readonly onLayer?: (done: number, total: number) => void;
}

const MIXER = /\.(self_attn|mla|mamba)\./;

/**
 * The hybrid student of a Transformer: mixers made from its attention, a layer at a time, and everything else shared
 * with it by handle, so that the teacher must not be used for anything else once the student is trained.
 *
 * @param teacher float32 weights
 * @returns the student, owned by the caller
 */
export async function studentOf(
  device: Device,
  teacher: HybridModel,
  spec: ModelSpec,
  { ropeRows, seed, onLayer }: StudentOptions,
): Promise<HybridModel> {
  const { config } = teacher.spec;
  const random = new Random(seed);
  const made = new Map<string, Tensor>();
  try {
    for (let layer = 0; layer < config.layerCount; layer++) {
      const attention = under(teacher.namedParameters(), `model.layers.${layer}.self_attn.`);
      const aware = ropeRows === 'frequency-aware';
      const { weights } =
        spec.layers[layer] === 'mla'
          ? await initialiseMla(attention, spec.mla(layer), {
              ...(aware && {
                teacherFrequencies: frequenciesOf(config.rope, config.headDim).frequencies,
                sharedRopeKey: 'aligned',
              }),
            })
          : await initialiseMamba2(attention, spec.mamba2(), { random: () => random.uniform() });
      const prefix = `model.layers.${layer}.${spec.layers[layer] === 'mla' ? 'mla' : 'mamba'}.`;
      for (const [name, weight] of weights) made.set(prefix + name, weight);
      onLayer?.(layer + 1, config.layerCount);
    }
    for (const [name, weight] of teacher.namedParameters()) if (!MIXER.test(name)) made.set(name, keep(weight.alias()));
    return new HybridModel(device, spec, new Map([...modelSpecs(spec).keys()].map((name) => [name, made.get(name)!])));
  } catch (error) {
    for (const weight of made.values()) weight.dispose();
    throw error;
  }
}

function under(weights: ReadonlyMap<string, Tensor>, prefix: string): Map<string, Tensor> {
  const found = [...weights].filter(([name]) => name.startsWith(prefix));
  return new Map(found.map(([name, weight]) => [name.slice(prefix.length), weight]));
}
