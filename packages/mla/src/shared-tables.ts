import { type Device, keep, scope } from '@zebra/tensor';
import { buildRopeTables, plainFrequencies, type RopeTables, yarnFrequencies } from '@zebra/tensor/nn';
import type { MlaSizes } from './config.js';

/** A share in rotary tables that layers of one device and config have in common. */
export interface TableShare {
  readonly tables: RopeTables;
  /** Gives up the share; the last one frees the tables. Releasing twice is harmless. */
  release(): void;
}

interface Entry {
  readonly tables: RopeTables;
  holders: number;
}

const entries = new WeakMap<Device, Map<string, Entry>>();

/**
 * The rotary tables of a config, made with the first share in them and freed with the last: the layers of a model hold
 * one pair of tables between them. float32 [maxPositions, qkRopeHeadDim / 2], computed in float64 on the host.
 */
export function shareRopeTables(device: Device, sizes: MlaSizes): TableShare {
  const { qkRopeHeadDim: dimension, maxPositions, rope } = sizes;
  const { theta, scaling } = rope;
  const yarn = scaling && { theta, dimension, ...scaling };
  const key = JSON.stringify([
    theta,
    dimension,
    maxPositions,
    yarn && [yarn.factor, yarn.originalMaxPositionEmbeddings, yarn.mscale ?? 1, yarn.mscaleAllDim ?? 0],
  ]);
  const known = entries.get(device) ?? new Map<string, Entry>();
  entries.set(device, known);
  let entry = known.get(key);
  if (!entry) {
    const { frequencies, attentionFactor } = yarn
      ? yarnFrequencies(yarn)
      : { frequencies: plainFrequencies(theta, dimension), attentionFactor: 1 };
    // Kept out of whatever scope is open: other layers may outlive it.
    const tables = scope(() => buildRopeTables(device, frequencies, maxPositions, attentionFactor));
    entry = { tables: { cos: keep(tables.cos), sin: keep(tables.sin) }, holders: 0 };
    known.set(key, entry);
  }
  entry.holders++;
  return shareOf(entry, () => known.delete(key));
}

function shareOf(entry: Entry, forget: () => void): TableShare {
  let held = true;
  return {
    tables: entry.tables,
    release() {
      if (!held) return;
      held = false;
      if (--entry.holders > 0) return;
      forget();
      entry.tables.cos.dispose();
      entry.tables.sin.dispose();
    },
  };
}
