/** Kinds of layers that a model of this package can have. */
export type LayerKind = 'attention' | 'mla' | 'mamba2';

/** What a layer's mixer is called in a checkpoint. */
export const MIXER_PREFIX: Readonly<Record<LayerKind, string>> = {
  attention: 'self_attn',
  mla: 'mla',
  mamba2: 'mamba',
};

/** `model.layers.{i}.` */
export function layerPrefix(layer: number): string {
  return `model.layers.${layer}.`;
}

/** The entries of a map whose names begin with a prefix, without it. */
export function under<T>(all: ReadonlyMap<string, T>, prefix: string): Map<string, T> {
  const found = new Map<string, T>();
  for (const [name, value] of all) if (name.startsWith(prefix)) found.set(name.slice(prefix.length), value);
  return found;
}

/** A map with a prefix put before every name. */
export function prefixed<T>(all: ReadonlyMap<string, T>, prefix: string): Map<string, T> {
  return new Map([...all].map(([name, value]) => [prefix + name, value]));
}
